//! How far a store as it was found is from a state of the model.

use std::collections::HashMap;
use std::rc::Rc;

use crate::model::{Block, SnapshotModel, State, VolumeKey, VolumeModel};

/// Names, sizes and whole snapshots weigh more than blocks.
const HEAVY: usize = 1000;

/// Compares states with one that was found. Snapshots never change, so that each is compared once.
pub(super) struct Differ<'a> {
    found: &'a State,
    known: HashMap<*const SnapshotModel, usize>,
    /// What is known is kept, so that no other snapshot gets its address.
    kept: Vec<Rc<SnapshotModel>>,
}

impl<'a> Differ<'a> {
    pub fn new(found: &'a State) -> Differ<'a> {
        Differ { found, known: HashMap::new(), kept: Vec::new() }
    }

    /// How many things differ.
    pub fn count(&mut self, state: &State) -> usize {
        let found = self.found;
        let mut differing = HEAVY * state.dots.symmetric_difference(&found.dots).count();
        for (key, volume) in &state.volumes {
            match found.named(&volume.dot, &volume.name).map(|other| &found.volumes[&other]) {
                None => differing += HEAVY,
                Some(other) => {
                    let shape = volume.size != other.size || volume.compression != other.compression;
                    differing += HEAVY * usize::from(shape) + in_range(state, found, *key, 0..volume.blocks.len());
                }
            }
        }
        let surplus = found.volumes.values().filter(|v| state.named(&v.dot, &v.name).is_none());
        differing += HEAVY * surplus.count();
        for (key, snapshot) in &state.snapshots {
            differing += match found.snapshots.get(key) {
                None => HEAVY,
                Some(other) => self.snapshot(snapshot, other),
            };
        }
        differing + HEAVY * found.snapshots.keys().filter(|key| !state.snapshots.contains_key(*key)).count()
    }

    fn snapshot(&mut self, due: &Rc<SnapshotModel>, found: &SnapshotModel) -> usize {
        if let Some(known) = self.known.get(&Rc::as_ptr(due)) {
            return *known;
        }
        let count = in_snapshot(due, found, &mut |_| {});
        self.known.insert(Rc::as_ptr(due), count);
        self.kept.push(Rc::clone(due));
        count
    }
}

pub(super) fn in_range(state: &State, found: &State, volume: VolumeKey, range: std::ops::Range<usize>) -> usize {
    let Some(expected) = state.volumes.get(&volume) else { return 0 };
    let Some(other) = found.named(&expected.dot, &expected.name) else { return 0 };
    let other = &found.volumes[&other];
    let blocks =
        range.filter(|n| matches!((expected.blocks.get(*n), other.blocks.get(*n)), (Some(a), Some(b)) if a != b));
    blocks.count()
}

/// How many things differ between a snapshot that is due and the one found in its place; each is also told in words.
fn in_snapshot(due: &SnapshotModel, found: &SnapshotModel, tell: &mut dyn FnMut(String)) -> usize {
    let mut count = 0;
    let mut one = |weight: usize, text: String| {
        count += weight;
        tell(text);
    };
    if (due.protected, due.reflog) != (found.protected, found.reflog) {
        one(HEAVY, format!("protected {}, reflog {}", found.protected, found.reflog));
    }
    for volume in &due.volumes {
        let Some(other) = found.volume(&volume.name) else {
            one(HEAVY, format!("volume {} is missing", volume.name));
            continue;
        };
        if volume.size != other.size {
            one(HEAVY, format!("volume {} has {} bytes, {} are due", volume.name, other.size, volume.size));
        }
        for line in differing_blocks(volume, other) {
            one(1, format!("{} {line}", volume.name));
        }
    }
    for volume in found.volumes.iter().filter(|v| due.volume(&v.name).is_none()) {
        one(HEAVY, format!("volume {} should not be there", volume.name));
    }
    count
}

fn differing_blocks(due: &VolumeModel, found: &VolumeModel) -> Vec<String> {
    let pairs = due.blocks.iter().zip(&found.blocks).enumerate().filter(|(_, (due, found))| due != found);
    let line = |(number, (due, found)): (usize, (&Block, &Block))| {
        format!("block {number}: {} is due, found {}", due.describe(), found.describe())
    };
    pairs.map(line).collect()
}

pub(super) fn differences(state: &State, found: &State) -> Vec<String> {
    let mut lines: Vec<String> =
        state.dots.symmetric_difference(&found.dots).map(|dot| format!("dot {dot}: only on one side")).collect();
    for volume in state.volumes.values() {
        let name = volume.full_name();
        let Some(other) = found.named(&volume.dot, &volume.name).map(|other| &found.volumes[&other]) else {
            lines.push(format!("volume {name} is missing"));
            continue;
        };
        if volume.size != other.size || volume.compression != other.compression {
            lines.push(format!(
                "volume {name} has {} bytes ({:?}), {} ({:?}) are due",
                other.size, other.compression, volume.size, volume.compression
            ));
        }
        lines.extend(differing_blocks(volume, other).into_iter().map(|line| format!("{name} {line}")));
    }
    for volume in found.volumes.values().filter(|v| state.named(&v.dot, &v.name).is_none()) {
        lines.push(format!("volume {} should not be there", volume.full_name()));
    }
    for ((dot, name), snapshot) in &state.snapshots {
        match found.snapshots.get(&(dot.clone(), name.clone())) {
            None => lines.push(format!("snapshot {dot}@{name} is missing")),
            Some(other) => {
                in_snapshot(snapshot, other, &mut |text| lines.push(format!("snapshot {dot}@{name}: {text}")));
            }
        }
    }
    for (dot, name) in found.snapshots.keys().filter(|key| !state.snapshots.contains_key(*key)) {
        lines.push(format!("snapshot {dot}@{name} should not be there"));
    }
    lines
}
