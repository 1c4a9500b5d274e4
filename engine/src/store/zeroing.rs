//! Slots zero-written ahead of the log: a write into blocks that were written before is what a disk makes durable fastest.
//!
//! What is zeroed costs the disk as much as the log itself, and a flush that comes meanwhile waits for it, and for the file system,
//! which writes down in its journal that the blocks are in use now. So most of it is done while nobody reads or writes. While
//! clients flush it goes out in pieces, each just after a sync: the clients that it answered take a while to come back, and until
//! then the disk has nothing to do.

use std::rc::Rc;
use std::time::Duration;

use treering_format::units::SlotIndex;
use treering_io::{Buffer, Durability, WriteBuffer};

use crate::disk::BLOCK;
use crate::store::Core;

/// How often it is looked whether clients flush, or nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Zeros written at once, at least: after each sync a small piece was measured to cost the flushes a tenth: each is one more
/// commit of the file system's journal.
const PIECE_BYTES: u64 = 512 << 10;

/// And at most, where much is logged between two syncs.
const MOST_BYTES: u64 = 2 << 20;

/// Zeros for each byte that the log has grown by: faster than the log, or it would catch up.
const LEAD: u64 = 2;

/// At most so many of a store's slots are zeroed at rest.
const REST_PART: u64 = 16;

/// And none where fewer than this part of them are free.
const ROOMY_PART: u64 = 8;

/// No sync for so long: nobody is in the way. And no piece for so long: the slot, which nobody else can have meanwhile, waits for too
/// little.
const QUIET: Duration = Duration::from_millis(10);

/// What clients have done so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Events {
    published: u64,
    syncs: u64,
    reads: u64,
}

impl Core {
    pub(super) async fn keep_zeroed_ahead(&self) {
        let mut last = self.events();
        loop {
            self.disk.io().sleep(TICK).await;
            if self.health.check().is_err() {
                return;
            }
            let now = self.events();
            let at_rest = self.rested_since(last);
            let flushing = now.syncs > last.syncs + 1;
            last = now;
            let ahead = if at_rest { self.slots_zeroed_at_rest() } else { self.limits.zeroed_slots };
            while (flushing || at_rest && self.rested_since(now))
                && let Some(slot) = self.segments.unwritten_free(ahead)
                && self.segments.reserve_slot(slot)
            {
                let whole = self.zero_slot(slot, at_rest).await;
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

    /// None of a file that gets its space as it is used, or whose zeros would fill the page cache; and none of a store that is nearly
    /// full, where a writer may want just the slot that is being zeroed.
    fn slots_zeroed_at_rest(&self) -> usize {
        let slots = self.disk.geometry().slot_count;
        let file = self.disk.file();
        let roomy = self.segments.free_slots() > slots / ROOMY_PART;
        let suits = roomy && file.is_direct() && file.has_its_space().unwrap_or(false);
        if suits { self.limits.zeroed_slots_at_rest.min((slots / REST_PART) as usize) } else { 0 }
    }

    fn events(&self) -> Events {
        let figures = self.log.figures();
        Events { published: figures.published, syncs: figures.syncs, reads: self.readers.begun() }
    }

    /// A check reads past `readers`; it holds a pin.
    fn rested_since(&self, then: Events) -> bool {
        self.events() == then && !self.pins.hold()
    }

    /// Of what was begun at rest, the rest goes out as ever when something happens. False: the disk refused, or the store has failed.
    async fn zero_slot(&self, slot: SlotIndex, mut at_rest: bool) -> bool {
        let geometry = self.disk.geometry();
        let bytes = geometry.slot_bytes();
        let zeros = Rc::new(Buffer::zeroed(PIECE_BYTES as usize));
        let io = self.disk.io();
        let begun = self.events();
        let (mut logged, mut since) = (self.log.sealed_bytes(), io.now());
        let mut at = 0;
        while at < bytes {
            if at_rest {
                // As long as the last piece took: the disk may have others to serve.
                io.sleep(Duration::from_nanos(io.now() - since)).await;
            } else {
                self.sync_ended().await;
            }
            if self.health.check().is_err() {
                return false;
            }
            at_rest &= self.rested_since(begun);
            let due = LEAD * (self.log.sealed_bytes() - logged);
            if !at_rest && due < PIECE_BYTES && io.now() - since < QUIET.as_nanos() as u64 {
                continue;
            }
            (logged, since) = (self.log.sealed_bytes(), io.now());
            let piece = if at_rest { MOST_BYTES } else { due.clamp(PIECE_BYTES, MOST_BYTES) };
            let piece = piece.next_multiple_of(BLOCK).min(bytes - at);
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
