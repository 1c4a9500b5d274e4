//! The back end for hosts without io_uring: a small pool of threads for the disk, `poll` for sockets, delivery on one thread.
//!
//! Blocking calls (reads, writes, syncs, connects) go to at most `WORKERS` threads, which report through a list and the
//! doorbell. Sockets are tried at once without blocking and wait in a `poll` otherwise. Completions surface only in `turn`, so
//! the runtime sees the same order of things as with a ring. Every turn is one `poll`, its cost is linear in the waiting
//! sockets: this is the fallback, not the fast way.

mod sockets;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::backend::{Address, Backend, Completion, Turn, Wait};
use crate::file::{File, FileOptions};
use crate::memory::{self, SharedMemory};
use crate::operation::{Operations, Request, Token};
use crate::os;
use crate::signal;
use crate::socket::{Listener, SocketHandle};
use crate::workers::Workers;

use sockets::Waiting;

/// Enough to keep a disk busy and a sync beside it.
const WORKERS: usize = 4;

pub(crate) struct Posix {
    doorbell: Arc<OwnedFd>,
    workers: Workers,
    /// Sockets that were not ready, in the order in which they were started.
    waiting: Vec<Waiting>,
    /// Found complete at start; reported at the next turn.
    completed: Vec<Completion>,
}

impl Posix {
    pub(crate) fn new(doorbell: Arc<OwnedFd>) -> io::Result<Posix> {
        let workers = Workers::new(doorbell.clone(), WORKERS);
        Ok(Posix { doorbell, workers, waiting: Vec::new(), completed: Vec::new() })
    }

    /// Polls everything that waits; what is ready leaves `waiting` and is tried again.
    fn poll_descriptors(&mut self, wait: Wait, operations: &mut Operations) {
        let timeout = match wait {
            Wait::No => Some(Timespec::default()),
            Wait::Until(None) => None,
            Wait::Until(Some(deadline)) => {
                let left = deadline.saturating_sub(os::now());
                Some(Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 })
            }
        };
        let ready: Vec<bool> = {
            let mut descriptors = Vec::with_capacity(1 + self.waiting.len());
            descriptors.push(PollFd::from_borrowed_fd(self.doorbell.as_fd(), PollFlags::IN));
            for waiting in &self.waiting {
                descriptors.push(waiting.poll_descriptor());
            }
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(_) => {}
                // A signal, or the kernel short of memory: nothing was lost, the next turn asks again.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::NOMEM) => return,
                Err(error) => panic!("poll of {} descriptors failed: {error}", descriptors.len()),
            }
            descriptors.iter().map(|descriptor| !descriptor.revents().is_empty()).collect()
        };
        if ready[0] {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.doorbell, &mut count);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (waiting, ready) in waiting.into_iter().zip(&ready[1..]) {
            if *ready {
                let token = waiting.token();
                self.attempt(token, operations.request(token));
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    fn attempt(&mut self, token: Token, request: &mut Request) {
        match sockets::attempt(request) {
            Some(result) => self.completed.push(Completion { token, result }),
            None => self.waiting.push(Waiting::new(token, request)),
        }
    }
}

impl Backend for Posix {
    fn name(&self) -> &'static str {
        "posix"
    }

    fn now(&self) -> u64 {
        os::now()
    }

    fn wall_clock(&self) -> u64 {
        os::wall_clock()
    }

    fn fill_random(&self, into: &mut [u8]) {
        os::fill_random(into);
    }

    fn boot_id(&self) -> [u8; 16] {
        os::boot_id()
    }

    fn start(&mut self, token: Token, request: &mut Request) {
        match request {
            Request::Read { .. } | Request::Write { .. } | Request::Sync { .. } | Request::Connect { .. } => {
                self.workers.give(token, request);
            }
            Request::Terminated => match signal::termination() {
                Ok(bell) => self.waiting.push(Waiting::signal(token, bell)),
                Err(error) => {
                    let result = -error.raw_os_error().unwrap_or(libc::EIO);
                    self.completed.push(Completion { token, result });
                }
            },
            _ => self.attempt(token, request),
        }
    }

    fn cancel(&mut self, token: Token) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.token() != token);
        if self.waiting.len() < before {
            self.completed.push(Completion { token, result: -libc::ECANCELED });
        }
    }

    fn turn(&mut self, wait: Wait, operations: &mut Operations, completions: &mut Vec<Completion>) -> Turn {
        let wait = if self.completed.is_empty() { wait } else { Wait::No };
        self.poll_descriptors(wait, operations);
        completions.append(&mut self.completed);
        self.workers.collect(completions);
        Turn::Done
    }

    fn open_file(&self, path: &Path, options: &FileOptions) -> io::Result<File> {
        File::open(path, options)
    }

    fn open_shared_memory(&self, path: &Path, len: u64) -> io::Result<SharedMemory> {
        memory::open(path, len)
    }

    fn existing_shared_memory(&self, path: &Path) -> io::Result<Option<SharedMemory>> {
        memory::existing(path)
    }

    fn remove_shared_memory(&self, path: &Path) -> io::Result<()> {
        memory::remove(path)
    }

    fn listen(&self, address: &Address, mode: u32) -> io::Result<Listener> {
        os::listen(address, mode, true)
    }

    fn socket_for(&self, address: &Address) -> io::Result<SocketHandle> {
        os::socket_for(address)
    }
}
