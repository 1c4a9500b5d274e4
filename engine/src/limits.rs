//! Every limit of the engine in one place, with the relations between them asserted.
//!
//! Units are in the names. A limit is either a *format* bound (what a record or an extent may hold, fixed for a store by its
//! geometry) or a *memory* bound (what one process may use, chosen at open).

use treering_format::container::CONTAINER_PIECES_MAX;

/// Blocks of one data extent, at most: its checksums must fit a quarter of a map node.
pub const EXTENT_BLOCKS: u64 = 64;

/// Blocks of one compressed extent, at most: a 4 KiB read of compressed data reads and decompresses all of it.
pub const COMPRESSED_EXTENT_BLOCKS: u64 = 16;

/// The largest segment: its liveness bitmap must fit one value of the liveness tree.
pub const SEGMENT_BLOCKS_MAX: u32 = 8192;

/// The smallest segment. Small ones are for tests: they meet every edge often.
pub const SEGMENT_BLOCKS_MIN: u32 = 64;

/// The largest volume: 4 PiB.
pub const VOLUME_BYTES_MAX: u64 = 4 << 50;

/// Segment ids skipped by each recovery, so that ids of a cut tail are never given again.
pub const SEGMENT_ID_GAP: u64 = 1024;

/// Recoveries listed in the superblock; when the list is full, recovery writes a checkpoint before it serves.
pub const MOUNTS_MAX: usize = 32;

const _: () = assert!(COMPRESSED_EXTENT_BLOCKS <= EXTENT_BLOCKS);
const _: () = assert!(EXTENT_BLOCKS * 4 + 24 <= 1200 / 4 + 24);
const _: () = assert!(SEGMENT_BLOCKS_MAX / 8 <= 1024);

/// Blocks that one published write holds at the most, in a store with segments of this size.
pub(crate) fn publish_blocks(segment_blocks: u32) -> u64 {
    u64::from(segment_blocks / 8).min(256)
}

/// Pieces that the cleaner puts into one container of a store with segments of this size. Each is a segment of the table that is
/// loaded and written when the container is installed, so there is a bound; a container with that many holds an eighth of a slot
/// at the least.
pub(crate) fn container_pieces(segment_blocks: u32) -> u32 {
    (segment_blocks / 8).min(CONTAINER_PIECES_MAX as u32)
}

/// What one process may hold in memory, and when background work starts.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Payload of published writes kept in shared memory.
    pub arena_bytes: u64,
    /// Operations published and not yet written, at most.
    pub arena_entries: u64,
    /// Overlay, by accounting; past it writers wait for the fold.
    pub overlay_bytes: u64,
    /// Map, liveness and catalog pages kept in memory.
    pub node_cache_bytes: u64,
    /// Of changed nodes not yet written by a checkpoint.
    pub dirty_node_bytes: u64,
    /// Blocks of data kept for reads.
    pub data_cache_bytes: u64,
    /// Reads of more blocks than this are streams: they leave nothing in the cache, and what follows them is read ahead.
    pub stream_blocks: u64,
    /// How far ahead of one stream.
    pub read_ahead_window_bytes: u64,
    /// What was read ahead and not asked for yet, of all streams together.
    pub read_ahead_bytes: u64,
    /// Log since the last checkpoint that makes the next one due: bounds the time to recover.
    pub checkpoint_log_bytes: u64,
    /// Log since the last fold that makes the next one due.
    pub fold_log_bytes: u64,
    /// Cuts that make versions and are not folded that make the next fold due: each may add a layer that reads look through.
    pub fold_cuts: u64,
    /// For so long what was deleted may wait for the fold that begins to give it back.
    pub release_age_ns: u64,
    /// Map leaves of a deleted version that are swept in one step.
    pub sweep_leaves: usize,
    /// Rest after such a step while clients are at work, as a multiple of the time that it took; less when space is short.
    pub sweep_rest: u32,
    /// What a deleted version with several children may hold though none of them shows it, by estimate.
    pub hidden_waste_bytes: u64,
    /// Unsealed payload that is written without waiting for a flush.
    pub record_bytes: u64,
    /// Age at which an unsealed record is written without waiting for a flush.
    pub record_age_ns: u64,
    /// Written and unsynced log that the store syncs by itself: bounds what recovery must verify.
    pub unsynced_bytes: u64,
    /// Free slots kept zero-written ahead of the log while clients flush.
    pub zeroed_slots: usize,
    /// Free slots zero-written while nobody reads or writes, of a file that has all its space.
    pub zeroed_slots_at_rest: usize,
    /// Of a hundred slots, how many are free beside the reserve when the cleaner begins to keep up with clients.
    pub clean_busy_percent: u32,
    /// Of a hundred slots, how many are free when the cleaner stops working ahead while clients are quiet.
    pub clean_idle_percent: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            arena_bytes: 128 << 20,
            arena_entries: 64 << 10,
            overlay_bytes: 256 << 20,
            node_cache_bytes: 512 << 20,
            dirty_node_bytes: 512 << 20,
            data_cache_bytes: 512 << 20,
            stream_blocks: 32,
            read_ahead_window_bytes: 4 << 20,
            read_ahead_bytes: 32 << 20,
            checkpoint_log_bytes: 512 << 20,
            fold_log_bytes: 192 << 20,
            fold_cuts: 64,
            release_age_ns: 5_000_000_000,
            sweep_leaves: 8,
            sweep_rest: 60,
            hidden_waste_bytes: 64 << 20,
            record_bytes: 1 << 20,
            record_age_ns: 1_000_000_000,
            unsynced_bytes: 64 << 20,
            zeroed_slots: 2,
            zeroed_slots_at_rest: 32,
            clean_busy_percent: 2,
            clean_idle_percent: 25,
        }
    }
}

impl Limits {
    /// A configuration that fits a process group limited to 256 MiB, slower.
    pub fn floor() -> Limits {
        Limits {
            arena_bytes: 32 << 20,
            arena_entries: 16 << 10,
            overlay_bytes: 32 << 20,
            node_cache_bytes: 48 << 20,
            dirty_node_bytes: 32 << 20,
            data_cache_bytes: 32 << 20,
            read_ahead_window_bytes: 1 << 20,
            read_ahead_bytes: 4 << 20,
            checkpoint_log_bytes: 256 << 20,
            fold_log_bytes: 16 << 20,
            ..Limits::default()
        }
    }

    /// Blocks of payload after which a record is sealed, for segments of this size: a record must fit a fresh segment with
    /// room to spare, whatever the last write added.
    pub(crate) fn record_blocks(&self, segment_blocks: u32) -> u64 {
        (self.record_bytes / 4096).clamp(1, publish_blocks(segment_blocks))
    }

    /// Bytes of payload and number of entries of the arena. The longest publish must fit beside the space it may skip at the
    /// end of the memory, or writers would wait for ever.
    pub(crate) fn arena(&self, segment_blocks: u32) -> (u64, u64) {
        let least = 3 * publish_blocks(segment_blocks) * 4096;
        (self.arena_bytes.max(least), self.arena_entries.max(64))
    }

    /// Operations after which a record is sealed, so that its descriptors stay small.
    pub(crate) fn record_operations(&self, segment_blocks: u32) -> usize {
        (segment_blocks as usize).min(1024)
    }
}
