//! History in the model: a snapshot is a copy, a fork is a copy of a copy.

use std::cell::OnceCell;
use std::rc::Rc;

use super::{State, VolumeKey, VolumeModel};

/// The snapshot that a reset makes, until its name is known. Not a valid name.
pub const UNNAMED: &str = "(unnamed)";

/// A snapshot of a dot, as verbs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    pub dot: String,
    pub snapshot: String,
}

#[derive(Clone, Debug)]
pub struct SnapshotModel {
    pub protected: bool,
    /// Made by a reset.
    pub reflog: bool,
    /// By name.
    pub volumes: Vec<VolumeModel>,
}

impl SnapshotModel {
    pub fn volume(&self, name: &str) -> Option<&VolumeModel> {
        self.volumes.iter().find(|v| v.name == name)
    }
}

impl State {
    pub fn snapshot(&self, at: &Ancestor) -> Option<&Rc<SnapshotModel>> {
        self.snapshots.get(&(at.dot.clone(), at.snapshot.clone()))
    }

    pub fn volumes_of(&self, dot: &str) -> Vec<(VolumeKey, &VolumeModel)> {
        let volumes = self.volumes.iter().filter(|(_, v)| v.dot == dot);
        volumes.map(|(key, v)| (*key, v)).collect()
    }

    pub fn snapshots_of(&self, dot: &str) -> Vec<&str> {
        self.snapshots.keys().filter(|(of, _)| of == dot).map(|(_, name)| name.as_str()).collect()
    }

    pub(super) fn freeze(&mut self, dot: &str, name: &str, protected: bool, reflog: bool) {
        let mut volumes: Vec<VolumeModel> = self.volumes_of(dot).into_iter().map(|(_, v)| v.clone()).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let snapshot = SnapshotModel { protected, reflog, volumes };
        self.snapshots.insert((dot.into(), name.into()), Rc::new(snapshot));
    }

    pub(super) fn protect(&mut self, dot: &str, name: &str, protected: bool) {
        if let Some(snapshot) = self.snapshots.get_mut(&(dot.into(), name.into())) {
            *snapshot = Rc::new(SnapshotModel { protected, ..SnapshotModel::clone(snapshot) });
        }
    }

    pub(super) fn remove_dot(&mut self, name: &str) {
        self.dots.remove(name);
        self.volumes.retain(|_, v| v.dot != name);
        self.snapshots.retain(|(dot, _), _| dot != name);
    }

    pub(super) fn fork(&mut self, from: &Ancestor, name: &str, volumes: &[VolumeKey]) {
        let Some(snapshot) = self.snapshot(from).cloned() else { return };
        self.dots.insert(name.into());
        self.thaw(&snapshot, name, volumes);
    }

    pub(super) fn reset(&mut self, to: &Ancestor, kept: &OnceCell<String>, volumes: &[VolumeKey]) {
        let Some(snapshot) = self.snapshot(to).cloned() else { return };
        self.freeze(&to.dot, kept.get().map_or(UNNAMED, String::as_str), false, true);
        self.volumes.retain(|_, v| v.dot != to.dot);
        self.thaw(&snapshot, &to.dot, volumes);
    }

    fn thaw(&mut self, snapshot: &SnapshotModel, dot: &str, keys: &[VolumeKey]) {
        for (key, volume) in keys.iter().zip(&snapshot.volumes) {
            self.volumes.insert(*key, VolumeModel { dot: dot.into(), ..volume.clone() });
        }
    }

    /// The engine has named what a reset kept.
    pub(super) fn name_reflog(&mut self, dot: &str, name: &str) {
        self.rename(dot, UNNAMED, name);
    }

    pub(super) fn rename(&mut self, dot: &str, from: &str, to: &str) {
        if let Some(snapshot) = self.snapshots.remove(&(dot.into(), from.into())) {
            self.snapshots.insert((dot.into(), to.into()), snapshot);
        }
    }
}
