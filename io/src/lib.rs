//! Completion-based I/O for Treering: one door, three back ends, and the only home of `unsafe` in the project.
//!
//! A program holds an [`Io`], a handle of its thread's [`Runtime`]: disk operations, sockets, shared memory, time, randomness
//! and tasks all come from there, so that the whole engine runs the same over io_uring, over posix, and inside a simulated
//! machine where every crash and fault is drawn from a seed ([`sim`]).
//!
//! What all of it keeps true: memory that the kernel may use belongs to its operation until the operation's terminal
//! completion, whatever becomes of the future that waits for it; transfers are whole; a failed sync is for ever; one turn of
//! the loop enters the kernel once for everything queued. What it does not know: what the bytes mean.
//!
//! Top down: `handle` (what a program may ask) · `runtime` (the loop) · `executor`, `timers`, `notify` (tasks) · `operation`
//! (who owns what is in flight) · `backend` (the door) · `uring`, `posix`, `sim` (behind it) · `file`, `socket`, `memory`,
//! `gather`, `buffer` (what operations carry) · `workers`, `os`, `signal` (shared by the two real ones). A tokio-uring back end
//! would be a fourth room behind `backend`, in a feature, with its expected failures listed in the conformance suite.
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod backend;
mod blocks;
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
mod workers;

pub use buffer::{BUFFER_ALIGNMENT, Buffer};
pub use executor::{Task, ToItsEnd};
pub use file::{Direct, File, FileOptions};
pub use gather::WriteBuffer;
pub use handle::{Durability, Io};
pub use memory::{SharedMemory, SharedSlice};
pub use notify::{Notified, Notify};
pub use runtime::{BackendChoice, Runtime};
pub use socket::{Listener, Peer, Socket};
pub use uring::RingCounts;
