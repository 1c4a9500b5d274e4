//! The segment table: which slot holds which segment, which blocks of it the maps still show, and when a slot may be used
//! again.
//!
//! What it keeps true:
//! * Where nobody has the fold's turn, a block's liveness bit is set exactly while the map, as folded up to F, shows the block. The
//!   fold sets the bits of what it inserts before the map shows it, and clears those of what it displaces once the map shows it no
//!   more; counts are taken from the bits and never kept beside them.
//! * A segment is free when no bit of it is set *and* its last record is at or below F: bits above F are not set yet, so an
//!   empty bitmap alone says nothing.
//! * A block lies in its segment's slot for as long as the table names that slot, and after it in a container, where a piece
//!   says so. Live blocks of a segment without a slot all lie in pieces. Pieces name containers and containers slots: there is
//!   no second hop.
//! * A slot freed in the window that ends with checkpoint k is used again only once checkpoint k+1 is durable: until then one
//!   of the two retained checkpoints, with the log above it, may need the slot.
//!
//! It does not choose what to write, and knows nothing of records but where they end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use treering_format::checkpoint::{Slot, SlotState};
use treering_format::units::{CheckpointSequence, ContainerId, LogAddress, RecordSequence, SegmentId, SlotIndex};

use crate::canary::{self, Canary};
use crate::map::Tree;
use crate::pages::PageError;

mod bits;
mod count;
mod forward;
mod hold;
mod live;
mod settle;
#[cfg(test)]
mod tests;

use bits::Held;
pub(crate) use count::{Candidate, Source};
use forward::Departed;
pub(crate) use forward::{Installed, Moved, Place, Spot, Survivors};
pub(crate) use hold::{FrozenSegments, Table};
pub(crate) use live::LiveBits;

#[derive(Clone)]
pub(crate) struct Segments(Rc<RefCell<State>>);

struct State {
    segment_blocks: u32,
    slots: Vec<Slot>,
    /// Free and usable now: written ones first, since a rewrite of a written block is what a disk does fastest.
    free: BTreeSet<(bool, SlotIndex)>,
    /// Segments of the log that still have their slot.
    by_segment: BTreeMap<SegmentId, Segment>,
    containers: BTreeMap<ContainerId, Container>,
    /// Bitmaps and pieces in memory: all that changed since the last checkpoint, and others as loaded.
    live: HashMap<SegmentId, Held>,
    tree: Tree,
    departed: Departed,
    /// What left before the newest checkpoint and is kept back.
    kept: Departed,
    /// Live blocks of segments below this one are counted, and of containers once all are.
    counted_to: u64,
    /// Grows with each change of what the tree holds.
    settled: u64,
    next_container: u64,
    /// Grows with each block that dies and each move.
    changes: u64,
    /// The newest checkpoint that is durable, as far as this process wrote it.
    durable: CheckpointSequence,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    slot: SlotIndex,
    /// The last record in it; None while the log may still append to it.
    last_record: Option<RecordSequence>,
    /// Live blocks that no piece holds: those the slot is needed for. Zero until counted.
    live: u32,
}

/// What the cleaner moved into one slot.
#[derive(Debug)]
struct Container {
    slot: SlotIndex,
    live: u32,
    /// Known once all is counted.
    pieces: BTreeSet<(SegmentId, u8)>,
}

/// Numbers of containers skipped by each open.
const CONTAINER_ID_GAP: u64 = 1024;

/// Counts of slots by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    pub total: u64,
    /// Usable at once.
    pub free: u64,
    /// Freed, waiting for a checkpoint.
    pub freed: u64,
    pub log: u64,
    pub pages: u64,
    /// Of survivors of cleaned segments.
    pub containers: u64,
}

impl Segments {
    /// The table as a checkpoint holds it. Segments in it are closed: the log continues in others, or says so by `reopen`.
    pub(crate) fn load(
        segment_blocks: u32,
        slots: Vec<Slot>,
        tree: Tree,
        fold: RecordSequence,
        next_container: ContainerId,
    ) -> Segments {
        let mut free = BTreeSet::new();
        let mut by_segment = BTreeMap::new();
        let mut containers = BTreeMap::new();
        for (index, slot) in slots.iter().enumerate() {
            let index = SlotIndex(index as u64);
            match slot.state {
                SlotState::Free => {
                    free.insert((!slot.written, index));
                }
                SlotState::Log(id) => {
                    by_segment.insert(id, Segment { slot: index, last_record: Some(fold), live: 0 });
                }
                SlotState::Container(id) => {
                    containers.insert(id, Container { slot: index, live: 0, pieces: BTreeSet::new() });
                }
                SlotState::FreedInWindow(_) | SlotState::Pages => {}
            }
        }
        Segments(Rc::new(RefCell::new(State {
            segment_blocks,
            slots,
            free,
            by_segment,
            containers,
            live: HashMap::new(),
            counted_to: if tree.is_empty() { u64::MAX } else { 0 },
            tree,
            departed: Departed::default(),
            kept: Departed::default(),
            settled: 0,
            // Numbers that a job took which no checkpoint knows of are not given again.
            next_container: next_container.0.max(1) + CONTAINER_ID_GAP,
            changes: 0,
            durable: CheckpointSequence(0),
        })))
    }

    /// The slot of a segment of the log that has one.
    pub(crate) fn locate(&self, id: SegmentId) -> Option<SlotIndex> {
        self.0.borrow().by_segment.get(&id).map(|s| s.slot)
    }

    pub(crate) fn contains(&self, slot: SlotIndex) -> bool {
        (slot.0 as usize) < self.0.borrow().slots.len()
    }

    pub(crate) fn free_list(&self) -> Vec<SlotIndex> {
        self.0.borrow().free.iter().map(|(_, slot)| *slot).collect()
    }

    /// Adds free slots that nothing was written to, up to `slot_count` in all.
    pub(crate) fn grow(&self, slot_count: u64) {
        let mut state = self.0.borrow_mut();
        let before = state.slots.len() as u64;
        assert!(before <= slot_count, "a store does not shrink");
        state.slots.resize(slot_count as usize, Slot { state: SlotState::Free, written: false });
        state.free.extend((before..slot_count).map(|slot| (true, SlotIndex(slot))));
    }

    pub(crate) fn free_slots(&self) -> u64 {
        self.0.borrow().free.len() as u64
    }

    /// Free slots that would be written over for the first time.
    pub(crate) fn unwritten_free(&self, ahead: usize) -> Option<SlotIndex> {
        let state = self.0.borrow();
        let ready = state.free.iter().filter(|(unwritten, _)| !unwritten).count();
        if ready >= ahead { None } else { state.free.iter().find(|(unwritten, _)| *unwritten).map(|(_, slot)| *slot) }
    }

    /// Whether every block of the slot was written at some time.
    pub(crate) fn was_written(&self, slot: SlotIndex) -> bool {
        self.0.borrow().slots[slot.0 as usize].written
    }

    pub(crate) fn mark_written(&self, slot: SlotIndex) {
        let mut state = self.0.borrow_mut();
        state.slots[slot.0 as usize].written = true;
        if state.free.remove(&(true, slot)) {
            state.free.insert((false, slot));
        }
    }

    /// Takes a free slot out of the pool without saying yet what for.
    pub(crate) fn reserve(&self) -> Option<SlotIndex> {
        self.0.borrow_mut().free.pop_first().map(|(_, slot)| slot)
    }

    /// Takes this very slot out of the pool; false if it is not free.
    pub(crate) fn reserve_slot(&self, slot: SlotIndex) -> bool {
        let mut state = self.0.borrow_mut();
        state.free.remove(&(false, slot)) || state.free.remove(&(true, slot))
    }

    /// Gives a reserved slot back unused.
    pub(crate) fn unreserve(&self, slot: SlotIndex) {
        let mut state = self.0.borrow_mut();
        let written = state.slots[slot.0 as usize].written;
        assert_eq!(state.slots[slot.0 as usize].state, SlotState::Free, "only an unused slot goes back at once");
        state.free.insert((!written, slot));
    }

    /// A reserved slot begins to hold a segment of the log.
    pub(crate) fn open(&self, id: SegmentId, slot: SlotIndex) {
        let mut state = self.0.borrow_mut();
        state.slots[slot.0 as usize].state = SlotState::Log(id);
        let fresh = state.by_segment.insert(id, Segment { slot, last_record: None, live: 0 });
        assert!(fresh.is_none(), "a segment id is used once");
    }

    /// The log appends no more to a segment; `last` is the newest record in it, or the newest before it if it holds none.
    pub(crate) fn close(&self, id: SegmentId, last: RecordSequence) {
        let mut state = self.0.borrow_mut();
        let segment = state.by_segment.get_mut(&id).expect("only a known segment closes");
        segment.last_record = Some(last);
        let slot = segment.slot;
        state.slots[slot.0 as usize].written = true;
    }

    /// A segment that replay found in a slot the table has as free, or as this very segment. False if the slot is something
    /// else: table and log do not belong together.
    pub(crate) fn adopt(&self, id: SegmentId, slot: SlotIndex, last: RecordSequence) -> bool {
        let mut state = self.0.borrow_mut();
        let Some(entry) = state.slots.get_mut(slot.0 as usize) else { return false };
        match entry.state {
            SlotState::Log(found) if found == id => {}
            SlotState::Free | SlotState::FreedInWindow(_) => entry.state = SlotState::Log(id),
            SlotState::Log(_) | SlotState::Pages | SlotState::Container(_) => return false,
        }
        state.free.remove(&(false, slot));
        state.free.remove(&(true, slot));
        let live = state.by_segment.get(&id).map_or(0, |known| known.live);
        state.by_segment.insert(id, Segment { slot, last_record: Some(last), live });
        true
    }

    /// A reserved slot begins to hold pages.
    pub(crate) fn use_for_pages(&self, slot: SlotIndex) {
        self.0.borrow_mut().slots[slot.0 as usize].state = SlotState::Pages;
    }

    /// The map shows these blocks now.
    pub(crate) fn set(&self, from: LogAddress, blocks: u32) -> Result<(), PageError> {
        self.change(from, blocks, true)
    }

    /// The map shows these blocks no more.
    pub(crate) fn clear(&self, from: LogAddress, blocks: u32) -> Result<(), PageError> {
        self.change(from, blocks, false)
    }

    /// As `clear`, for a version whose dead blocks were given back early: those whose bit is clear already, or whose segment is
    /// gone, were freed before. Returns how many were freed now.
    pub(crate) fn clear_if_set(&self, from: LogAddress, blocks: u32) -> Result<u32, PageError> {
        let mut freed = 0;
        for block in 0..blocks {
            let address = from.next(block);
            let set = {
                let state = self.0.borrow();
                let live = state.live.get(&address.segment()).expect("bits are loaded before they change");
                live.bits.get(address.block())
            };
            if set {
                self.clear(address, 1)?;
                freed += 1;
            }
        }
        Ok(freed)
    }

    /// How many of these blocks are live. Their bits are loaded.
    pub(crate) fn count_set(&self, from: LogAddress, blocks: u32) -> u64 {
        let state = self.0.borrow();
        let live = &state.live.get(&from.segment()).expect("bits are loaded before they are asked").bits;
        (from.block()..from.block() + blocks).filter(|block| live.get(*block)).count() as u64
    }

    pub(crate) fn tree(&self) -> Tree {
        self.0.borrow().tree.clone()
    }

    pub(crate) fn set_tree(&self, tree: Tree) {
        self.0.borrow_mut().tree = tree;
    }

    /// The slot table as checkpoint `sequence` holds it: what was freed one window earlier is free there.
    pub(crate) fn freeze(&self, sequence: CheckpointSequence) -> Vec<Slot> {
        let frozen = |slot: &Slot| match slot.state {
            SlotState::FreedInWindow(k) if k < sequence => Slot { state: SlotState::Free, ..*slot },
            _ => *slot,
        };
        self.0.borrow().slots.iter().map(frozen).collect()
    }

    /// Checkpoint `sequence` is durable and no reader of an older root is left: what was freed for the one before may be
    /// used, unless it is to be kept back. Returns how many slots came back.
    pub(crate) fn checkpoint_durable(&self, sequence: CheckpointSequence, keep_back: bool) -> u64 {
        {
            let mut state = self.0.borrow_mut();
            state.durable = sequence;
            // Every read that found something there has ended, but for those of whoever keeps it back.
            let left = std::mem::take(&mut state.departed);
            state.kept.join(left);
        }
        if keep_back { 0 } else { self.let_go() }
    }

    /// Slots that no checkpoint needs any more may be used. Returns how many those are.
    pub(crate) fn let_go(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        let sequence = state.durable;
        let mut back = 0;
        state.kept = Departed::default();
        let one_window = canary::is(Canary::SlotReusedAfterOne);
        for index in 0..state.slots.len() {
            if matches!(state.slots[index].state, SlotState::FreedInWindow(k) if k < sequence || one_window) {
                state.slots[index].state = SlotState::Free;
                let written = state.slots[index].written;
                state.free.insert((!written, SlotIndex(index as u64)));
                back += 1;
            }
        }
        back
    }

    pub(crate) fn counts(&self) -> SlotCounts {
        let state = self.0.borrow();
        let mut counts = SlotCounts { total: state.slots.len() as u64, ..SlotCounts::default() };
        for slot in &state.slots {
            match slot.state {
                SlotState::Free => counts.free += 1,
                SlotState::FreedInWindow(_) => counts.freed += 1,
                SlotState::Log(_) => counts.log += 1,
                SlotState::Pages => counts.pages += 1,
                SlotState::Container(_) => counts.containers += 1,
            }
        }
        counts
    }

    /// Differs from before if any slot may be emptier than it was.
    pub(crate) fn changes(&self) -> u64 {
        self.0.borrow().changes
    }

    pub(crate) fn next_container(&self) -> ContainerId {
        ContainerId(self.0.borrow().next_container)
    }

    /// A number for a container that is begun.
    pub(crate) fn take_container_id(&self) -> ContainerId {
        let mut state = self.0.borrow_mut();
        state.next_container += 1;
        ContainerId(state.next_container - 1)
    }

    /// Blocks that live, wherever they lie. None until all are counted.
    pub(crate) fn live_blocks(&self) -> Option<u64> {
        let state = self.0.borrow();
        let segments: u64 = state.by_segment.values().map(|segment| u64::from(segment.live)).sum();
        let containers: u64 = state.containers.values().map(|container| u64::from(container.live)).sum();
        (state.counted_to == u64::MAX).then_some(segments + containers)
    }

    pub(crate) fn slot_count(&self) -> u64 {
        self.0.borrow().slots.len() as u64
    }

    /// Bytes of keys and values that the liveness tree may come to hold, at the most.
    pub(crate) fn liveness_bytes(&self) -> u64 {
        let state = self.0.borrow();
        let blocks = u64::from(state.segment_blocks);
        // A container's pieces say of each block, in two bytes or less, that it was placed, and that it lives.
        (state.by_segment.len() as u64 + 4) * (blocks / 8 + 32) + state.containers.len() as u64 * (4 * blocks + 2048)
    }
}
