//! Damaged stores: the disk of a real store, with bytes changed where it hurts, checksums made to fit again or not.
//!
//! Whatever the bytes say, opening, reading and checking must end, without a panic and within bounded memory. Where no
//! checksum was mended, data that is returned must be what that block once held; the rest must be errors. Where checksums
//! were mended the store may show anything, but it must stay on its feet.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use treering_engine::{Limits, OpenOptions, Store};
use treering_io::Io;
use treering_io::sim::Host;

use crate::content::BLOCK;
use crate::life::{self, STORE};
use crate::random::Random;
use crate::recovered;
use crate::run;
use crate::world::World;

mod mutate;

use mutate::Mutation;

/// Mutations of one base image.
const MUTATIONS_PER_IMAGE: u64 = 25;

/// Base images a fuzzer chooses from.
const FUZZED_BASES: u64 = 8;

/// Virtual time in which opening and reading must end.
const PATIENCE: Duration = Duration::from_secs(600);

/// Real time after which one image counts as a hang.
const HANG: Duration = Duration::from_secs(60);

/// What the process may have used at its peak, in KiB.
const MEMORY_MAX_KIB: u64 = 1 << 20;

#[derive(Default)]
struct Counts {
    opened: u64,
    refused: u64,
    blocks: u64,
    errors: u64,
    failed: u64,
}

/// Runs mutations `first..first + count`; gives how many were not survived.
pub fn run(first: u64, count: u64) -> u64 {
    run::catch_panics();
    watch_for_hangs();
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut base: Option<(u64, Rc<World>, Vec<u8>)> = None;
    for number in first..first + count {
        AT.store(number, Ordering::Relaxed);
        let seed = number / MUTATIONS_PER_IMAGE + 1;
        if base.as_ref().is_none_or(|(of, ..)| *of != seed) {
            base = match life::left_behind(seed) {
                Ok((world, image)) => Some((seed, world, image)),
                Err(broken) => {
                    println!("base image {seed} FAILED: {broken}");
                    counts.failed += 1;
                    continue;
                }
            };
        }
        let (_, world, image) = base.as_ref().expect("just made");
        let mut image = image.clone();
        let mutation = mutate::apply(&mut image, &mut Random::new(number));
        let survived = run::guarded(|| survives(world, image, &mutation, number, &mut counts));
        if let Err(why) = survived.unwrap_or_else(Err) {
            counts.failed += 1;
            println!("mutation {number} FAILED ({}): {why}", mutation.what);
            println!("  again: treering-sim images --first {number} --mutations 1\n");
        }
    }
    AT.store(u64::MAX, Ordering::Relaxed);
    let peak = peak_memory_kib();
    println!(
        "{count} damaged images in {:.1} s: opened {} times, refused {} times; {} blocks read, {} reported damaged; peak memory {} MiB",
        began.elapsed().as_secs_f64(),
        counts.opened,
        counts.refused,
        counts.blocks,
        counts.errors,
        peak / 1024
    );
    if peak > MEMORY_MAX_KIB {
        println!("FAILED: the peak of memory is above {} MiB", MEMORY_MAX_KIB / 1024);
        counts.failed += 1;
    }
    println!("{} passed, {} failed, 0 skipped", count.saturating_sub(counts.failed), counts.failed);
    counts.failed
}

/// A world, and the disk it left behind.
type Base = (Rc<World>, Vec<u8>);

/// One damaged image whose damage is chosen by a fuzzer's bytes: the first says which base image, the rest are drawn from.
/// Panics if the store does not survive it.
pub fn fuzz(data: &[u8]) {
    thread_local!(static BASES: RefCell<BTreeMap<u64, Base>> = const { RefCell::new(BTreeMap::new()) });
    let Some((first, rest)) = data.split_first() else { return };
    let seed = u64::from(*first) % FUZZED_BASES + 1;
    BASES.with_borrow_mut(|bases| {
        let (world, image) =
            bases.entry(seed).or_insert_with(|| life::left_behind(seed).expect("a sound store's life"));
        let mut image = image.clone();
        let mutation = mutate::apply(&mut image, &mut Random::given(rest));
        let survived = survives(world, image, &mutation, seed, &mut Counts::default());
        survived.unwrap_or_else(|why| panic!("{}: {why}", mutation.what));
    });
}

fn survives(world: &World, image: Vec<u8>, mutation: &Mutation, seed: u64, counts: &mut Counts) -> Result<(), String> {
    let host = Host::new(seed);
    host.set_disk_image(Path::new(STORE), image);
    for read_only in [true, false] {
        let mut runtime = host.runtime();
        let io = runtime.io();
        let result = runtime.run_sim(async {
            let visit = visit(&io, world, mutation, read_only, counts);
            io.timeout(PATIENCE, visit).await.unwrap_or_else(|| Err("it does not end".into()))
        });
        result.map_err(|stopped| stopped.to_string())??;
    }
    Ok(())
}

async fn visit(
    io: &Io,
    world: &World,
    mutation: &Mutation,
    read_only: bool,
    counts: &mut Counts,
) -> Result<(), String> {
    let limits = Limits { arena_bytes: 256 * BLOCK, arena_entries: 256, ..Limits::floor() };
    let options = OpenOptions { read_only, limits, arena_dir: Some("/arenas".into()), ..OpenOptions::default() };
    let Ok((store, _)) = Store::open(io, Path::new(STORE), &options).await else {
        counts.refused += 1;
        return Ok(());
    };
    counts.opened += 1;
    for (volume, number, read) in recovered::read_each(&store, 4096).await {
        counts.blocks += 1;
        match read {
            Err(_) => counts.errors += 1,
            Ok(bytes) if mutation.mended || world.journal.borrow().ever_held(&volume, number, &bytes) => {}
            Ok(bytes) => {
                let found = crate::content::describe(&bytes);
                return Err(format!("{volume} block {number} reads as {found}, which it never was"));
            }
        }
    }
    let _ = store.check(true, &mut |_| {}).await;
    if !read_only {
        write_something(&store).await;
        let _ = store.checkpoint().await;
    }
    let _ = store.close().await;
    Ok(())
}

/// A damaged store may refuse all of this.
async fn write_something(store: &Store) {
    for dot in store.dots() {
        for info in dot.volumes {
            let Some(volume) = store.volume(&dot.name, &info.name) else { continue };
            let len = volume.size().min(3 * BLOCK);
            let _ = volume.write(0, &vec![0x5a; len as usize], true).await;
            let _ = volume.zero(0, volume.size(), treering_engine::Zeroing::Hole, false).await;
            let _ = volume.flush().await;
        }
    }
}

/// The mutation that runs now.
static AT: AtomicU64 = AtomicU64::new(u64::MAX);

fn watch_for_hangs() {
    std::thread::spawn(|| {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let at = AT.load(Ordering::Relaxed);
            if at != last || at == u64::MAX {
                (last, since) = (at, Instant::now());
            } else if since.elapsed() > HANG {
                println!("mutation {at} FAILED: it has run for {HANG:?}");
                std::process::exit(1);
            }
        }
    });
}

/// Zero where the system does not tell.
fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
