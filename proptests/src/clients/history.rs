//! The client that makes history, and readers of it: snapshots of one instant over several dots, forks and forks of forks,
//! resets, deletions in any order. A snapshot has one right answer from the moment at which it was published.

use std::cell::OnceCell;
use std::rc::Rc;

use treering_engine::{CatalogError, NewSnapshot, SnapshotRef, Volume, VolumeError, Zeroing};

use super::Client;
use crate::content::{self, BLOCK};
use crate::model::{Ancestor, Block, Change, Piece, UNNAMED, VolumeKey, VolumeModel};
use crate::scenario::Temper;
use crate::world::Broken;

/// A store holds at most so many here.
const SNAPSHOTS_MAX: usize = 24;
const VOLUMES_MAX: usize = 10;
const DOTS_MAX: usize = 6;

impl Client {
    pub(super) async fn make_history(&mut self) -> Result<(), Broken> {
        let now = self.world.journal.borrow().now().clone();
        let dots: Vec<String> = now.dots.iter().filter(|d| !now.volumes_of(d).is_empty()).cloned().collect();
        let snapshots: Vec<Ancestor> = now.snapshots.keys().filter(|(_, name)| name != UNNAMED).map(ancestor).collect();
        let action = self.random.below(100);
        if snapshots.is_empty() || action < 40 && snapshots.len() < SNAPSHOTS_MAX {
            return if dots.is_empty() { self.administrate().await } else { self.create_snapshot(dots).await };
        }
        let at = self.random.pick(&snapshots).clone();
        match action {
            ..65 => self.delete_snapshots(&at.dot).await,
            65..80 if now.dots.len() < DOTS_MAX && now.volumes.len() < VOLUMES_MAX => self.fork(&at).await,
            80..88 if now.dots.contains(&at.dot) => self.reset(&at).await,
            88..94 => self.protect(&at).await,
            94.. => self.write_to_a_snapshot(&at).await,
            _ => self.delete_snapshots(&at.dot).await,
        }
    }

    async fn create_snapshot(&mut self, mut dots: Vec<String>) -> Result<(), Broken> {
        let count = self.random.scale(1, 3).min(dots.len() as u64);
        while dots.len() as u64 > count {
            dots.swap_remove(self.random.below(dots.len() as u64) as usize);
        }
        let name = format!("s{}", self.random.below(16));
        let protect = self.random.chance(5);
        let exists = {
            let journal = self.world.journal.borrow();
            dots.iter().any(|dot| journal.now().snapshots.contains_key(&(dot.clone(), name.clone())))
        };
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: snapshot {name} of {dots:?}"));
        let change = Change::Snapshot { dots: dots.clone(), name: name.clone(), protected: protect };
        let new = NewSnapshot { name: Some(name), protect, ..NewSnapshot::default() };
        let names: Vec<&str> = dots.iter().map(String::as_str).collect();
        let verb = self.store.create_snapshot(&names, &new);
        let (result, last) = self.world.observe(&self.store, operation, vec![Piece::Change(change)], verb).await;
        match result {
            Err(CatalogError::Exists { .. }) if exists => Ok(()),
            Ok(infos) if infos.len() != dots.len() => Err(format!("{} snapshots of {dots:?}", infos.len())),
            other => self.verb(other.map(drop), last, true),
        }
    }

    async fn delete_snapshots(&mut self, dot: &str) -> Result<(), Broken> {
        let (mut names, protected) = {
            let journal = self.world.journal.borrow();
            let snapshots = journal.now().snapshots.iter().filter(|((of, name), _)| of == dot && name != UNNAMED);
            let protected: Vec<String> =
                snapshots.clone().filter(|(_, s)| s.protected).map(|((_, name), _)| name.clone()).collect();
            (snapshots.map(|((_, name), _)| name.clone()).collect::<Vec<_>>(), protected)
        };
        let count = self.random.scale(1, names.len() as u64) as usize;
        while names.len() > count {
            names.swap_remove(self.random.below(names.len() as u64) as usize);
        }
        let refused = names.iter().any(|name| protected.contains(name));
        let at: Vec<SnapshotRef> = names.iter().cloned().map(SnapshotRef::Name).collect();
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: delete snapshots {names:?} of {dot}"));
        let change = Change::DeleteSnapshots { dot: dot.into(), names };
        let verb = self.store.delete_snapshots(dot, &at);
        let (result, last) = self.world.observe(&self.store, operation, vec![Piece::Change(change)], verb).await;
        match result {
            Err(CatalogError::Protected { .. }) if refused => Ok(()),
            Err(CatalogError::SnapshotInUse { .. }) if self.scenario.clients > 1 => Ok(()),
            Ok(_) if refused => Err("a protected snapshot was deleted".into()),
            other => self.verb(other.map(drop), last, false),
        }
    }

    async fn fork(&mut self, from: &Ancestor) -> Result<(), Broken> {
        let count = self.random.scale(1, 3);
        let mut names: Vec<String> = (0..count).map(|_| format!("fork-{}", self.random.below(8))).collect();
        names.sort();
        names.dedup();
        let (members, exists) = {
            let journal = self.world.journal.borrow();
            let now = journal.now();
            let members = now.snapshot(from).expect("chosen among them").volumes.len();
            (members, names.iter().any(|name| now.dots.contains(name)))
        };
        let change =
            |name: &String| Change::Fork { from: from.clone(), name: name.clone(), volumes: self.keys(members) };
        let pieces: Vec<Piece> = names.iter().map(change).map(Piece::Change).collect();
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: fork {from:?} as {names:?}"));
        let at = SnapshotRef::Name(from.snapshot.clone());
        let verb = self.store.fork(&from.dot, &at, &names, None);
        let (result, last) = self.world.observe(&self.store, operation, pieces, verb).await;
        match result {
            Err(CatalogError::Exists { .. }) if exists => Ok(()),
            Err(CatalogError::NoVolumes { .. }) if members == 0 => Ok(()),
            other => {
                self.world.coverage.borrow_mut().forks_of_forks +=
                    u64::from(other.is_ok() && from.dot.starts_with("fork-"));
                self.verb(other, last, true)
            }
        }
    }

    async fn reset(&mut self, to: &Ancestor) -> Result<(), Broken> {
        let members = self.world.journal.borrow().now().snapshot(to).expect("chosen among them").volumes.len();
        let kept = Rc::new(OnceCell::new());
        let change = Change::Reset { to: to.clone(), kept: Rc::clone(&kept), volumes: self.keys(members) };
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: reset to {to:?}"));
        let at = SnapshotRef::Name(to.snapshot.clone());
        let verb = self.store.reset(&to.dot, &at);
        let (result, last) = self.world.observe(&self.store, operation, vec![Piece::Change(change)], verb).await;
        if let Ok(info) = &result
            && !self.world.crashed()
        {
            if !info.reflog {
                return Err(format!("what a reset kept is not marked as such: {info:?}"));
            }
            self.world.journal.borrow_mut().name_reflog(&to.dot, &kept, &info.name);
        }
        match result {
            Err(CatalogError::DotInUse { .. }) if self.scenario.clients > 1 => Ok(()),
            Err(CatalogError::NoVolumes { .. }) if members == 0 => Ok(()),
            other => self.verb(other.map(drop), last, true),
        }
    }

    async fn protect(&mut self, at: &Ancestor) -> Result<(), Broken> {
        // Most are set free, so that deletion goes on.
        let protected = self.random.chance(25);
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: protect {at:?}: {protected}"));
        let change = Change::Protect { dot: at.dot.clone(), name: at.snapshot.clone(), protected };
        let name = SnapshotRef::Name(at.snapshot.clone());
        let verb = self.store.configure_snapshot(&at.dot, &name, Some(protected), None);
        let (result, last) = self.world.observe(&self.store, operation, vec![Piece::Change(change)], verb).await;
        self.verb(result.map(drop), last, true)
    }

    async fn write_to_a_snapshot(&mut self, at: &Ancestor) -> Result<(), Broken> {
        let Some((model, volume)) = self.open_snapshot(at)? else { return Ok(()) };
        let len = model.size.min(BLOCK);
        let written = volume.write(0, &vec![0xaa; len as usize], true).await;
        let zeroed = volume.zero(0, len, Zeroing::Hole, true).await;
        for result in [written, zeroed] {
            match result {
                Err(VolumeError::Frozen) => {}
                _ if self.world.crashed() => {}
                other => return Err(format!("writing to a snapshot: {other:?}")),
            }
        }
        Ok(())
    }

    /// A random part of a random snapshot, and its status.
    pub(super) async fn read_history(&mut self) -> Result<(), Broken> {
        let snapshots: Vec<Ancestor> = {
            let journal = self.world.journal.borrow();
            journal.now().snapshots.keys().filter(|(_, name)| name != UNNAMED).map(ancestor).collect()
        };
        if snapshots.is_empty() {
            return Ok(());
        }
        let at = self.random.pick(&snapshots).clone();
        let Some((model, volume)) = self.open_snapshot(&at)? else { return Ok(()) };
        let (offset, len) = self.range(model.size);
        let what = format!("{}@{} at {offset}+{len}", model.full_name(), at.snapshot);
        let result = volume.read(offset, len as usize).await;
        let Some(bytes) = self.excuse_frozen(result, &at, &what)? else { return Ok(()) };
        let (first, end) = ((offset / BLOCK) as usize, (offset + len).div_ceil(BLOCK) as usize);
        for (number, block) in model.blocks.iter().enumerate().take(end).skip(first) {
            let start = (number as u64 * BLOCK).max(offset);
            let stop = ((number as u64 + 1) * BLOCK).min(offset + len);
            let found = &bytes[(start - offset) as usize..(stop - offset) as usize];
            let within = (start - number as u64 * BLOCK) as usize..(stop - number as u64 * BLOCK) as usize;
            if block.bytes()[within] != *found {
                let (due, found) = (block.describe(), content::describe(found));
                return Err(format!("read of {what}, block {number}: {due} is due, found {found}"));
            }
        }
        let result = volume.extents(offset, len, usize::MAX).await;
        let Some(extents) = self.excuse_frozen(result, &at, &what)? else { return Ok(()) };
        let mut from = offset;
        for extent in extents {
            for number in from / BLOCK..(from + extent.len).div_ceil(BLOCK) {
                let fits = match &model.blocks[number as usize] {
                    Block::Hole => extent.hole && extent.zero,
                    Block::Zero => !extent.hole && extent.zero,
                    Block::Data(_) => !extent.hole && !extent.zero,
                };
                if !fits {
                    let due = model.blocks[number as usize].describe();
                    return Err(format!("status of {what}, block {number}: {extent:?}, but it is {due}"));
                }
            }
            from += extent.len;
        }
        self.world.coverage.borrow_mut().frozen_reads_verified += 1;
        Ok(())
    }

    /// A handle of a random volume of a snapshot. None: nobody was told of the snapshot yet.
    fn open_snapshot(&mut self, at: &Ancestor) -> Result<Option<(VolumeModel, Volume)>, Broken> {
        let (model, announced) = {
            let journal = self.world.journal.borrow();
            let snapshot = Rc::clone(journal.now().snapshot(at).expect("chosen among them"));
            if snapshot.volumes.is_empty() {
                return Ok(None);
            }
            (self.random.pick(&snapshot.volumes).clone(), journal.is_snapshot_announced(&at.dot, &at.snapshot))
        };
        let name = SnapshotRef::Name(at.snapshot.clone());
        match self.store.open_snapshot(&at.dot, &model.name, &name) {
            _ if self.world.crashed() => Ok(None),
            Ok(volume) => Ok(Some((model, volume))),
            Err(CatalogError::NotFound { .. }) if !announced => Ok(None),
            Err(error) => Err(format!("opening {}@{}: {error}", model.full_name(), at.snapshot)),
        }
    }

    fn excuse_frozen<T>(&self, result: Result<T, VolumeError>, at: &Ancestor, what: &str) -> Result<Option<T>, Broken> {
        let error = match result {
            _ if self.world.crashed() => return Ok(None),
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let excused = match &error {
            VolumeError::Removed => self.world.journal.borrow().now().snapshot(at).is_none(),
            VolumeError::Damaged { .. } => {
                self.world.coverage.borrow_mut().damaged_blocks += 1;
                matches!(self.world.temper, Temper::BadReads | Temper::LyingWrites)
            }
            _ => false,
        };
        if excused { Ok(None) } else { Err(format!("{what}: {error}")) }
    }

    fn keys(&self, count: usize) -> Vec<VolumeKey> {
        let mut journal = self.world.journal.borrow_mut();
        (0..count).map(|_| journal.new_volume()).collect()
    }
}

fn ancestor((dot, snapshot): &(String, String)) -> Ancestor {
    Ancestor { dot: dot.clone(), snapshot: snapshot.clone() }
}
