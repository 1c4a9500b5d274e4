//! The store: everything behind one file or device, opened by one process at a time.
//!
//! `Store` is the door; `Core` is what its rooms share. From the top: verbs change the catalog, volumes read and write, the
//! background folds the log into the maps and writes checkpoints, and all of it ends in the log.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use treering_format::superblock::CheckpointRef;
use treering_format::units::{Incarnation, Mount, OrderNumber, SegmentId, StoreId};
use treering_io::{Io, Task};

use crate::cache::DataCache;
use crate::catalog::SharedCatalog;
use crate::cleaner::{Cleaner, CleaningFigures};
use crate::compress::CompressionMode;
use crate::disk::{BLOCK, Disk};
use crate::error::{Failure, StoreError, VolumeError};
use crate::fold::{Breaks, Fold};
use crate::health::Health;
use crate::limits::{Limits, publish_blocks};
use crate::line::Lines;
use crate::log::{Keys, Log, LogFigures, Pressure, Room};
use crate::map::Tree;
use crate::pages::Pages;
use crate::pin::Pins;
use crate::readers::Readers;
use crate::segments::{Segments, SlotCounts};
use crate::turn::Turn;
use crate::versions::Versions;
use crate::volume::Ahead;

mod background;
mod checkpoint;
mod containers;
mod create;
mod damage;
mod geometry;
mod grow;
mod history;
mod holds;
mod load;
mod mounts;
mod open;
mod remains;
mod salvage;
mod superblock;
mod usage;
mod verbs;
mod zeroing;

pub(crate) use containers::{directory, lies_at};
pub use create::{CreateOptions, STORE_BYTES_MIN};
pub use damage::Damage;
pub use grow::Grown;
pub use history::{NewSnapshot, Sizes, SnapshotInfo, SnapshotRef, SnapshotVolume};
pub use holds::CutHolds;
use holds::Holds;
pub(crate) use load::understand;
pub use open::{OpenOptions, RecoveryReport};
pub(crate) use open::{begin, go_on};
pub(crate) use salvage::Salvage;
use superblock::SuperblockCell;
pub use usage::Usage;

/// What the rooms of an open store share. One thread; nothing here is locked.
pub(crate) struct Core {
    pub disk: Disk,
    pub health: Health,
    pub limits: Limits,
    pub read_only: bool,
    pub log: Log,
    pub room: Room,
    pub pressure: Rc<Pressure>,
    pub lines: Lines,
    pub segments: Segments,
    pub pages: Pages,
    pub cache: DataCache,
    pub ahead: Ahead,
    pub readers: Readers,
    pub pins: Pins,
    pub catalog: SharedCatalog,
    pub versions: Versions,
    pub catalog_tree: RefCell<Tree>,
    /// Nodes of the catalog tree when it was opened.
    pub catalog_nodes: u64,
    /// The same entries on pages of their own.
    pub catalog_mirror: RefCell<Tree>,
    pub fold: RefCell<Fold>,
    pub fold_turn: Turn,
    pub breaks: Breaks,
    pub cleaner: Cleaner,
    pub verbs_turn: Turn,
    pub holds: Holds,
    /// Bytes this process had sealed at the last checkpoint's F.
    pub checkpoint_bytes: Cell<u64>,
    /// The first segment that this process opened in the log.
    pub first_segment: SegmentId,
    /// The checkpoint that what is in memory stands on.
    pub newest: Cell<CheckpointRef>,
    pub superblock: SuperblockCell,
    /// The mount whose shared memory is being published again: until that is durable, the superblock goes on naming it.
    pub remembered: Cell<Option<Mount>>,
    pub arena_path: std::path::PathBuf,
}

impl Core {
    pub(crate) async fn admit(&self, blocks: u64) -> Result<(), VolumeError> {
        self.room.admit(blocks).await
    }

    /// Blocks that one published write holds at the most. It depends on the store alone, so that an arena of a process with
    /// other limits is published again entry by entry.
    pub(crate) fn publish_blocks(&self) -> u64 {
        publish_blocks(self.disk.geometry().segment_blocks)
    }
}

/// A handle of an open store.
#[derive(Clone)]
pub struct Store {
    pub(crate) core: Rc<Core>,
    /// Dropped with the last handle: ends the background work.
    background: Rc<Vec<Task<()>>>,
}

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    pub name: String,
    pub size_bytes: u64,
    pub compression: CompressionMode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotInfo {
    pub name: String,
    pub volumes: Vec<VolumeInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    pub name: String,
    pub size_bytes: u64,
    pub compression: CompressionMode,
    /// Handles in use.
    pub users: usize,
}

/// How an open store does.
#[derive(Clone, Debug)]
pub struct Status {
    pub store: StoreId,
    pub incarnation: Incarnation,
    pub backend: &'static str,
    pub direct: bool,
    pub read_only: bool,
    pub log: LogFigures,
    /// Operations published and not folded.
    pub unfolded: u64,
    pub dirty_nodes: u64,
    pub checkpoints: u64,
    /// Bytes of log that a recovery would replay now.
    pub replay_bytes: u64,
    pub held_writers: u64,
    pub cut_holds: CutHolds,
    /// Long reads that found their data read ahead.
    pub reads_ahead: u64,
    /// Deleted versions that are being swept, or wait for it.
    pub sweeps: u64,
    pub cleaning: CleaningFigures,
    /// Why the store stopped acknowledging, if it did.
    pub failure: Option<Rc<Failure>>,
}

/// Where the bytes of a store are. All in bytes; slots add up to the store's size less its first MiB and what is left over
/// behind the last slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub slot_bytes: u64,
    pub slots: SlotCounts,
    pub page_bytes_used: u64,
    /// What may be written before the store is full.
    pub writable_bytes: u64,
    /// Kept back for checkpoints and recovery.
    pub reserve_bytes: u64,
}

impl Store {
    /// Makes a new, empty store. Refuses a file that holds one already.
    pub async fn create(io: &Io, path: &Path, options: &CreateOptions) -> Result<StoreId, StoreError> {
        create::create(io, path, options).await
    }

    /// Opens a store: recovers what a crash left, then starts the background work.
    pub async fn open(io: &Io, path: &Path, options: &OpenOptions) -> Result<(Store, RecoveryReport), StoreError> {
        open::open(io, path, options).await
    }

    pub fn store_id(&self) -> StoreId {
        self.core.superblock.current().store_id
    }

    /// Changes whenever acknowledged data may have been lost: a client that sees another one must not go on.
    pub fn incarnation(&self) -> Incarnation {
        self.core.superblock.current().incarnation
    }

    pub fn status(&self) -> Status {
        let core = &self.core;
        let log = core.log.figures();
        Status {
            store: self.store_id(),
            incarnation: self.incarnation(),
            backend: core.disk.io().backend(),
            direct: core.disk.file().is_direct(),
            read_only: core.read_only,
            log,
            unfolded: log.published.saturating_sub(core.pressure.folded_order.get()),
            dirty_nodes: core.pressure.dirty_nodes.get(),
            checkpoints: core.pressure.checkpoints.get(),
            replay_bytes: core.log.sealed_bytes() - core.checkpoint_bytes.get(),
            held_writers: core.pressure.held.get(),
            cut_holds: core.holds.figures(),
            reads_ahead: core.ahead.taken(),
            sweeps: core.versions.sweeps() + core.fold.borrow().cuts.releases(),
            cleaning: core.cleaner.figures.get(),
            failure: core.health.failure(),
        }
    }

    pub fn space(&self) -> Space {
        let core = &self.core;
        let free = core.room.free(Keys::default());
        Space {
            slot_bytes: core.disk.geometry().slot_bytes(),
            slots: core.segments.counts(),
            page_bytes_used: core.pages.used_pages() * BLOCK,
            writable_bytes: free.available() * BLOCK,
            reserve_bytes: free.reserve.min(free.usable) * BLOCK,
        }
    }

    /// Makes everything durable that was acknowledged before the call.
    pub async fn flush(&self) -> Result<(), Rc<Failure>> {
        self.core.log.persist(self.core.log.published()).await
    }

    /// Folds what was published so far into the maps.
    pub async fn fold(&self) -> Result<(), Rc<Failure>> {
        let core = Rc::clone(&self.core);
        self.core.disk.io().spawn(async move { core.fold_round().await }).to_its_end().await
    }

    /// Writes a checkpoint: recovery replays nothing from before it.
    pub async fn checkpoint(&self) -> Result<(), Rc<Failure>> {
        let core = Rc::clone(&self.core);
        self.core.disk.io().spawn(async move { core.write_checkpoint().await }).to_its_end().await
    }

    /// Makes everything durable and marks the store as cleanly closed. Nothing may be written through other handles after it.
    /// If there are none, its background work has ended and its lock is free when this returns.
    pub async fn close(self) -> Result<(), Rc<Failure>> {
        let closed = self.mark_closed().await;
        if let Ok(background) = Rc::try_unwrap(self.background) {
            for task in background {
                task.cancel().await;
            }
        }
        self.core.log.no_zeros_under_way().await;
        closed
    }

    async fn mark_closed(&self) -> Result<(), Rc<Failure>> {
        // What is being read ahead of nobody must not outlast the store.
        self.core.readers.drain().await;
        if self.core.read_only {
            return Ok(());
        }
        self.checkpoint().await?;
        let published: OrderNumber = self.core.log.published();
        self.core.log.persist(published).await?;
        let durable = self.core.log.durable();
        let commit = self.core.superblock.commit(&self.core.disk, |s| {
            s.clean = true;
            s.attested_sequence = durable.sequence;
            s.attested_order = durable.order;
        });
        let committed = commit.await;
        self.core.health.require("marking the store as closed", committed)?;
        remains::forget(&self.core).await;
        Ok(())
    }
}
