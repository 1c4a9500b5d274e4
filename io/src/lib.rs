//! Completion-based I/O for Treering: one door, several back ends, and the only home of `unsafe` in the project.
#![deny(unsafe_op_in_unsafe_fn)]

mod backend;
mod buffer;
mod error;
mod executor;
mod file;
mod gather;
mod handle;
mod memory;
mod notify;
mod operation;
mod os;
mod posix;
mod runtime;
mod signal;
pub mod sim;
mod socket;
mod timers;
mod uring;

pub use buffer::{BUFFER_ALIGNMENT, Buffer};
pub use executor::Task;
pub use file::{Direct, File, FileOptions};
pub use gather::WriteBuffer;
pub use handle::{Durability, Io};
pub use memory::{SharedMemory, SharedSlice};
pub use notify::{Notified, Notify};
pub use runtime::{BackendChoice, Runtime};
pub use socket::{Listener, Peer, Socket};
pub use uring::RingCounts;
