//! The links of a superblock: to its two checkpoints, and from each mount back to the one before.
//!
//! Both hold, beside a place, the checksum of what is expected there. A place alone would accept whatever an earlier life of
//! the store left behind.

use crate::bytes::{Reader, Writer};
use crate::error::DecodeError;
use crate::units::*;

pub(super) const CHECKPOINT_REF_BYTES: usize = 64;
pub(super) const MOUNT_ENTRY_BYTES: usize = 56;

/// Where a checkpoint lies, and where replay goes on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckpointRef {
    pub sequence: CheckpointSequence,
    /// F: the last address of the last record that the checkpoint contains.
    pub fold: LogAddress,
    pub fold_sequence: RecordSequence,
    /// The header checksum of that record: the link that the first replayed record must hold.
    pub fold_chain: u32,
    pub fold_order: OrderNumber,
    /// Where the next record's header, or the next segment's, is looked for.
    pub next: LogAddress,
    pub blob_page: PageIndex,
    /// Length of the encoded blob, padding included.
    pub blob_bytes: u64,
    /// [`checksum`](crate::checksum()) of those bytes.
    pub blob_crc: u32,
}

/// One opening of the store for writing: where it cut the log of the mount before, and where its own begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountEntry {
    pub mount: Mount,
    pub first_segment: SegmentId,
    /// Where that segment lies.
    pub first_slot: SlotIndex,
    pub first_sequence: RecordSequence,
    /// The first address that was not accepted of the mount before.
    pub previous_end: LogAddress,
    /// The header checksum of the last record that was.
    pub previous_chain: u32,
    pub time_ns: u64,
}

impl CheckpointRef {
    pub fn is_absent(&self) -> bool {
        self.sequence.0 == 0
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        let end = w.len() + CHECKPOINT_REF_BYTES;
        w.u64(self.sequence.0);
        w.u64(self.fold.0);
        w.u64(self.fold_sequence.0);
        w.u32(self.fold_chain);
        w.u32(self.blob_crc);
        w.u64(self.fold_order.0);
        w.u64(self.next.0);
        w.u64(self.blob_page.0);
        w.u64(self.blob_bytes);
        assert_eq!(w.len(), end);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sequence = CheckpointSequence(r.u64("checkpoint.sequence")?);
        let fold = LogAddress(r.u64("checkpoint.fold")?);
        let fold_sequence = RecordSequence(r.u64("checkpoint.fold_sequence")?);
        let fold_chain = r.u32("checkpoint.fold_chain")?;
        let blob_crc = r.u32("checkpoint.blob_crc")?;
        let fold_order = OrderNumber(r.u64("checkpoint.fold_order")?);
        let next = LogAddress(r.u64("checkpoint.next")?);
        let blob_page = PageIndex(r.u64("checkpoint.blob_page")?);
        let blob_bytes = r.u64("checkpoint.blob_bytes")?;
        Ok(Self { sequence, fold, fold_sequence, fold_chain, fold_order, next, blob_page, blob_bytes, blob_crc })
    }
}

impl MountEntry {
    pub(super) fn encode(&self, w: &mut Writer) {
        let end = w.len() + MOUNT_ENTRY_BYTES;
        w.u64(self.mount.0);
        w.u64(self.first_segment.0);
        w.u64(self.first_slot.0);
        w.u64(self.first_sequence.0);
        w.u64(self.previous_end.0);
        w.u32(self.previous_chain);
        w.zeros(4);
        w.u64(self.time_ns);
        assert_eq!(w.len(), end);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mount = Mount(r.u64("mounts.mount")?);
        let first_segment = SegmentId(r.u64("mounts.first_segment")?);
        let first_slot = SlotIndex(r.u64("mounts.first_slot")?);
        let first_sequence = RecordSequence(r.u64("mounts.first_sequence")?);
        let previous_end = LogAddress(r.u64("mounts.previous_end")?);
        let previous_chain = r.u32("mounts.previous_chain")?;
        r.skip(4)?;
        let time_ns = r.u64("mounts.time_ns")?;
        Ok(Self { mount, first_segment, first_slot, first_sequence, previous_end, previous_chain, time_ns })
    }
}
