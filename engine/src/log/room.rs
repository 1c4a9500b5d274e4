//! Admission: an operation is published only if everything it will ever need is there already, so that nothing fails after
//! the acknowledgement.
//!
//! What an operation needs: payload and entry in the arena, overlay within its budget, and space in the log for its record,
//! counted as if each operation were a record of its own. From the free slots the reserve is kept back first: pages for two
//! checkpoints of everything that is admitted and not yet in one. A caller that was admitted publishes at once, without
//! waiting in between; so nothing else can take its room.

use std::cell::Cell;
use std::rc::Rc;

use treering_io::Notify;

use super::Log;
use crate::error::VolumeError;
use crate::limits::publish_blocks;
use crate::overlay::PIECE_BYTES;
use crate::pages::Pages;

/// What writers do when the store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// Answer ENOSPC, before anything is acknowledged.
    #[default]
    Error,
    /// Wait until space comes back.
    Hold,
}

/// What writers and the fold tell each other.
#[derive(Default)]
pub(crate) struct Pressure {
    /// The fold should run now.
    pub fold: Cell<bool>,
    /// A checkpoint should be written now, whatever the log's length.
    pub checkpoint: Cell<bool>,
    /// Writers that wait for space.
    pub held: Cell<u64>,
    /// Order number the fold has reached.
    pub folded_order: Cell<u64>,
    /// Cuts published and not folded that make versions: each may make the fold write a map out once more.
    pub pending_cuts: Cell<u64>,
    /// Changed map, liveness and catalog nodes that no checkpoint holds yet.
    pub dirty_nodes: Cell<u64>,
    /// Checkpoints written by this process.
    pub checkpoints: Cell<u64>,
    /// The newest operation when the store was last found full: nothing can have come back before another one.
    pub full_at: Cell<u64>,
    /// Jobs that the cleaner brought to their end.
    pub cleaned: Cell<u64>,
    /// How many checkpoints there were when the cleaner last looked for work in vain.
    pub nothing_to_clean: Cell<Option<u64>>,
    pub wake: Notify,
}

impl Pressure {
    pub(crate) fn ask_fold(&self) {
        if !self.fold.replace(true) {
            self.wake.notify_all();
        }
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
    pub reserve: u64,
    /// Cost of the batch that is not sealed yet.
    pub pending: u64,
    /// The reserve, in slots.
    pub reserve_slots: u64,
    /// Free slots that the cleaner may fill now: not those of pages and recovery.
    pub cleaning_slots: u64,
}

impl Free {
    pub(crate) fn available(&self) -> u64 {
        self.usable.saturating_sub(self.reserve + self.pending)
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
        let mut checkpoints_seen = None;
        let mut cleaned_seen = 0;
        loop {
            let progress = health.progress().notified();
            health.check()?;
            if !self.fits_memory(blocks) {
                progress.await;
                continue;
            }
            let free = self.free();
            let cost = cost(blocks);
            if cost <= free.available() {
                return Ok(());
            }
            // What is dead may come back: a slot freed now is usable after this checkpoint and one more.
            if self.pressure.cleaned.get() != cleaned_seen {
                cleaned_seen = self.pressure.cleaned.get();
                checkpoints_seen = None;
            }
            let first = checkpoints_seen.is_none();
            if first {
                // What the cleaner said before anybody waited does not count.
                self.pressure.nothing_to_clean.set(None);
            }
            let seen = *checkpoints_seen.get_or_insert(self.pressure.checkpoints.get());
            let tried = self.pressure.checkpoints.get() - seen;
            let published = self.log.published().0;
            // The cleaner has to have looked again: each checkpoint brings the fold up to date, and with it new victims.
            let cleaned_all = self.pressure.nothing_to_clean.get() == Some(self.pressure.checkpoints.get());
            let tried_all = tried >= CHECKPOINTS_TO_FREE && cleaned_all;
            let hopeless = tried_all || self.pressure.full_at.get() == published;
            if self.policy == FullPolicy::Error && hopeless {
                self.pressure.full_at.set(published);
                return Err(VolumeError::NoSpace { needed_blocks: cost, free_blocks: free.available() });
            }
            // While the cleaner is at work, it knows best when a checkpoint pays: each writes out all that changed in the maps.
            let cleaner_rests = self.pressure.nothing_to_clean.get().is_some();
            if tried < CHECKPOINTS_TO_FREE && cleaner_rests {
                self.pressure.ask_checkpoint();
            }
            let _held = Held::new(&self.pressure);
            if first || tried >= CHECKPOINTS_TO_FREE {
                self.pressure.wake.notify_all();
            }
            progress.await;
        }
    }

    /// Waits until a cut that makes something may be published. It leaves the reserve alone, and does not wait for space, for
    /// what would bring it back may wait behind it.
    pub(crate) async fn admit_verb(&self) -> Result<(), VolumeError> {
        self.admit_again(0).await?;
        let free = self.free();
        if cost(0) > free.available() {
            return Err(VolumeError::NoSpace { needed_blocks: cost(0), free_blocks: free.available() });
        }
        Ok(())
    }

    /// Waits until a change of the catalog may be published. It may use the reserve: deleting must always work.
    pub(crate) async fn admit_cut(&self) -> Result<(), VolumeError> {
        let health = &self.log.shared.health;
        loop {
            let progress = health.progress().notified();
            health.check()?;
            if self.fits_memory(0) {
                let free = self.free();
                if free.usable > free.pending + cost(0) {
                    return Ok(());
                }
                return Err(VolumeError::NoSpace { needed_blocks: cost(0), free_blocks: 0 });
            }
            progress.await;
        }
    }

    /// Waits until the arena takes an operation that was acknowledged by a server before this one. Its space was reserved then.
    pub(crate) async fn admit_again(&self, blocks: u64) -> Result<(), VolumeError> {
        let health = &self.log.shared.health;
        loop {
            let progress = health.progress().notified();
            health.check()?;
            if self.fits_memory(blocks) {
                return Ok(());
            }
            progress.await;
        }
    }

    pub(crate) fn free(&self) -> Free {
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

        let operations = state.next_order.0 - self.pressure.folded_order.get();
        // A map's page is written once for each checkpoint, and once for each cut before it.
        let rounds = self.pressure.pending_cuts.get() + 1;
        let leaves = (operations * 3).min(rounds * (self.pages.used_pages() + 16) + operations / 8);
        let blob = 8 + shared.segments.slot_count() / 256;
        let pages = 2 * (leaves + self.pressure.dirty_nodes.get() + blob + 16);
        let short = pages.saturating_sub(self.pages.available());
        // What the cleaner fills before it empties others.
        let cleaning = (shared.segments.slot_count() / 16).clamp(1, CLEANING_SLOTS);
        let kept = short.div_ceil(segment_blocks) + RECOVERY_SLOTS;
        let reserve_slots = kept + cleaning;
        Free {
            usable: slots * per_slot + open,
            reserve: reserve_slots * per_slot,
            pending,
            reserve_slots,
            cleaning_slots: shared.segments.free_slots().saturating_sub(kept),
        }
    }

    /// Whether arena and overlay take one more operation; if not, starts what makes room.
    fn fits_memory(&self, blocks: u64) -> bool {
        let shared = &self.log.shared;
        let (arena, batch, operations) = {
            let state = shared.state.borrow();
            (
                state.arena.has_room(blocks, state.next_order, 1),
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

/// Slots kept back for the segment that a recovery begins, and for what it publishes again.
const RECOVERY_SLOTS: u64 = 2;

/// Slots kept back for the cleaner: in a small store fewer.
const CLEANING_SLOTS: u64 = 3;

/// Counts a writer as held while it lives.
struct Held<'a>(&'a Pressure);

impl Held<'_> {
    fn new(pressure: &Pressure) -> Held<'_> {
        pressure.held.set(pressure.held.get() + 1);
        Held(pressure)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
    }
}
