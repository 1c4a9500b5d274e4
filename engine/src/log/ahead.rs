//! The way ahead of the log: what is left of the open slot, and the slot after it. Zeros are written there before the log comes, as
//! to the free slots that follow (`store/zeroing.rs`).
//!
//! Kept true: zeros go only where nothing has its place yet, and a record that gets its place where zeros are under way is submitted
//! when they have ended. Slots change hands by what the log wrote last; so the footer of a segment waits for zeros anywhere in its
//! slot.

use std::ops::Range;

use treering_format::units::SlotIndex;
use treering_io::{Durability, WriteBuffer};

use super::Log;
use crate::canary::{self, Canary};
use crate::disk::BLOCK;

/// The log stays behind zeros by this part of a slot, or it would have to wait for them.
const LEAD_PART: u32 = 16;

/// How far the log's two slots have been written before.
#[derive(Default)]
pub(super) struct Ahead {
    /// In blocks, from the beginning of the slot.
    open: u32,
    successor: u32,
    /// Bytes of the file, and in this slot.
    under_way: Option<(SlotIndex, Range<u64>)>,
    /// The last zeros did not arrive.
    refused: bool,
}

/// Blocks of a slot that zeros may be written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub slot: SlotIndex,
    pub block: u32,
    pub blocks: u32,
}

impl Ahead {
    /// The successor is the open slot from now on.
    pub(super) fn move_on(&mut self) {
        self.open = std::mem::take(&mut self.successor);
    }

    /// The log leaves this slot, whose last byte is before `end`.
    pub(super) fn leave(&mut self, slot: SlotIndex, end: u64) {
        if let Some((_, bytes)) = self.under_way.as_mut().filter(|(zeros, _)| *zeros == slot) {
            bytes.end = end;
        }
    }

    /// Whether a write to these bytes of the file has to wait.
    fn covers(&self, write: &Range<u64>) -> bool {
        let hit = self.under_way.as_ref().is_some_and(|(_, zeros)| zeros.start < write.end && write.start < zeros.end);
        hit && !canary::is(Canary::ZerosOverRecords)
    }
}

impl Log {
    /// The next blocks of the way ahead that were never written, at most so many. They are to be written at once, or the log
    /// comes first. None: the way has been written as far as it is known.
    pub(crate) fn next_ahead(&self, most: u32) -> Option<Stretch> {
        let state = self.shared.state.borrow();
        let segments = &self.shared.segments;
        let blocks = self.shared.disk.geometry().segment_blocks;
        let open = state.open.as_ref().map(|o| (o.slot, state.ahead.open.max(o.next_block + blocks / LEAD_PART)));
        let successor = state.successor.map(|slot| (slot, state.ahead.successor));
        let (slot, block) = [open, successor]
            .into_iter()
            .flatten()
            .find(|(slot, block)| *block < blocks && !segments.was_written(*slot))?;
        Some(Stretch { slot, block, blocks: most.min(blocks - block) })
    }

    /// Begins to write zeros to a stretch of the way, or of a slot that is reserved; none may be under way. They end whether or not
    /// somebody waits for them: records may, too.
    pub(crate) fn begin_ahead(&self, stretch: Stretch, zeros: Vec<WriteBuffer>) {
        let disk = &self.shared.disk;
        let start = disk.geometry().offset(stretch.slot, stretch.block);
        let bytes = start..start + u64::from(stretch.blocks) * BLOCK;
        {
            let mut state = self.shared.state.borrow_mut();
            let passed = state.open.as_ref().is_some_and(|o| o.slot == stretch.slot && stretch.block < o.next_block);
            assert!(!passed, "zeros go only where nothing has its place: {stretch:?}");
            let before = state.ahead.under_way.replace((stretch.slot, bytes));
            assert!(before.is_none(), "one stretch is under way at a time");
        }
        let pending = disk.io().write_at(disk.file(), start, zeros, Durability::Volatile);
        let log = self.clone();
        disk.io().spawn(async move { log.ahead_written(stretch, pending.await.is_ok()) }).detach();
    }

    /// Waits until no zeros are under way. False: the disk refused the last ones.
    pub(crate) async fn no_zeros_under_way(&self) -> bool {
        loop {
            let progress = self.shared.health.progress().notified();
            let (ended, refused) = {
                let ahead = &self.shared.state.borrow().ahead;
                (ahead.under_way.is_none(), ahead.refused)
            };
            if ended {
                return !refused;
            }
            progress.await;
        }
    }

    fn ahead_written(&self, stretch: Stretch, arrived: bool) {
        {
            let mut state = self.shared.state.borrow_mut();
            let state = &mut *state;
            state.ahead.under_way = None;
            state.ahead.refused = !arrived;
            let end = stretch.block + stretch.blocks;
            if arrived && state.open.as_ref().is_some_and(|o| o.slot == stretch.slot) {
                state.ahead.open = state.ahead.open.max(end);
            } else if arrived && state.successor == Some(stretch.slot) {
                state.ahead.successor = end;
                if end == self.shared.disk.geometry().segment_blocks {
                    self.shared.segments.mark_written(stretch.slot);
                }
            }
        }
        self.shared.health.progress().notify_all();
    }

    /// Whether a write to these bytes of the file has to wait for zeros.
    pub(super) fn is_ahead(&self, write: &Range<u64>) -> bool {
        self.shared.state.borrow().ahead.covers(write)
    }

    /// Waits for the zeros there, or for the store to fail.
    pub(super) async fn ahead_ended(&self, write: &Range<u64>) {
        // Where the store has failed, nothing is acknowledged any more.
        let _ = self.shared.health.until(|| !self.is_ahead(write)).await;
    }
}
