//! The door between the runtime and whatever carries out its operations: io_uring, posix, or the simulator.
//!
//! A back end starts requests, reports each exactly once per start, tells the time, and opens things. It does not own requests:
//! those stay in `Operations` until their terminal completion, so memory under the kernel cannot go away with a future. It does
//! not resume short transfers or interpret results: `operation` does, once for all back ends.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::file::{File, FileOptions};
use crate::memory::SharedMemory;
use crate::operation::{Operations, Request, Token};
use crate::socket::{Listener, SocketHandle};
use crate::uring::RingCounts;

/// How long a turn may wait for completions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Not at all: tasks are ready.
    No,
    /// Until a completion, a ring of the doorbell, or this moment.
    Until(Option<u64>),
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Done,
    /// Nothing is in flight and nothing ever will be (simulator only).
    Idle,
    /// The simulated process has crashed.
    Crashed,
}

/// A count, or a negated error number, as the kernel reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) result: i32,
}

/// Where a socket is to connect or to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Address {
    Unix(std::path::PathBuf),
    Tcp(SocketAddr),
}

pub(crate) trait Backend {
    fn name(&self) -> &'static str;
    fn now(&self) -> u64;
    fn wall_clock(&self) -> u64;
    fn fill_random(&self, into: &mut [u8]);
    fn boot_id(&self) -> [u8; 16];

    /// What the ring did, if this back end has one.
    fn ring_counts(&self) -> Option<RingCounts> {
        None
    }

    /// Starts a request (again, after a short transfer). The request stays where its pointers point until the completion.
    fn start(&mut self, token: Token, request: &mut Request);
    /// Asks a request that may wait for ever to end soon; its completion still comes.
    fn cancel(&mut self, token: Token);
    /// Hands everything started to the kernel, waits as told, and collects completions.
    fn turn(&mut self, wait: Wait, operations: &mut Operations, completions: &mut Vec<Completion>) -> Turn;

    fn open_file(&self, path: &Path, options: &FileOptions) -> io::Result<File>;
    fn open_shared_memory(&self, path: &Path, len: u64) -> io::Result<SharedMemory>;
    fn existing_shared_memory(&self, path: &Path) -> io::Result<Option<SharedMemory>>;
    fn remove_shared_memory(&self, path: &Path) -> io::Result<()>;
    fn listen(&self, address: &Address, mode: u32) -> io::Result<Listener>;
    /// An unconnected socket for `address`.
    fn socket_for(&self, address: &Address) -> io::Result<SocketHandle>;
}
