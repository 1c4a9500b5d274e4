//! Small traces, looked at from every side: the host crashes at every disk event of a trace, and of the sectors that no sync
//! had covered by then every subset survives (when they are few; else none, all, each alone, each missing, each prefix of the
//! writes, and some by chance). Each disk that may remain is opened, read, compared with the model and checked.
//!
//! A trace of the cleaner is looked at a second time with its newest checkpoint unreadable: what the older one needs must still be
//! there.
//!
//! The disks are put together from two runs, one that loses everything in doubt and one that keeps it: a trace runs twice per
//! crash point and not once per subset. Where two writes in doubt share a sector, the subsets go by whole runs instead.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use treering_engine::{CompressionMode, CreateOptions, Limits, NewVolume, OpenOptions, Store, Zeroing};
use treering_format::superblock::DATA_START;
use treering_io::Io;
use treering_io::sim::{Faults, Host};

use crate::content::{self, BLOCK};
use crate::life::STORE;
use crate::model::{Change, Journal, Piece, Position, publish_blocks, resize_pieces, write_pieces, zero_pieces};
use crate::random::Random;
use crate::recovered;
use crate::run;
use crate::scenario::Temper;
use crate::world::World;

mod cleaning;
mod history;
mod traces;

use traces::{Step, TRACES, Trace};

const SEGMENT_BLOCKS: u32 = 64;
const SLOTS: u64 = 10;
const VOLUME_BLOCKS: u64 = 8;
const SECTOR: usize = 512;

/// All subsets of so many sectors; of more, a sample.
const ALL_SUBSETS_UP_TO: usize = 10;

#[derive(Default)]
struct Counts {
    points: u64,
    disks: u64,
    failed: u64,
}

/// The n-th trace of the cleaner, for canaries; nothing, if there are not so many.
pub fn cleaning(number: u64) -> Result<(), String> {
    let mut of_cleaner = TRACES.iter().filter(|trace| trace.cleans);
    let Some(trace) = of_cleaner.nth(number as usize) else { return Ok(()) };
    let broken = run::guarded(|| every_crash(trace, &mut Counts::default()))?;
    broken.map_or(Ok(()), |why| Err(format!("trace {:?}: {why}", trace.name)))
}

/// Runs every trace whose name contains a word; gives how many were not as they should be.
pub fn all(only: &str) -> u64 {
    run::catch_panics();
    let mut total = Counts::default();
    let traces: Vec<&Trace> = TRACES.iter().filter(|trace| trace.name.contains(only)).collect();
    for trace in &traces {
        let mut counts = Counts::default();
        let broken = run::guarded(|| every_crash(trace, &mut counts)).unwrap_or_else(Some);
        if let Some(broken) = broken {
            counts.failed += 1;
            println!("trace {:?} FAILED: {broken}", trace.name);
        }
        println!("trace {:?}: {} crash points, {} disks", trace.name, counts.points, counts.disks);
        total.points += counts.points;
        total.disks += counts.disks;
        total.failed += counts.failed;
    }
    println!("{} crash points, {} disks opened and compared", total.points, total.disks);
    println!("{} passed, {} failed, 0 skipped", traces.len() as u64 - total.failed, total.failed);
    total.failed
}

fn every_crash(trace: &Trace, counts: &mut Counts) -> Option<String> {
    let mut seen = BTreeSet::new();
    for event in 1.. {
        // Behind the last event everything has been answered, and the host crashes once more.
        let lost = Crash::of(trace, event, &mut |_| false);
        let kept = Crash::of(trace, event, &mut |_| true);
        let floor = lost.journal.durable();
        let told = (treering_format::checksum(&lost.disk), treering_format::checksum(&kept.disk), floor.0);
        if !seen.insert(told) && lost.crashed {
            continue;
        }
        counts.points += 1;
        for survivors in subsets(&lost.doubtful, event, if trace.cleans { cleaning::ALONE } else { usize::MAX }) {
            counts.disks += 1;
            let disk = compose(trace, event, &lost, &kept, &survivors);
            let rotten = if trace.cleans { cleaning::without_newest(&disk) } else { None };
            for (disk, which) in [(Some(disk), ""), (rotten, ", by the older checkpoint")] {
                let Some(Err(why)) = disk.map(|disk| compare(trace, disk, &lost.journal, floor)) else { continue };
                return Some(format!(
                    "crash at event {event}, of {} sectors in doubt these survive: {survivors:?}{which}\n{why}",
                    lost.doubtful.len()
                ));
            }
        }
        if let Err(why) = process_crash(trace, event) {
            return Some(format!("crash of the process at event {event}: {why}"));
        }
        if !lost.crashed {
            return None;
        }
    }
    unreachable!("a trace ends")
}

/// A trace up to a crash of the host, and what it left.
struct Crash {
    crashed: bool,
    journal: Journal,
    /// Byte offset and write of each sector in doubt, in the order of the writes.
    doubtful: Vec<(u64, u64)>,
    disk: Vec<u8>,
}

impl Crash {
    fn of(trace: &Trace, event: u64, keeps: &mut dyn FnMut(usize) -> bool) -> Crash {
        let (world, crashed) = run_to(trace, event);
        let mut doubtful = Vec::new();
        world.host.host_crash_keeping(&mut |sector| {
            doubtful.push((sector.offset, sector.write));
            keeps(doubtful.len() - 1)
        });
        let disk = world.host.disk_image(Path::new(STORE));
        Crash { crashed, journal: world.journal.borrow().clone(), doubtful, disk }
    }
}

/// Runs a trace in a process that stops at a disk event, counted from the trace's first step.
fn run_to(trace: &Trace, event: u64) -> (Rc<World>, bool) {
    let host = Host::new(7);
    let world = Rc::new(World::new(host.clone(), Temper::Sound, false));
    let mut runtime = host.runtime();
    let io = runtime.io();
    let slots = if trace.cleans { cleaning::SLOTS } else { SLOTS };
    let size = Some(DATA_START + slots * u64::from(SEGMENT_BLOCKS) * BLOCK);
    let options = CreateOptions { size, sparse: true, segment_blocks: SEGMENT_BLOCKS };
    let made = runtime.run_sim(async { Store::create(&io, Path::new(STORE), &options).await });
    made.expect("nothing crashes here").expect("a store of this size can be made");
    drop(runtime);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let result = runtime.run_sim(async {
        let (store, _) = Store::open(&io, Path::new(STORE), &open_options(trace)).await.expect("a new store opens");
        make_volume(&world, &store).await;
        for step in trace.before {
            perform(&world, &io, &store, *step).await;
        }
        world.crash_after(Some(event), None);
        for step in trace.steps {
            perform(&world, &io, &store, *step).await;
        }
    });
    (world, result.is_err())
}

fn open_options(trace: &Trace) -> OpenOptions {
    let limits = Limits {
        arena_bytes: 64 * BLOCK,
        arena_entries: 64,
        node_cache_bytes: 64 * BLOCK,
        data_cache_bytes: 16 * BLOCK,
        record_age_ns: 5_000_000,
        zeroed_slots: 1,
        zeroed_slots_at_rest: 0,
        clean_idle_percent: if trace.cleans { 100 } else { Limits::default().clean_idle_percent },
        ..Limits::default()
    };
    OpenOptions { limits, arena_dir: Some("/arenas".into()), ..OpenOptions::default() }
}

async fn make_volume(world: &World, store: &Store) {
    let volume = world.journal.borrow_mut().new_volume();
    let (dot, name, size) = (String::from("dot"), String::from("v"), VOLUME_BLOCKS * BLOCK);
    let compression = CompressionMode::Auto;
    let pieces = vec![
        Piece::Change(Change::CreateDot { name: dot.clone() }),
        Piece::Change(Change::CreateVolume { volume, dot: dot.clone(), name: name.clone(), size, compression }),
    ];
    let new = [NewVolume { name, size_bytes: size, compression }];
    let (result, last) = world.observe(store, 0, pieces, store.create_dot(&dot, &new)).await;
    result.expect("an empty store has room");
    world.make_durable(last);
}

async fn perform(world: &World, io: &Io, store: &Store, step: Step) {
    let operation = world.new_operation();
    let owed = world.journal.borrow().acknowledged();
    if cleaning::perform(world, io, store, step).await {
        return;
    }
    if let Some(last) = history::perform(world, store, operation, step).await {
        return world.make_durable(last);
    }
    let key = world.journal.borrow().now().named("dot", "v").expect("it was made");
    let volume = store.volume("dot", "v").expect("it was made");
    let (last, durable) = match step {
        Step::Write { offset, len, fua } => {
            let data = content::bytes(operation, len as usize, !operation.is_multiple_of(3));
            let pieces = write_pieces(key, offset, &data, publish_blocks(SEGMENT_BLOCKS));
            let (result, last) = world.observe(store, operation, pieces, volume.write(offset, &data, fua)).await;
            result.expect("nothing fails here");
            (last, fua)
        }
        Step::Zero { offset, len, allocated } => {
            let kind = if allocated { Zeroing::Allocated } else { Zeroing::Hole };
            let pieces = zero_pieces(key, offset, len, allocated);
            let (result, last) = world.observe(store, operation, pieces, volume.zero(offset, len, kind, false)).await;
            result.expect("nothing fails here");
            (last, false)
        }
        Step::Resize { size } => {
            let from = volume.size();
            drop(volume);
            let verb = store.resize_volume("dot", "v", size);
            let (result, last) = world.observe(store, operation, resize_pieces(key, from, size), verb).await;
            result.expect("nothing fails here");
            (last, true)
        }
        Step::Flush => {
            volume.flush().await.expect("nothing fails here");
            (owed, true)
        }
        Step::Checkpoint => {
            store.checkpoint().await.expect("nothing fails here");
            (owed, true)
        }
        Step::Sweep => {
            store.fold().await.expect("nothing fails here");
            (Position(0), false)
        }
        Step::Pause { milliseconds } => {
            io.sleep(std::time::Duration::from_millis(milliseconds)).await;
            (Position(0), false)
        }
        _ => unreachable!("a step of history"),
    };
    world.acknowledge(last);
    if durable {
        world.make_durable(last);
    }
}

/// Which sectors survive, by their place in the list of those in doubt; of many, about `alone` are lost or kept alone.
fn subsets(doubtful: &[(u64, u64)], event: u64, alone: usize) -> Vec<Vec<usize>> {
    let count = doubtful.len();
    if count <= ALL_SUBSETS_UP_TO {
        return (0..1u32 << count).map(|bits| (0..count).filter(|i| bits & (1 << i) != 0).collect()).collect();
    }
    let all: Vec<usize> = (0..count).collect();
    let mut chosen: BTreeSet<Vec<usize>> = BTreeSet::from([Vec::new(), all.clone()]);
    for one in (0..count).step_by(count.div_ceil(alone)) {
        chosen.insert(vec![one]);
        chosen.insert(all.iter().copied().filter(|i| *i != one).collect());
    }
    for (_, write) in doubtful {
        chosen.insert(all.iter().copied().filter(|i| doubtful[*i].1 < *write).collect());
        chosen.insert(all.iter().copied().filter(|i| doubtful[*i].1 != *write).collect());
        chosen.insert(all.iter().copied().filter(|i| doubtful[*i].1 == *write).collect());
    }
    let mut random = Random::new(event);
    for _ in 0..16 {
        let percent = *random.pick(&[10, 50, 90]);
        chosen.insert(all.iter().copied().filter(|_| random.chance(percent)).collect());
    }
    chosen.into_iter().collect()
}

fn compose(trace: &Trace, event: u64, lost: &Crash, kept: &Crash, survivors: &[usize]) -> Vec<u8> {
    let offsets: BTreeSet<u64> = lost.doubtful.iter().map(|(offset, _)| *offset).collect();
    if offsets.len() < lost.doubtful.len() {
        return Crash::of(trace, event, &mut |sector| survivors.contains(&sector)).disk;
    }
    let mut disk = lost.disk.clone();
    for survivor in survivors {
        let start = lost.doubtful[*survivor].0 as usize;
        disk[start..start + SECTOR].copy_from_slice(&kept.disk[start..start + SECTOR]);
    }
    disk
}

fn compare(trace: &Trace, disk: Vec<u8>, journal: &Journal, floor: Position) -> Result<(), String> {
    let host = Host::new(11);
    host.set_disk_image(Path::new(STORE), disk);
    reopen(trace, &host, journal, floor, false)
}

fn process_crash(trace: &Trace, event: u64) -> Result<(), String> {
    let (world, _) = run_to(trace, event);
    world.host.process_crash();
    *world.host.faults() = Faults::default();
    let journal = world.journal.borrow();
    reopen(trace, &world.host, &journal, journal.acknowledged(), true)
}

fn reopen(
    trace: &Trace,
    host: &Host,
    journal: &Journal,
    floor: Position,
    cuts_may_be_lost: bool,
) -> Result<(), String> {
    let mut runtime = host.runtime();
    let io = runtime.io();
    let opened = runtime.run_sim(async {
        let (store, _) = Store::open(&io, Path::new(STORE), &open_options(trace)).await.map_err(|e| e.to_string())?;
        let found = recovered::read_all(&store).await?;
        journal.find(&found, floor, cuts_may_be_lost)?;
        let report = store.check(true, &mut |_| {}).await.map_err(|e| e.to_string())?;
        match report.findings.first() {
            None => Ok(()),
            Some(finding) => Err(format!("check: {}", finding.what)),
        }
    });
    opened.map_err(|stopped| stopped.to_string())?
}
