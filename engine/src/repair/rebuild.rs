//! What stood where pages of maps are lost, out of the log.
//!
//! A version shows what the version shows that it goes on from, and above that, of each block, the newest that was written since to
//! the lines of its path, on each up to where the path leaves it. So nothing that it shows from before is missing in the version
//! before it, and a sweep of that one finds it. Where every record since then is known that is certain, holes included. Where
//! records are gone, their segments having been freed, the newest that is known may have been trimmed since. A live block that
//! nobody else can show is certain all the same, unless it is compressed data that another block may keep alive; a block of which
//! no live data is known reads as zeros. What is left is a guess, and is said to be one.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LineId, LogAddress, PageIndex};

use super::scan::{Evidence, What, Written};
use crate::canary::{self, Canary};
use crate::fold::change_of;
use crate::map::{Content, Extent};
use crate::overlay::{Layer, NOT_IN_ARENA, Piece, Place, SealedExtent};

/// A part of a map that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub low: u64,
    pub high: u64,
    pub page: PageIndex,
    pub why: String,
}

/// The lines that a map's blocks were written to, each with the last address that counts.
pub(super) type Path = Vec<(LineId, LogAddress)>;

/// What a version shows of a lost part because the one that it goes on from does.
#[derive(Default)]
pub(super) struct Base {
    /// Position of that version; nothing written at or below it counts.
    pub floor: LogAddress,
    pub extents: Vec<Extent>,
    /// What of it is a guess itself.
    pub unsure: BTreeMap<u64, Vec<LogAddress>>,
}

/// What takes the place of a lost part.
pub(super) struct Rebuilt {
    pub extents: Vec<Extent>,
    /// Live data of which it is not known that nothing hides it, by block.
    unsure: BTreeMap<u64, Vec<LogAddress>>,
    /// What is shown, by block, of what is unsure.
    guessed: BTreeMap<u64, LogAddress>,
}

/// `lives`: whether anything shows a stored block; asked also whether it is known to be the newest of its place.
pub(super) fn rebuild(
    evidence: &Evidence,
    path: &Path,
    base: &Base,
    lost: &Lost,
    lives: &dyn Fn(LogAddress, bool) -> bool,
) -> Rebuilt {
    let limit = path.first().map_or(LogAddress::NONE, |(_, limit)| *limit);
    let mut writes = Vec::new();
    for (line, limit) in path {
        let limit = if canary::is(Canary::RepairIgnoresCut) { LogAddress(u64::MAX) } else { *limit };
        let touching = |w: &&Written| w.address > base.floor && w.block < lost.high && lost.low < w.block + w.count;
        writes.extend(evidence.of_line(*line, limit).iter().filter(touching));
    }
    writes.sort_by_key(|w| w.address);
    let known_from = evidence.known_from(limit);
    let mut building = Building { layer: Layer::default(), unsure: BTreeMap::new(), lives, lost };
    // What was said before is certain only if all is known that was said since.
    let base_is_known = known_from.0 <= base.floor.0.saturating_add(1);
    for extent in within(&base.extents, lost.low, lost.high) {
        building.put(&written(&extent), (extent.block.0, extent.end().0), base_is_known);
    }
    let guessed_before = base.unsure.range(lost.low..lost.high);
    building.unsure.extend(guessed_before.map(|(block, candidates)| (*block, candidates.clone())));
    writes.into_iter().for_each(|w| building.put(w, (w.block, w.block + w.count), w.address >= known_from));
    let Building { layer, unsure, .. } = building;
    let extents: Vec<Extent> = layer.pieces().map(change_of).collect();
    let guessed = unsure.keys().filter_map(|block| Some((*block, shown_at(&layer, *block)?))).collect();
    Rebuilt { extents: joined(extents), unsure, guessed }
}

struct Building<'a> {
    layer: Layer,
    unsure: BTreeMap<u64, Vec<LogAddress>>,
    lives: &'a dyn Fn(LogAddress, bool) -> bool,
    lost: &'a Lost,
}

impl Building<'_> {
    /// Puts some blocks of one write above what is there. Known: it and all that came after it.
    fn put(&mut self, written: &Written, (from, to): (u64, u64), is_known: bool) {
        let (from, to) = (from.max(self.lost.low), to.min(self.lost.high));
        if is_known {
            let hidden: Vec<u64> = self.unsure.range(from..to).map(|(block, _)| *block).collect();
            hidden.into_iter().for_each(|block| drop(self.unsure.remove(&block)));
        }
        let extent = match &written.what {
            What::Blank { allocated } => {
                let place = Place::Blank { allocated: *allocated, address: written.address };
                self.layer.insert(Piece { block: from, count: to - from, place });
                return;
            }
            What::Data(extent) => extent,
        };
        for block in from..to {
            let offset = (block - written.block) as u32;
            let stored = stored_at(extent.address, extent.encoding, offset);
            let alive = (self.lives)(stored, is_known);
            let place = match alive {
                true => Place::Log { extent: Rc::clone(extent), offset, position: NOT_IN_ARENA },
                // Something that is not known any more has hidden it.
                false => Place::Blank { allocated: false, address: written.address },
            };
            self.layer.insert(Piece { block, count: 1, place });
            if alive && !is_known {
                // A container may say again what a record said.
                let candidates = self.unsure.entry(block).or_default();
                if !candidates.contains(&stored) {
                    candidates.push(stored);
                }
            }
        }
    }
}

/// What a map shows, as if a record said it.
fn written(extent: &Extent) -> Written {
    let (block, count) = (extent.block.0, extent.count);
    match &extent.content {
        Content::Hole { address } => {
            Written { address: *address, block, count, what: What::Blank { allocated: false } }
        }
        Content::Zero { address } => Written { address: *address, block, count, what: What::Blank { allocated: true } },
        Content::Data { address, encoding, offset, extent_blocks, stored_blocks, checksums } => {
            let sealed = SealedExtent {
                address: *address,
                encoding: *encoding,
                blocks: u32::from(*extent_blocks),
                stored_blocks: u32::from(*stored_blocks),
                checksums: checksums.to_vec().into_boxed_slice(),
            };
            // A piece of a compressed extent is counted from the extent's first block on.
            let (block, count) = (block.saturating_sub(u64::from(*offset)), count + u64::from(*offset));
            Written { address: *address, block, count, what: What::Data(Rc::new(sealed)) }
        }
    }
}

impl Rebuilt {
    /// Stored blocks of which it is not known who shows them, and where.
    fn candidates(&self) -> impl Iterator<Item = (u64, LogAddress)> + '_ {
        self.unsure.iter().flat_map(|(block, stored)| stored.iter().map(|stored| (*block, *stored)))
    }

    /// What others may build on.
    pub(super) fn unsure(&self) -> &BTreeMap<u64, Vec<LogAddress>> {
        &self.unsure
    }

    /// The ranges of blocks that are a guess. `only_here`: nothing else can show a stored block.
    pub(super) fn doubtful(&self, only_here: impl Fn(LogAddress) -> bool) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (block, candidates) in &self.unsure {
            let certain = candidates.len() == 1
                && self.guessed.get(block) == candidates.first()
                && candidates.iter().all(|candidate| only_here(*candidate));
            match ranges.last_mut() {
                _ if certain => {}
                Some((_, end)) if *end == *block => *end += 1,
                _ => ranges.push((*block, *block + 1)),
            }
        }
        ranges
    }
}

/// Where each stored block that is unsure might be shown: on which lost page, and for which block. Twice: None.
#[derive(Default)]
pub(super) struct Claims(HashMap<LogAddress, Option<(PageIndex, u64)>>);

impl Claims {
    pub(super) fn take(&mut self, page: PageIndex, new: &Rebuilt) {
        for (block, address) in new.candidates() {
            let by = self.0.entry(address).or_insert(Some((page, block)));
            if *by != Some((page, block)) {
                *by = None;
            }
        }
    }

    pub(super) fn only_one(&self, address: LogAddress) -> bool {
        self.0.get(&address).is_some_and(Option::is_some)
    }
}

fn stored_at(address: LogAddress, encoding: Encoding, offset: u32) -> LogAddress {
    match encoding {
        Encoding::Raw => address.next(offset),
        Encoding::Lz4 => address,
    }
}

fn shown_at(layer: &Layer, block: u64) -> Option<LogAddress> {
    let piece = layer.overlapping(block, block + 1).next()?;
    match &piece.place {
        Place::Log { extent, offset, .. } => Some(stored_at(extent.address, extent.encoding, *offset)),
        _ => None,
    }
}

/// Neighbours that one entry can say are one; pieces of a compressed extent above all, of which a map must not have two.
fn joined(extents: Vec<Extent>) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        if let Some(last) = joined.last_mut()
            && last.end() == extent.block
            && let Content::Data { address, encoding: Encoding::Lz4, offset, .. } = &last.content
            && let Content::Data { address: next, encoding: Encoding::Lz4, offset: at, .. } = &extent.content
            && address == next
            && u64::from(*offset) + last.count == u64::from(*at)
        {
            last.count += extent.count;
            continue;
        }
        joined.push(extent);
    }
    joined
}

/// `[low, high)` in blocks as bytes of a volume; None if nothing of it lies in the volume.
pub(super) fn bytes_of((low, high): (u64, u64), size: u64) -> Option<(u64, u64)> {
    let block = crate::disk::BLOCK;
    let (from, to) = (low.saturating_mul(block), high.saturating_mul(block).min(size));
    (from < to).then_some((from, to))
}

/// The parts of extents within `[low, high)`.
pub(super) fn within(extents: &[Extent], low: u64, high: u64) -> impl Iterator<Item = Extent> + '_ {
    let inside = move |extent: &&Extent| extent.block.0 < high && low < extent.end().0;
    extents.iter().filter(inside).map(move |extent| extent.clip(BlockIndex(low), BlockIndex(high)))
}
