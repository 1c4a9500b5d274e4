//! The Treering store: one log, one fold.
//!
//! Every guest byte is written once, in sequence, into a log that all volumes share. The map of each volume is a fold of that
//! log. A flush is one write; a crash leaves a prefix of one order. The engine takes its disk, clock and randomness from
//! `treering-io`, so a whole store runs deterministically in a test.
//!
//! Floors, top to bottom; each uses only those beneath:
//!
//! | room | holds |
//! |---|---|
//! | `store` | create, open and recover, checkpoint, verbs, background work |
//! | `cleaner` | moves what lives out of slots that are mostly dead |
//! | `check` | recomputes liveness and pages from the roots, while the store goes on |
//! | `repair` | metadata that was lost, from where it is said a second time; offline |
//! | `catalog` | dots, volumes, names: published and folded |
//! | `volume` | read, write, zero, flush, size: all that a server sees |
//! | `fold` | the log merged into the maps, liveness with it; cuts where they stand in the log |
//! | `versions` | what volumes were at past cuts, and which blocks and pages belong to whom |
//! | `line`, `overlay` | what is published and not folded |
//! | `log` | arena, publish, seal, sync, admission, replay |
//! | `segments` | slots, liveness, what may be used again |
//! | `map`, `pages` | paged copy-on-write B+tree, node cache, page allocator |
//! | `disk`, `cache`, `readers`, `pin`, `health`, `turn`, `compress` | ground |
//! | `limits`, `error` | every limit, every way to fail |
#![forbid(unsafe_code)]

mod cache;
#[cfg(feature = "canary")]
pub mod canary;
#[cfg(not(feature = "canary"))]
mod canary;
mod catalog;
mod check;
mod cleaner;
mod compress;
mod disk;
mod error;
mod fold;
mod health;
mod limits;
mod line;
mod log;
mod map;
mod overlay;
mod pages;
mod pin;
mod readers;
mod repair;
mod scrub;
mod segments;
mod store;
mod turn;
mod versions;
mod volume;

pub use check::{CheckReport, Finding};
pub use cleaner::CleaningFigures;
pub use compress::CompressionMode;
pub use error::{CatalogError, CheckError, Failure, StoreError, VolumeError};
pub use limits::Limits;
pub use log::replay::Cut;
pub use log::{FullPolicy, LogFigures};
pub use repair::RepairReport;
pub use scrub::{Damaged, ScrubReport};
pub use segments::SlotCounts;
pub use store::{
    CreateOptions, CutHolds, Damage, DotInfo, Grown, NewSnapshot, NewVolume, OpenOptions, RecoveryReport,
    STORE_BYTES_MIN, Sizes, SnapshotInfo, SnapshotRef, SnapshotVolume, Space, Status, Store, Usage, VolumeInfo,
};
pub use volume::{Extent, Volume, Zeroing};
