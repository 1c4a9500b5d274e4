//! The segment table: which slot holds which segment, which blocks of it the maps still show, and when a slot may be used
//! again.
//!
//! What it keeps true:
//! * A block's liveness bit is set exactly while the map, as folded up to F, shows the block. Bits are set by the fold when it
//!   inserts and cleared when it displaces; counts are taken from the bits and never kept beside them.
//! * A segment is free when no bit of it is set *and* its last record is at or below F: bits above F are not set yet, so an
//!   empty bitmap alone says nothing.
//! * A slot freed in the window that ends with checkpoint k is used again only once checkpoint k+1 is durable: until then one
//!   of the two retained checkpoints, with the log above it, may need the slot.
//!
//! It does not choose what to write, and knows nothing of records but where they end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use treering_format::checkpoint::{Slot, SlotState};
use treering_format::units::{CheckpointSequence, LogAddress, RecordSequence, SegmentId, SlotIndex};

use crate::canary::{self, Canary};
use crate::log::Frontier;
use crate::map::Tree;
use crate::pages::{PageError, Pages};

mod hold;
mod live;
#[cfg(test)]
mod tests;

pub(crate) use hold::{FrozenSegments, Table};
pub(crate) use live::LiveBits;

#[derive(Clone)]
pub(crate) struct Segments(Rc<RefCell<State>>);

struct State {
    segment_blocks: u32,
    slots: Vec<Slot>,
    /// Free and usable now: written ones first, since a rewrite of a written block is what a disk does fastest.
    free: BTreeSet<(bool, SlotIndex)>,
    by_segment: BTreeMap<SegmentId, Segment>,
    /// Segments that were freed and whose slots hold them still: a read that learnt an address before may be on its way.
    departed: BTreeMap<SegmentId, SlotIndex>,
    /// Bitmaps in memory: all that changed since the last checkpoint, and others as loaded.
    live: HashMap<SegmentId, Live>,
    tree: Tree,
    /// The newest checkpoint that is durable, as far as this process wrote it.
    durable: CheckpointSequence,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    slot: SlotIndex,
    /// The last record in it; None while the log may still append to it.
    last_record: Option<RecordSequence>,
}

struct Live {
    bits: LiveBits,
    dirty: bool,
}

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
    pub(crate) fn load(segment_blocks: u32, slots: Vec<Slot>, tree: Tree, fold: RecordSequence) -> Segments {
        let mut free = BTreeSet::new();
        let mut by_segment = BTreeMap::new();
        for (index, slot) in slots.iter().enumerate() {
            let index = SlotIndex(index as u64);
            match slot.state {
                SlotState::Free => {
                    free.insert((!slot.written, index));
                }
                SlotState::Log(id) => {
                    by_segment.insert(id, Segment { slot: index, last_record: Some(fold) });
                }
                SlotState::FreedInWindow(_) | SlotState::Pages | SlotState::Container(_) => {}
            }
        }
        Segments(Rc::new(RefCell::new(State {
            segment_blocks,
            slots,
            free,
            by_segment,
            departed: BTreeMap::new(),
            live: HashMap::new(),
            tree,
            durable: CheckpointSequence(0),
        })))
    }

    /// Where a segment lies; one that was freed too, until its slot may be used again, for which every read that began before
    /// has ended.
    pub(crate) fn locate(&self, id: SegmentId) -> Option<SlotIndex> {
        let state = self.0.borrow();
        state.by_segment.get(&id).map(|s| s.slot).or_else(|| state.departed.get(&id).copied())
    }

    pub(crate) fn contains(&self, slot: SlotIndex) -> bool {
        (slot.0 as usize) < self.0.borrow().slots.len()
    }

    pub(crate) fn free_list(&self) -> Vec<SlotIndex> {
        self.0.borrow().free.iter().map(|(_, slot)| *slot).collect()
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
        let fresh = state.by_segment.insert(id, Segment { slot, last_record: None });
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
        state.by_segment.insert(id, Segment { slot, last_record: Some(last) });
        true
    }

    /// A reserved slot begins to hold pages.
    pub(crate) fn use_for_pages(&self, slot: SlotIndex) {
        self.0.borrow_mut().slots[slot.0 as usize].state = SlotState::Pages;
    }

    /// Brings the bitmaps of these segments into memory, for `set` and `clear`.
    pub(crate) async fn load_bits(&self, pages: &Pages, ids: impl Iterator<Item = SegmentId>) -> Result<(), PageError> {
        for id in ids {
            if self.0.borrow().live.contains_key(&id) {
                continue;
            }
            let tree = self.0.borrow().tree.clone();
            let stored = tree.get(pages, id.0).await?;
            let blocks = self.0.borrow().segment_blocks;
            let bits = match stored {
                Some(bytes) => {
                    LiveBits::decode(&bytes, blocks).map_err(|what| PageError::value_damaged("liveness", id.0, what))?
                }
                None => LiveBits::empty(blocks),
            };
            self.0.borrow_mut().live.entry(id).or_insert(Live { bits, dirty: false });
        }
        Ok(())
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

    /// A block becomes live once and dead once. If not, map and bits contradict each other, by damage that kept its checksums
    /// or by our bug: the store must not go on from there.
    fn change(&self, from: LogAddress, blocks: u32, live: bool) -> Result<(), PageError> {
        let mut state = self.0.borrow_mut();
        let (segment, segment_blocks) = (from.segment(), state.segment_blocks);
        let damaged = |what| Err(PageError::value_damaged("liveness", segment.0, what));
        if u64::from(from.block()) + u64::from(blocks) > u64::from(segment_blocks) {
            return damaged(format!("{blocks} blocks from {from} on do not fit a segment of {segment_blocks}"));
        }
        let entry = state.live.get_mut(&segment).expect("bits are loaded before they change");
        entry.dirty = true;
        for block in from.block()..from.block() + blocks {
            if entry.bits.put(block, live) == live {
                return damaged(format!("block {block} becomes {} twice", if live { "live" } else { "dead" }));
            }
        }
        Ok(())
    }

    /// Frees what is dead as of the fold having reached `fold`, on behalf of checkpoint `sequence`, and stores the
    /// changed bitmaps into the liveness tree. Returns how many slots it freed.
    pub(crate) async fn settle(
        &self,
        pages: &Pages,
        fold: &Frontier,
        sequence: CheckpointSequence,
    ) -> Result<u64, PageError> {
        // A segment of which nothing is in memory may be dead only if the tree has nothing of it either.
        let closed: Vec<SegmentId> = {
            let state = self.0.borrow();
            // The segment that the log goes on from is where a replay from this checkpoint begins: it stays.
            let done = |s: &Segment| s.last_record.is_some_and(|last| last <= fold.sequence);
            state.by_segment.range(..fold.next.segment()).filter(|(_, s)| done(s)).map(|(id, _)| *id).collect()
        };
        let mut tree = self.0.borrow().tree.clone();
        let known: BTreeSet<u64> = tree.scan(pages, 0, usize::MAX).await?.into_iter().map(|(id, _)| id).collect();
        let mut changes: Vec<(u64, Option<Vec<u8>>)> = Vec::new();
        let mut freed = 0;
        {
            let mut state = self.0.borrow_mut();
            for id in closed {
                let dead = match state.live.get(&id) {
                    Some(live) => live.bits.is_empty(),
                    None => !known.contains(&id.0),
                };
                if dead {
                    let segment = state.by_segment.remove(&id).expect("listed above");
                    state.slots[segment.slot.0 as usize].state = SlotState::FreedInWindow(sequence);
                    state.departed.insert(id, segment.slot);
                    if canary::is(Canary::SlotReusedAtOnce) {
                        state.slots[segment.slot.0 as usize].state = SlotState::Free;
                        state.free.insert((false, segment.slot));
                    }
                    state.live.remove(&id);
                    freed += 1;
                    if known.contains(&id.0) {
                        changes.push((id.0, None));
                    }
                }
            }
            for (id, live) in state.live.iter_mut().filter(|(_, l)| l.dirty) {
                live.dirty = false;
                let value = if live.bits.is_empty() { None } else { Some(live.bits.encode()) };
                if value.is_some() || known.contains(&id.0) {
                    changes.push((id.0, value));
                }
            }
            // What is clean now can be read again when it is needed.
            if state.live.len() > LIVE_IN_MEMORY {
                state.live.clear();
            }
        }
        changes.sort_unstable_by_key(|(id, _)| *id);
        tree.apply(pages, &changes).await?;
        self.0.borrow_mut().tree = tree;
        Ok(freed)
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
        self.0.borrow_mut().durable = sequence;
        if keep_back { 0 } else { self.let_go() }
    }

    /// Slots that no checkpoint needs any more may be used. Returns how many those are.
    pub(crate) fn let_go(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        let sequence = state.durable;
        let mut back = 0;
        for index in 0..state.slots.len() {
            let early = canary::is(Canary::SlotReusedAfterOne);
            let over = |k| k < sequence || early && k == sequence;
            if matches!(state.slots[index].state, SlotState::FreedInWindow(k) if over(k)) {
                state.slots[index].state = SlotState::Free;
                let written = state.slots[index].written;
                state.free.insert((!written, SlotIndex(index as u64)));
                back += 1;
            }
        }
        let state = &mut *state;
        let slots = &state.slots;
        state.departed.retain(|_, slot| matches!(slots[slot.0 as usize].state, SlotState::FreedInWindow(_)));
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

    pub(crate) fn slot_count(&self) -> u64 {
        self.0.borrow().slots.len() as u64
    }
}

/// Clean bitmaps kept between checkpoints; each is about a KiB.
const LIVE_IN_MEMORY: usize = 16 << 10;
