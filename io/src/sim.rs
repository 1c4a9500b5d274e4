//! One simulated machine, the same for the same seed.
//!
//! A `Host` has disks, shared memory, a clock and a seed; the `Runtime`s made from it are its processes. Everything that could
//! differ from run to run is drawn from the seed: which operation completes first, which faults strike, and what a crash leaves
//! behind. Time is virtual: it jumps to the next event, so a second of sleeping costs nothing.
//!
//! What it keeps true, because the engine above may rely on exactly this and nothing more:
//! - a completed write is seen by later reads, and survives a crash of the process;
//! - a crash of the host keeps any subset of the 512-byte sectors of writes that no completed sync covered, and all of those
//!   that one did; of two writes to one sector, the older can't come back over the newer one that was kept;
//! - a sync covers what had completed when it was submitted; operations complete in any order;
//! - shared memory survives the process and not the host; locks and sockets die with the process.
//!
//! It does not model: directories (a created file stays), torn sectors smaller than 512 bytes, threads, or the network between
//! hosts. One process runs at a time; client and server of a simulated connection are tasks of that process.

mod disk;
mod faults;
mod files;
mod host;
mod network;
mod process;
mod random;

pub use disk::PendingSector;
pub use faults::{Faults, SimStats};
pub use host::Host;
pub use stopped::Stopped::{self, Crashed, Deadlock};

pub(crate) use files::SimFile;
pub(crate) use network::{SimListener, SimSocket};

mod stopped {
    use std::fmt;

    /// Why a simulated process did not reach its end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Stopped {
        /// `crash_after` fired, or the host crashed.
        Crashed,
        /// No task is ready and no event is pending (or a day of virtual time has passed), so the run would never end.
        Deadlock,
    }

    impl fmt::Display for Stopped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self {
                Stopped::Crashed => "the simulated process crashed",
                Stopped::Deadlock => "the simulated process waits for something that will never happen",
            })
        }
    }

    impl std::error::Error for Stopped {}
}

#[cfg(test)]
mod tests;
