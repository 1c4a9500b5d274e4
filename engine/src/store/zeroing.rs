//! Zeros ahead of the log, on its way (`log/ahead.rs`) and in the free slots after that: a write into blocks that were written
//! before is what a disk makes durable fastest.
//!
//! What is zeroed costs the disk as much as the log itself, and a flush that comes meanwhile waits for it, and for the file system,
//! which writes down in its journal that the blocks are in use now. So most of it is done while nobody reads or writes. While
//! clients flush it goes out in pieces, each just after a sync: the clients that it answered take a while to come back, and until
//! then the disk has nothing to do.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use treering_format::units::SlotIndex;
use treering_io::{Buffer, WriteBuffer};

use crate::disk::BLOCK;
use crate::log::Stretch;
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
        let mut looked = self.look();
        loop {
            self.disk.io().sleep(TICK).await;
            if self.health.check().is_err() {
                return;
            }
            let at_rest = self.rested_since(looked.0);
            let ahead = if at_rest { self.slots_zeroed_at_rest() } else { self.limits.zeroed_slots };
            while at_rest && self.rested_since(looked.0) || !at_rest && self.flushing_since(looked) {
                looked = self.look();
                if !self.zero_next(ahead, at_rest).await {
                    break;
                }
            }
            looked = self.look();
        }
    }

    /// What clients have done so far, and when that was seen.
    fn look(&self) -> (Events, u64) {
        (self.events(), self.disk.io().now())
    }

    /// Whether there were more syncs since then than the store asks for by itself.
    fn flushing_since(&self, (then, at): (Events, u64)) -> bool {
        let ticks = (self.disk.io().now() - at) / TICK.as_nanos() as u64;
        self.events().syncs - then.syncs > ticks.max(1)
    }

    /// Zeros the way of the log, or else one slot, if fewer than `ahead` are ready; no more than a slot's worth of the way. False:
    /// nothing is left to do, or the disk refused, or the store has failed.
    async fn zero_next(&self, ahead: usize, at_rest: bool) -> bool {
        if ahead == 0 {
            return false;
        }
        let mut zeros = Zeros::new(self, at_rest);
        let mut left = self.disk.geometry().segment_blocks;
        while zeros.begin_piece().await {
            let Some(stretch) = self.log.next_ahead(left.min((zeros.piece / BLOCK) as u32)) else { break };
            // A log that outruns them would only write over them, and wait for each.
            if zeros.outrun || !zeros.write(stretch).await {
                return false;
            }
            left -= stretch.blocks;
            if left == 0 {
                return true;
            }
        }
        let Some(slot) = self.segments.unwritten_free(ahead).filter(|slot| self.segments.reserve_slot(*slot)) else {
            return false;
        };
        let whole = zeros.write_slot(slot).await;
        if whole {
            self.segments.mark_written(slot);
        }
        self.segments.unreserve(slot);
        whole
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

    /// Waits until a sync of the log has ended, or none did for a while.
    async fn sync_ended(&self) {
        let last = self.log.synced_ns();
        let ended = self.health.until(|| self.log.synced_ns() != last);
        self.disk.io().timeout(QUIET, ended).await;
        // Answers first.
        self.disk.io().yield_now().await;
    }
}

/// Zeros on their way to slots, a piece at a time. Of what was begun at rest, the rest goes out as ever when something happens.
struct Zeros<'a> {
    core: &'a Core,
    at_rest: bool,
    begun: Events,
    /// Of the log, when the last piece went out; and when that was.
    logged: u64,
    since: u64,
    /// Bytes that may go out now.
    piece: u64,
    /// The log has grown by more than a piece may replace.
    outrun: bool,
    zeros: OnceCell<Rc<Buffer>>,
}

impl Zeros<'_> {
    fn new(core: &Core, at_rest: bool) -> Zeros<'_> {
        Zeros {
            core,
            at_rest,
            begun: core.events(),
            logged: core.log.sealed_bytes(),
            since: core.disk.io().now(),
            piece: 0,
            outrun: false,
            zeros: OnceCell::new(),
        }
    }

    /// Waits until a piece may go out. False: the store has failed.
    async fn begin_piece(&mut self) -> bool {
        let io = self.core.disk.io();
        loop {
            if self.at_rest {
                // As long as the last piece took: the disk may have others to serve.
                io.sleep(Duration::from_nanos(io.now() - self.since)).await;
            } else {
                self.core.sync_ended().await;
            }
            if self.core.health.check().is_err() {
                return false;
            }
            self.at_rest &= self.core.rested_since(self.begun);
            let logged = self.core.log.sealed_bytes();
            let due = LEAD * (logged - self.logged);
            if self.at_rest || due >= PIECE_BYTES || io.now() - self.since >= QUIET.as_nanos() as u64 {
                (self.logged, self.since) = (logged, io.now());
                let piece = if self.at_rest { MOST_BYTES } else { due.clamp(PIECE_BYTES, MOST_BYTES) };
                self.piece = piece.next_multiple_of(BLOCK);
                self.outrun = !self.at_rest && due > MOST_BYTES;
                return true;
            }
        }
    }

    /// Into a slot that is reserved. False: the disk refused, or the store has failed.
    async fn write_slot(&mut self, slot: SlotIndex) -> bool {
        let blocks = self.core.disk.geometry().segment_blocks;
        let mut block = 0;
        while block < blocks {
            if !self.begin_piece().await {
                return false;
            }
            let stretch = Stretch { slot, block, blocks: ((self.piece / BLOCK) as u32).min(blocks - block) };
            if !self.write(stretch).await {
                return false;
            }
            block += stretch.blocks;
        }
        true
    }

    /// False: the disk refused.
    async fn write(&self, stretch: Stretch) -> bool {
        let bytes = u64::from(stretch.blocks) * BLOCK;
        let zeros = self.zeros.get_or_init(|| Rc::new(Buffer::zeroed(PIECE_BYTES as usize)));
        let rest = bytes % PIECE_BYTES;
        let rest = (rest > 0).then(|| Rc::new(Buffer::zeroed(rest as usize)));
        let whole = (0..bytes / PIECE_BYTES).map(|_| Rc::clone(zeros));
        self.core.log.begin_ahead(stretch, whole.chain(rest).map(WriteBuffer::Counted).collect());
        self.core.log.no_zeros_under_way().await
    }
}
