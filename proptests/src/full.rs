//! A store that is filled on purpose, again and again, in the ways that use up what is kept back: the last data block, the last
//! page of the catalog, the last block of log. It must go on to take deletions, write its checkpoints, and open again.
//!
//! Seeds of `scenario` fill small stores, too; their catalogs are too small to matter. Here a few long-named volumes make each
//! snapshot cost more pages than log.

use std::path::Path;

use treering_engine::{
    CatalogError, CompressionMode, CreateOptions, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store,
    VolumeError,
};
use treering_io::Io;
use treering_io::sim::Host;

use crate::content;
use crate::random::Random;
use crate::run;
use crate::world::Broken;

const STORE: &str = "/store";
const DOT: &str = "shop";
const PIECE: u64 = 16 << 10;
const MIB: u64 = 1 << 20;

/// Runs `count` stores; gives how many broke a promise.
pub fn all(first: u64, count: u64) -> u64 {
    let broken = (first..first + count)
        .filter_map(|seed| run::guarded(|| one(seed)).and_then(|lived| lived).err().map(|why| (seed, why)));
    let failed = broken.inspect(|(seed, why)| println!("full store {seed} FAILED: {why}")).count() as u64;
    println!("{} passed, {failed} failed, 0 skipped", count - failed);
    failed
}

/// One store through a few lives, each of which fills it in another way.
pub fn one(seed: u64) -> Result<(), Broken> {
    let mut random = Random::new(seed);
    let host = Host::new(seed);
    host.add_disk(Path::new(STORE), random.between(20, 32) * MIB);
    let volumes = random.between(20, 120);
    for life in 0..3 {
        let mut runtime = host.runtime();
        let io = runtime.io();
        let mut filler = Filler { random: random.fork(), volumes, closes: life % 2 == 0 };
        let lived = runtime.run_sim(filler.live(io, life == 0));
        lived.map_err(|stopped| stopped.to_string())??;
        drop(runtime);
        match random.below(3) {
            0 => host.host_crash(),
            1 => host.process_crash(),
            _ => {}
        }
        if random.chance(40) {
            storm(&host, &mut random)?;
        }
    }
    Ok(())
}

/// Servers that die one after another, most of them before they serve: each begins a segment, and takes what is kept for such.
fn storm(host: &Host, random: &mut Random) -> Result<(), Broken> {
    let hosts_die = random.chance(50);
    for _ in 0..random.scale(1, 40) {
        let mut runtime = host.runtime();
        let io = runtime.io();
        host.crash_after(Some(random.scale(1, 400)));
        let mut short = Short { random: random.fork() };
        let lived = runtime.run_sim(short.live(io));
        host.crash_after(None);
        drop(runtime);
        if let Ok(Err(broken)) = lived {
            return Err(broken);
        }
        if hosts_die && random.chance(50) {
            host.host_crash();
        } else {
            host.process_crash();
        }
    }
    Ok(())
}

/// A server in a storm: it writes, and flushes or not, until it dies.
struct Short {
    random: Random,
}

impl Short {
    async fn live(&mut self, io: Io) -> Result<(), Broken> {
        let opened = Store::open(&io, Path::new(STORE), &OpenOptions { limits: small(), ..arenas() }).await;
        let store = opened.map_err(|error| format!("opening a full store in a storm: {error}"))?.0;
        let Some(ballast) = store.volume("ballast", "main") else { return Ok(()) };
        for _ in 0..self.random.below(40) {
            let pieces = self.random.between(1, 8);
            let data = content::bytes(self.random.below(1 << 40), (pieces * 4096) as usize, true);
            match ballast.write(self.random.below(64 * MIB / PIECE - 1) * PIECE, &data, false).await {
                Ok(()) | Err(VolumeError::NoSpace { .. }) => {}
                Err(error) => return Err(format!("writing in a storm: {error}")),
            }
            if self.random.chance(20) {
                ballast.flush().await.map_err(|error| format!("flushing in a storm: {error}"))?;
            }
        }
        Ok(())
    }
}

struct Filler {
    random: Random,
    volumes: u64,
    closes: bool,
}

impl Filler {
    async fn live(&mut self, io: Io, new: bool) -> Result<(), Broken> {
        let say = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        if new {
            let create = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
            Store::create(&io, Path::new(STORE), &create).await.map_err(|e| say("creating", &e))?;
        }
        // Nothing makes a checkpoint due but what needs one.
        let lazy = 1 << 40;
        let limits = Limits {
            checkpoint_log_bytes: if self.random.chance(70) { lazy } else { 4 * MIB },
            fold_log_bytes: if self.random.chance(70) { lazy } else { MIB },
            ..small()
        };
        let options = OpenOptions { limits, ..arenas() };
        let opened = Store::open(&io, Path::new(STORE), &options).await;
        let store = opened.map_err(|e| say("opening a full store", &e))?.0;
        if new {
            let volumes: Vec<NewVolume> = (0..self.volumes).map(|i| volume(&long(i), MIB)).collect();
            store.create_dot(DOT, &volumes).await.map_err(|e| say("making the volumes", &e))?;
            store.create_dot("ballast", &[volume("main", 64 * MIB)]).await.map_err(|e| say("making ballast", &e))?;
        }
        for _ in 0..self.random.between(2, 4) {
            let left = self.random.below(4 * MIB);
            self.write_until(&store, left).await?;
            self.snapshots_until_full(&store).await?;
            self.delete(&store).await?;
            if self.random.chance(40) {
                store.checkpoint().await.map_err(|e| say("a checkpoint", &e))?;
            }
        }
        let report = store.check(false, &mut |_| {}).await.map_err(|e| say("check", &e))?;
        if let Some(finding) = report.findings.first() {
            return Err(say("check", &finding.what));
        }
        if self.closes {
            store.close().await.map_err(|e| say("closing", &e))?;
        }
        Ok(())
    }

    /// Fills the ballast, until so much is left at the most.
    async fn write_until(&mut self, store: &Store, left: u64) -> Result<(), Broken> {
        let Some(ballast) = store.volume("ballast", "main") else { return Ok(()) };
        let volume = self.random.below(self.volumes);
        for i in 0.. {
            if store.space().writable_bytes <= left {
                break;
            }
            let data = content::bytes(self.random.below(1 << 40), PIECE as usize, true);
            let to = store.volume(DOT, &long(volume)).filter(|_| i % 64 < 8);
            let written = match &to {
                Some(volume) => volume.write(i % 8 * PIECE, &data, false).await,
                None => ballast.write(self.random.below(64 * MIB / PIECE) * PIECE, &data, false).await,
            };
            match written {
                Ok(()) => {}
                Err(VolumeError::NoSpace { .. }) => break,
                Err(error) => return Err(format!("filling the store: {error}")),
            }
        }
        Ok(())
    }

    async fn snapshots_until_full(&mut self, store: &Store) -> Result<(), Broken> {
        for _ in 0..self.random.scale(1, 2000) {
            let new = NewSnapshot { name: Some(long(self.random.below(1 << 40))), ..NewSnapshot::default() };
            match store.create_snapshot(&[DOT], &new).await {
                Ok(_) => {}
                Err(CatalogError::Volume(VolumeError::NoSpace { .. })) => break,
                Err(error) => return Err(format!("a snapshot: {error}")),
            }
        }
        Ok(())
    }

    /// One after another, with no help from a checkpoint that somebody else asked for. Deleting is never refused.
    async fn delete(&mut self, store: &Store) -> Result<(), Broken> {
        let snapshots = store.snapshots(DOT).map_err(|error| error.to_string())?;
        let part = self.random.below(101);
        for snapshot in snapshots {
            if self.random.chance(part) {
                let at = SnapshotRef::Name(snapshot.name);
                store.delete_snapshots(DOT, &[at]).await.map_err(|error| format!("deleting a snapshot: {error}"))?;
            }
        }
        if self.random.chance(20) {
            match store.remove_dot("ballast").await {
                // It was refused when it was to be made anew.
                Ok(()) | Err(CatalogError::NotFound { .. }) => {}
                Err(error) => return Err(format!("removing a dot: {error}")),
            }
            let again = store.create_dot("ballast", &[volume("main", 64 * MIB)]).await;
            match again {
                Ok(()) | Err(CatalogError::Volume(VolumeError::NoSpace { .. })) => {}
                Err(error) => return Err(format!("making a dot: {error}")),
            }
        }
        if self.random.chance(50)
            && let Some(ballast) = store.volume("ballast", "main")
        {
            let (from, len) = (self.random.below(32 * MIB), self.random.below(32 * MIB));
            ballast.trim(from, len, false).await.map_err(|error| format!("a trim: {error}"))?;
        }
        Ok(())
    }
}

fn small() -> Limits {
    Limits { arena_bytes: 4 * MIB, arena_entries: 4096, data_cache_bytes: MIB, ..Limits::default() }
}

fn arenas() -> OpenOptions {
    OpenOptions { arena_dir: Some("/arenas".into()), ..OpenOptions::default() }
}

fn volume(name: &str, size_bytes: u64) -> NewVolume {
    NewVolume { name: name.into(), size_bytes, compression: CompressionMode::Off }
}

/// A name as long as can be, nearly.
fn long(number: u64) -> String {
    format!("{number:0>60}")
}
