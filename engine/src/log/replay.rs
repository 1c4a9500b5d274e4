//! Replay: the log from a checkpoint's F to its end, as the crash left it.
//!
//! The log is a chain: record after record in a segment, segment after segment by the slots that headers and footers name,
//! mount after mount by the list in the superblock. Footers hold all record headers of a sealed segment, so only the open
//! tail is walked. Every record must continue the chain: sequence, mount, address, and the checksum of the one before.
//!
//! Where the chain ends, this decides what the end is. Anything at or below the newest attested sequence was durable once: if
//! it is bad now, acknowledged data is damaged and the store must not be written. Anything above may be a torn tail, and is
//! cut and reported. The attested sequence is the largest that the superblock or *any* record names, also records found past
//! the bad one: a later record says what was durable when it was written. Payload is verified only above that sequence; below
//! it, a sync has vouched for it, and every read verifies again.

use treering_format::record::{Descriptor, Encoding, Record, RecordHeader};
use treering_format::superblock::{CheckpointRef, MountEntry, Superblock};
use treering_format::units::{LineId, LogAddress, RecordSequence, SegmentId, SlotIndex};
use treering_io::Buffer;

use super::Frontier;
use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};

mod walk;

use walk::{End, Walk};

/// The accepted log above a checkpoint.
pub(crate) struct Replayed {
    pub records: Vec<Record>,
    /// Records whose payload was read, as none attests them.
    pub verified: u64,
    /// The last accepted record, or the checkpoint's own.
    pub frontier: Frontier,
    /// Segments that the log passes through, with the last accepted record in or before each.
    pub segments: Vec<(SegmentId, SlotIndex, RecordSequence)>,
    pub last_segment: SegmentId,
    pub cut: Option<Cut>,
    /// Acknowledged data behind the end: the store must not be written.
    pub damage: Option<LogDamage>,
}

/// Acknowledged records that cannot be read. What is known of them is what whole headers behind the damage tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// The first record that is missing or bad, and where it should be.
    pub sequence: RecordSequence,
    pub address: LogAddress,
    /// The newest record known to have been durable.
    pub attested: RecordSequence,
    pub why: String,
    /// Ranges of blocks, by line, that records behind the damage had written.
    pub(crate) lost: Vec<(LineId, u64, u64)>,
}

/// A tail that was not accepted. It was never known durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub address: LogAddress,
    /// The record that was expected there.
    pub sequence: RecordSequence,
    /// Whole records found behind it, which went with it.
    pub records_beyond: u64,
    pub why: String,
}

/// Where slots of the store are known to hold segments.
pub(crate) trait Slots {
    fn locate(&self, id: SegmentId) -> Option<SlotIndex>;
    /// Slots that may hold segments opened after the checkpoint.
    fn candidates(&self) -> Vec<SlotIndex>;
    fn contains(&self, slot: SlotIndex) -> bool;
}

pub(crate) async fn replay(disk: &Disk, superblock: &Superblock, from: &CheckpointRef, slots: &impl Slots) -> Replayed {
    let start = Frontier::of_checkpoint(from);
    let mut walk = Walk {
        disk,
        store: superblock,
        slots,
        start,
        at: start,
        accepted: Vec::new(),
        segments: Vec::new(),
        last_segment: from.next.segment(),
    };
    let later: Vec<&MountEntry> = superblock.mounts.iter().filter(|m| m.first_sequence > from.fold_sequence).collect();
    let end = walk.all(from, &later).await;
    walk.finish(end).await
}

impl<S: Slots> Walk<'_, S> {
    /// Verifies what was not known durable, and says what the end is.
    async fn finish(mut self, end: Result<End, LogDamage>) -> Replayed {
        let (end, known) = match end {
            Ok(end) => (end, None),
            Err(damage) => (End::default(), Some(damage)),
        };
        let by_records = self.accepted.iter().map(|(r, _)| r.header.attested).max();
        let by_evidence = end.beyond.iter().map(|r| r.header.attested).max();
        let attested = [Some(self.store.attested_sequence), by_records, by_evidence]
            .into_iter()
            .flatten()
            .max()
            .expect("one at least");
        let by_attestation = (attested > self.at.sequence).then(|| LogDamage {
            sequence: RecordSequence(self.at.sequence.0 + 1),
            address: self.at.next,
            attested,
            why: end.why.clone(),
            lost: end.beyond.iter().flat_map(|r| r.descriptors.iter().filter_map(range_of)).collect(),
        });
        let damage = known.or(by_attestation);
        let mut cut = (!end.beyond.is_empty() && damage.is_none()).then(|| Cut {
            address: self.at.next,
            sequence: RecordSequence(self.at.sequence.0 + 1),
            records_beyond: end.beyond.len() as u64,
            why: end.why.clone(),
        });
        let attested_records = self.accepted.partition_point(|(r, _)| r.header.sequence <= attested);
        let verified = (self.accepted.len() - attested_records) as u64;
        for i in attested_records..self.accepted.len() {
            let (record, slot) = &self.accepted[i];
            if let Err(why) = verify_payload(self.disk, record, *slot).await {
                let beyond = (self.accepted.len() - i - 1 + end.beyond.len()) as u64;
                cut = Some(Cut {
                    address: record.header.address,
                    sequence: record.header.sequence,
                    records_beyond: beyond,
                    why,
                });
                self.truncate(i);
                break;
            }
        }
        Replayed {
            records: self.accepted.into_iter().map(|(r, _)| r).collect(),
            verified,
            frontier: self.at,
            segments: self.segments,
            last_segment: self.last_segment,
            cut,
            damage,
        }
    }

    /// The chain breaks below a point that a later mount had accepted and made durable.
    fn damaged(&self, why: String) -> LogDamage {
        let sequence = RecordSequence(self.at.sequence.0 + 1);
        let attested = self.store.attested_sequence.max(sequence);
        LogDamage { sequence, address: self.at.next, attested, why, lost: Vec::new() }
    }

    /// Takes back the acceptance of records from index `i` on.
    fn truncate(&mut self, i: usize) {
        self.accepted.truncate(i);
        self.at = self.accepted.last().map_or(self.start, |(record, _)| end_of(&record.header));
        let last = self.at.sequence;
        for (_, _, sequence) in &mut self.segments {
            *sequence = (*sequence).min(last);
        }
    }
}

/// The point of the order that a record ends at.
fn end_of(header: &RecordHeader) -> Frontier {
    let last = header.last_address();
    Frontier {
        sequence: header.sequence,
        order: header.last_order,
        address: last,
        chain: header.header_crc,
        next: LogAddress(last.0 + 1),
    }
}

/// The blocks that a descriptor writes.
fn range_of(descriptor: &Descriptor) -> Option<(LineId, u64, u64)> {
    match descriptor {
        Descriptor::Data(data) => Some((data.line, data.block.0, u64::from(data.count))),
        Descriptor::Hole { line, block, count } | Descriptor::Zero { line, block, count } => {
            Some((*line, block.0, *count))
        }
        _ => None,
    }
}

async fn verify_payload(disk: &Disk, record: &Record, slot: SlotIndex) -> Result<(), String> {
    let torn_is_whole = canary::is(Canary::TornRecordAccepted) || canary::is(Canary::ReplayIgnoresChain);
    if record.header.payload_blocks == 0 || torn_is_whole {
        return Ok(());
    }
    let first = record.header.address.block() + record.header.header_blocks();
    let payload: Buffer =
        disk.read(slot, first, u64::from(record.header.payload_blocks)).await.map_err(|e| e.to_string())?;
    for descriptor in &record.descriptors {
        let Descriptor::Data(data) = descriptor else { continue };
        let start = data.payload as usize * BLOCK as usize;
        let stored = &payload[start..start + usize::from(data.stored_blocks) * BLOCK as usize];
        let good = match data.encoding {
            Encoding::Raw => stored
                .chunks_exact(BLOCK as usize)
                .zip(&data.checksums)
                .all(|(block, expected)| crc32fast::hash(block) == *expected),
            Encoding::Lz4 => data.checksums.first() == Some(&crc32fast::hash(stored)),
        };
        if !good {
            return Err(format!("payload of record {} does not match its checksums", record.header.sequence));
        }
    }
    Ok(())
}
