//! The io_uring back end, the default: one ring per runtime, owned by its thread.
//!
//! Requests become submission entries when they start, and go to the kernel together: one `enter` per turn submits everything
//! queued and waits for completions, with the earliest timer as its limit. The kernel's rules that this file must keep:
//! - an entry names memory of a request in its operation slot, which stays until the operation's completion; neither a cancel
//!   (whose own completion is ignored) nor an error of `enter` ends an operation;
//! - an `enter` that fails for the moment has consumed nothing: what it did not take stays queued for the next;
//! - entries that find the queue full wait here, in order; no entry is ever linked to another, so no chain can be cut by a
//!   flush of the queue (links were measured and lost: see the decision on the sync step);
//! - completions that overflowed the ring stay in the kernel and are fetched, and counted.
//!
//! While the disk owes us reads, the ring is watched for a moment before the thread sleeps (`poll_window`). From a disk that reports its
//! reads all together some are kept back (`bunches`).
//!
//! Syncs go to a thread of ours instead of the ring, which would give them to a thread of its own: that was measured to hold up
//! better when the processors are busy (same decision). It reports through the doorbell, an eventfd that the ring watches. While syncs
//! are short, the thread that would only sleep until then does them itself (`own_sync`).
//!
//! A back end over tokio-uring would stand beside this one, as `tokio_uring.rs` behind a feature, under the same conformance
//! suite with its expected failures listed; it is no data path (see the library notes).

mod bunches;
mod encode;
mod own_sync;
mod poll_window;
mod setup;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::backend::{Address, Backend, Completion, Turn, Wait};
use crate::blocks;
use crate::file::{File, FileOptions};
use crate::memory::{self, SharedMemory};
use crate::operation::{Operations, Request, Token};
use crate::os;
use crate::signal;
use crate::socket::{Listener, SocketHandle};
use crate::workers::{self, Workers};

use bunches::Bunches;
use own_sync::OwnSync;
use poll_window::{PollWindows, Watched};

pub(crate) use setup::why_unavailable;

pub(crate) struct Uring {
    ring: IoUring,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Ended in this thread: failed before the kernel saw them, or synced here. Reported at the next turn.
    ended_here: Vec<Completion>,
    /// The thread that syncs, and what it is spared.
    flusher: Workers,
    own_sync: OwnSync,
    doorbell: Arc<OwnedFd>,
    doorbell_watched: bool,
    counts: RingCounts,
    /// Completed, and not handed out yet.
    landed: VecDeque<Completion>,
    /// Disk reads that the kernel has not completed, and those that it was not given yet.
    reads: u64,
    kept_back: VecDeque<squeue::Entry>,
    /// These and the landed ones.
    reads_wanted: u64,
    bunches: Bunches,
    windows: PollWindows,
    /// Errors that the next enters answer, for tests.
    #[cfg(test)]
    enter_errors: VecDeque<i32>,
}

/// What the ring has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    pub enters: u64,
    /// Enters that failed for the moment (EINTR, EAGAIN, EBUSY) and lost nothing.
    pub enters_again: u64,
    pub submitted: u64,
    pub completed: u64,
    /// Turns that found the completion queue overflowed.
    pub overflows: u64,
    /// Syncs that the runtime's thread did itself.
    pub own_syncs: u64,
}

/// Completions handed out in one turn. A disk may report twenty reads at once: the replies to the first leave, and their client sends its
/// next requests, while the rest are worked on; else client, server and disk would take turns at being idle.
const HANDED_OUT: usize = 8;

/// Completions that belong to no operation; tokens never have the top bit.
const CANCEL: u64 = 1 << 63;
const DOORBELL: u64 = CANCEL | 1;

impl Uring {
    pub(crate) fn new(doorbell: Arc<OwnedFd>) -> io::Result<Uring> {
        Uring::with_entries(setup::ENTRIES, doorbell)
    }

    fn with_entries(entries: u32, doorbell: Arc<OwnedFd>) -> io::Result<Uring> {
        Ok(Uring {
            ring: setup::ring(entries)?,
            backlog: VecDeque::new(),
            ended_here: Vec::new(),
            flusher: Workers::new(doorbell.clone(), 1),
            own_sync: OwnSync::default(),
            doorbell,
            doorbell_watched: false,
            counts: RingCounts::default(),
            landed: VecDeque::new(),
            reads: 0,
            kept_back: VecDeque::new(),
            reads_wanted: 0,
            bunches: Bunches::default(),
            windows: PollWindows::default(),
            #[cfg(test)]
            enter_errors: VecDeque::new(),
        })
    }

    fn queue(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// False if the submission queue is full.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry comes from `encode::entry`, which names only memory of a request in its operation slot (or none
        // at all: cancel, doorbell). The slot keeps request and memory until the completion, and `Runtime` drains all of them
        // before the slots go, so the memory outlives the kernel's use of it.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    fn watch_doorbell(&mut self) {
        if !self.doorbell_watched {
            self.doorbell_watched = true;
            let descriptor = types::Fd(self.doorbell.as_raw_fd());
            let watch = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).multi(true);
            self.queue(watch.build().user_data(DOORBELL));
        }
    }

    /// Hands everything queued to the kernel; the last of the enters waits.
    fn enter(&mut self, wait: Wait) {
        loop {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.push(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
            if self.backlog.is_empty() {
                self.enter_once(wait);
                return;
            }
            let before = self.ring.submission().len();
            self.enter_once(Wait::No);
            if self.ring.submission().len() == before {
                // The kernel takes nothing now (it wants its completions collected first): the next turn goes on.
                return;
            }
        }
    }

    fn enter_once(&mut self, wait: Wait) {
        let arrived = !self.ring.completion().is_empty();
        let queued = {
            let queue = self.ring.submission();
            if queue.cq_overflow() {
                self.counts.overflows += 1;
            }
            let nothing_due = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
            if nothing_due && (arrived || matches!(wait, Wait::No)) {
                return;
            }
            queue.len()
        };
        let (want, timeout) = match wait {
            Wait::No => (0, None),
            Wait::Until(_) if arrived => (0, None),
            Wait::Until(None) => (1, None),
            Wait::Until(Some(deadline)) => {
                let left = deadline.saturating_sub(os::now());
                (1, Some(Timespec::new().sec(left / 1_000_000_000).nsec((left % 1_000_000_000) as u32)))
            }
        };
        let watched = if want > 0 { self.watched() } else { None };
        let arguments = SubmitArgs::new();
        let result = match self.injected_error() {
            Some(error) => Err(error),
            None if watched.is_some_and(|(watched, since)| self.found_soon(watched, since)) => Ok(0),
            None => match &timeout {
                Some(timeout) => self.ring.submitter().submit_with_args(want, &arguments.timespec(timeout)),
                None => self.ring.submitter().submit_with_args(want, &arguments),
            },
        };
        if let Some((watched, since)) = watched {
            self.windows.of(watched).waited(os::now() - since);
        }
        self.counts.enters += 1;
        match result {
            Ok(submitted) => self.counts.submitted += submitted as u64,
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => {}
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => self.counts.enters_again += 1,
                _ => panic!("io_uring enter with {queued} entries failed: {error}"),
            },
        }
    }

    /// What is worth watching for, from now on.
    fn watched(&self) -> Option<(Watched, u64)> {
        let now = os::now();
        let clients = || self.own_sync.serves_few(now).then_some(Watched::Clients);
        let watched = if self.reads > 0 { Some(Watched::Reads) } else { clients() };
        watched.map(|watched| (watched, now))
    }

    /// Submits what is queued and watches the ring until the poll window, counted from `since`, is over. An error of the
    /// submission is left to the enter that sleeps.
    fn found_soon(&mut self, watched: Watched, since: u64) -> bool {
        let until = since + self.windows.of(watched).ns();
        if until == since {
            return false;
        }
        while os::now() < until {
            let due = {
                let queue = self.ring.submission();
                !queue.is_empty() || queue.taskrun()
            };
            if due && let Ok(submitted) = self.ring.submit() {
                self.counts.submitted += submitted as u64;
            }
            if !self.ring.completion().is_empty() {
                return true;
            }
            match watched {
                // Who is waited for may want this core.
                Watched::Clients => std::thread::yield_now(),
                Watched::Reads if blocks::make_some_ahead() => {}
                Watched::Reads => std::hint::spin_loop(),
            }
        }
        false
    }

    #[cfg(test)]
    fn injected_error(&mut self) -> Option<io::Error> {
        self.enter_errors.pop_front().map(io::Error::from_raw_os_error)
    }

    #[cfg(not(test))]
    fn injected_error(&mut self) -> Option<io::Error> {
        None
    }

    /// Takes what the kernel has completed.
    fn land(&mut self, operations: &mut Operations) {
        let mut reads = 0;
        for entry in self.ring.completion() {
            self.counts.completed += 1;
            match entry.user_data() {
                // How a cancel went says nothing about its target, whose own completion comes.
                CANCEL => {}
                // It rings for every write to the eventfd, so nobody needs to reset that by reading it.
                DOORBELL => self.doorbell_watched = cqueue::more(entry.flags()),
                bits => {
                    let token = Token::from_bits(bits);
                    reads += u64::from(is_read(operations.request(token)));
                    self.landed.push_back(Completion { token, result: entry.result() });
                }
            }
        }
        if reads > 0 {
            self.bunches.reported(reads, self.reads);
            self.reads -= reads;
        }
    }

    /// Queues the reads that the disk may have now; false: none.
    fn give_reads(&mut self) -> bool {
        let before = self.reads;
        while self.reads < self.bunches.allowed(self.reads_wanted)
            && let Some(entry) = self.kept_back.pop_front()
        {
            self.reads += 1;
            self.queue(entry);
        }
        self.reads > before
    }

    fn hand_out(&mut self, operations: &mut Operations, completions: &mut Vec<Completion>) {
        for completion in self.landed.drain(..self.landed.len().min(HANDED_OUT)) {
            self.reads_wanted -= u64::from(is_read(operations.request(completion.token)));
            completions.push(completion);
        }
        completions.append(&mut self.ended_here);
        let before = completions.len();
        self.flusher.collect(completions);
        if completions.len() > before {
            let now = os::now();
            for _ in before..completions.len() {
                self.own_sync.reported(now);
            }
        }
    }

    fn give_to_flusher(&mut self, token: Token, request: &mut Request) {
        self.own_sync.given_away(os::now());
        self.flusher.give(token, request);
    }

    /// Does the syncs that wait for this thread, once what is queued is with the kernel and nothing has come back.
    fn sync_if_idle(&mut self, idle: bool, operations: &mut Operations) {
        self.enter(Wait::No);
        self.land(operations);
        if idle && self.landed.is_empty() && self.reads_wanted == 0 {
            while let Some(token) = self.own_sync.take() {
                let started = os::now();
                self.ended_here.push(workers::run_here(token, operations.request(token)));
                self.own_sync.ended_here(started, os::now(), self.counts.completed);
                self.counts.own_syncs += 1;
            }
        } else if self.own_sync.passed_over() || self.reads_wanted > 0 {
            while let Some(token) = self.own_sync.take() {
                self.give_to_flusher(token, operations.request(token));
            }
        }
    }
}

fn is_read(request: &Request) -> bool {
    matches!(request, Request::Read { .. })
}

impl Backend for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
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

    fn ring_counts(&self) -> Option<RingCounts> {
        Some(self.counts)
    }

    fn start(&mut self, token: Token, request: &mut Request) {
        let entry = match request {
            Request::Sync { .. } if self.own_sync.suits() && self.reads_wanted == 0 => {
                return self.own_sync.wait(token);
            }
            Request::Sync { .. } => return self.give_to_flusher(token, request),
            Request::Terminated => signal::termination().map(|bell| {
                let descriptor = types::Fd(bell.as_raw_fd());
                opcode::PollAdd::new(descriptor, libc::POLLIN as u32).build()
            }),
            _ => Ok(encode::entry(request)),
        };
        match entry {
            Ok(entry) if is_read(request) => {
                self.reads_wanted += 1;
                self.kept_back.push_back(entry.user_data(token.bits()));
                self.give_reads();
            }
            Ok(entry) => self.queue(entry.user_data(token.bits())),
            Err(error) => {
                let result = -error.raw_os_error().unwrap_or(libc::EIO);
                self.ended_here.push(Completion { token, result });
            }
        }
    }

    fn cancel(&mut self, token: Token) {
        self.queue(opcode::AsyncCancel::new(token.bits()).build().user_data(CANCEL));
    }

    fn turn(&mut self, wait: Wait, operations: &mut Operations, completions: &mut Vec<Completion>) -> Turn {
        self.watch_doorbell();
        let mut wait = if self.ended_here.is_empty() && self.landed.is_empty() { wait } else { Wait::No };
        if self.own_sync.is_waiting() {
            self.sync_if_idle(matches!(wait, Wait::Until(_)), operations);
            wait = Wait::No;
        }
        self.enter(wait);
        self.land(operations);
        if self.give_reads() {
            self.enter(Wait::No);
        }
        self.hand_out(operations, completions);
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
        os::listen(address, mode, false)
    }

    fn socket_for(&self, address: &Address) -> io::Result<SocketHandle> {
        os::socket_for(address)
    }
}

#[cfg(test)]
mod tests;
