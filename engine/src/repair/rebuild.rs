//! What stood where pages of maps are lost, out of the log.
//!
//! A version shows, of each block, the newest that was written to the lines of its path, on each up to where the path leaves it.
//! Where every record since then is known that is certain, holes included. Where records are gone, their segments having been
//! freed, the newest that is known may have been trimmed since. A live block that nobody else can show is certain all the same;
//! a block of which no live data is known reads as zeros. What is left is a guess, and is said to be one.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LineId, LogAddress, PageIndex};

use super::scan::{Evidence, What};
use crate::canary::{self, Canary};
use crate::fold::changes_of;
use crate::map::Extent;
use crate::overlay::{Layer, NOT_IN_ARENA, Piece, Place};

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

/// What takes the place of a lost part.
pub(super) struct Rebuilt {
    pub extents: Vec<Extent>,
    /// Live data of which it is not known that nothing hides it, by block.
    unsure: BTreeMap<u64, Vec<LogAddress>>,
    /// What is shown, by block, of what is unsure.
    guessed: BTreeMap<u64, LogAddress>,
}

pub(super) fn rebuild(evidence: &Evidence, path: &Path, lost: &Lost, lives: &dyn Fn(LogAddress) -> bool) -> Rebuilt {
    let limit = path.first().map_or(LogAddress::NONE, |(_, limit)| *limit);
    let known_from = evidence.known_from(limit);
    let mut writes = Vec::new();
    for (line, limit) in path {
        let limit = if canary::is(Canary::RepairIgnoresCut) { LogAddress(u64::MAX) } else { *limit };
        let touching = |w: &&super::scan::Written| w.block < lost.high && lost.low < w.block + w.count;
        writes.extend(evidence.of_line(*line, limit).iter().filter(touching));
    }
    writes.sort_by_key(|w| w.address);
    let mut layer = Layer::default();
    let mut unsure: BTreeMap<u64, Vec<LogAddress>> = BTreeMap::new();
    for written in writes {
        let (from, to) = (written.block.max(lost.low), (written.block + written.count).min(lost.high));
        let is_known = written.address >= known_from;
        if is_known {
            let hidden: Vec<u64> = unsure.range(from..to).map(|(block, _)| *block).collect();
            hidden.into_iter().for_each(|block| drop(unsure.remove(&block)));
        }
        let extent = match &written.what {
            What::Blank { allocated } => {
                let place = Place::Blank { allocated: *allocated, address: written.address };
                layer.insert(Piece { block: from, count: to - from, place });
                continue;
            }
            What::Data(extent) => extent,
        };
        for block in from..to {
            let offset = (block - written.block) as u32;
            let stored = stored_at(extent.address, extent.encoding, offset);
            let alive = lives(stored);
            let place = match alive {
                true => Place::Log { extent: Rc::clone(extent), offset, position: NOT_IN_ARENA },
                // Something that is not known any more has hidden it.
                false => Place::Blank { allocated: false, address: written.address },
            };
            layer.insert(Piece { block, count: 1, place });
            if alive && !is_known {
                // A container may say again what a record said.
                let candidates = unsure.entry(block).or_default();
                if !candidates.contains(&stored) {
                    candidates.push(stored);
                }
            }
        }
    }
    let extents: Vec<Extent> = changes_of(&layer);
    let guessed = unsure.keys().filter_map(|block| Some((*block, shown_at(&layer, *block)?))).collect();
    Rebuilt { extents: joined(extents), unsure, guessed }
}

impl Rebuilt {
    /// Stored blocks of which it is not known who shows them.
    pub(super) fn candidates(&self) -> impl Iterator<Item = LogAddress> + '_ {
        self.unsure.values().flatten().copied()
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

/// How often each stored block that is unsure might be shown by pages that are lost.
#[derive(Default)]
pub(super) struct Claims(HashMap<LogAddress, Option<PageIndex>>);

impl Claims {
    pub(super) fn take(&mut self, page: PageIndex, candidates: impl Iterator<Item = LogAddress>) {
        for address in candidates {
            let by = self.0.entry(address).or_insert(Some(page));
            if *by != Some(page) {
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
    use crate::map::Content;
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
