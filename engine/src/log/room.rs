//! Admission: an operation is published only if everything it will ever need is there already, so that nothing fails after
//! the acknowledgement.
//!
//! What an operation needs: payload and entry in the arena, overlay within its budget, and space in the log for its record,
//! counted as if each operation were a record of its own. From the free slots the reserve is kept back first: pages for two
//! checkpoints of everything that is admitted and not yet in one (`demand`), the slots that a recovery begins with, and a
//! little that only deleting may use. A caller that was admitted publishes at once, without waiting in between; so nothing
//! else can take its room.
//!
//! Gates, from the strictest on. A *write* leaves the whole reserve alone, and waits for space or is refused, by policy. What *makes* something
//! (a dot, a snapshot, a fork) leaves it alone, too, and never waits for space: the verb that would bring space back may stand
//! behind it. A *trim* may use part of it, never waits, and is not done where that is not enough. What *gives back* may use all of the reserve but what recovery and the pages of its own checkpoint need, so
//! deleting works on a full store, also a thousand times in a row: the log of what was deleted is itself freed by checkpoints,
//! for which the gate waits.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use treering_format::checkpoint::Checkpoint;
use treering_io::Notify;

use self::demand::{Demand, SWEEP_KEYS};
use self::waiting::Waiting;
use super::Log;
use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::error::VolumeError;
use crate::limits::publish_blocks;
use crate::overlay::PIECE_BYTES;
use crate::pages::Pages;

mod demand;
mod waiting;

pub(crate) use demand::Keys;

/// What writers do when the store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// Answer ENOSPC, before anything is acknowledged.
    #[default]
    Error,
    /// Wait until space comes back; with a time, no longer than that.
    Hold { at_most: Option<Duration> },
}

/// What writers and the fold tell each other.
#[derive(Default)]
pub(crate) struct Pressure {
    /// The fold should run now.
    pub fold: Cell<bool>,
    /// A checkpoint should be written now, whatever the log's length.
    pub checkpoint: Cell<bool>,
    /// Writers that wait for space, and deletions that wait for a checkpoint.
    pub held: Cell<u64>,
    /// Deleted versions whose space is still to come back.
    pub sweeps: Cell<u64>,
    /// Slices that were swept.
    pub swept: Cell<u64>,
    /// Order number the fold has reached, and the bytes this process had sealed then.
    pub folded_order: Cell<u64>,
    pub folded_bytes: Cell<u64>,
    /// Cuts published and not folded that make versions: each may make the fold write a map out once more.
    pub pending_cuts: Cell<u64>,
    /// Entries of the catalog that those cuts will change.
    pub pending_keys: Cell<Keys>,
    /// Changed map nodes that no checkpoint holds yet.
    pub dirty_nodes: Cell<u64>,
    /// Entries of the catalog that no checkpoint holds as they are.
    pub changed_keys: Cell<Keys>,
    /// Nodes of one of the catalog's trees, and its entries that are volumes.
    pub catalog_nodes: Cell<u64>,
    pub volumes: Cell<u64>,
    /// Heads that were forked from another one's version.
    pub forked_heads: Cell<u64>,
    /// Checkpoints written by this process.
    pub checkpoints: Cell<u64>,
    /// The newest operation when the store was last found full: nothing can have come back before another one.
    pub full_at: Cell<u64>,
    /// Jobs that the cleaner brought to their end.
    pub cleaned: Cell<u64>,
    /// How many checkpoints there were when the cleaner last looked for work in vain.
    pub nothing_to_clean: Cell<Option<u64>>,
    /// The same, of trims.
    pub trims_full_at: Cell<u64>,
    pub wake: Notify,
}

impl Pressure {
    pub(crate) fn ask_fold(&self) {
        if !self.fold.replace(true) {
            self.wake.notify_all();
        }
    }

    /// A slice of a sweep changed entries of the catalog: its own, an heir's, that of the next one in the queue.
    pub(crate) fn note_swept(&self) {
        self.swept.set(self.swept.get() + 1);
        self.changed_keys.set(self.changed_keys.get() + Keys { beside: 0, scattered: 4 });
    }

    /// A cut was published; so many that make versions are not folded now.
    pub(crate) fn note_cut(&self, keys: Keys, making_versions: u64) {
        self.pending_cuts.set(making_versions);
        self.pending_keys.set(self.pending_keys.get() + keys);
    }

    pub(crate) fn ask_checkpoint(&self) {
        if !self.checkpoint.replace(true) {
            self.wake.notify_all();
        }
    }
}

/// Space as the log can use it, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub usable: u64,
    /// What writes leave alone.
    pub reserve: u64,
    /// The part of it that trims leave alone, too; and the part that deleting does.
    pub trim_reserve: u64,
    pub release_reserve: u64,
    /// What the pages of the next checkpoints need, and of the usable blocks those of the segment that is open.
    pub page_reserve: u64,
    pub open: u64,
    /// What the reserve would be if a checkpoint held everything.
    pub stored_reserve: u64,
    /// Cost of the batch that is not sealed yet.
    pub pending: u64,
    /// The reserve, in slots.
    pub reserve_slots: u64,
    /// Free slots that the cleaner may fill now: not those of pages and recovery. And where servers that died took of those, so
    /// that it could do nothing: all but the one that the next begins in.
    pub cleaning_slots: u64,
    pub cleaning_slots_at_last: u64,
}

impl Free {
    pub(crate) fn available(&self) -> u64 {
        self.usable.saturating_sub(self.reserve + self.pending)
    }

    fn available_to_release(&self) -> u64 {
        self.usable.saturating_sub(self.release_reserve + self.pending)
    }

    fn available_to_trim(&self) -> u64 {
        self.usable.saturating_sub(self.trim_reserve + self.pending)
    }

    /// Without a slot for recovery to begin in being lost.
    fn available_at_last(&self) -> u64 {
        self.usable.saturating_sub(self.page_reserve + self.pending).min(self.open.saturating_sub(self.pending))
    }

    fn available_once_stored(&self) -> u64 {
        self.usable.saturating_sub(self.stored_reserve + self.pending)
    }
}

/// What a cut takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutCost {
    /// Bytes of its descriptor.
    pub bytes: usize,
    pub keys: Keys,
}

impl CutCost {
    /// Blocks of log: a record of its own, and its header once more in the footer.
    fn blocks(&self) -> u64 {
        2 * (self.bytes as u64 + 64).div_ceil(BLOCK) + 2
    }
}

#[derive(Clone)]
pub(crate) struct Room {
    log: Log,
    pages: Pages,
    pressure: Rc<Pressure>,
    policy: FullPolicy,
}

impl Room {
    pub(crate) fn new(log: Log, pages: Pages, pressure: Rc<Pressure>, policy: FullPolicy) -> Room {
        Room { log, pages, pressure, policy }
    }

    /// Waits until one operation with this many payload blocks may be published.
    pub(crate) async fn admit(&self, blocks: u64) -> Result<(), VolumeError> {
        let health = &self.log.shared.health;
        let io = self.log.shared.disk.io();
        let mut waiting = Waiting::new(&self.pressure);
        let mut full_since = None;
        loop {
            let progress = health.progress().notified();
            health.check()?;
            if !self.fits_memory(blocks) {
                progress.await;
                continue;
            }
            let free = self.free(Keys::default());
            let cost = cost(blocks);
            if cost <= free.available() {
                return Ok(());
            }
            let tried = waiting.tried();
            let waited = Duration::from_nanos(io.now() - *full_since.get_or_insert(io.now()));
            let left = match self.policy {
                FullPolicy::Error if self.is_hopeless(tried) => Some(Duration::ZERO),
                FullPolicy::Error | FullPolicy::Hold { at_most: None } => None,
                FullPolicy::Hold { at_most: Some(most) } => Some(most.saturating_sub(waited)),
            };
            if left == Some(Duration::ZERO) {
                self.pressure.full_at.set(self.log.published().0);
                return Err(VolumeError::NoSpace { needed_blocks: cost, free_blocks: free.available() });
            }
            waiting.press(tried, self.policy == FullPolicy::Error);
            match left {
                Some(left) => drop(io.timeout(left, progress).await),
                None if canary::is(Canary::HeldForGood) => std::future::pending().await,
                None => progress.await,
            }
        }
    }

    /// Whether nothing comes back without another operation, after so many checkpoints.
    fn is_hopeless(&self, tried: u64) -> bool {
        let pressure = &self.pressure;
        let asked_before = pressure.full_at.get() == self.log.published().0 && pressure.sweeps.get() == 0;
        self.is_exhausted(tried) || asked_before
    }

    /// The same, if nobody asked before. The cleaner has to have looked again: each checkpoint brings the fold up to date, and with
    /// it new victims.
    fn is_exhausted(&self, tried: u64) -> bool {
        let pressure = &self.pressure;
        tried >= CHECKPOINTS_TO_FREE && pressure.nothing_to_clean.get() == Some(pressure.checkpoints.get())
    }

    /// Waits until a cut that makes something may be published. It does not wait for space: only for a checkpoint, if that
    /// would settle it.
    pub(crate) async fn admit_verb(&self, cut: CutCost) -> Result<(), VolumeError> {
        let seen = self.pressure.checkpoints.get();
        loop {
            let progress = self.log.shared.health.progress().notified();
            self.admit_again(0).await?;
            let (free, cost) = (self.free(cut.keys), cut.blocks());
            if cost <= free.available() {
                return Ok(());
            }
            let tried = self.pressure.checkpoints.get() - seen;
            if tried >= CHECKPOINTS_TO_STORE || cost > free.available_once_stored() {
                return Err(VolumeError::NoSpace { needed_blocks: cost, free_blocks: free.available() });
            }
            self.pressure.ask_checkpoint();
            progress.await;
        }
    }

    /// Waits until a cut that gives space back, or takes none, may be published. It waits for checkpoints, and for what was deleted
    /// before; no longer.
    pub(crate) async fn admit_release(&self, cut: CutCost) -> Result<(), VolumeError> {
        let mut waiting = Waiting::new(&self.pressure);
        loop {
            let progress = self.log.shared.health.progress().notified();
            self.admit_again(0).await?;
            let (free, cost) = (self.free(cut.keys), cut.blocks());
            if cost <= free.available_to_release() {
                return Ok(());
            }
            let tried = waiting.tried();
            if self.is_exhausted(tried) {
                // Servers that died took more than was kept for them. As long as the next one finds a slot to begin in, and the
                // checkpoint its pages, deleting is what helps.
                if cost <= free.available_at_last() {
                    return Ok(());
                }
                return Err(VolumeError::NoSpace { needed_blocks: cost, free_blocks: free.available_at_last() });
            }
            waiting.press(tried, true);
            progress.await;
        }
    }

    /// Waits until the reserve is whole, as far as that can be: a server that goes on where others died takes a slot of it, and the
    /// next one must find one, too.
    pub(crate) async fn restore_reserve(&self) -> Result<(), VolumeError> {
        let mut waiting = Waiting::new(&self.pressure);
        loop {
            let progress = self.log.shared.health.progress().notified();
            self.log.shared.health.check()?;
            let free = self.free(Keys::default());
            if free.usable >= free.trim_reserve {
                return Ok(());
            }
            let tried = waiting.tried();
            if self.is_exhausted(tried) {
                return Ok(());
            }
            waiting.press(tried, true);
            progress.await;
        }
    }

    /// As `admit`, for a trim: it may use some of what is kept for deleting, and does not wait for space, only for a checkpoint
    /// that may settle it. False: there is no room.
    pub(crate) async fn admit_trim(&self, blocks: u64) -> Result<bool, VolumeError> {
        let seen = self.pressure.checkpoints.get();
        loop {
            let progress = self.log.shared.health.progress().notified();
            self.admit_again(blocks).await?;
            if cost(blocks) <= self.free(Keys::default()).available_to_trim() {
                return Ok(true);
            }
            let published = self.log.published().0;
            let tried = self.pressure.checkpoints.get() - seen;
            if tried >= CHECKPOINTS_TO_STORE || self.pressure.trims_full_at.get() == published {
                self.pressure.trims_full_at.set(published);
                return Ok(false);
            }
            self.pressure.ask_checkpoint();
            progress.await;
        }
    }

    /// Waits until the arena takes an operation that was acknowledged by a server before this one. Its space was reserved then.
    pub(crate) async fn admit_again(&self, blocks: u64) -> Result<(), VolumeError> {
        Ok(self.log.shared.health.until(|| self.fits_memory(blocks)).await?)
    }

    /// Space came from elsewhere than a checkpoint.
    pub(crate) fn space_came_back(&self) {
        self.pressure.full_at.set(u64::MAX);
        self.log.shared.health.progress().notify_all();
    }

    /// Whether a sweep may go on: it makes the next checkpoint write more of the catalog, and nobody admitted that.
    pub(crate) fn admits_sweep(&self) -> bool {
        let changed = self.pressure.changed_keys.get();
        let free = self.free(SWEEP_KEYS);
        // Deleting goes on meanwhile, from the same reserve.
        let half = (free.reserve - free.release_reserve) / 2;
        changed.scattered < SWEEP_KEYS.scattered || free.available_to_release() > half
    }

    /// Space for what is published so far, and for a change of these entries of the catalog.
    pub(crate) fn free(&self, keys: Keys) -> Free {
        let shared = &self.log.shared;
        let segment_blocks = u64::from(shared.disk.geometry().segment_blocks);
        let record_blocks = shared.limits.record_blocks(segment_blocks as u32);
        let state = shared.state.borrow();
        // The end of a segment may be too short for the next record, and holds the footer.
        let lost = record_blocks + publish_blocks(segment_blocks as u32) + 8 + segment_blocks / 16;
        let per_slot = segment_blocks.saturating_sub(lost);
        let open = state.open.as_ref().map_or(0, |o| segment_blocks.saturating_sub(u64::from(o.next_block) + lost));
        let slots = shared.segments.free_slots() + u64::from(state.successor.is_some());
        let pending = state.batch.payload_blocks + 2 + state.batch.touched.len() as u64 / 16;

        let pressure = &self.pressure;
        let page_slots = self.pages.page_map_count() as u64;
        let demand = Demand {
            operations: state.next_order.0 - pressure.folded_order.get(),
            blocks: (state.sealed_bytes - pressure.folded_bytes.get()) / BLOCK + state.batch.payload_blocks,
            cuts: pressure.pending_cuts.get(),
            dirty_nodes: pressure.dirty_nodes.get(),
            used_pages: self.pages.used_pages(),
            forked_heads: pressure.forked_heads.get(),
            catalog_nodes: pressure.catalog_nodes.get(),
            volumes: pressure.volumes.get(),
            keys: pressure.pending_keys.get() + pressure.changed_keys.get() + keys,
            liveness_bytes: shared.segments.liveness_bytes(),
            blob_pages: Checkpoint::encoded_len(shared.segments.slot_count(), page_slots + 1, segment_blocks as u32)
                .div_ceil(BLOCK),
        };
        let available = self.pages.available();
        let slots_for = |pages: u64| pages.saturating_sub(available).div_ceil(segment_blocks);
        let blocks_for = |pages: u64| slots_for(pages) * per_slot;
        // What the cleaner fills before it empties others.
        let cleaning = (shared.segments.slot_count() / 16).clamp(1, CLEANING_SLOTS);
        let kept = slots_for(demand.pages()) + RECOVERY_SLOTS + DELETE_SLOTS;
        let kept_at_last = slots_for(demand.pages_without_more()) + 1;
        let reserve_slots = kept + cleaning;
        let release_reserve = blocks_for(demand.pages_without_more()) + per_slot;
        let all = canary::is(Canary::WritesTakeDeleteReserve);
        Free {
            usable: slots * per_slot + open,
            reserve: if all { release_reserve } else { reserve_slots * per_slot },
            trim_reserve: kept * per_slot,
            release_reserve,
            page_reserve: blocks_for(demand.pages_without_more()),
            open,
            stored_reserve: blocks_for(demand.pages_once_stored())
                + (RECOVERY_SLOTS + DELETE_SLOTS + cleaning) * per_slot,
            pending,
            reserve_slots,
            cleaning_slots: shared.segments.free_slots().saturating_sub(kept),
            cleaning_slots_at_last: shared.segments.free_slots().saturating_sub(kept_at_last),
        }
    }

    /// Whether arena and overlay take one more operation; if not, starts what makes room.
    fn fits_memory(&self, blocks: u64) -> bool {
        let shared = &self.log.shared;
        let (arena, batch, operations) = {
            let state = shared.state.borrow();
            (
                // A verb may publish two: a hole, and the change that makes it one.
                state.arena.has_room(blocks, state.next_order, 2),
                !state.batch.touched.is_empty(),
                state.next_order.0 - self.pressure.folded_order.get(),
            )
        };
        if !arena && batch {
            self.log.seal(None);
        }
        let overlay = operations * PIECE_BYTES <= shared.limits.overlay_bytes;
        if operations * PIECE_BYTES > shared.limits.overlay_bytes / 2 {
            self.pressure.ask_fold();
        }
        arena && overlay
    }
}

/// Blocks of log that one operation may take at the most: its payload, and a record header of its own.
fn cost(blocks: u64) -> u64 {
    blocks + 2 + blocks / 16
}

/// Checkpoints after which everything that was dead is usable again.
const CHECKPOINTS_TO_FREE: u64 = 3;

/// Checkpoints after which one holds everything that was published when the first of them was asked for: one may be under way.
const CHECKPOINTS_TO_STORE: u64 = 2;

/// One for the segment that a recovery begins, one for what it publishes again.
const RECOVERY_SLOTS: u64 = 2;

/// With the second of those, what only deleting may use: its log fills one while the other is on its way back.
const DELETE_SLOTS: u64 = 1;

/// Slots kept back for the cleaner: in a small store fewer.
const CLEANING_SLOTS: u64 = 3;
