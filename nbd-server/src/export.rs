//! What an export name leads to.
//!
//! A [`Device`] is all the server sees of a volume; a [`Catalog`] is all it sees of a store. [`Exports`] resolves names over
//! a catalog and remembers, for each volume, which client group writes to it ([`writers`]).

mod address;
mod memory;
mod registry;
mod volume;
pub mod writers;

pub use address::unix_uri;
pub use memory::{MemoryCatalog, MemoryDevice};
pub use registry::{Access, Attachment, Export, Exports};

use crate::protocol::{Errno, Refusal};
use std::borrow::Cow;
use std::fmt;
use treering_io::Buffer;

/// What happens to the space under a range that is zeroed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroing {
    /// It may be given back.
    Hole,
    /// It stays reserved.
    Allocated,
}

/// A stretch of a device whose bytes are all of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub len: u64,
    pub hole: bool,
    pub zero: bool,
}

/// A block device as the server needs it: any byte range inside its size, everything on one thread.
///
/// A handle is cheap to clone; all clones are one device. A future that is dropped before it is done may or may not have
/// had its effect, but never half of it.
#[allow(async_fn_in_trait)] // One thread: nobody needs these futures to be Send.
pub trait Device: Clone + 'static {
    fn size(&self) -> u64;
    async fn read(&self, offset: u64, len: usize) -> Result<Buffer, DeviceError>;
    /// With `fua`, durable when it returns.
    async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), DeviceError>;
    async fn zero(&self, offset: u64, len: u64, zeroing: Zeroing, fua: bool) -> Result<(), DeviceError>;
    /// Gives space back if it can; what it gave back reads as zeros.
    async fn trim(&self, offset: u64, len: u64, fua: bool) -> Result<(), DeviceError>;
    /// Everything answered before this call is durable when it returns.
    async fn flush(&self) -> Result<(), DeviceError>;
    /// At least one extent and at most `max`, from `offset` on; together they need not reach `offset + len`.
    async fn extents(&self, offset: u64, len: u64, max: usize) -> Result<Vec<Extent>, DeviceError>;
    /// A hint that this range will be read soon.
    async fn prefetch(&self, offset: u64, len: u64) -> Result<(), DeviceError>;
}

/// A set of dots with their volumes, now and in snapshots. It is asked anew for each connection, so it may change meanwhile.
pub trait Catalog: Clone + 'static {
    type Device: Device;
    /// All volumes as they are now, dot by dot.
    fn volumes(&self) -> Vec<VolumeEntry>;
    /// All volumes as they are in snapshots, dot by dot.
    fn snapshots(&self) -> Vec<VolumeEntry>;
    /// The volumes of one snapshot, found by its name or the first digits of its id. The error says in words why there is none.
    fn snapshot(&self, dot: &str, reference: &str) -> Result<Vec<VolumeEntry>, String>;
    /// None if it is gone.
    fn open(&self, entry: &VolumeEntry) -> Option<Self::Device>;
}

/// A volume, now or in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEntry {
    pub dot: String,
    pub volume: String,
    /// Name of the snapshot; None for the present.
    pub snapshot: Option<String>,
    pub size: u64,
}

impl fmt::Display for VolumeEntry {
    /// Its canonical name: `DOT.VOLUME` or `DOT.VOLUME@SNAPSHOT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dot, self.volume)?;
        match &self.snapshot {
            Some(snapshot) => write!(f, "@{snapshot}"),
            None => Ok(()),
        }
    }
}

/// Why a device could not do what was asked. The text says it with values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("{0}")]
    OutOfRange(Cow<'static, str>),
    #[error("{0}")]
    NoSpace(Cow<'static, str>),
    #[error("{0}")]
    ReadOnly(Cow<'static, str>),
    /// The volume was removed while it was attached.
    #[error("{0}")]
    Removed(Cow<'static, str>),
    /// The device took no more after a write error, lost data, or could not be read.
    #[error("{0}")]
    Io(Cow<'static, str>),
}

impl DeviceError {
    /// The errno a client sees.
    pub fn errno(&self) -> Errno {
        match self {
            DeviceError::OutOfRange(_) => Errno::Invalid,
            DeviceError::NoSpace(_) => Errno::NoSpace,
            DeviceError::ReadOnly(_) => Errno::NotPermitted,
            DeviceError::Removed(_) | DeviceError::Io(_) => Errno::Io,
        }
    }
}

impl From<DeviceError> for Refusal {
    fn from(error: DeviceError) -> Refusal {
        Refusal::new(error.errno(), error.to_string())
    }
}
