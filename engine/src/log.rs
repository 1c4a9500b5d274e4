//! The log: one order of everything that happens to all volumes, and the moment at which it is durable.
//!
//! It keeps these true:
//! * *Publish* gives each operation its order number, makes it visible in the overlay and leaves it in the arena, all in one
//!   step without waiting: what was acknowledged is in the order, and survives the process (O12).
//! * *Seal* turns what was published since the last seal into one record. It runs to its end without waiting, so a batch is
//!   closed at one point of the order, and nothing published later can enter it.
//! * *Persist* answers only after a sync that was submitted when every earlier record write had completed, and that
//!   succeeded (O1). One sync is in flight at a time; all who wait meanwhile ride the next one.
//! * Records are written whole into blocks of their own, each naming the one before it: what a crash leaves is a prefix
//!   (O2, O3).
//!
//! It does not know what descriptors mean (`fold` does), nor when space comes back (`segments` does).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use treering_format::record::Descriptor;
use treering_format::superblock::CheckpointRef;
use treering_format::units::{LineId, LogAddress, Mount, OrderNumber, RecordSequence, SegmentId, SlotIndex, StoreId};
use treering_io::Notify;

use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};
use crate::error::Failure;
use crate::health::Health;
use crate::limits::Limits;
use crate::line::{Line, Lines};
use crate::overlay::{Piece, Place};
use crate::segments::Segments;

mod ahead;
pub(crate) mod arena;
mod crowd;
pub(crate) mod replay;
mod room;
pub(crate) mod scan;
mod seal;
mod sync;

use ahead::Ahead;
pub(crate) use ahead::Stretch;
use arena::{Arena, Entry, EntryKind};
use crowd::Crowd;
pub(crate) use crowd::Flusher;
pub use room::FullPolicy;
pub(crate) use room::{CutCost, Keys, Pressure, Room};

/// A point of the order that a record ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frontier {
    pub sequence: RecordSequence,
    pub order: OrderNumber,
    /// Last block of the record.
    pub address: LogAddress,
    /// Header checksum of the record: what the next one names.
    pub chain: u32,
    /// Where the next record of the same segment would begin.
    pub next: LogAddress,
}

impl Frontier {
    /// Where a checkpoint's F lies.
    pub(crate) fn of_checkpoint(checkpoint: &CheckpointRef) -> Frontier {
        Frontier {
            sequence: checkpoint.fold_sequence,
            order: checkpoint.fold_order,
            address: checkpoint.fold,
            chain: checkpoint.fold_chain,
            next: checkpoint.next,
        }
    }
}

/// Where a cut lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub order: OrderNumber,
    /// The last address of its record: everything that was published before it is at or below.
    pub position: LogAddress,
}

/// The log of an open store. A handle: clones share the one log.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Rc<Shared>,
}

struct Shared {
    disk: Disk,
    health: Health,
    segments: Segments,
    lines: Lines,
    limits: Limits,
    identity: Writer,
    state: RefCell<State>,
    /// Rings when `State::long_synced` moves.
    long_sync: Notify,
    /// Rings when a client begins to wait for a sync.
    came: Notify,
}

/// What every record and segment of this mount carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub store: StoreId,
    pub mount: Mount,
}

struct State {
    arena: Arena,
    next_order: OrderNumber,
    batch: Batch,
    /// The newest sealed record.
    sealed: Frontier,
    /// Every record up to here is written.
    written: Frontier,
    /// Every record up to here is durable.
    durable: Frontier,
    /// Orders up to here are waited for.
    wanted: OrderNumber,
    syncing: bool,
    crowd: Crowd,
    writes: VecDeque<LogWrite>,
    next_write: u64,
    open: Option<OpenSegment>,
    /// The segment before the open one, or before the first one of this mount.
    previous_segment: SegmentId,
    next_segment: SegmentId,
    /// Slot set aside for the segment after the open one; written into its header, so that a reader finds the way on.
    successor: Option<SlotIndex>,
    /// How far the two were zero-written ahead.
    ahead: Ahead,
    /// Bytes sealed by this process, and how many of them were when the last sync began.
    sealed_bytes: u64,
    synced_bytes: u64,
    /// The newest record that was made durable together with much before it, which records cannot attest.
    long_synced: RecordSequence,
    syncs: u64,
    /// When the last sync ended.
    synced_ns: u64,
    /// A task that seals early has been spawned.
    sealing_soon: bool,
    records: u64,
}

/// Operations published since the last seal.
#[derive(Default)]
struct Batch {
    touched: Vec<(LineId, u64, u64)>,
    payload_blocks: u64,
    begun_ns: u64,
}

/// A write to the log that has been submitted; in the order of submission.
struct LogWrite {
    number: u64,
    done: bool,
    reaches: Frontier,
    arena: u64,
}

struct OpenSegment {
    id: SegmentId,
    slot: SlotIndex,
    next_block: u32,
    first_sequence: RecordSequence,
    records: u32,
    footer: Vec<u8>,
}

/// The rooms that the log stands on.
pub(crate) struct Ground {
    pub disk: Disk,
    pub health: Health,
    pub segments: Segments,
    pub lines: Lines,
    pub limits: Limits,
}

/// Where a log begins: what recovery found, and what it set aside.
pub(crate) struct Start {
    pub frontier: Frontier,
    pub first_segment: SegmentId,
    pub first_slot: SlotIndex,
    pub previous_segment: SegmentId,
    /// Bytes of log that were replayed: they count towards the next checkpoint.
    pub replayed_bytes: u64,
}

/// Records under way at once that were sealed before a flush asked for them.
const EARLY_RECORDS: usize = 3;

/// For so long after a sync clients count as flushing.
const FLUSHING_NS: u64 = 5_000_000;

/// Figures for `status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogFigures {
    pub records: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub published: u64,
    pub durable: u64,
}

impl Log {
    pub(crate) fn begin(ground: Ground, identity: Writer, arena: Arena, start: Start) -> Log {
        let Ground { disk, health, segments, lines, limits } = ground;
        let at = start.frontier;
        let state = State {
            arena,
            next_order: OrderNumber(at.order.0 + 1),
            batch: Batch::default(),
            sealed: at,
            written: at,
            durable: at,
            wanted: at.order,
            syncing: false,
            crowd: Crowd::default(),
            writes: VecDeque::new(),
            next_write: 0,
            open: None,
            previous_segment: start.previous_segment,
            next_segment: start.first_segment,
            successor: Some(start.first_slot),
            ahead: Ahead::default(),
            sealed_bytes: start.replayed_bytes,
            synced_bytes: start.replayed_bytes,
            long_synced: RecordSequence(0),
            syncs: 0,
            synced_ns: 0,
            sealing_soon: false,
            records: 0,
        };
        Log {
            shared: Rc::new(Shared {
                disk,
                health,
                segments,
                lines,
                limits,
                identity,
                state: RefCell::new(state),
                long_sync: Notify::new(),
                came: Notify::new(),
            }),
        }
    }

    /// Publishes a write of whole blocks. There must be room for it (`Room::admit`).
    pub(crate) fn publish_data(&self, line: &Line, block: u64, data: &[u8]) -> OrderNumber {
        let count = data.len() as u64 / BLOCK;
        let order = {
            let mut state = self.shared.state.borrow_mut();
            if canary::is(Canary::AbsorbAcrossRecords) && state.absorb_into_sealed(line, block, data) {
                return OrderNumber(state.next_order.0 - 1);
            }
            let position = state.arena.fill(data);
            let order = state.publish(line.id, block, count, EntryKind::Data, position);
            line.overlay.borrow_mut().active().insert(Piece { block, count, place: Place::Arena { position } });
            state.touch(line.id, block, count, count, self.shared.disk.io().now());
            order
        };
        line.disturb(block, block + count);
        self.seal_if_due();
        order
    }

    /// Publishes zeros over a range of any size: a hole, or zeros that count as allocated.
    pub(crate) fn publish_blank(&self, line: &Line, block: u64, count: u64, allocated: bool) -> OrderNumber {
        let kind = if allocated { EntryKind::Zero } else { EntryKind::Hole };
        let order = {
            let mut state = self.shared.state.borrow_mut();
            let order = state.publish(line.id, block, count, kind, 0);
            let place = Place::Blank { allocated, address: LogAddress::NONE };
            line.overlay.borrow_mut().active().insert(Piece { block, count, place });
            state.touch(line.id, block, count, 0, self.shared.disk.io().now());
            order
        };
        line.disturb(block, block + count);
        self.seal_if_due();
        order
    }

    /// Publishes a change of the catalog. It is a cut: it closes the record behind everything published so far.
    pub(crate) fn publish_cut(&self, cut: Descriptor) -> Published {
        let order = self.shared.state.borrow_mut().publish(LineId(0), 0, 0, EntryKind::Cut, 0);
        self.seal(Some(cut));
        Published { order, position: self.sealed().address }
    }

    /// The newest published operation.
    pub(crate) fn published(&self) -> OrderNumber {
        OrderNumber(self.shared.state.borrow().next_order.0 - 1)
    }

    pub(crate) fn sealed(&self) -> Frontier {
        self.shared.state.borrow().sealed
    }

    pub(crate) fn durable(&self) -> Frontier {
        self.shared.state.borrow().durable
    }

    /// The newest record that was made durable together with much before it: what says so is the superblock, soon.
    pub(crate) fn long_synced(&self) -> RecordSequence {
        self.shared.state.borrow().long_synced
    }

    /// Rings when `long_synced` moves.
    pub(crate) fn long_sync(&self) -> &Notify {
        &self.shared.long_sync
    }

    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.shared.state.borrow().sealed_bytes
    }

    /// Blocks of the open segment that nothing was appended to yet.
    pub(crate) fn open_blocks(&self) -> u64 {
        let segment_blocks = self.shared.disk.geometry().segment_blocks;
        self.shared.state.borrow().open.as_ref().map_or(0, |open| u64::from(segment_blocks - open.next_block))
    }

    pub(crate) fn next_segment(&self) -> SegmentId {
        self.shared.state.borrow().next_segment
    }

    /// When the newest sync ended.
    pub(crate) fn synced_ns(&self) -> u64 {
        self.shared.state.borrow().synced_ns
    }

    /// Copies payload out of the arena if it is still there.
    pub(crate) fn read_resident(&self, position: u64, into: &mut [u8]) -> bool {
        let state = self.shared.state.borrow();
        if !state.arena.is_resident(position) {
            return false;
        }
        state.arena.copy_out(position, into);
        true
    }

    pub(crate) fn figures(&self) -> LogFigures {
        let state = self.shared.state.borrow();
        LogFigures {
            records: state.records,
            bytes: state.sealed_bytes,
            syncs: state.syncs,
            published: state.next_order.0 - 1,
            durable: state.durable.order.0,
        }
    }

    /// Seals the batch when it is large; and while clients flush, as soon as everybody who is ready now has had a turn: a
    /// record that is on its way while its client asks for the flush leaves the flush only the sync to wait for. Few such
    /// records are under way at a time, so what comes meanwhile goes together.
    fn seal_if_due(&self) {
        let (large, eager) = {
            let mut state = self.shared.state.borrow_mut();
            let segment_blocks = self.shared.disk.geometry().segment_blocks;
            let large = state.batch.payload_blocks >= self.shared.limits.record_blocks(segment_blocks)
                || state.batch.touched.len() >= self.shared.limits.record_operations(segment_blocks);
            let flushing = state.syncing || self.shared.disk.io().now() < state.synced_ns + FLUSHING_NS;
            let eager = !large && flushing && !state.sealing_soon && state.may_seal_early();
            state.sealing_soon |= eager;
            (large, eager)
        };
        if large {
            self.seal(None);
        } else if eager {
            let log = self.clone();
            self.shared.disk.io().spawn(async move { log.seal_early() }).detach();
        }
    }

    fn seal_early(&self) {
        let due = {
            let mut state = self.shared.state.borrow_mut();
            state.sealing_soon = false;
            state.may_seal_early()
        };
        if due && self.shared.health.check().is_ok() {
            self.seal(None);
        }
    }
}

impl State {
    fn publish(&mut self, line: LineId, block: u64, count: u64, kind: EntryKind, position: u64) -> OrderNumber {
        let order = self.next_order;
        self.arena.publish(&Entry { order, line, block, count, kind, position });
        self.next_order = OrderNumber(order.0 + 1);
        order
    }

    /// What must never happen: the payload of a sealed record changes.
    fn absorb_into_sealed(&self, line: &Line, block: u64, data: &[u8]) -> bool {
        let mut overlay = line.overlay.borrow_mut();
        let end = block + data.len() as u64 / BLOCK;
        let Some(Piece { place: Place::Log { position, .. }, count, .. }) =
            overlay.active().overlapping(block, end).next()
        else {
            return false;
        };
        let whole = count == end - block && self.arena.is_resident(position);
        if whole {
            self.arena.overwrite(position, data);
        }
        whole
    }

    fn may_seal_early(&self) -> bool {
        !self.batch.touched.is_empty() && self.writes.len() < EARLY_RECORDS
    }

    fn touch(&mut self, line: LineId, block: u64, count: u64, payload: u64, now: u64) {
        if self.batch.touched.is_empty() {
            self.batch.begun_ns = now;
        }
        self.batch.touched.push((line, block, count));
        self.batch.payload_blocks += payload;
    }
}

pub(crate) type Persisted = Result<(), Rc<Failure>>;
