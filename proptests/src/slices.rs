//! Large versions: maps of many leaves, swept one leaf at a time, with folds, checkpoints and crashes between the slices.
//!
//! The seeds of `life` seldom have a sweep that is not over before anything else happens. Here a volume has some twenty leaves,
//! a version shares most of them with its neighbours, and nothing but the folds and checkpoints of the script takes a slice.
//! So heads overwrite what is ahead of a cursor, behind it, and for the first time since the cut; and crashes find cursors
//! anywhere. The model is one tag for each block; what a crash interrupted may have happened or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use treering_engine::{
    CompressionMode, CreateOptions, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store, Volume,
};
use treering_format::superblock::DATA_START;
use treering_io::Io;
use treering_io::sim::{Host, Stopped};

use crate::content::{self, BLOCK};
use crate::life::STORE;
use crate::random::Random;
use crate::run;
use crate::world::Broken;

const VOLUME_BLOCKS: u64 = 4_500;
const SEGMENT_BLOCKS: u32 = 128;
const SLOTS: u64 = 192;
const LIVES: u32 = 4;
const ACTIONS: u64 = 40;
/// Blocks of a compressed extent, at first.
const COMPRESSED: u64 = 12;
/// Blocks of each version that are read after a crash.
const SAMPLES: u64 = 60;
/// Rounds in which all sweeps must have ended.
const ROUNDS_MAX: usize = 5_000;

/// The write that a block is of, and its place there. Zero: it was never written.
type Tag = (u64, u64);

type Image = Vec<Tag>;

#[derive(Clone, Default)]
struct Model {
    heads: BTreeMap<String, Image>,
    /// By dot and name.
    snapshots: BTreeMap<(String, String), Image>,
}

#[derive(Clone, Debug)]
enum Action {
    Write { dot: String, writes: Vec<Write> },
    Snapshot { dot: String, name: String },
    Delete { dot: String, name: String },
    Fork { dot: String, name: String, fork: String },
    Fold,
    Checkpoint,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    operation: u64,
    block: u64,
    blocks: u64,
    noise: bool,
}

struct Script {
    random: Random,
    model: Model,
    /// What was under way when the process ended.
    doubt: Option<Action>,
    operations: u64,
    names: u64,
}

/// Runs seeds; gives how many failed.
pub fn all(first: u64, count: u64) -> u64 {
    run::catch_panics();
    let mut failed = 0;
    for number in first..first + count {
        if let Err(broken) = seed(number) {
            failed += 1;
            println!("large versions, seed {number} FAILED: {broken}");
        }
    }
    println!("large versions: {} passed, {failed} failed, 0 skipped", count - failed);
    failed
}

/// Runs one seed.
pub fn seed(seed: u64) -> Result<(), Broken> {
    run::guarded(|| script(seed)).unwrap_or_else(Err)
}

fn script(seed: u64) -> Result<(), Broken> {
    let host = Host::new(seed);
    let mut script =
        Script { random: Random::new(seed), model: Model::default(), doubt: None, operations: 0, names: 0 };
    for life in 0..=LIVES {
        let mut runtime = host.runtime();
        let io = runtime.io();
        let result = runtime.run_sim(async {
            if life == 0 {
                return script.begin(&io).await;
            }
            let store = script.open(&io).await?;
            script.recovered(&store).await?;
            if life == LIVES {
                return script.empty(&store).await;
            }
            if script.random.chance(80) {
                host.crash_after(Some(script.random.scale(20, 2_000)));
            }
            script.work(&io, &store).await
        });
        host.crash_after(None);
        match result {
            Ok(done) => done?,
            Err(Stopped::Crashed) => {}
            Err(Stopped::Deadlock) => return Err("the process waits for something that will never happen".into()),
        }
        if script.random.chance(50) {
            host.host_crash();
        } else {
            host.process_crash();
        }
    }
    Ok(())
}

impl Script {
    async fn begin(&mut self, io: &Io) -> Result<(), Broken> {
        let size = DATA_START + SLOTS * u64::from(SEGMENT_BLOCKS) * BLOCK;
        let options = CreateOptions { size: Some(size), sparse: true, segment_blocks: SEGMENT_BLOCKS };
        Store::create(io, Path::new(STORE), &options).await.map_err(|e| format!("creating the store: {e}"))?;
        let store = self.open(io).await?;
        let volume =
            NewVolume { name: "v".into(), size_bytes: VOLUME_BLOCKS * BLOCK, compression: CompressionMode::Auto };
        store.create_dot("d", &[volume]).await.map_err(|e| format!("creating a volume: {e}"))?;
        self.model.heads.insert("d".into(), vec![(0, 0); VOLUME_BLOCKS as usize]);
        // Compressed extents, each cut in two: many leaves, most of whose borders lie within an extent.
        let writes = self.stripes((0, VOLUME_BLOCKS), (0, COMPRESSED));
        self.perform(&store, Action::Write { dot: "d".into(), writes }).await?;
        let writes = self.stripes((0, VOLUME_BLOCKS), (6, 7));
        self.perform(&store, Action::Write { dot: "d".into(), writes }).await?;
        store.checkpoint().await.map_err(|e| format!("a checkpoint: {e}"))
    }

    async fn open(&self, io: &Io) -> Result<Store, Broken> {
        // While the script is at work nothing is swept but by its own folds and checkpoints.
        let limits = Limits {
            arena_bytes: 4 << 20,
            arena_entries: 4096,
            sweep_leaves: 1,
            sweep_rest: 10_000_000,
            hidden_waste_bytes: 16 * BLOCK,
            release_age_ns: u64::MAX,
            ..Limits::floor()
        };
        let options = OpenOptions { limits, arena_dir: Some("/arenas".into()), ..OpenOptions::default() };
        let (store, _) = Store::open(io, Path::new(STORE), &options).await.map_err(|e| format!("opening: {e}"))?;
        Ok(store)
    }

    async fn work(&mut self, io: &Io, store: &Store) -> Result<(), Broken> {
        for _ in 0..ACTIONS {
            let action = self.choose();
            self.doubt = Some(action.clone());
            self.perform(store, action).await?;
            self.doubt = None;
            if self.random.chance(5) {
                io.sleep(Duration::from_millis(self.random.scale(1, 200))).await;
            }
        }
        Ok(())
    }

    fn choose(&mut self) -> Action {
        let dots: Vec<String> = self.model.heads.keys().cloned().collect();
        let dot = self.random.pick(&dots).clone();
        let snapshots: Vec<(String, String)> = self.model.snapshots.keys().cloned().collect();
        self.names += 1;
        let name = format!("n{}", self.names);
        match self.random.below(100) {
            0..12 if snapshots.len() < 8 => Action::Snapshot { dot, name },
            12..24 if !snapshots.is_empty() => {
                let (dot, name) = self.random.pick(&snapshots).clone();
                Action::Delete { dot, name }
            }
            24..28 if !snapshots.is_empty() && dots.len() < 4 => {
                let (dot, name) = self.random.pick(&snapshots).clone();
                Action::Fork { dot, name, fork: format!("fork-{}", self.names) }
            }
            28..50 => Action::Fold,
            50..60 => Action::Checkpoint,
            60..68 => {
                let from = self.random.below(VOLUME_BLOCKS / 2);
                let part = if self.random.chance(50) { (0, 6) } else { (7, COMPRESSED) };
                let writes = self.stripes((from, from + VOLUME_BLOCKS / 2), part);
                Action::Write { dot, writes }
            }
            _ => {
                let count = self.random.scale(1, 12);
                let writes = (0..count).map(|_| self.write_anywhere()).collect();
                Action::Write { dot, writes }
            }
        }
    }

    /// The same part of every extent within a range, as they lay at first.
    fn stripes(&mut self, (from, to): (u64, u64), part: (u64, u64)) -> Vec<Write> {
        let starts = (0..VOLUME_BLOCKS - COMPRESSED).step_by(COMPRESSED as usize + 1);
        let within: Vec<u64> = starts.filter(|start| (from..to).contains(start)).collect();
        within.into_iter().map(|start| self.write_at(start + part.0, part.1 - part.0)).collect()
    }

    fn write_anywhere(&mut self) -> Write {
        let blocks = match self.random.below(100) {
            0..12 => COMPRESSED,
            // What is left of several extents goes at once.
            12..22 => self.random.between(16, 40),
            _ => self.random.between(1, 3),
        };
        let block = self.random.below(VOLUME_BLOCKS - blocks);
        self.write_at(block, blocks)
    }

    fn write_at(&mut self, block: u64, blocks: u64) -> Write {
        self.operations += 1;
        Write { operation: self.operations, block, blocks, noise: blocks < 5 }
    }

    async fn perform(&mut self, store: &Store, action: Action) -> Result<(), Broken> {
        let failed = |e: &dyn std::fmt::Display| format!("{action:?}: {e}");
        let at = |name: &String| SnapshotRef::Name(name.clone());
        match &action {
            Action::Write { dot, writes } => {
                let volume = store.volume(dot, "v").ok_or_else(|| failed(&"there is no such volume"))?;
                for write in writes {
                    let len = (write.blocks * BLOCK) as usize;
                    let data = content::bytes(write.operation, len, write.noise);
                    volume.write(write.block * BLOCK, &data, false).await.map_err(|e| failed(&e))?;
                }
                volume.flush().await.map_err(|e| failed(&e))?;
            }
            Action::Snapshot { dot, name } => {
                let new = NewSnapshot { name: Some(name.clone()), ..NewSnapshot::default() };
                store.create_snapshot(&[dot], &new).await.map_err(|e| failed(&e))?;
            }
            Action::Delete { dot, name } => {
                store.delete_snapshots(dot, &[at(name)]).await.map_err(|e| failed(&e))?;
            }
            Action::Fork { dot, name, fork } => {
                let forks = [fork.clone()];
                store.fork(dot, &at(name), &forks, None).await.map_err(|e| failed(&e))?;
            }
            Action::Fold => store.fold().await.map_err(|e| failed(&e))?,
            Action::Checkpoint => store.checkpoint().await.map_err(|e| failed(&e))?,
        }
        self.model.apply(&action);
        Ok(())
    }

    /// Everything acknowledged is there; what was under way is there or not.
    async fn recovered(&mut self, store: &Store) -> Result<(), Broken> {
        if let Some(action) = self.doubt.take() {
            self.settle(store, &action).await?;
        }
        if self.random.chance(50) {
            self.check(store).await?;
        }
        for (dot, image) in &self.model.heads {
            let volume = store.volume(dot, "v").ok_or_else(|| format!("{dot}.v is gone"))?;
            shows(&mut self.random, &volume, image).await.map_err(|why| format!("{dot}.v, {why}"))?;
        }
        for ((dot, name), image) in &self.model.snapshots {
            let volume = store.open_snapshot(dot, "v", &SnapshotRef::Name(name.clone()));
            let volume = volume.map_err(|e| format!("{dot}@{name}: {e}"))?;
            shows(&mut self.random, &volume, image).await.map_err(|why| format!("{dot}@{name}, {why}"))?;
        }
        Ok(())
    }

    async fn settle(&mut self, store: &Store, action: &Action) -> Result<(), Broken> {
        let is_there = |dot: &str, name: &str| store.snapshot(dot, &SnapshotRef::Name(name.into())).is_ok();
        let happened = match action {
            Action::Snapshot { dot, name } => is_there(dot, name),
            Action::Delete { dot, name } => !is_there(dot, name),
            Action::Fork { fork, .. } => store.volume(fork, "v").is_some(),
            Action::Write { dot, writes } => {
                let volume = store.volume(dot, "v").ok_or_else(|| format!("{dot}.v is gone"))?;
                let image = self.model.heads.get_mut(dot).expect("it was written to");
                for write in writes {
                    for i in 0..write.blocks {
                        let found = tag_of(&volume, write.block + i).await?;
                        let place = &mut image[(write.block + i) as usize];
                        let later = |w: &&Write| (w.block..w.block + w.blocks).contains(&(write.block + i));
                        let mut due = writes.iter().filter(later).map(|w| (w.operation, write.block + i - w.block));
                        if found != *place && !due.any(|tag| tag == found) {
                            return Err(format!(
                                "{dot}.v block {}: {place:?} is due, found {found:?}",
                                write.block + i
                            ));
                        }
                        *place = found;
                    }
                }
                false
            }
            Action::Fold | Action::Checkpoint => false,
        };
        if happened {
            self.model.apply(action);
        }
        Ok(())
    }

    /// Everything goes, and nothing may be left.
    async fn empty(&mut self, store: &Store) -> Result<(), Broken> {
        self.check(store).await?;
        for dot in std::mem::take(&mut self.model).heads.into_keys() {
            store.remove_dot(&dot).await.map_err(|e| format!("removing {dot}: {e}"))?;
        }
        let mut rounds = 0;
        while rounds == 0 || store.status().sweeps > 0 {
            store.checkpoint().await.map_err(|e| format!("a checkpoint of an emptied store: {e}"))?;
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("{} versions are still to be swept", store.status().sweeps));
            }
        }
        let (extents, live) = self.check(store).await?;
        if extents + live > 0 {
            return Err(format!("everything was deleted, and {extents} extents with {live} live blocks are left"));
        }
        Ok(())
    }

    async fn check(&self, store: &Store) -> Result<(u64, u64), Broken> {
        let report = store.check(true, &mut |_| {}).await.map_err(|e| format!("check: {e}"))?;
        match report.findings.first() {
            Some(finding) => Err(format!("check: {}", finding.what)),
            None => Ok((report.extents, report.live_blocks)),
        }
    }
}

impl Model {
    fn apply(&mut self, action: &Action) {
        match action {
            Action::Write { dot, writes } => {
                let image = self.heads.get_mut(dot).expect("it was written to");
                for write in writes {
                    (0..write.blocks).for_each(|i| image[(write.block + i) as usize] = (write.operation, i));
                }
            }
            Action::Snapshot { dot, name } => {
                self.snapshots.insert((dot.clone(), name.clone()), self.heads[dot].clone());
            }
            Action::Delete { dot, name } => drop(self.snapshots.remove(&(dot.clone(), name.clone()))),
            Action::Fork { dot, name, fork } => {
                self.heads.insert(fork.clone(), self.snapshots[&(dot.clone(), name.clone())].clone());
            }
            Action::Fold | Action::Checkpoint => {}
        }
    }
}

async fn shows(random: &mut Random, volume: &Volume, image: &Image) -> Result<(), Broken> {
    for _ in 0..SAMPLES {
        let block = random.below(VOLUME_BLOCKS);
        let (found, due) = (tag_of(volume, block).await?, image[block as usize]);
        if found != due {
            return Err(format!("block {block}: {due:?} is due, found {found:?}"));
        }
    }
    Ok(())
}

async fn tag_of(volume: &Volume, block: u64) -> Result<Tag, Broken> {
    let bytes = volume.read(block * BLOCK, BLOCK as usize).await.map_err(|e| format!("block {block}: {e}"))?;
    Ok(content::tag(&bytes))
}
