//! The catalog as the fold has reached it, in the words of the format.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::catalog::{CatalogKey, DotEntry, LineEntry, SnapshotEntry, VersionEntry, VolumeEntry};
use treering_format::node::NodeRef;
use treering_format::record::Descriptor;
use treering_format::units::{DotId, LineId, SnapshotId, VersionId, VolumeId};

use crate::log::Keys;

/// Without versions and lines: `Versions` has those. Roots and parents of volumes are as of the last checkpoint.
#[derive(Default)]
pub(crate) struct Folded {
    pub dots: BTreeMap<DotId, DotEntry>,
    pub volumes: BTreeMap<VolumeId, VolumeEntry>,
    pub snapshots: BTreeMap<SnapshotId, SnapshotEntry>,
    /// Keys that differ from the last checkpoint.
    changed: BTreeSet<CatalogKey>,
}

/// All entries of a checkpoint's catalog.
#[derive(Default)]
pub(crate) struct Entries {
    pub dots: Vec<(DotId, DotEntry)>,
    pub volumes: Vec<(VolumeId, VolumeEntry)>,
    pub versions: Vec<(VersionId, VersionEntry)>,
    pub lines: Vec<(LineId, LineEntry)>,
    pub snapshots: Vec<(SnapshotId, SnapshotEntry)>,
}

/// The versions of a snapshot, in the order of its volumes.
pub(crate) fn members_of(snapshot: &SnapshotEntry) -> impl Iterator<Item = VersionId> + use<> {
    let first = snapshot.first_version.0;
    (first..first.saturating_add(snapshot.count.into())).map(VersionId)
}

/// How keys lie in a catalog tree: a series of neighbours is found once, at its end.
pub(crate) fn keys_of(changed: &BTreeSet<CatalogKey>) -> Keys {
    let mut keys = Keys::default();
    let mut before = None;
    for key in changed.iter().map(|key| key.encode()) {
        match before {
            // Series of another kind begin far away.
            Some(before) if key.abs_diff(before) < NEIGHBOURS => keys.beside += 1,
            _ => keys.scattered += 1,
        }
        before = Some(key);
    }
    keys
}

/// Keys nearer than this share a page more often than not, or lie on pages next to each other.
const NEIGHBOURS: u64 = 4;

impl Folded {
    /// Applies a change that concerns names and numbers alone.
    pub(crate) fn apply(&mut self, change: &Descriptor) {
        match change {
            Descriptor::CreateDot { dot, name } => {
                self.put_dot(*dot, DotEntry { name: name.clone(), ..DotEntry::default() });
            }
            Descriptor::CreateVolume { volume, dot, line, size_bytes, compression, name } => {
                let entry = VolumeEntry {
                    dot: *dot,
                    line: *line,
                    name: name.clone(),
                    size_bytes: *size_bytes,
                    compression: *compression,
                    ..VolumeEntry::default()
                };
                self.put_volume(*volume, entry);
            }
            Descriptor::ResizeVolume { volume, size_bytes, .. } => {
                self.change_volume(*volume, |entry| entry.size_bytes = *size_bytes);
            }
            Descriptor::ConfigureVolume { volume, compression } => {
                self.change_volume(*volume, |entry| entry.compression = *compression);
            }
            Descriptor::ConfigureSnapshot(cut) => {
                if let Some(entry) = self.snapshots.get_mut(&cut.snapshot) {
                    entry.protected = cut.protected;
                    entry.expires_ns = cut.expires_ns;
                    self.changed.insert(CatalogKey::Snapshot(cut.snapshot));
                }
            }
            other => unreachable!("{other:?} changes more than names and numbers"),
        }
    }

    pub(crate) fn put_dot(&mut self, id: DotId, entry: DotEntry) {
        self.dots.insert(id, entry);
        self.changed.insert(CatalogKey::Dot(id));
    }

    pub(crate) fn remove_dot(&mut self, id: DotId) {
        self.dots.remove(&id);
        self.changed.insert(CatalogKey::Dot(id));
    }

    pub(crate) fn put_volume(&mut self, id: VolumeId, entry: VolumeEntry) {
        self.volumes.insert(id, entry);
        self.changed.insert(CatalogKey::Volume(id));
    }

    pub(crate) fn remove_volume(&mut self, id: VolumeId) {
        self.volumes.remove(&id);
        self.changed.insert(CatalogKey::Volume(id));
    }

    pub(crate) fn put_snapshot(&mut self, id: SnapshotId, entry: SnapshotEntry) {
        self.snapshots.insert(id, entry);
        self.changed.insert(CatalogKey::Snapshot(id));
    }

    pub(crate) fn remove_snapshot(&mut self, id: SnapshotId) -> Option<SnapshotEntry> {
        self.changed.insert(CatalogKey::Snapshot(id));
        self.snapshots.remove(&id)
    }

    /// Those that differ from the last checkpoint.
    pub(crate) fn changed_keys(&self) -> Keys {
        keys_of(&self.changed)
    }

    /// A dot's volumes in the order in which cuts count them.
    pub(crate) fn volumes_of(&self, dot: DotId) -> Vec<VolumeId> {
        self.volumes.iter().filter(|(_, entry)| entry.dot == dot).map(|(id, _)| *id).collect()
    }

    pub(crate) fn snapshots_of(&self, dot: DotId) -> Vec<SnapshotId> {
        self.snapshots.iter().filter(|(_, entry)| entry.dot == dot).map(|(id, _)| *id).collect()
    }

    /// Brings roots and parents of volumes up to date, and answers with the entries that the next checkpoint must store; None
    /// where there is none any more.
    pub(crate) fn take_changed(
        &mut self,
        root: impl Fn(LineId) -> Option<Option<NodeRef>>,
        parent: impl Fn(LineId) -> Option<VersionId>,
    ) -> Vec<(CatalogKey, Option<Vec<u8>>)> {
        for (id, entry) in self.volumes.iter_mut() {
            let root = root(entry.line).unwrap_or(entry.root);
            let parent = parent(entry.line).unwrap_or_default();
            if (entry.root, entry.parent) != (root, parent) {
                (entry.root, entry.parent) = (root, parent);
                self.changed.insert(CatalogKey::Volume(*id));
            }
        }
        let changed = std::mem::take(&mut self.changed);
        let value = |key: &CatalogKey| match key {
            CatalogKey::Dot(id) => self.dots.get(id).map(DotEntry::encode),
            CatalogKey::Volume(id) => self.volumes.get(id).map(VolumeEntry::encode),
            CatalogKey::Snapshot(id) => self.snapshots.get(id).map(SnapshotEntry::encode),
            CatalogKey::Version(_) | CatalogKey::Line(_) => unreachable!("kept with the versions"),
        };
        changed.iter().map(|key| (*key, value(key))).collect()
    }

    fn change_volume(&mut self, id: VolumeId, change: impl FnOnce(&mut VolumeEntry)) {
        if let Some(entry) = self.volumes.get_mut(&id) {
            change(entry);
            self.changed.insert(CatalogKey::Volume(id));
        }
    }
}
