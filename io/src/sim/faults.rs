//! What may go wrong, and what did.

/// What may happen from now on; probabilities per operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    pub read_error: f64,
    /// The write fails; any of its sectors may have arrived.
    pub write_error: f64,
    /// The sync fails; what it should have covered is durable or, for good, not: no later sync covers it.
    pub sync_error: f64,
    /// A write is acknowledged and lands elsewhere on the same disk.
    pub misdirected_write: f64,
    /// A write is acknowledged and never arrives.
    pub lost_write: f64,
    /// A write is acknowledged and only some of its sectors arrive.
    pub torn_write: f64,
    /// A write arrives with one bit wrong, for good.
    pub bit_flip_on_write: f64,
    /// A read brings one wrong bit; the disk is sound.
    pub bit_flip_on_read: f64,
    /// A transfer stops early; the rest is resumed (no damage).
    pub short_transfer: f64,
    /// Writes into space that was never allocated, and growth, fail.
    pub disk_full: bool,
    /// Syncs are acknowledged without persisting anything: the canary that every crash test must catch.
    pub lying_sync: bool,
    /// How long a disk operation takes.
    pub latency_ns: (u64, u64),
    pub socket_latency_ns: (u64, u64),
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            read_error: 0.0,
            write_error: 0.0,
            sync_error: 0.0,
            misdirected_write: 0.0,
            lost_write: 0.0,
            torn_write: 0.0,
            bit_flip_on_write: 0.0,
            bit_flip_on_read: 0.0,
            short_transfer: 0.0,
            disk_full: false,
            lying_sync: false,
            latency_ns: (10_000, 500_000),
            socket_latency_ns: (1_000, 50_000),
        }
    }
}

/// Counts since the host was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimStats {
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub faults: u64,
    pub process_crashes: u64,
    pub host_crashes: u64,
    /// Unsynced sectors that host crashes kept and dropped.
    pub sectors_kept: u64,
    pub sectors_lost: u64,
}
