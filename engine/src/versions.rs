//! Versions: volumes as they were at a cut, each with a map of its own that shares pages with its neighbours in time.
//!
//! Which block and which page belongs to which of them is the tree's to say (`tree`); it knows neither maps nor pages. Here
//! the tree's nodes get their maps, and what a checkpoint must store of them is remembered. A version is never changed; it is
//! given back as a whole when nothing names it.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treering_format::catalog::{CatalogKey, LineEntry, VersionEntry, VersionState};
use treering_format::units::{LineId, LogAddress, SnapshotId, VersionId, VolumeId};

use crate::canary::{self, Canary};
use crate::catalog::keys_of;
use crate::line::Lines;
use crate::log::Keys;
use crate::map::ExtentMap;

mod lines;
mod sizes;
mod sweep;
pub(crate) use sweep::pace;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod view;

use lines::Origins;
use tree::{NodeId, VersionLife, VersionTree};
pub(crate) use view::{FrozenView, Look, Source};

pub(crate) struct Versions(RefCell<State>);

struct State {
    tree: VersionTree,
    nodes: BTreeMap<VersionId, Version>,
    origins: Origins,
    /// Versions and lines that differ from the last checkpoint.
    changed: BTreeSet<CatalogKey>,
    thinning: sweep::Thinning,
}

/// A folded version.
#[derive(Clone)]
pub(crate) struct Version {
    pub map: ExtentMap,
    pub line: LineId,
    pub volume: VolumeId,
    /// 0: of a removed volume.
    pub snapshot: SnapshotId,
    /// Bytes.
    pub size: u64,
    pub compression: u8,
    pub name: Rc<str>,
    pub hole_floor: LogAddress,
}

impl Versions {
    /// Takes a checkpoint's versions, and the heads with their parents.
    pub(crate) fn load(
        entries: &[(VersionId, VersionEntry)],
        lines: &[(LineId, LineEntry)],
        heads: Vec<(LineId, Option<VersionId>)>,
    ) -> Result<Versions, String> {
        let mut origins = Origins::default();
        heads.iter().for_each(|(line, _)| origins.hold(*line));
        lines.iter().for_each(|(line, entry)| origins.fork(*line, *entry));
        let mut names: BTreeMap<VolumeId, Rc<str>> = BTreeMap::new();
        let mut frozen = Vec::new();
        let mut nodes = BTreeMap::new();
        for (id, entry) in entries {
            let thinned = entry.thinned;
            let life = match entry.state {
                VersionState::Visible => VersionLife::Visible,
                VersionState::Hidden => VersionLife::Hidden { thinned },
                VersionState::Deleting => VersionLife::Deleting { cursor: entry.cursor, thinned },
            };
            frozen.push((*id, (entry.parent.0 != 0).then_some(entry.parent), entry.position, life));
            origins.hold(entry.line);
            let name = names.entry(entry.volume).or_insert_with(|| entry.name.as_str().into());
            if **name != *entry.name {
                *name = entry.name.as_str().into();
            }
            let version = Version {
                map: ExtentMap::open(entry.line.0, entry.root),
                line: entry.line,
                volume: entry.volume,
                snapshot: entry.snapshot,
                size: entry.size_bytes,
                compression: entry.compression,
                name: Rc::clone(name),
                hole_floor: entry.hole_floor,
            };
            nodes.insert(*id, version);
        }
        let tree = VersionTree::load(frozen, heads)?;
        Ok(Versions(RefCell::new(State {
            tree,
            nodes,
            origins,
            changed: BTreeSet::new(),
            thinning: sweep::Thinning::default(),
        })))
    }

    pub(crate) fn tree(&self) -> RefMut<'_, VersionTree> {
        RefMut::map(self.0.borrow_mut(), |state| &mut state.tree)
    }

    /// A line begins: empty, or as a version that was made on another line.
    pub(crate) fn new_head(&self, line: LineId, parent: Option<VersionId>) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        state.tree.new_head(line, parent);
        state.origins.hold(line);
        if let Some(parent) = parent {
            let fork_position = state.tree.get(parent).map_or(LogAddress::NONE, |version| version.position);
            let parent_line = state.nodes[&parent].line;
            state.origins.fork(line, LineEntry { parent_line, fork_position });
            state.changed.insert(CatalogKey::Line(line));
        }
    }

    /// A head's map as of `position` is a version now. The head goes on from it, unless it `ends`.
    pub(crate) fn freeze(&self, id: VersionId, mut version: Version, position: LogAddress, ends: bool) {
        let mut state = self.0.borrow_mut();
        let line = version.line;
        if let Some(before) = state.tree.parent(NodeId::Head(line)).and_then(|parent| state.nodes.get(&parent))
            && before.name == version.name
        {
            version.name = Rc::clone(&before.name);
        }
        if ends {
            state.tree.freeze_head(line, id, position);
        } else {
            state.tree.snapshot(line, id, position);
            state.origins.hold(line);
        }
        state.nodes.insert(id, version);
        state.changed.insert(CatalogKey::Version(id));
    }

    /// Nothing names the version any more.
    pub(crate) fn delete(&self, id: VersionId) {
        let mut state = self.0.borrow_mut();
        state.tree.delete(id);
        state.changed.insert(CatalogKey::Version(id));
    }

    /// What the checkpoint stores of a version has changed.
    pub(crate) fn mark_changed(&self, id: VersionId) {
        self.0.borrow_mut().changed.insert(CatalogKey::Version(id));
    }

    /// A swept version goes, after the tree has let it go.
    pub(crate) fn remove(&self, id: VersionId) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let Some(version) = state.nodes.remove(&id) else { return };
        state.changed.insert(CatalogKey::Version(id));
        let changed = &mut state.changed;
        state.origins.release(version.line, &mut |line| {
            changed.insert(CatalogKey::Line(line));
        });
    }

    pub(crate) fn get(&self, id: VersionId) -> Option<Version> {
        self.0.borrow().nodes.get(&id).cloned()
    }

    /// A version has another map from now on, which shows the same. For a repair.
    pub(crate) fn put_map(&self, id: VersionId, map: ExtentMap) {
        let mut state = self.0.borrow_mut();
        if let Some(version) = state.nodes.get_mut(&id) {
            version.map = map;
            state.changed.insert(CatalogKey::Version(id));
        }
    }

    /// The lines that hold what a line shows as of `limit`: itself, and those it was forked from, each with the last address that
    /// counts.
    pub(crate) fn lines_of(&self, line: LineId, limit: LogAddress) -> Vec<(LineId, LogAddress)> {
        let state = self.0.borrow();
        let mut path = vec![(line, limit)];
        while let Some((line, limit)) = path.last().copied()
            && let Some(entry) = state.origins.entry(line)
            && path.iter().all(|(known, _)| *known != entry.parent_line)
        {
            path.push((entry.parent_line, limit.min(entry.fork_position)));
        }
        path
    }

    pub(crate) fn ids(&self) -> Vec<VersionId> {
        self.0.borrow().nodes.keys().copied().collect()
    }

    pub(crate) fn parent_of_head(&self, line: LineId) -> Option<VersionId> {
        self.0.borrow().tree.parent(NodeId::Head(line))
    }

    /// Versions that are being swept or wait for it.
    pub(crate) fn sweeps(&self) -> u64 {
        self.0.borrow().tree.waiting() as u64
    }

    /// Entries of the catalog that differ from the last checkpoint.
    pub(crate) fn changed_keys(&self) -> Keys {
        keys_of(&self.0.borrow().changed)
    }

    /// Whether a line began as a version of another.
    pub(crate) fn is_forked(&self, line: LineId) -> bool {
        self.0.borrow().origins.entry(line).is_some()
    }

    /// The map of a head or a version.
    pub(crate) fn map(&self, node: NodeId, lines: &Lines) -> Option<ExtentMap> {
        match node {
            NodeId::Head(line) => lines.get(line).map(|line| line.map.borrow().clone()),
            NodeId::Frozen(id) => self.0.borrow().nodes.get(&id).map(|version| version.map.clone()),
        }
    }

    /// Entries of the catalog that the next checkpoint must store: versions and lines; None where there is none any more.
    pub(crate) fn take_changed(&self) -> Vec<(CatalogKey, Option<Vec<u8>>)> {
        let mut state = self.0.borrow_mut();
        let changed = std::mem::take(&mut state.changed);
        let value = |key: &CatalogKey| match key {
            CatalogKey::Version(id) => state.entry(*id).map(|entry| entry.encode()),
            CatalogKey::Line(line) => state.origins.entry(*line).map(|entry| entry.encode()),
            _ => unreachable!("only versions and lines are kept here"),
        };
        changed.iter().map(|key| (*key, value(key))).collect()
    }
}

impl State {
    fn entry(&self, id: VersionId) -> Option<VersionEntry> {
        let version = self.nodes.get(&id)?;
        let (state, thinned, cursor) = match self.tree.get(id)?.life {
            VersionLife::Visible => (VersionState::Visible, false, 0),
            VersionLife::Hidden { thinned } => (VersionState::Hidden, thinned, 0),
            VersionLife::Deleting { cursor, thinned } => (VersionState::Deleting, thinned, cursor),
        };
        let cursor = if canary::is(Canary::CursorForgotten) { 0 } else { cursor };
        Some(VersionEntry {
            state,
            thinned,
            snapshot: version.snapshot,
            volume: version.volume,
            line: version.line,
            parent: self.tree.parent(NodeId::Frozen(id)).unwrap_or_default(),
            position: self.tree.get(id)?.position,
            cursor,
            size_bytes: version.size,
            compression: version.compression,
            hole_floor: version.hole_floor,
            root: version.map.stored_root(),
            name: version.name.to_string(),
        })
    }
}
