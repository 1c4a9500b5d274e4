//! The ring-driver rules that need the driver's inside: errors of `enter`, overflow, chains, worker bounds.

use std::time::Duration;

use crate::backend::{Backend, Completion, Wait};
use crate::buffer::Buffer;
use crate::file::{Direct, File, FileOptions};
use crate::operation::{Operations, Outcome, Request};

use super::*;

/// A driver alone, with its operations, and a file of `blocks` zero blocks in the page cache.
struct Rig {
    ring: Uring,
    operations: Operations,
    file: File,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new(entries: u32, blocks: usize) -> Option<Rig> {
        let doorbell = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let ring = match Uring::with_entries(entries, Arc::new(doorbell)) {
            Ok(ring) => ring,
            Err(error) => {
                println!("1 skipped: {}", why_unavailable(&error));
                return None;
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        std::fs::write(&path, vec![7; blocks * 4096]).unwrap();
        let options = FileOptions { write: true, direct: Direct::Never, ..FileOptions::default() };
        let file = File::open(&path, &options).unwrap();
        Some(Rig { ring, operations: Operations::default(), file, _directory: directory })
    }

    fn start_read(&mut self, block: u64) -> Token {
        let request =
            Request::Read { file: self.file.clone(), offset: block * 4096, buffer: Buffer::zeroed(4096), done: 0 };
        self.start(request)
    }

    fn start(&mut self, request: Request) -> Token {
        let token = self.operations.insert(request);
        self.ring.start(token, self.operations.request(token));
        token
    }

    fn turn(&mut self, wait: Wait) -> Vec<Completion> {
        let mut completions = Vec::new();
        self.ring.turn(wait, &mut self.operations, &mut completions);
        completions
    }

    /// Turns until nothing is in flight; gives how many operations ended well.
    fn finish(&mut self) -> usize {
        let deadline = os::now() + 10_000_000_000;
        let mut ended = 0;
        while self.operations.in_flight() > 0 {
            assert!(os::now() < deadline, "{} operations never ended", self.operations.in_flight());
            for completion in self.turn(Wait::Until(Some(deadline))) {
                match self.operations.complete(completion.token, completion.result) {
                    Outcome::Again => self.ring.start(completion.token, self.operations.request(completion.token)),
                    _ => ended += usize::from(completion.result >= 0),
                }
            }
        }
        ended
    }
}

#[test]
fn enter_that_answers_eagain_ebusy_eintr_or_etime_loses_nothing() {
    let Some(mut rig) = Rig::new(8, 64) else { return };
    for error in [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ETIME] {
        // More than the queue holds, so that the backlog meets the error, too.
        let tokens: Vec<Token> = (0..40).map(|block| rig.start_read(block)).collect();
        rig.ring.enter_errors.extend([error; 5]);
        for _ in 0..3 {
            assert!(rig.turn(Wait::No).is_empty(), "nothing was submitted yet");
        }
        assert_eq!(rig.operations.in_flight(), 40, "an error of enter ends no operation");
        assert_eq!(rig.finish(), 40);
        for token in tokens {
            let waker = std::task::Waker::noop();
            let (result, request) = rig.operations.poll(token, waker).expect("it ended");
            assert_eq!(result.unwrap(), 4096);
            let Request::Read { buffer, .. } = request else { panic!("a read gives a read back") };
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }
    assert!(rig.ring.counts.enters_again >= 9);
}

#[test]
fn completion_queue_overflow_loses_nothing_and_is_counted() {
    let Some(mut rig) = Rig::new(2, 256) else { return };
    let completions = 2 * 8;
    for block in 0..256 {
        rig.start_read(block);
    }
    assert!(rig.ring.backlog.len() > completions);
    assert_eq!(rig.finish(), 256);
    assert!(rig.ring.counts.overflows > 0, "256 completions at once must have overflowed a queue of {completions}");
}

#[test]
fn no_entry_is_linked_so_no_chain_can_straddle_a_queue_flush() {
    let Some(mut rig) = Rig::new(8, 4) else { return };
    let write = |durable| Request::Write {
        file: rig.file.clone(),
        offset: 0,
        data: crate::gather::Gather::new(vec![Buffer::zeroed(4096).into(), Buffer::zeroed(4096).into()]),
        durable,
    };
    let mut requests = [
        write(false),
        write(true),
        Request::Read { file: rig.file.clone(), offset: 0, buffer: Buffer::zeroed(4096), done: 0 },
    ];
    for request in &mut requests {
        let entry = format!("{:?}", encode::entry(request));
        assert!(entry.contains("flags: 0"), "no IO_LINK, IO_HARDLINK or IO_DRAIN: {entry}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn completion_of_a_cancel_does_not_end_its_target() {
    let Some(mut rig) = Rig::new(8, 4) else { return };
    let token = rig.start_read(0);
    rig.ring.cancel(token);
    // The read is too quick to be cancelled; whichever way it went, its own completion ends it, once.
    rig.finish();
    assert_eq!(rig.operations.in_flight(), 0);
    assert!(rig.turn(Wait::No).is_empty());
}

#[test]
fn kernel_workers_are_bounded() {
    let Some(mut rig) = Rig::new(256, 4) else { return };
    // Buffered writes that extend a file are work that a ring gives to its workers.
    for block in 0..200u64 {
        let data = crate::gather::Gather::new(vec![Buffer::zeroed(4096).into()]);
        rig.start(Request::Write { file: rig.file.clone(), offset: (4 + block * 64) * 4096, data, durable: false });
    }
    rig.turn(Wait::No);
    let workers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("iou-wrk")).count()
    };
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(workers());
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(rig.finish(), 200);
    println!("at most {most} kernel workers for 200 writes");
    assert!(most <= 12, "{most} kernel workers for 200 writes");
}

#[test]
fn durable_write_is_one_operation_where_the_device_takes_it_and_a_write_and_a_sync_elsewhere() {
    let Some(mut rig) = Rig::new(8, 4) else { return };
    let other = File::open(rig.file.path(), &FileOptions { write: true, ..FileOptions::default() }).unwrap();
    for file in [other.on_device_that_writes_through(), rig.file.clone()] {
        rig.turn(Wait::No);
        let before = rig.ring.counts.submitted;
        let data = crate::gather::Gather::new(vec![Buffer::zeroed(4096).into(), Buffer::zeroed(8192).into()]);
        let one_step = file.writes_through();
        let token = rig.start(Request::Write { file, offset: 0, data, durable: true });
        assert_eq!(rig.finish(), 1);
        assert_eq!(rig.ring.counts.submitted - before, 1, "the sync goes to the flusher, not to the ring");
        let (result, request) = rig.operations.poll(token, std::task::Waker::noop()).expect("it ended");
        result.unwrap();
        assert_eq!(matches!(request, Request::Sync { .. }), !one_step);
    }
}

#[test]
fn one_enter_submits_a_batch_and_waits_for_it() {
    let Some(mut rig) = Rig::new(256, 128) else { return };
    rig.turn(Wait::No);
    let before = rig.ring.counts;
    for block in 0..100 {
        rig.start_read(block);
    }
    assert_eq!(rig.finish(), 100);
    let after = rig.ring.counts;
    assert_eq!(after.submitted - before.submitted, 100);
    assert!(after.enters - before.enters <= 2, "100 cached reads took {} enters", after.enters - before.enters);
}

#[test]
fn short_syncs_are_done_by_the_thread_that_would_sleep_until_then_and_none_while_reads_are_due() {
    let Some(mut rig) = Rig::new(8, 4) else { return };
    let sync = |rig: &mut Rig| {
        let file = rig.file.clone();
        rig.start(Request::Sync { file })
    };
    sync(&mut rig);
    assert_eq!(rig.finish(), 1);
    assert_eq!(rig.ring.counts.own_syncs, 0, "nobody knows yet how long a sync takes");
    for _ in 0..100 {
        rig.ring.own_sync.took(1_000);
    }
    sync(&mut rig);
    assert_eq!(rig.finish(), 1);
    assert_eq!(rig.ring.counts.own_syncs, 1);
    // A slow machine may just have shown a long one.
    for _ in 0..100 {
        rig.ring.own_sync.took(1_000);
    }
    rig.start_read(0);
    sync(&mut rig);
    assert_eq!(rig.finish(), 2);
    assert_eq!(rig.ring.counts.own_syncs, 1, "the disk owed a read");
}
