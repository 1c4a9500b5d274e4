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

use futures_util::future::join_all;
use treering_format::record::{Descriptor, Encoding, Record, RecordHeader};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{CheckpointRef, MountEntry, Superblock};
use treering_format::units::{LineId, LogAddress, Mount, RecordSequence, SegmentId, SlotIndex};
use treering_io::Buffer;

use super::{Frontier, store_tag};
use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};

/// Bytes read at once when a segment is walked.
const WALK_BYTES: u64 = 1 << 20;

/// The accepted log above a checkpoint.
pub(crate) struct Replayed {
    pub records: Vec<Record>,
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
    let start = Frontier {
        sequence: from.fold_sequence,
        order: from.fold_order,
        address: from.fold,
        chain: from.fold_chain,
        next: from.next,
    };
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

struct Walk<'a, S> {
    disk: &'a Disk,
    store: &'a Superblock,
    slots: &'a S,
    /// The checkpoint's F.
    start: Frontier,
    at: Frontier,
    /// Accepted records, each with the slot its payload lies in.
    accepted: Vec<(Record, SlotIndex)>,
    segments: Vec<(SegmentId, SlotIndex, RecordSequence)>,
    last_segment: SegmentId,
}

/// How the log of one mount ends.
#[derive(Default)]
struct End {
    why: String,
    beyond: Vec<Record>,
}

/// What is known of a segment once its first block and its last were read.
struct Segment {
    id: SegmentId,
    slot: SlotIndex,
    mount: Mount,
    next: Option<SlotIndex>,
    first_sequence: RecordSequence,
    previous_chain: u32,
}

impl<S: Slots> Walk<'_, S> {
    /// Follows every mount from the checkpoint on.
    async fn all(&mut self, from: &CheckpointRef, later: &[&MountEntry]) -> Result<End, LogDamage> {
        let mut end = End::default();
        if !from.next.is_none() {
            end = self.mount(None, later.first().map(|m| m.previous_end)).await?;
        }
        for (i, mount) in later.iter().enumerate() {
            if self.at.sequence.0 + 1 != mount.first_sequence.0 || self.at.chain != mount.previous_chain {
                return Err(self.damaged(format!("the mount after it begins with record {}", mount.first_sequence)));
            }
            let next = later.get(i + 1);
            if next.is_some_and(|n| n.first_sequence == mount.first_sequence) {
                continue;
            }
            end = self.mount(Some(mount), next.map(|n| n.previous_end)).await?;
        }
        Ok(end)
    }

    /// Follows one mount: the rest of the segment that F lies in, or a mount's first segment, and all after it, up to the
    /// address at which a later mount cut it.
    async fn mount(&mut self, mount: Option<&MountEntry>, limit: Option<LogAddress>) -> Result<End, LogDamage> {
        let (id, slot, mut block) = match mount {
            Some(m) => (m.first_segment, Some(m.first_slot), 1),
            None => (self.at.next.segment(), self.slots.locate(self.at.next.segment()), self.at.next.block()),
        };
        if mount.is_none() && limit == Some(self.at.next) {
            return Ok(End::default());
        }
        let slot = slot.filter(|s| self.slots.contains(*s));
        let Some(slot) = slot else {
            return Err(self.damaged(format!("no slot holds segment {id}")));
        };
        self.last_segment = self.last_segment.max(id);
        let mut segment = match self.open(id, slot, mount.map(|m| m.mount)).await {
            Ok(segment) => segment,
            Err(why) if mount.is_some() && limit.is_none() => return Ok(End { why, beyond: Vec::new() }),
            Err(why) => return Err(self.damaged(why)),
        };
        loop {
            let before = self.at.sequence;
            let end = self.segment(&segment, block, limit).await;
            // A segment that brought no record is not part of the log: the log ends behind its last record, wherever the next
            // one was to go.
            if self.at.sequence > before {
                self.segments.push((segment.id, segment.slot, self.at.sequence));
            }
            if limit == Some(self.at.next) {
                return Ok(End::default());
            }
            match self.successor(&segment).await {
                Some(next) if !self.leads_to(&next) => {
                    if limit.is_some() {
                        return Err(self.damaged(end.why));
                    }
                    return Ok(self.beyond(end, next).await);
                }
                Some(next) => {
                    if limit.is_some_and(|l| l.segment() < next.id) {
                        return Err(self.damaged("the log goes on past its end".into()));
                    }
                    segment = next;
                    self.last_segment = self.last_segment.max(segment.id);
                    block = 1;
                }
                None if limit.is_some() => return Err(self.damaged(end.why)),
                None => return Ok(end),
            }
        }
    }

    /// Whether a segment was opened right behind the last accepted record.
    fn leads_to(&self, next: &Segment) -> bool {
        next.first_sequence.0 == self.at.sequence.0 + 1 && next.previous_chain == self.at.chain
    }

    /// The log broke off, and a later segment of it exists: collects the evidence that it and those after it hold.
    async fn beyond(&self, mut end: End, first: Segment) -> End {
        let mut segment = first;
        loop {
            let bytes = self.read_from(&segment, 1).await;
            end.beyond.extend(self.headers_in(&bytes, &segment, 1));
            match self.successor(&segment).await {
                Some(next) => segment = next,
                None => return end,
            }
        }
    }

    /// Reads the header of a segment.
    async fn open(&self, id: SegmentId, slot: SlotIndex, mount: Option<Mount>) -> Result<Segment, String> {
        let block = self.disk.read(slot, 0, 1).await.map_err(|e| format!("segment {id}: {e}"))?;
        let header = SegmentHeader::decode(&block).map_err(|e| format!("segment {id} in slot {slot}: {e}"))?;
        if header.segment != id || header.store_id != self.store.store_id || header.slot != slot {
            return Err(format!("slot {slot} holds segment {} where {id} should be", header.segment));
        }
        if mount.is_some_and(|m| m != header.mount) {
            return Err(format!("segment {id} was begun by another mount"));
        }
        Ok(Segment {
            id,
            slot,
            mount: header.mount,
            next: header.next_slot,
            first_sequence: header.first_sequence,
            previous_chain: header.previous_chain,
        })
    }

    /// Accepts what continues the chain in one segment from `block` on.
    async fn segment(&mut self, segment: &Segment, block: u32, limit: Option<LogAddress>) -> End {
        if let Some(records) = self.footer(segment).await {
            for record in records {
                if record.header.sequence <= self.at.sequence {
                    continue;
                }
                if limit.is_some_and(|l| record.header.address >= l) || !self.continues(&record.header, segment) {
                    break;
                }
                self.accept(record, segment);
            }
            return End::default();
        }
        let bytes = self.read_from(segment, block).await;
        let mut at = block;
        let mut why = String::new();
        while limit.is_none_or(|l| LogAddress::new(segment.id, at) < l) {
            let Some(rest) = bytes.get(((at - block) as usize) * BLOCK as usize..).filter(|r| !r.is_empty()) else {
                break;
            };
            let record = match Record::decode(rest) {
                Ok(record) => record,
                Err(_) if canary::is(Canary::ReplayIgnoresChain) => {
                    at += 1;
                    continue;
                }
                Err(error) => {
                    why = error.to_string();
                    break;
                }
            };
            let here = record.header.address == LogAddress::new(segment.id, at);
            let whole = at + record.header.total_blocks() <= self.disk.geometry().segment_blocks;
            if !here || !whole || !self.continues(&record.header, segment) {
                why = format!("record {} there does not continue the log", record.header.sequence);
                break;
            }
            at += record.header.total_blocks();
            self.accept(record, segment);
        }
        let beyond = bytes.get(((at - block) as usize) * BLOCK as usize..).unwrap_or(&[]);
        End { why, beyond: self.headers_in(beyond, segment, at) }
    }

    fn continues(&self, header: &RecordHeader, segment: &Segment) -> bool {
        header.store_tag == store_tag(&self.store.store_id)
            && header.mount == segment.mount
            && header.address.segment() == segment.id
            && (header.sequence.0 == self.at.sequence.0 + 1 && header.previous_chain == self.at.chain
                || canary::is(Canary::ReplayIgnoresChain) && header.sequence > self.at.sequence)
    }

    fn accept(&mut self, record: Record, segment: &Segment) {
        self.at = end_of(&record.header);
        self.accepted.push((record, segment.slot));
    }

    /// All records of a sealed segment by its footer; None if it has no whole one.
    async fn footer(&self, segment: &Segment) -> Option<Vec<Record>> {
        let blocks = self.disk.geometry().segment_blocks;
        let trailer = self.disk.read(segment.slot, blocks - 1, 1).await.ok()?;
        let footer = SegmentFooter::decode_trailer(&trailer).ok()?;
        if footer.segment != segment.id
            || footer.mount != segment.mount
            || footer.store_id != self.store.store_id
            || footer.body_block + SegmentFooter::blocks(footer.body_bytes as usize) != blocks
        {
            return None;
        }
        let count = u64::from(blocks - 1 - footer.body_block);
        if count == 0 {
            return None;
        }
        let body = self.disk.read(segment.slot, footer.body_block, count).await.ok()?;
        let records: Vec<Record> = SegmentFooter::iterate(footer.body(&body).ok()?).collect::<Result<_, _>>().ok()?;
        (records.len() == footer.record_count as usize).then_some(records)
    }

    /// The segment after this one, if the log went on there: by footer or header, or, where neither could know, by looking.
    async fn successor(&self, segment: &Segment) -> Option<Segment> {
        let blocks = self.disk.geometry().segment_blocks;
        let by_footer = match self.disk.read(segment.slot, blocks - 1, 1).await {
            Ok(trailer) => SegmentFooter::decode_trailer(&trailer)
                .ok()
                .filter(|f| f.segment == segment.id && f.mount == segment.mount)
                .and_then(|f| f.next_slot),
            Err(_) => None,
        };
        let named: Vec<SlotIndex> = by_footer.into_iter().chain(segment.next).collect();
        let looked = if named.is_empty() { self.slots.candidates() } else { Vec::new() };
        for slot in named.into_iter().chain(looked) {
            if self.slots.contains(slot)
                && let Ok(next) = self.open(SegmentId(segment.id.0 + 1), slot, Some(segment.mount)).await
            {
                return Some(next);
            }
        }
        None
    }

    async fn read_from(&self, segment: &Segment, block: u32) -> Vec<u8> {
        let blocks = self.disk.geometry().segment_blocks;
        let step = (WALK_BYTES / BLOCK) as u32;
        let starts = (block..blocks).step_by(step as usize);
        let reads = starts.map(|at| self.disk.read(segment.slot, at, u64::from(step.min(blocks - at))));
        let mut bytes = Vec::with_capacity(((blocks - block) as usize) * BLOCK as usize);
        for (i, read) in join_all(reads).await.into_iter().enumerate() {
            match read {
                Ok(buffer) => bytes.extend_from_slice(&buffer),
                // An unreadable stretch is like a damaged one: no record is found in it.
                Err(error) => {
                    let len = step.min(blocks - block - i as u32 * step) as usize * BLOCK as usize;
                    tracing::warn!("segment {}: {error}", segment.id);
                    bytes.resize(bytes.len() + len, 0);
                }
            }
        }
        bytes
    }

    /// Whole record headers of this mount at 4 KiB steps: evidence of what was written after a bad record.
    fn headers_in(&self, bytes: &[u8], segment: &Segment, first: u32) -> Vec<Record> {
        let found = |(i, _): (usize, &[u8])| {
            let record = Record::decode(&bytes[i * BLOCK as usize..]).ok()?;
            let ours = record.header.store_tag == store_tag(&self.store.store_id)
                && record.header.mount == segment.mount
                && record.header.address == LogAddress::new(segment.id, first + i as u32);
            ours.then_some(record)
        };
        bytes.chunks_exact(BLOCK as usize).enumerate().filter_map(found).collect()
    }

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
        let unverified = self.accepted.partition_point(|(r, _)| r.header.sequence <= attested);
        for i in unverified..self.accepted.len() {
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
