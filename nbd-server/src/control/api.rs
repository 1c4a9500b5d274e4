//! What goes over the control socket, and what `--json` prints: the same documents, with one schema version.
//!
//! A field is never renamed or given another meaning within a version; new ones may come. Requests with unknown fields are
//! refused, so that a misspelt one is not taken for its default.

mod history;

pub use history::{
    ConfigureSnapshot, DotShow, Fork, Forked, Keep, NewSnapshot, Prune, Pruned, Reset, ResetDone, Sizes, Snapshot,
    SnapshotShow, SnapshotVolume, Snapshots, VolumeShow,
};

use super::trouble::Trouble;
use serde::{Deserialize, Serialize};
use treering_engine::CompressionMode;

/// Version of all documents.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Auto,
    Lz4,
    Off,
}

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Compression::Auto => "auto",
            Compression::Lz4 => "lz4",
            Compression::Off => "off",
        }
    }
}

impl From<CompressionMode> for Compression {
    fn from(mode: CompressionMode) -> Compression {
        match mode {
            CompressionMode::Auto => Compression::Auto,
            CompressionMode::Lz4 => Compression::Lz4,
            CompressionMode::Off => Compression::Off,
        }
    }
}

impl From<Compression> for CompressionMode {
    fn from(compression: Compression) -> CompressionMode {
        match compression {
            Compression::Auto => CompressionMode::Auto,
            Compression::Lz4 => CompressionMode::Lz4,
            Compression::Off => CompressionMode::Off,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    pub name: String,
    pub size_bytes: u64,
    #[serde(default)]
    pub compression: Compression,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDot {
    pub name: String,
    pub volumes: Vec<NewVolume>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckRequest {
    /// Read every stored block too.
    pub data: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dots {
    pub schema: u32,
    pub dots: Vec<Dot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dot {
    pub name: String,
    pub volumes: Vec<VolumeState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeState {
    pub name: String,
    pub size_bytes: u64,
    pub compression: Compression,
    /// Connections that have it open.
    pub users: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    pub schema: u32,
    pub path: String,
    pub id: String,
    pub incarnation: String,
    pub store_bytes: u64,
    pub segment_bytes: u64,
    pub segments: u64,
    pub dots: u64,
    pub volumes: u64,
    /// Sizes of all volumes together.
    pub logical_bytes: u64,
    pub direct_io: bool,
    pub served: bool,
}

/// Where the bytes of a store are. From `live_bytes` to `fixed_bytes` they add up to `store_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceReport {
    pub schema: u32,
    pub store_bytes: u64,
    /// Stored data that volumes and snapshots show.
    pub live_bytes: u64,
    /// What only deleted snapshots show that more than one volume or snapshot is based on.
    #[serde(default)]
    pub branching_bytes: u64,
    /// What nobody shows any more, with the log's own headers.
    pub dead_bytes: u64,
    /// What the log may still append to its open segment.
    pub open_bytes: u64,
    /// Pages of maps and checkpoints.
    pub pages_used_bytes: u64,
    /// Given back, waiting for checkpoints.
    pub pages_waiting_bytes: u64,
    /// For pages to come.
    pub pages_free_bytes: u64,
    /// Segments given back, waiting for checkpoints.
    pub freed_bytes: u64,
    pub free_bytes: u64,
    /// Superblocks in front, and what is too short for a segment behind.
    pub fixed_bytes: u64,
    /// Of what is free, what may be written before the store is full.
    pub writable_bytes: u64,
    /// Of what is free, what is kept back for checkpoints, recovery and deleting.
    pub reserve_bytes: u64,
}

/// Makes a store larger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowRequest {
    /// Bytes that the file shall have; None takes what it has, or the device.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Space that the file grows by is taken as it is used.
    #[serde(default)]
    pub sparse: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowResult {
    pub schema: u32,
    /// Bytes of whole segments, before and now.
    pub from_bytes: u64,
    pub to_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    pub schema: u32,
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub store: String,
    /// The NBD socket.
    pub socket: String,
    pub store_id: String,
    pub incarnation: String,
    pub backend: String,
    pub direct_io: bool,
    pub read_only: bool,
    pub connections: usize,
    pub exports: Vec<ExportState>,
    pub requests: RequestCounts,
    pub log: LogState,
    /// Operations published and not folded into the maps.
    pub unfolded: u64,
    pub dirty_nodes: u64,
    pub checkpoints: u64,
    /// Log that a recovery would replay now.
    pub replay_bytes: u64,
    /// Writers that wait for space.
    pub held_writers: u64,
    /// Deleted versions whose space is not all back yet.
    pub sweeps_pending: u64,
    /// Memory that requests hold.
    pub request_bytes: u64,
    pub recovery: Recovery,
    /// Why the store acknowledges nothing more, if so.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportState {
    pub name: String,
    pub size_bytes: u64,
    pub uri: String,
    /// The client that writes to it; others may read.
    pub holder: Option<String>,
    pub clients: Vec<Client>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub client: String,
    pub seconds: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub trims: u64,
    pub zeroings: u64,
    pub refused: u64,
    pub failed: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    pub records: u64,
    pub bytes: u64,
    pub syncs: u64,
    /// Newest order number given to an operation.
    pub published: u64,
    /// Newest one that survives the host.
    pub durable: u64,
    /// Snapshots and other cuts: for how long one held all writers, in nanoseconds. 99 of 100 no longer than the first.
    pub cut_hold_ns_p99: u64,
    pub cut_hold_ns_longest: u64,
}

/// What opening the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub clean: bool,
    pub host_restarted: bool,
    pub replayed_records: u64,
    /// Of them, those whose payload was read, as nothing said that it is durable.
    pub verified_records: u64,
    pub republished: u64,
    /// A tail that was never known durable and was not accepted.
    pub cut: Option<String>,
    pub older_checkpoint: Option<String>,
    pub incarnation_changed: bool,
    pub took_ms: u64,
}

/// One line of the answer to long work: progress while it runs, then the report or what stopped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<Report> {
    Progress { bytes: u64 },
    Report(Report),
    Stopped { error: Trouble },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRequest {
    /// So much is read from the disk, and no more.
    pub bytes_per_second: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubResult {
    pub schema: u32,
    /// Stored data that was read and verified.
    pub data_bytes: u64,
    /// Pages of maps and tables, likewise.
    pub page_bytes: u64,
    pub damaged: Vec<Damaged>,
}

/// A range that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// `DOT.VOLUME` or `DOT.VOLUME@SNAPSHOT`, or what else of the store.
    pub name: String,
    /// Bytes of the volume, if they are known.
    pub from: Option<u64>,
    /// One past the last.
    pub to: Option<u64>,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairResult {
    pub schema: u32,
    /// Nothing was changed.
    pub dry_run: bool,
    pub actions: Vec<String>,
    /// Acknowledged data that is gone.
    pub lost: Vec<Damaged>,
    /// The newest that is known, which something may have replaced.
    pub doubtful: Vec<Damaged>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    pub schema: u32,
    pub volumes: u64,
    pub snapshots: u64,
    /// What volumes were at past cuts, deleted ones that are still kept included.
    pub versions: u64,
    pub extents: u64,
    pub live_blocks: u64,
    pub pages: u64,
    pub data_bytes_verified: u64,
    /// No finding is damage.
    pub sound: bool,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub damage: bool,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub schema: u32,
    /// What was made, changed or removed.
    pub done: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    pub schema: u32,
    pub error: Trouble,
}
