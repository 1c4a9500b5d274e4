//! A checkpoint's blob: the roots of the trees, the next free ids, and the state of every slot and page, all at one F.
//!
//! It is written whole to a fresh place and read whole when the store is opened. The checksum sits in the header and
//! covers all else, so that a blob verifies by itself, and so that the checksum a superblock keeps of the whole blob differs
//! between blobs (over bytes that *end* with their own CRC-32 it would be the same for all). Lengths are functions of three
//! counts, so that room for the blob is reserved before there is one.

mod slots;

pub use slots::{PageMap, Slot, SlotState};

use crate::bytes::{Reader, Writer};
use crate::checksum::checksum_without;
use crate::error::{DecodeError, require};
use crate::node::NodeRef;
use crate::root;
use crate::units::*;

pub const CHECKPOINT_HEADER_BYTES: usize = 256;

const STRUCTURE: &str = "checkpoint";
const MAGIC: u64 = u64::from_le_bytes(*b"TRCHKPNT");
const CRC_AT: usize = 8;
const SLOT_BYTES: u64 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub header: CheckpointHeader,
    /// One for each slot of the store, in order.
    pub slots: Vec<Slot>,
    /// One for each slot that holds pages.
    pub page_maps: Vec<PageMap>,
}

/// The `next` numbers are the first that are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckpointHeader {
    pub store_id: StoreId,
    pub sequence: CheckpointSequence,
    /// F: everything up to this address is in the trees, nothing above it is.
    pub fold: LogAddress,
    pub catalog_root: Option<NodeRef>,
    pub liveness_root: Option<NodeRef>,
    pub next_segment: SegmentId,
    pub next_order: OrderNumber,
    pub next_volume: VolumeId,
    pub next_dot: DotId,
    pub next_line: LineId,
    /// A second tree of the catalog, on pages of its own.
    pub catalog_mirror_root: Option<NodeRef>,
    pub next_version: VersionId,
    pub next_snapshot: SnapshotId,
    pub next_container: ContainerId,
}

impl Checkpoint {
    /// The exact length of an encoded checkpoint, padding included.
    pub fn encoded_len(slot_count: u64, page_map_count: u64, blocks_per_slot: u32) -> u64 {
        let page_maps = page_map_count * PageMap::encoded_len(bitmap_bytes(blocks_per_slot));
        let len = CHECKPOINT_HEADER_BYTES as u64 + slot_count * SLOT_BYTES + page_maps;
        len.next_multiple_of(BLOCK_BYTES as u64)
    }

    /// # Panics
    /// If the bitmaps differ in length, or a value could not be decoded again.
    pub fn encode(&self) -> Vec<u8> {
        let bitmap_bytes = self.page_maps.first().map_or(0, |map| map.used.len());
        let len = CHECKPOINT_HEADER_BYTES as u64
            + self.slots.len() as u64 * SLOT_BYTES
            + self.page_maps.len() as u64 * PageMap::encoded_len(bitmap_bytes as u64);
        let mut w = Writer::with_capacity((len as usize).next_multiple_of(BLOCK_BYTES));
        let header = &self.header;
        w.u64(MAGIC);
        w.u32(0); // the checksum, below
        w.zeros(4);
        w.bytes(&header.store_id.0);
        w.u64(header.sequence.0);
        w.u64(header.fold.0);
        w.bytes(&root::encode(header.catalog_root));
        w.bytes(&root::encode(header.liveness_root));
        w.u64(header.next_segment.0);
        w.u64(header.next_order.0);
        w.u64(header.next_volume.0);
        w.u64(header.next_dot.0);
        w.u64(header.next_line.0);
        w.u64(self.slots.len() as u64);
        w.u64(self.page_maps.len() as u64);
        w.u32(u32::try_from(bitmap_bytes).expect("encode checkpoint: a bitmap larger than any slot"));
        w.zeros(4);
        w.bytes(&root::encode(header.catalog_mirror_root));
        w.u64(header.next_version.0);
        w.u64(header.next_snapshot.0);
        w.u64(header.next_container.0);
        w.zeros_up_to(CHECKPOINT_HEADER_BYTES);
        self.slots.iter().for_each(|slot| w.u64(slot.encode()));
        self.page_maps.iter().for_each(|map| map.encode(&mut w, bitmap_bytes));
        assert_eq!(w.len() as u64, len, "encode checkpoint: length");
        w.align(BLOCK_BYTES);
        w.set_u32(CRC_AT, checksum_without(w.written(), CRC_AT));
        w.into_bytes()
    }

    /// A checkpoint from a blob's bytes, padding included.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len(STRUCTURE, bytes, bytes.len().max(CHECKPOINT_HEADER_BYTES))?;
        r.magic(MAGIC)?;
        r.block_checksum(bytes, CRC_AT)?;
        r.skip(4)?;
        let mut header = CheckpointHeader {
            store_id: StoreId(r.array("store_id")?),
            sequence: CheckpointSequence(r.u64("sequence")?),
            fold: LogAddress(r.u64("fold")?),
            catalog_root: root::decode(&mut r, "catalog_root")?,
            liveness_root: root::decode(&mut r, "liveness_root")?,
            next_segment: SegmentId(r.u64("next_segment")?),
            next_order: OrderNumber(r.u64("next_order")?),
            next_volume: VolumeId(r.u64("next_volume")?),
            next_dot: DotId(r.u64("next_dot")?),
            next_line: LineId(r.u64("next_line")?),
            ..CheckpointHeader::default()
        };
        let slot_count = r.u64("slot_count")?;
        let page_map_count = r.u64("page_map_count")?;
        let bitmap_bytes = r.u32("bitmap_bytes")?;
        r.skip(4)?;
        header.catalog_mirror_root = root::decode(&mut r, "catalog_mirror_root")?;
        header.next_version = VersionId(r.u64("next_version")?);
        header.next_snapshot = SnapshotId(r.u64("next_snapshot")?);
        header.next_container = ContainerId(r.u64("next_container")?);
        r.seek(CHECKPOINT_HEADER_BYTES)?;
        let room = r.rest().len() as u64;
        let needed = slot_count.checked_mul(SLOT_BYTES).and_then(|slots| {
            let page_maps = page_map_count.checked_mul(PageMap::encoded_len(bitmap_bytes.into()))?;
            slots.checked_add(page_maps)
        });
        let counts = format_args!("{slot_count} and {page_map_count}");
        let fits = needed.is_some_and(|needed| needed <= room);
        require(fits, STRUCTURE, "slot_count and page_map_count", counts, "what the blob has room for")?;
        let slots = (0..slot_count).map(|_| Slot::decode(r.u64("slots")?)).collect::<Result<_, _>>()?;
        let page_maps = (0..page_map_count).map(|_| PageMap::decode(&mut r, bitmap_bytes)).collect::<Result<_, _>>()?;
        Ok(Self { header, slots, page_maps })
    }
}

/// Bytes of a bitmap with a bit for each block of a slot.
fn bitmap_bytes(blocks_per_slot: u32) -> u64 {
    u64::from(blocks_per_slot.div_ceil(8))
}
