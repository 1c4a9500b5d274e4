//! Where each byte of a store is. The parts add up to the whole, to the byte: what is not counted by itself is the rest of
//! something that is.

use super::Store;
use crate::disk::BLOCK;
use crate::error::VolumeError;
use crate::log::Keys;
use crate::pages::PageError;

/// Bytes of a store by what they hold. `parts` are disjoint and add up to `store_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub store_bytes: u64,
    /// Stored blocks that a volume or a snapshot shows, of what is folded.
    pub live_bytes: u64,
    /// Stored blocks that only deleted snapshots show, on which more than one volume or snapshot is based.
    pub branching_bytes: u64,
    /// The rest of the slots they lie in: what nobody shows any more or not yet, with the headers of records and segments.
    pub dead_bytes: u64,
    /// Of the segment that the log is appending to, what is not written yet.
    pub open_bytes: u64,
    /// Pages of maps, catalog and liveness, and checkpoints.
    pub pages_used_bytes: u64,
    /// Given back, and needed by a retained checkpoint.
    pub pages_waiting_bytes: u64,
    pub pages_free_bytes: u64,
    /// Slots given back, and needed by a retained checkpoint.
    pub freed_bytes: u64,
    pub free_bytes: u64,
    /// Superblocks in front, and what is too short for a slot behind.
    pub fixed_bytes: u64,
    /// Of `open_bytes` and `free_bytes`, what may be written before the store is full.
    pub writable_bytes: u64,
    /// Of the same, what is kept back for checkpoints, recovery and deleting.
    pub reserve_bytes: u64,
}

impl Usage {
    pub fn parts(&self) -> [u64; 10] {
        [
            self.live_bytes,
            self.branching_bytes,
            self.dead_bytes,
            self.open_bytes,
            self.pages_used_bytes,
            self.pages_waiting_bytes,
            self.pages_free_bytes,
            self.freed_bytes,
            self.free_bytes,
            self.fixed_bytes,
        ]
    }
}

impl Store {
    /// Counts what each byte is used for. It reads the segment table and the maps of deleted snapshots that others are based on.
    pub async fn usage(&self) -> Result<Usage, VolumeError> {
        let core = &self.core;
        let damaged = |error: PageError| VolumeError::Damaged { block: 0, what: error.to_string() };
        while !core.segments.count_some(&core.pages).await.map_err(damaged)? {
            core.disk.io().yield_now().await;
        }
        let branching = core.held_by_branching().await.map_err(damaged)?;
        // Between the slices of a fold a block that it replaces counts as live beside the one in its place.
        let _turn = core.fold_turn.take_soon().await;
        // Nothing waits from here on.
        let live = core.segments.live_blocks().unwrap_or_default() * BLOCK;
        let length = core.disk.file().len().unwrap_or(0);
        let (slot_bytes, slots) = (core.disk.geometry().slot_bytes(), core.segments.counts());
        let open_bytes = core.log.open_blocks() * BLOCK;
        let written = (slots.log + slots.containers) * slot_bytes - open_bytes;
        // Damage may say more than there is.
        let shown_or_held = live.min(written);
        let branching_bytes = branching.min(shown_or_held);
        let (used, free) = (core.pages.used_pages() * BLOCK, core.pages.available() * BLOCK);
        let room = core.room.free(Keys::default());
        let usage = Usage {
            store_bytes: length.max(core.disk.geometry().data_start + slots.total * slot_bytes),
            live_bytes: shown_or_held - branching_bytes,
            branching_bytes,
            dead_bytes: written - shown_or_held,
            open_bytes,
            pages_used_bytes: used,
            pages_waiting_bytes: slots.pages * slot_bytes - used - free,
            pages_free_bytes: free,
            freed_bytes: slots.freed * slot_bytes,
            free_bytes: slots.free * slot_bytes,
            fixed_bytes: length.saturating_sub(slots.total * slot_bytes),
            writable_bytes: room.available() * BLOCK,
            reserve_bytes: room.reserve.min(room.usable) * BLOCK,
        };
        assert_eq!(usage.parts().iter().sum::<u64>(), usage.store_bytes, "the parts of {usage:?} are the store");
        Ok(usage)
    }
}
