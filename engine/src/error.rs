//! Errors of the engine, one enum per kind of operation. Damage on disk and a failing device are values here; only a broken
//! invariant of our own panics.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::pages::PageError;
use crate::store::Damage;

/// Why the store stopped acknowledging. Kept for ever: a store that failed once stays failed until it is opened anew.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Failure {
    pub doing: String,
    #[source]
    pub source: io::Error,
}

/// An operation on a volume did not happen, or what it should have read is damaged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("range of {len} bytes at byte {offset} ends past the volume's {size} bytes")]
    OutOfRange { offset: u64, len: u64, size: u64 },
    #[error("the store is full: {needed_blocks} blocks are needed and {free_blocks} are free for writing")]
    NoSpace { needed_blocks: u64, free_blocks: u64 },
    #[error("the store was opened for reading")]
    ReadOnly,
    #[error("the volume was removed")]
    Removed,
    #[error("snapshots cannot be written; fork the snapshot and write to the fork")]
    Frozen,
    #[error("the store stopped after an error: {0}")]
    Failed(Rc<Failure>),
    #[error("block {block} of the volume is damaged: {what}")]
    Damaged { block: u64, what: String },
}

impl VolumeError {
    /// Whether the same call may succeed later without anybody repairing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, VolumeError::NoSpace { .. })
    }
}

impl From<Rc<Failure>> for VolumeError {
    fn from(failure: Rc<Failure>) -> VolumeError {
        VolumeError::Failed(failure)
    }
}

/// A check was not carried to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    #[error("the check was ended: writers need the space that it keeps from being used again")]
    SpaceNeeded,
    #[error(transparent)]
    Failed(Rc<Failure>),
}

impl From<Rc<Failure>> for CheckError {
    fn from(failure: Rc<Failure>) -> CheckError {
        CheckError::Failed(failure)
    }
}

/// A change of dots or volumes was refused, or could not be made durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(
        "name {name:?} is not valid: names have 1 to 64 of a-z, 0-9, - and _, and start and end with a letter or digit"
    )]
    InvalidName { name: String },
    #[error("{kind} {name:?} exists already")]
    Exists { kind: &'static str, name: String },
    #[error("there is no {kind} {name:?}")]
    NotFound { kind: &'static str, name: String },
    #[error(
        "size of {size} bytes for volume {name:?} is not valid: sizes are multiples of 512 bytes from 512 bytes to 4 PiB"
    )]
    InvalidSize { name: String, size: u64 },
    #[error("volume {name:?} would shrink from {from} to {to} bytes while {users} clients use it")]
    InUse { name: String, from: u64, to: u64, users: usize },
    #[error("snapshot {name:?} is protected")]
    Protected { name: String },
    #[error("snapshot id {prefix:?} is the beginning of {count} ids: {list}", count = matches.len(), list = matches.join(", "))]
    Ambiguous { prefix: String, matches: Vec<String> },
    #[error("snapshot {name:?} is in use by {users} clients")]
    SnapshotInUse { name: String, users: usize },
    #[error("dot {name:?} is in use by {users} clients")]
    DotInUse { name: String, users: usize },
    #[error("dot {name:?} has no volumes")]
    NoVolumes { name: String },
    #[error("{found} {what} are more than the {most} that one operation takes")]
    TooMany { what: &'static str, found: usize, most: usize },
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// A store could not be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What is acknowledged and not on the disk yet has no place.
    #[error("making the shared memory {path} of {bytes} bytes: {source}", path = path.display())]
    NoSharedMemory {
        path: PathBuf,
        bytes: u64,
        #[source]
        source: io::Error,
    },
    #[error("store {path} is in use by another process", path = path.display())]
    Locked { path: PathBuf },
    #[error("{path} is not a Treering store: {why}", path = path.display())]
    NotAStore { path: PathBuf, why: String },
    #[error("{path} holds a store already (id {id})", path = path.display())]
    AlreadyAStore { path: PathBuf, id: String },
    #[error("store {path} needs a newer program: {why}", path = path.display())]
    Unsupported { path: PathBuf, why: String },
    #[error("size of {bytes} bytes is too small for a store: it needs at least {least}")]
    TooSmall { bytes: u64, least: u64 },
    #[error("acknowledged data is damaged: {0}")]
    Damaged(Box<Damage>),
    #[error("no checkpoint of the store can be read: {0}")]
    NoCheckpoint(String),
    #[error("the store cannot be repaired: {0}")]
    BeyondRepair(String),
    #[error(
        "writes that were acknowledged before the server died are missing: its shared memory at {arena} {why}; the host \
         has not restarted since, so they should be there",
        arena = arena.display()
    )]
    AcknowledgedWritesMissing { arena: PathBuf, why: String },
    #[error("the store has unwritten changes of a server that died; open it for writing once to recover them")]
    NeedsRecovery,
    #[error(
        "the store has no free slot left to begin a segment of the log in: copy it to a larger file or device, or remove volumes from a copy"
    )]
    Full,
    #[error("store {path} has {from} bytes and cannot be made smaller: {to} bytes were asked for", path = path.display())]
    Shrinks { path: PathBuf, from: u64, to: u64 },
    #[error("store {path} is opened for reading only", path = path.display())]
    OpenedForReading { path: PathBuf },
    #[error(transparent)]
    Page(#[from] PageError),
    #[error(transparent)]
    Failed(Rc<Failure>),
}

impl From<Rc<Failure>> for StoreError {
    fn from(failure: Rc<Failure>) -> StoreError {
        StoreError::Failed(failure)
    }
}

impl StoreError {
    /// Whether the cause is damage of data that was once good (exit code 7 of the command).
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            StoreError::Damaged(_)
                | StoreError::NoCheckpoint(_)
                | StoreError::BeyondRepair(_)
                | StoreError::Page(_)
                | StoreError::AcknowledgedWritesMissing { .. }
        )
    }
}
