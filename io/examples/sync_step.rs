//! Measures the step behind every flush: one 12 KiB record, written in sequence into zero-written space with O_DIRECT, made
//! durable, one waiter. The ways compared are those of docs/decisions/2026-11-22-sync-step.md, which holds the figures.
//!
//! Run: `cargo run --release -p treering-io --example sync_step -- DIRECTORY [ROUNDS [SECONDS]]`. Many short rounds in rotating
//! order: on a shared disk the rate drifts by far more than the ways differ.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use treering_io::Buffer;

const RECORD: usize = 12 << 10;
const FILE: u64 = 256 << 20;

type Way = (&'static str, fn(&mut Bench) -> io::Result<()>);

const WAYS: [Way; 5] = [
    ("write, then ring fdatasync", |bench| {
        bench.one(bench.write(0))?;
        bench.one(bench.sync())
    }),
    ("linked write and fdatasync", |bench| bench.all(&[bench.write(0).flags(squeue::Flags::IO_LINK), bench.sync()])),
    ("write, then flusher thread", |bench| {
        bench.one(bench.write(0))?;
        bench.flush_elsewhere()
    }),
    ("RWF_DSYNC write", |bench| bench.one(bench.write(libc::RWF_DSYNC as u32))),
    ("blocking pwrite, fdatasync", |bench| bench.blocking()),
];

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| ".".into());
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3).max(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let path = Path::new(&directory).join("sync-step.measurement");
    let mut bench = Bench::new(&path)?;
    let mut results = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        for turn in 0..WAYS.len() {
            // Rotating, and every other round backwards, so that no way has the same neighbour throughout.
            let turn = if round % 2 == 0 { turn } else { WAYS.len() - turn };
            let way = (round / 2 + turn) % WAYS.len();
            results[way].push(bench.measure(WAYS[way].1, Duration::from_secs_f64(seconds))?);
        }
    }
    std::fs::remove_file(&path)?;
    println!("{:<28} {:>9} {:>9} {:>9} {:>14}", "way", "quarter", "median", "3 quarters", "CPU us/record");
    for ((name, _), results) in WAYS.iter().zip(results) {
        let (mut rates, mut cpu): (Vec<f64>, Vec<f64>) = results.into_iter().unzip();
        rates.sort_by(f64::total_cmp);
        cpu.sort_by(f64::total_cmp);
        let at = |part: usize| rates[(rounds - 1) * part / 4];
        println!("{name:<28} {:>9.0} {:>9.0} {:>9.0} {:>14.1}", at(1), at(2), at(3), cpu[(rounds - 1) / 2]);
    }
    Ok(())
}

struct Bench {
    ring: IoUring,
    file: std::fs::File,
    record: Buffer,
    offset: u64,
    flusher: Arc<Flusher>,
    thread: std::thread::Thread,
}

struct Flusher {
    wanted: AtomicU32,
    done: OwnedFd,
    ended: AtomicBool,
}

impl Bench {
    fn new(path: &Path) -> io::Result<Bench> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let zeros = Buffer::zeroed(1 << 20);
        for megabyte in 0..FILE >> 20 {
            std::os::unix::fs::FileExt::write_all_at(&file, &zeros, megabyte << 20)?;
        }
        file.sync_all()?;
        let done = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let flusher = Arc::new(Flusher { wanted: AtomicU32::new(0), done, ended: AtomicBool::new(false) });
        let (shared, target) = (flusher.clone(), file.try_clone()?);
        let thread = std::thread::spawn(move || shared.run(&target)).thread().clone();
        let mut record = Buffer::zeroed(RECORD);
        record.fill(0x5a);
        Ok(Bench { ring: builder.build(64)?, file, record, offset: 0, flusher, thread })
    }

    fn measure(&mut self, way: fn(&mut Bench) -> io::Result<()>, time: Duration) -> io::Result<(f64, f64)> {
        let (start, cpu) = (Instant::now(), cpu_time());
        let mut records = 0u32;
        while start.elapsed() < time {
            way(self)?;
            self.offset = (self.offset + RECORD as u64) % (FILE / RECORD as u64 * RECORD as u64);
            records += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = (cpu_time() - cpu).as_secs_f64() * 1e6;
        Ok((f64::from(records) / seconds, cpu / f64::from(records)))
    }

    fn write(&self, flags: u32) -> squeue::Entry {
        let file = types::Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(file, self.record.as_ptr(), RECORD as u32).offset(self.offset);
        write.rw_flags(flags as _).build()
    }

    fn sync(&self) -> squeue::Entry {
        opcode::Fsync::new(types::Fd(self.file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
    }

    fn one(&mut self, entry: squeue::Entry) -> io::Result<()> {
        self.all(&[entry])
    }

    fn all(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        // SAFETY: the record and the descriptors live in self, and this call waits for every completion.
        unsafe { self.ring.submission().push_multiple(entries).map_err(io::Error::other)? };
        let mut left = entries.len();
        while left > 0 {
            self.ring.submit_and_wait(left)?;
            for completion in self.ring.completion() {
                left -= 1;
                if completion.result() < 0 {
                    return Err(io::Error::from_raw_os_error(-completion.result()));
                }
            }
        }
        Ok(())
    }

    /// Wakes the flusher by futex; it answers through an eventfd that the ring reads.
    fn flush_elsewhere(&mut self) -> io::Result<()> {
        self.flusher.wanted.fetch_add(1, Ordering::Release);
        self.thread.unpark();
        let mut count = Box::new(0u64);
        let done = types::Fd(self.flusher.done.as_raw_fd());
        self.one(opcode::Read::new(done, (&raw mut *count).cast(), 8).build())
    }

    fn blocking(&mut self) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, &self.record, self.offset)?;
        self.file.sync_data()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.flusher.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Flusher {
    fn run(&self, file: &std::fs::File) {
        let mut seen = 0;
        while !self.ended.load(Ordering::Acquire) {
            let wanted = self.wanted.load(Ordering::Acquire);
            if wanted == seen {
                std::thread::park();
                continue;
            }
            seen = wanted;
            file.sync_data().expect("fdatasync of the measured file");
            let one = 1u64;
            // SAFETY: the descriptor is an eventfd of ours, and `one` holds the eight bytes that it takes.
            let written = unsafe { libc::write(self.done.as_raw_fd(), (&raw const one).cast(), 8) };
            assert_eq!(written, 8, "the eventfd takes a count");
        }
    }
}

fn cpu_time() -> Duration {
    let usage = resource_usage();
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn resource_usage() -> libc::rusage {
    // SAFETY: zeros are a valid rusage, and getrusage only writes into it.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}
