//! What the log itself still says: every record that lies in a slot, whatever tables and maps say of it.
//!
//! A record counts if it lies where its address says, is not newer than the checkpoint, and stands in the order: walking back from
//! the newest, addresses and sequences fall together. What a recovery cut off has a sequence that a later record took again, at
//! a larger address, and so drops out. Records hang together by their checksums; where the chain has no gap back from a point,
//! everything that happened until that point is known.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use treering_format::checkpoint::SlotState;
use treering_format::container::ContainerPiece;
use treering_format::record::{Descriptor, Encoding, Record, RecordHeader};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::CheckpointRef;
use treering_format::units::{ContainerId, LineId, LogAddress, SegmentId, SlotIndex, StoreId};

use crate::disk::{BLOCK, Disk};
use crate::overlay::SealedExtent;
use crate::segments::Table;
use crate::store::{Core, directory, lies_at};

/// Blocks read at once.
const READ_BLOCKS: u32 = 256;

/// One write to a line, as its record describes it.
#[derive(Clone)]
pub(super) struct Written {
    /// Of a hole: its record's.
    pub address: LogAddress,
    pub block: u64,
    pub count: u64,
    pub what: What,
}

#[derive(Clone)]
pub(super) enum What {
    Data(Rc<SealedExtent>),
    Blank { allocated: bool },
}

/// One record in the order.
struct Link {
    header: RecordHeader,
    /// From here on everything up to this record is known.
    known_from: LogAddress,
}

pub(super) struct Evidence {
    /// By address.
    links: Vec<Link>,
    /// By line, in order of address.
    written: BTreeMap<LineId, Vec<Written>>,
    /// Segments that have a slot, and of which records may be missing.
    pub unread: u64,
}

impl Evidence {
    /// Reads the log up to a checkpoint. Of what was written, `wanted` says which lines and blocks matter.
    pub(super) async fn gather(
        core: &Core,
        fold: &CheckpointRef,
        containers: &[(ContainerId, ContainerPiece)],
        wanted: &dyn Fn(LineId, u64, u64) -> bool,
    ) -> Evidence {
        let (disk, store) = (&core.disk, core.superblock.current().store_id);
        let (mut headers, mut segments) = (Vec::new(), Vec::new());
        let mut written: Vec<(LogAddress, LineId, Written)> = Vec::new();
        for (index, slot) in core.segments.slots().into_iter().enumerate() {
            let slot_index = SlotIndex(index as u64);
            let id = match slot.state {
                SlotState::Log(id) => Some(id),
                SlotState::Free | SlotState::FreedInWindow(_) => header_of(disk, store, slot_index).await,
                SlotState::Pages | SlotState::Container(_) => None,
            };
            let Some(id) = id.filter(|id| *id <= fold.fold.segment()) else { continue };
            let (records, ends) = records_of(disk, store, id, slot_index).await;
            if matches!(slot.state, SlotState::Log(_)) {
                segments.push((id, ends));
            }
            for record in records {
                let header = record.header;
                if header.sequence > fold.fold_sequence || header.address > fold.fold {
                    continue;
                }
                let of_record = record.descriptors.iter().filter_map(|descriptor| describe(&header, descriptor));
                let of_record = of_record.filter(|(line, w)| wanted(*line, w.block, w.block + w.count));
                written.extend(of_record.map(|(line, w)| (header.address, line, w)));
                headers.push(header);
            }
        }
        let links = chain(headers);
        let accepted: HashSet<LogAddress> = links.iter().map(|link| link.header.address).collect();
        let mut by_line: BTreeMap<LineId, Vec<Written>> = BTreeMap::new();
        for (_, line, w) in written.into_iter().filter(|(record, ..)| accepted.contains(record)) {
            by_line.entry(line).or_default().push(w);
        }
        let survivors = containers.iter().flat_map(|(_, piece)| survivors_of(piece));
        let survivors =
            survivors.filter(|(line, w)| w.address <= fold.fold && wanted(*line, w.block, w.block + w.count));
        survivors.for_each(|(line, w)| by_line.entry(line).or_default().push(w));
        by_line.values_mut().for_each(|list| list.sort_by_key(|w| w.address));
        let unread = segments.iter().filter(|(id, ends)| !is_read(*id, *ends, &links, fold)).count() as u64;
        Evidence { links, written: by_line, unread }
    }

    /// What is known to have been written to a line up to an address, in order.
    pub(super) fn of_line(&self, line: LineId, limit: LogAddress) -> &[Written] {
        let all = self.written.get(&line).map_or(&[][..], Vec::as_slice);
        &all[..all.partition_point(|w| w.address <= limit)]
    }

    /// The stored blocks, of all that was written, that lie where `table` says, as they were.
    pub(super) async fn intact(&self, core: &Core, table: &Table) -> HashSet<LogAddress> {
        let mut intact = HashSet::new();
        for w in self.written.values().flatten() {
            let What::Data(extent) = &w.what else { continue };
            let runs: Vec<(LogAddress, u32, &[u32])> = match extent.encoding {
                Encoding::Raw => {
                    let blocks = (0..).zip(extent.checksums.chunks(1));
                    blocks.map(|(n, sum)| (extent.address.next(n), 1, sum)).collect()
                }
                Encoding::Lz4 => vec![(extent.address, extent.stored_blocks, &extent.checksums[..])],
            };
            for (address, count, sums) in runs {
                let place = table.place(address).and_then(|(source, at)| Some((core.segments.slot_of(source)?, at)));
                let Some(place) = place.filter(|_| !intact.contains(&address)) else { continue };
                if lies_at(&core.disk, place, count, extent.encoding, sums).await {
                    intact.insert(address);
                }
            }
        }
        intact
    }

    /// Everything that happened at or behind the answer and up to `limit` is known.
    pub(super) fn known_from(&self, limit: LogAddress) -> LogAddress {
        let count = self.links.partition_point(|link| link.header.address <= limit);
        match count.checked_sub(1).map(|index| &self.links[index]) {
            Some(link) if link.header.last_address() == limit => link.known_from,
            _ => LogAddress(limit.0.saturating_add(1)),
        }
    }
}

/// What each container says that it holds, the newest first.
pub(super) async fn directories(core: &Core) -> Vec<(ContainerId, ContainerPiece)> {
    let store = core.superblock.current().store_id;
    let mut found = Vec::new();
    for (index, slot) in core.segments.slots().into_iter().enumerate() {
        if let SlotState::Container(id) = slot.state {
            let pieces = directory(&core.disk, store, SlotIndex(index as u64), id).await;
            found.extend(pieces.into_iter().flatten().map(|piece| (id, piece)));
        }
    }
    found.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    found
}

fn survivors_of(piece: &ContainerPiece) -> impl Iterator<Item = (LineId, Written)> + '_ {
    piece.survivors.iter().map(|survivor| {
        let address = LogAddress::new(piece.segment, survivor.first);
        let extent = SealedExtent {
            address,
            encoding: survivor.encoding,
            blocks: u32::from(survivor.extent_blocks),
            stored_blocks: u32::from(survivor.count),
            checksums: survivor.checksums.clone().into_boxed_slice(),
        };
        let (block, count) = (survivor.block.0, u64::from(survivor.extent_blocks));
        (survivor.line, Written { address, block, count, what: What::Data(Rc::new(extent)) })
    })
}

/// Orders what was found, and drops what was cut off once.
fn chain(mut headers: Vec<RecordHeader>) -> Vec<Link> {
    headers.sort_by_key(|header| std::cmp::Reverse(header.address));
    let mut newer = u64::MAX;
    headers.retain(|header| {
        let stands = header.sequence.0 < newer;
        newer = newer.min(header.sequence.0);
        stands
    });
    headers.reverse();
    let mut links: Vec<Link> = Vec::with_capacity(headers.len());
    for header in headers {
        let known_from = match links.last() {
            Some(before) if follows(&before.header, &header) => before.known_from,
            _ if header.sequence.0 == 1 => LogAddress::NONE,
            _ => header.address,
        };
        links.push(Link { header, known_from });
    }
    links
}

/// Whether nothing is missing of a segment's records up to the checkpoint: what follows it goes on from its end.
fn is_read(id: SegmentId, ends: Ends, links: &[Link], fold: &CheckpointRef) -> bool {
    let behind = links.partition_point(|link| link.header.address.segment() <= id);
    let last = behind.checked_sub(1).map(|index| &links[index].header).filter(|last| last.address.segment() == id);
    match (ends, last) {
        (Ends::WithFooter, _) => true,
        (Ends::AfterGap, _) | (Ends::Open, None) => false,
        (Ends::Open, Some(last)) => match links.get(behind) {
            Some(next) => follows(last, &next.header),
            None => last.last_address() == fold.fold,
        },
    }
}

fn follows(before: &RecordHeader, header: &RecordHeader) -> bool {
    before.sequence.0 + 1 == header.sequence.0 && before.header_crc == header.previous_chain
}

fn describe(header: &RecordHeader, descriptor: &Descriptor) -> Option<(LineId, Written)> {
    let blank = |line: LineId, block: u64, count, allocated| {
        let what = What::Blank { allocated };
        (line, Written { address: header.address, block, count, what })
    };
    match descriptor {
        Descriptor::Data(data) => {
            let extent = SealedExtent {
                address: header.payload_address(data.payload),
                encoding: data.encoding,
                blocks: u32::from(data.count),
                stored_blocks: match data.encoding {
                    Encoding::Raw => u32::from(data.count),
                    Encoding::Lz4 => u32::from(data.stored_blocks),
                },
                checksums: data.checksums.clone().into_boxed_slice(),
            };
            let (address, what) = (extent.address, What::Data(Rc::new(extent)));
            Some((data.line, Written { address, block: data.block.0, count: u64::from(data.count), what }))
        }
        Descriptor::Hole { line, block, count } => Some(blank(*line, block.0, *count, false)),
        Descriptor::Zero { line, block, count } => Some(blank(*line, block.0, *count, true)),
        _ => None,
    }
}

/// The segment that a slot held last, whoever has the slot now.
async fn header_of(disk: &Disk, store: StoreId, slot: SlotIndex) -> Option<SegmentId> {
    let block = disk.read(slot, 0, 1).await.ok()?;
    let header = SegmentHeader::decode(&block).ok()?;
    (header.store_id == store && header.slot == slot).then_some(header.segment)
}

/// How the records of a segment came to an end.
#[derive(Clone, Copy)]
enum Ends {
    WithFooter,
    /// Where no record follows.
    Open,
    /// And there is one behind bytes that are none.
    AfterGap,
}

/// Every whole record of a segment: by its footer, else by looking at each block.
async fn records_of(disk: &Disk, store: StoreId, id: SegmentId, slot: SlotIndex) -> (Vec<Record>, Ends) {
    let (mut records, mut ends) = match by_footer(disk, store, id, slot).await {
        Some(records) => (records, Ends::WithFooter),
        None => (by_looking(disk, id, slot).await, Ends::Open),
    };
    records.retain(|record| record.header.store_tag == store.tag() && record.header.address.segment() == id);
    let starts = records.iter().map(|record| record.header.address);
    let due = records.iter().map(|record| LogAddress(record.header.last_address().0 + 1));
    if matches!(ends, Ends::Open)
        && starts.zip(std::iter::once(LogAddress::new(id, 1)).chain(due)).any(|(at, due)| at != due)
    {
        ends = Ends::AfterGap;
    }
    (records, ends)
}

async fn by_footer(disk: &Disk, store: StoreId, id: SegmentId, slot: SlotIndex) -> Option<Vec<Record>> {
    let blocks = disk.geometry().segment_blocks;
    let footer = SegmentFooter::decode_trailer(&disk.read(slot, blocks - 1, 1).await.ok()?).ok()?;
    let whole = footer.body_block + SegmentFooter::blocks(footer.body_bytes as usize) == blocks;
    if footer.segment != id || footer.store_id != store || !whole || footer.body_block + 1 >= blocks {
        return None;
    }
    let body = disk.read(slot, footer.body_block, u64::from(blocks - 1 - footer.body_block)).await.ok()?;
    let records: Vec<Record> = SegmentFooter::iterate(footer.body(&body).ok()?).collect::<Result<_, _>>().ok()?;
    (records.len() == footer.record_count as usize).then_some(records)
}

async fn by_looking(disk: &Disk, id: SegmentId, slot: SlotIndex) -> Vec<Record> {
    let blocks = disk.geometry().segment_blocks;
    let mut bytes = Vec::with_capacity(blocks as usize * BLOCK as usize);
    for at in (0..blocks).step_by(READ_BLOCKS as usize) {
        let count = READ_BLOCKS.min(blocks - at);
        match disk.read(slot, at, u64::from(count)).await {
            Ok(read) => bytes.extend_from_slice(&read),
            Err(_) => bytes.resize(bytes.len() + count as usize * BLOCK as usize, 0),
        }
    }
    let mut records = Vec::new();
    let mut at = 1;
    while at < blocks {
        let record = Record::decode(&bytes[at as usize * BLOCK as usize..]).ok();
        let here = |record: &Record| {
            let blocks_of_it = record.header.total_blocks();
            record.header.address == LogAddress::new(id, at) && at + blocks_of_it <= blocks
        };
        match record.filter(here) {
            Some(record) => {
                at += record.header.total_blocks().max(1);
                records.push(record);
            }
            None => at += 1,
        }
    }
    records
}
