//! A few threads that make the blocking calls.
//!
//! A job is a copy of raw addresses; the memory behind them belongs to the request in its operation slot, which the runtime
//! keeps until the job's completion has been collected. Threads start with the first jobs, and dropping `Workers` waits for
//! all of them, so that no job outlives the runtime.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::backend::Completion;
use crate::operation::{Request, Token};
use crate::os;

pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    most_threads: usize,
    in_flight: usize,
}

struct Shared {
    jobs: Mutex<Jobs>,
    job_waits: Condvar,
    completed: Mutex<Vec<Completion>>,
    doorbell: Arc<OwnedFd>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

struct Job {
    token: Token,
    descriptor: RawFd,
    call: Call,
}

enum Call {
    Read { start: *mut u8, len: usize, offset: u64 },
    Write { vectors: *const libc::iovec, count: usize, offset: u64, durable: bool },
    Sync,
    Connect { address: *const libc::sockaddr_storage, len: u32 },
}

// SAFETY: the addresses name memory owned by the request in its slot (see the top of this file); until the completion is
// collected, only the one worker that runs the job uses them.
unsafe impl Send for Job {}

impl Workers {
    /// At most `most_threads`; they ring the doorbell when they have something to report.
    pub(crate) fn new(doorbell: Arc<OwnedFd>, most_threads: usize) -> Workers {
        let shared =
            Shared { jobs: Mutex::default(), job_waits: Condvar::new(), completed: Mutex::default(), doorbell };
        Workers { shared: Arc::new(shared), threads: Vec::new(), most_threads, in_flight: 0 }
    }

    pub(crate) fn give(&mut self, token: Token, request: &mut Request) {
        self.in_flight += 1;
        if self.threads.len() < self.most_threads.min(self.in_flight) {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("treering-disk".into()).spawn(move || shared.work());
            match thread {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => {
                    panic!("no thread for disk operations: {error}")
                }
                Err(_) => {}
            }
        }
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.waiting.push_back(Job::of(token, request));
        drop(jobs);
        self.shared.job_waits.notify_one();
    }

    pub(crate) fn collect(&mut self, completions: &mut Vec<Completion>) {
        if self.in_flight == 0 {
            return;
        }
        let mut completed = self.shared.completed.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight -= completed.len();
        completions.append(&mut completed);
    }
}

/// Makes the blocking call in this thread.
pub(crate) fn run_here(token: Token, request: &mut Request) -> Completion {
    Completion { token, result: Job::of(token, request).run() }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.job_waits.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let completion = Completion { token: job.token, result: job.run() };
            self.completed.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
            os::ring(&self.doorbell);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match jobs.waiting.pop_front() {
                Some(job) => return Some(job),
                None if jobs.closed => return None,
                None => jobs = self.job_waits.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Job {
    fn of(token: Token, request: &mut Request) -> Job {
        let (descriptor, call) = match request {
            Request::Read { file, offset, buffer, done } => {
                let room = &mut buffer[*done..];
                let call = Call::Read { start: room.as_mut_ptr(), len: room.len(), offset: *offset + *done as u64 };
                (file.descriptor().as_raw_fd(), call)
            }
            Request::Write { file, offset, data, durable } => {
                let offset = *offset + data.transferred() as u64;
                let vectors = data.vectors();
                let (vectors, count) = (vectors.as_ptr(), vectors.len());
                let durable = *durable && file.writes_through();
                (file.descriptor().as_raw_fd(), Call::Write { vectors, count, offset, durable })
            }
            Request::Sync { file } => (file.descriptor().as_raw_fd(), Call::Sync),
            Request::Connect { socket, storage, .. } => {
                let call = Call::Connect { address: &raw const **storage, len: os::storage_len(storage) };
                (socket.descriptor().as_raw_fd(), call)
            }
            _ => unreachable!("only blocking calls go to workers"),
        };
        Job { token, descriptor, call }
    }

    fn run(&self) -> i32 {
        let result = match self.call {
            // SAFETY: `start..start+len` is the rest of a Buffer that its request owns, and nobody else touches it before the
            // completion; the request also holds the descriptor open.
            Call::Read { start, len, offset } => unsafe {
                libc::pread(self.descriptor, start.cast(), len, offset as i64)
            },
            // SAFETY: the vectors and the memory they name belong to the request's Gather, unchanged until the completion.
            Call::Write { vectors, count, offset, durable } => unsafe {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                libc::pwritev2(self.descriptor, vectors, count as i32, offset as i64, flags)
            },
            // SAFETY: no memory is involved.
            Call::Sync => unsafe { libc::fdatasync(self.descriptor) as isize },
            // SAFETY: the address is boxed in the request and at least `len` bytes long.
            Call::Connect { address, len } => unsafe { libc::connect(self.descriptor, address.cast(), len) as isize },
        };
        if result < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { result as i32 }
    }
}
