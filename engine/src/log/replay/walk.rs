//! The walk along the chain: segment after segment, mount after mount, accepting what continues it.

use futures_util::future::join_all;
use treering_format::record::{Record, RecordHeader};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{CheckpointRef, MountEntry, Superblock};
use treering_format::units::{LogAddress, Mount, RecordSequence, SegmentId, SlotIndex};

use super::{LogDamage, Slots, end_of};
use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};
use crate::log::Frontier;

/// No record holds as many operations.
const OPERATIONS_MAX: u64 = 1 << 32;

/// Bytes read at once when a segment is walked.
const WALK_BYTES: u64 = 1 << 20;

pub(super) struct Walk<'a, S> {
    pub(super) disk: &'a Disk,
    pub(super) store: &'a Superblock,
    pub(super) slots: &'a S,
    /// The checkpoint's F.
    pub(super) start: Frontier,
    pub(super) at: Frontier,
    /// Accepted records, each with the slot its payload lies in.
    pub(super) accepted: Vec<(Record, SlotIndex)>,
    pub(super) segments: Vec<(SegmentId, SlotIndex, RecordSequence)>,
    pub(super) last_segment: SegmentId,
}

/// How the log of one mount ends.
#[derive(Default)]
pub(super) struct End {
    pub(super) why: String,
    pub(super) beyond: Vec<Record>,
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
    pub(super) async fn all(&mut self, from: &CheckpointRef, later: &[&MountEntry]) -> Result<End, LogDamage> {
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
        header.store_tag == self.store.store_id.tag()
            && header.mount == segment.mount
            && header.address.segment() == segment.id
            && header.first_order.0 == self.at.order.0 + 1
            && header.last_order.0.wrapping_sub(header.first_order.0).wrapping_add(1) < OPERATIONS_MAX
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
            let ours = record.header.store_tag == self.store.store_id.tag()
                && record.header.mount == segment.mount
                && record.header.address == LogAddress::new(segment.id, first + i as u32);
            ours.then_some(record)
        };
        bytes.chunks_exact(BLOCK as usize).enumerate().filter_map(found).collect()
    }
}
