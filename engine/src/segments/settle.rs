//! What a checkpoint does with the segment table: frees what is dead, and stores what changed.

use treering_format::checkpoint::SlotState;
use treering_format::units::{CheckpointSequence, SegmentId, SlotIndex};

use super::bits;
use super::forward::LIVE_IN_MEMORY;
use super::{Segment, Segments, State};
use crate::canary::{self, Canary};
use crate::log::Frontier;
use crate::pages::{PageError, Pages};

type Change = (u64, Option<Vec<u8>>);

impl Segments {
    /// Frees what is dead as of the fold having reached `fold`, on behalf of checkpoint `sequence`, and stores the
    /// changed bitmaps and pieces into the liveness tree. Returns how many slots it freed.
    pub(crate) async fn settle(
        &self,
        pages: &Pages,
        fold: &Frontier,
        sequence: CheckpointSequence,
    ) -> Result<u64, PageError> {
        let (mut tree, changes, freed) = {
            let mut state = self.0.borrow_mut();
            let segments = state.free_segments(fold, sequence);
            let changes = state.changes(sequence);
            let freed = segments + state.free_containers(sequence);
            (state.tree.clone(), changes, freed)
        };
        tree.apply(pages, &changes).await?;
        let mut state = self.0.borrow_mut();
        state.tree = tree;
        state.settled += 1;
        // What is clean now can be read again when it is needed. Until here the tree did not say yet what was forgotten.
        let State { live, by_segment, .. } = &mut *state;
        live.retain(|id, held| held.stored != 0 || by_segment.contains_key(id));
        if state.live.len() > LIVE_IN_MEMORY {
            state.live.clear();
        }
        Ok(freed)
    }
}

impl State {
    /// Segments of which the slot holds nothing that lives: it died, or was moved.
    fn free_segments(&mut self, fold: &Frontier, sequence: CheckpointSequence) -> u64 {
        let ahead = canary::is(Canary::SegmentFreedAheadOfFold);
        // The segment that the log goes on from is where a replay from this checkpoint begins: it stays.
        let done = |s: &Segment| s.last_record.is_some_and(|last| last <= fold.sequence || ahead);
        let next = if ahead { u64::MAX } else { fold.next.segment().0 };
        let end = SegmentId(self.counted_to.min(next));
        let dead = self.by_segment.range(..end).filter(|(_, s)| s.live == 0 && done(s));
        let dead: Vec<SegmentId> = dead.map(|(id, _)| *id).collect();
        for id in &dead {
            let slot = self.by_segment.remove(id).expect("listed above").slot;
            self.departed.segments.insert(*id, slot);
            self.free_slot(slot, sequence);
        }
        dead.len() as u64
    }

    fn free_slot(&mut self, slot: SlotIndex, sequence: CheckpointSequence) {
        self.slots[slot.0 as usize].state = SlotState::FreedInWindow(sequence);
        if canary::is(Canary::SlotReusedAtOnce) {
            self.slots[slot.0 as usize].state = SlotState::Free;
            self.free.insert((false, slot));
        }
    }

    /// What the tree must hold from now on, in order of key. Pieces of which nothing lives are dropped here.
    fn changes(&mut self, sequence: CheckpointSequence) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut forgotten = Vec::new();
        let dirty: Vec<SegmentId> = self.live.iter().filter(|(_, held)| held.dirty).map(|(id, _)| *id).collect();
        for id in dirty {
            let held = self.live.get_mut(&id).expect("listed above");
            held.dirty = false;
            let (kept, dead): (Vec<_>, Vec<_>) =
                held.pieces.drain(..).partition(|piece| !held.bits.and(&piece.placed).is_empty());
            held.pieces = kept;
            let mut stored = u8::from(!held.bits.is_empty());
            if stored == 1 {
                changes.push((bits::key(id, 0), Some(held.bits.encode())));
            }
            for piece in &held.pieces {
                stored |= 1 << piece.part;
                changes.push((bits::key(id, piece.part), Some(piece.encode())));
            }
            let gone = held.stored & !stored;
            changes.extend((0..8).filter(|part| gone >> part & 1 == 1).map(|part| (bits::key(id, part), None)));
            held.stored = stored;
            forgotten.extend(dead.into_iter().map(|piece| (id, piece)));
        }
        for (id, piece) in forgotten {
            let Some(container) = self.containers.get_mut(&piece.container) else { continue };
            container.pieces.remove(&(id, piece.part));
            let slot = container.slot;
            if canary::is(Canary::ContainerForgetsOwn) {
                self.containers.remove(&piece.container);
                self.free_slot(slot, sequence);
            }
            self.departed.pieces.entry(id).or_default().push((slot, piece));
        }
        changes.sort_unstable_by_key(|(key, _)| *key);
        changes
    }

    fn free_containers(&mut self, sequence: CheckpointSequence) -> u64 {
        if self.counted_to != u64::MAX {
            return 0;
        }
        let empty = self.containers.extract_if(.., |_, container| container.pieces.is_empty());
        let slots: Vec<SlotIndex> = empty.map(|(_, container)| container.slot).collect();
        for slot in &slots {
            self.free_slot(*slot, sequence);
        }
        slots.len() as u64
    }
}
