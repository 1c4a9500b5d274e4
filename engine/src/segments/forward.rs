//! Where a stored block lies now: in its segment's slot, or in the container that the cleaner moved it to.

use std::collections::HashMap;

use treering_format::checkpoint::SlotState;
use treering_format::units::{ContainerId, LogAddress, SegmentId, SlotIndex};

use super::bits::{self, Held, Piece};
use super::{Container, LiveBits, Segments, Source, State};
use crate::canary::{self, Canary};
use crate::log::Frontier;
use crate::pages::{PageError, Pages};

/// Segments kept in memory between checkpoints; each is about a KiB.
pub(super) const LIVE_IN_MEMORY: usize = 16 << 10;

/// What lost its place since the last checkpoint. It is still there: a read that found the address before may come yet.
#[derive(Default)]
pub(super) struct Departed {
    pub segments: HashMap<SegmentId, SlotIndex>,
    pub pieces: HashMap<SegmentId, Vec<(SlotIndex, Piece)>>,
}

impl Departed {
    pub fn join(&mut self, more: Departed) {
        self.segments.extend(more.segments);
        for (id, pieces) in more.pieces {
            self.pieces.entry(id).or_default().extend(pieces);
        }
    }
}

/// Where stored blocks lie.
pub(crate) enum Place {
    /// As they were written, at their own block numbers.
    Slot(SlotIndex),
    Moved(Vec<Spot>),
    Nowhere,
}

/// Neighbouring blocks of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub slot: SlotIndex,
    pub block: u32,
    pub count: u32,
}

/// What of a segment is to be moved, and under which number.
pub(crate) struct Survivors {
    pub segment: SegmentId,
    /// 0: from the segment's own slot.
    pub from_part: u8,
    pub to_part: u8,
    pub slot: SlotIndex,
    pub blocks: LiveBits,
    /// Whether a part of it may be left for another time.
    pub may_split: bool,
}

/// A container that is written, whole.
pub(crate) struct Installed {
    pub container: ContainerId,
    pub slot: SlotIndex,
    pub moved: Vec<Moved>,
}

/// What a container holds of a segment.
pub(crate) struct Moved {
    pub segment: SegmentId,
    /// 0: out of the segment's own slot.
    pub from_part: u8,
    pub to_part: u8,
    pub base: u32,
    pub placed: LiveBits,
}

impl Segments {
    /// Where blocks lie; None if what the tree has of the segment must be read first.
    pub(crate) fn place_now(&self, address: LogAddress, blocks: u32) -> Option<Place> {
        let state = self.0.borrow();
        let id = address.segment();
        if u64::from(address.block()) + u64::from(blocks) > u64::from(state.segment_blocks) {
            return Some(Place::Nowhere);
        }
        let slot = state.by_segment.get(&id).map(|segment| segment.slot);
        let gone = || [&state.departed, &state.kept].into_iter().find_map(|gone| gone.segments.get(&id).copied());
        if let Some(slot) = slot.or_else(gone) {
            return Some(Place::Slot(slot));
        }
        let held = state.live.get(&id)?;
        Some(state.spots(id, held, address.block(), blocks).map_or(Place::Nowhere, Place::Moved))
    }

    /// Where blocks lie. The caller has a reader's ticket.
    pub(crate) async fn place(&self, pages: &Pages, address: LogAddress, blocks: u32) -> Result<Place, PageError> {
        loop {
            if let Some(place) = self.place_now(address, blocks) {
                return Ok(place);
            }
            let id = address.segment();
            let held = self.look(pages, id).await?;
            let mut state = self.0.borrow_mut();
            if state.live.len() < 2 * LIVE_IN_MEMORY {
                state.live.entry(id).or_insert(held);
            } else if !state.live.contains_key(&id) {
                let spots = state.spots(id, &held, address.block(), blocks);
                return Ok(spots.map_or(Place::Nowhere, Place::Moved));
            }
        }
    }

    /// A segment as it is now, in memory or not, for one who has not the fold's turn.
    pub(super) async fn look(&self, pages: &Pages, id: SegmentId) -> Result<Held, PageError> {
        loop {
            let (tree, blocks, settled) = {
                let state = self.0.borrow();
                if let Some(held) = state.live.get(&id) {
                    return Ok(held.clone());
                }
                (state.tree.clone(), state.segment_blocks, state.settled)
            };
            let held = bits::read(&tree, pages, id, blocks).await?;
            // What was read is the newest only if the tree is still the same.
            if self.0.borrow().settled == settled {
                return Ok(held);
            }
        }
    }

    /// What is to be moved of a victim now. Nothing, if it is gone.
    pub(crate) async fn survivors(&self, pages: &Pages, source: Source) -> Result<Vec<Survivors>, PageError> {
        let ids: Vec<(SegmentId, u8)> = match source {
            Source::Segment(id) => vec![(id, 0)],
            Source::Container(id) => match self.0.borrow().containers.get(&id) {
                Some(container) => container.pieces.iter().copied().collect(),
                None => Vec::new(),
            },
        };
        let mut found = Vec::new();
        for (segment, part) in ids {
            let held = self.look(pages, segment).await?;
            let state = self.0.borrow();
            let (blocks, slot, to_part) = match (part, held.piece(part)) {
                (0, _) => (held.unplaced(), state.by_segment.get(&segment).map(|s| s.slot), held.free_part()),
                (_, Some(piece)) => {
                    let slot = state.containers.get(&piece.container).map(|container| container.slot);
                    (held.bits.and(&piece.placed), slot, Some(part))
                }
                (_, None) => continue,
            };
            if let (Some(slot), Some(to_part), false) = (slot, to_part, blocks.is_empty()) {
                let may_split = part == 0 && held.pieces.len() + 1 < 4;
                found.push(Survivors { segment, from_part: part, to_part, slot, blocks, may_split });
            }
        }
        Ok(found)
    }

    /// The slot of a victim, while it is one.
    pub(crate) fn slot_of(&self, source: Source) -> Option<SlotIndex> {
        let state = self.0.borrow();
        match source {
            Source::Segment(id) => state.by_segment.get(&id).map(|segment| segment.slot),
            Source::Container(id) => state.containers.get(&id).map(|container| container.slot),
        }
    }

    /// From here on what was moved lies in the container. One step; the caller has the fold's turn, has loaded the segments,
    /// and every write of the container has completed.
    pub(crate) fn install(&self, installed: Installed, fold: &Frontier) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        state.changes += 1;
        let Installed { container: id, slot, moved } = installed;
        assert_eq!(state.counted_to, u64::MAX, "what is moved was counted");
        let mut container = Container { slot, live: 0, pieces: Default::default() };
        for Moved { segment, from_part, to_part, base, placed } in moved {
            let held = state.live.get_mut(&segment).expect("segments are loaded before they move");
            let survivors = held.bits.and(&placed);
            if survivors.is_empty() {
                continue;
            }
            let live = survivors.count();
            if from_part == 0 {
                let known = state.by_segment.get_mut(&segment).expect("a segment with live blocks has its slot");
                let folded = known.last_record.is_some_and(|last| last <= fold.sequence);
                assert!(folded, "segment {segment} is moved ahead of the fold");
                known.live -= live;
            } else {
                let at = held.pieces.iter().position(|piece| piece.part == from_part);
                let old = held.pieces.remove(at.expect("a piece with live blocks is there"));
                assert!(held.bits.and(&old.placed).minus(&placed).is_empty(), "a piece is moved with all that lives");
                let from = state.containers.get_mut(&old.container).expect("live blocks lie in a container");
                from.live -= live;
                from.pieces.remove(&(segment, from_part));
                state.departed.pieces.entry(segment).or_default().push((from.slot, old));
            }
            assert!(held.piece(to_part).is_none(), "a part has one place");
            let counted = if canary::is(Canary::CountsKeptAsDeltas) { placed.count() } else { live };
            held.pieces.push(Piece { part: to_part, container: id, base, placed });
            held.dirty = true;
            container.live += counted;
            container.pieces.insert((segment, to_part));
        }
        if container.pieces.is_empty() {
            let written = state.slots[slot.0 as usize].written;
            state.free.insert((!written, slot));
            return;
        }
        state.slots[slot.0 as usize].state = SlotState::Container(id);
        state.containers.insert(id, container);
    }
}

impl State {
    /// Where these blocks lie, in neighbouring runs; None if one of them is nowhere.
    fn spots(&self, id: SegmentId, held: &Held, first: u32, blocks: u32) -> Option<Vec<Spot>> {
        let mut spots: Vec<Spot> = Vec::new();
        let (mut block, end) = (first, first + blocks);
        while block < end {
            let (slot, piece) = self.spot(id, held, block)?;
            // What follows in the same piece lies behind it.
            let count = (block..end).take_while(|block| piece.placed.get(*block)).count() as u32;
            let at = piece.base + piece.placed.rank(block);
            match spots.last_mut() {
                Some(last) if last.slot == slot && last.block + last.count == at => last.count += count,
                _ => spots.push(Spot { slot, block: at, count }),
            }
            block += count;
        }
        Some(spots)
    }

    /// The piece that holds a block, and its container's slot.
    fn spot<'a>(&'a self, id: SegmentId, held: &'a Held, block: u32) -> Option<(SlotIndex, &'a Piece)> {
        let now = held.piece_of(block).and_then(|piece| {
            let container = self.containers.get(&piece.container)?;
            Some((container.slot, piece))
        });
        let before = || {
            let gone = [&self.departed, &self.kept].into_iter().filter_map(|gone| gone.pieces.get(&id)).flatten();
            gone.map(|(slot, piece)| (*slot, piece)).find(|(_, piece)| piece.placed.get(block))
        };
        now.or_else(before)
    }
}
