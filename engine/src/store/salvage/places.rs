//! Where data lies, when no table says it: in its segment's slot, or in a container that took it from there.
//!
//! Both may hold a block: a slot is given up two checkpoints after it was emptied, containers are emptied in turn, and a
//! container that no checkpoint came to know of is whole like any other. Whichever holds what is needed does, for bytes never
//! change. So the segment's own slot is taken while it has what containers say that it had; else the containers that hold most
//! of what the maps show. What neither needs is free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use treering_format::checkpoint::SlotState;
use treering_format::container::ContainerPiece;
use treering_format::superblock::CheckpointRef;
use treering_format::units::{ContainerId, PageIndex, SegmentId};

use super::catalogs::Found;
use super::ground::{FoundPiece, Ground};
use crate::check::stored_run;
use crate::map::{ExtentMap, Tree, TreeKind, Visited, extents_of};
use crate::pages::{PageSet, Pages};
use crate::segments::LiveBits;

#[cfg(test)]
mod tests;

/// What the trees of a catalog refer to.
#[derive(Default)]
pub(super) struct Reached {
    pub pages: PageSet,
    /// Stored blocks that must be there.
    shown: BTreeMap<SegmentId, LiveBits>,
    /// All maps can be read whole: there is nothing more.
    is_all: bool,
}

/// Walks the catalog and all its maps.
pub(super) async fn walk(pages: &Pages, found: &Found, segment_blocks: u32) -> Reached {
    let mut reached = Reached { is_all: true, ..Reached::default() };
    let entries = &found.entries;
    let volumes = entries.volumes.iter().map(|(_, volume)| (volume.line, volume.root, false, 0));
    let versions = entries.versions.iter().map(|(_, v)| (v.line, v.root, v.thinned, v.cursor));
    let mut maps: Vec<_> = volumes.chain(versions).collect();
    // Who says most of a page that many share comes first.
    maps.sort_by_key(|(_, _, thinned, cursor)| (*thinned, *cursor));
    let maps = maps.into_iter().map(|(line, root, thinned, cursor)| {
        (ExtentMap::open(line.0, root).tree(), if thinned { u64::MAX } else { cursor })
    });
    let catalog = (Tree::open(TreeKind::Catalog, 0, found.root), 0);
    for (tree, cursor) in maps.chain([catalog]) {
        let mut leaves = tree.leaves(false);
        loop {
            let batch = leaves.next(pages, &mut |reference| reached.pages.insert(reference.page)).await;
            if batch.is_empty() {
                break;
            }
            for visited in batch {
                match visited {
                    Visited::Leaf { page, .. } if tree.kind() == TreeKind::Map => {
                        let runs = extents_of(&page).filter_map(|extent| stored_run(cursor, &extent));
                        for (first, _, count) in runs {
                            let of = reached.shown.entry(first.segment());
                            let of = of.or_insert_with(|| LiveBits::empty(segment_blocks));
                            let blocks = (first.block()..).take(count as usize).filter(|block| *block < segment_blocks);
                            for block in blocks {
                                of.put(block, true);
                            }
                        }
                    }
                    Visited::Leaf { .. } => {}
                    Visited::Unreadable { page, .. } => {
                        reached.is_all = false;
                        reached.pages.remove(page);
                    }
                }
            }
        }
    }
    reached
}

/// What each slot holds, and which pieces lie where their containers say.
pub(super) struct Places {
    pub slots: Vec<SlotState>,
    pub placed: Vec<(ContainerId, ContainerPiece)>,
}

/// `from`: what is above it is found by the log.
pub(super) fn places(ground: &Ground, reached: &Reached, from: &CheckpointRef, segment_blocks: u32) -> Places {
    let none = LiveBits::empty(segment_blocks);
    let open = from.next.segment().max(from.fold.segment());
    let mut slots = ground.slots.clone();
    let mut pieces: BTreeMap<SegmentId, Vec<&FoundPiece>> = BTreeMap::new();
    let of_past = ground.pieces.iter().filter(|found| found.piece.segment < from.next.segment());
    of_past.for_each(|found| pieces.entry(found.piece.segment).or_default().push(found));
    for pieces in pieces.values_mut() {
        let shown = reached.shown.get(&pieces[0].piece.segment).unwrap_or(&none);
        choose(pieces, shown, segment_blocks);
    }
    for (index, state) in slots.iter_mut().enumerate() {
        let first = ground.first_page + index as u64 * u64::from(segment_blocks);
        if (first..first + u64::from(segment_blocks)).any(|page| reached.pages.contains(PageIndex(page))) {
            *state = SlotState::Pages;
        }
        let SlotState::Log(id) = *state else { continue };
        let shown = reached.shown.get(&id).unwrap_or(&none);
        let chosen = pieces.get(&id).map_or(&[][..], Vec::as_slice);
        let elsewhere = chosen.iter().fold(none.clone(), |all, found| all.or(&blocks_of(&found.piece, segment_blocks)));
        let needed = match ground.overwritten.contains(&id) {
            true => !shown.minus(&elsewhere).is_empty(),
            false => !reached.is_all || !shown.is_empty(),
        };
        if id > open || id < from.next.segment() && !needed {
            *state = SlotState::Free;
        } else if !ground.overwritten.contains(&id) {
            pieces.remove(&id);
        }
    }
    let placed: Vec<_> = pieces.into_values().flatten().map(|found| (found.container, found.piece.clone())).collect();
    let used: BTreeSet<ContainerId> = placed.iter().map(|(container, _)| *container).collect();
    for state in &mut slots {
        if matches!(state, SlotState::Container(id) if !used.contains(id)) {
            *state = SlotState::Free;
        }
    }
    Places { slots, placed }
}

/// Leaves those pieces of a segment that can stand beside each other, the ones that hold most first.
fn choose(pieces: &mut Vec<&FoundPiece>, shown: &LiveBits, segment_blocks: u32) {
    pieces.sort_by_cached_key(|found| {
        let blocks = blocks_of(&found.piece, segment_blocks);
        Reverse((found.is_whole, blocks.and(shown).count(), blocks.count(), found.container))
    });
    let mut taken: Vec<(u8, LiveBits)> = Vec::new();
    pieces.retain(|found| {
        let blocks = blocks_of(&found.piece, segment_blocks);
        let fits = taken.iter().all(|(part, other)| *part != found.piece.part && other.and(&blocks).is_empty());
        taken.extend(fits.then_some((found.piece.part, blocks)));
        fits
    });
}

fn blocks_of(piece: &ContainerPiece, segment_blocks: u32) -> LiveBits {
    let mut placed = LiveBits::empty(segment_blocks);
    let blocks = piece.survivors.iter().flat_map(|s| s.first..s.first + u32::from(s.count));
    for block in blocks.filter(|block| *block < segment_blocks) {
        placed.put(block, true);
    }
    placed
}
