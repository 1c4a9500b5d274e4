//! Slots zero-written ahead of the log, while clients flush: a write into blocks that were written before is what a disk makes
//! durable fastest.
//!
//! What is zeroed costs the disk as much as the log itself, and a flush that comes meanwhile waits for it. So it goes out in pieces,
//! each just after a sync: the clients that it answered take a while to come back, and until then the disk has nothing to do.

use std::rc::Rc;
use std::time::Duration;

use treering_format::units::SlotIndex;
use treering_io::{Buffer, Durability, WriteBuffer};

use crate::disk::BLOCK;
use crate::store::Core;

/// How often it is looked whether clients flush.
const TICK: Duration = Duration::from_millis(200);

/// Zeros written at once, at least: after each sync a small piece was measured to cost the flushes a tenth, for the processor time.
const PIECE_BYTES: u64 = 512 << 10;

/// And at most, where much is logged between two syncs.
const MOST_BYTES: u64 = 2 << 20;

/// Zeros for each byte that the log has grown by: faster than the log, or it would catch up.
const LEAD: u64 = 2;

/// No sync for so long: nobody is in the way. And no piece for so long: the slot, which nobody else can have meanwhile, waits for too
/// little.
const QUIET: Duration = Duration::from_millis(10);

impl Core {
    pub(super) async fn keep_zeroed_ahead(&self) {
        let mut syncs = 0;
        loop {
            self.disk.io().sleep(TICK).await;
            if self.health.check().is_err() {
                return;
            }
            let now = self.log.figures().syncs;
            let flushing = now > syncs + 1;
            syncs = now;
            while flushing
                && let Some(slot) = self.segments.unwritten_free(self.limits.zeroed_slots)
                && self.segments.reserve_slot(slot)
            {
                let whole = self.zero_slot(slot).await;
                if whole {
                    self.segments.mark_written(slot);
                }
                self.segments.unreserve(slot);
                if !whole {
                    break;
                }
            }
        }
    }

    /// False: the disk refused, or the store has failed.
    async fn zero_slot(&self, slot: SlotIndex) -> bool {
        let geometry = self.disk.geometry();
        let bytes = geometry.slot_bytes();
        let zeros = Rc::new(Buffer::zeroed(PIECE_BYTES as usize));
        let io = self.disk.io();
        let (mut logged, mut since) = (self.log.sealed_bytes(), io.now());
        let mut at = 0;
        while at < bytes {
            self.sync_ended().await;
            if self.health.check().is_err() {
                return false;
            }
            let due = LEAD * (self.log.sealed_bytes() - logged);
            if due < PIECE_BYTES && io.now() - since < QUIET.as_nanos() as u64 {
                continue;
            }
            (logged, since) = (self.log.sealed_bytes(), io.now());
            let piece = due.clamp(PIECE_BYTES, MOST_BYTES).next_multiple_of(BLOCK).min(bytes - at);
            let rest = piece % PIECE_BYTES;
            let rest = (rest > 0).then(|| Rc::new(Buffer::zeroed(rest as usize)));
            let whole = (0..piece / PIECE_BYTES).map(|_| Rc::clone(&zeros));
            let buffers = whole.chain(rest).map(WriteBuffer::Counted).collect();
            let offset = geometry.offset(slot, (at / BLOCK) as u32);
            if self.disk.write_bytes(offset, buffers, Durability::Volatile).await.is_err() {
                return false;
            }
            at += piece;
        }
        true
    }

    /// Waits until a sync of the log has ended, or none did for a while.
    async fn sync_ended(&self) {
        let last = self.log.synced_ns();
        let ended = async {
            loop {
                let progress = self.health.progress().notified();
                if self.log.synced_ns() != last || self.health.check().is_err() {
                    return;
                }
                progress.await;
            }
        };
        self.disk.io().timeout(QUIET, ended).await;
        // Answers first.
        self.disk.io().yield_now().await;
    }
}
