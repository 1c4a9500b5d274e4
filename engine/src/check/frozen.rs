//! The store as of one moment: everything folded that was published before, and nothing after.

use std::rc::Rc;

use treering_format::superblock::CheckpointRef;
use treering_format::units::LogAddress;

use crate::error::CheckError;
use crate::map::{ExtentMap, Tree};
use crate::pages::PageSet;
use crate::pin::Pin;
use crate::segments::FrozenSegments;
use crate::store::Core;
use crate::versions::Source;
use crate::versions::tree::{NodeId, VersionLife};

pub(super) struct Frozen {
    /// In an order in which what must be live comes before what may be, and what is half given back last.
    pub roots: Vec<Root>,
    /// The catalog and its second tree.
    pub catalogs: [Tree; 2],
    pub segments: FrozenSegments,
    /// Pages that count as used.
    pub used: PageSet,
    pub newest: CheckpointRef,
    /// Of the version tree.
    pub contradictions: Vec<String>,
    pub snapshots: u64,
    /// What is shown here is not given out while it lives.
    pub pin: Pin,
}

/// A map that the store keeps, and what it says about liveness.
pub(crate) struct Root {
    pub name: String,
    pub node: NodeId,
    pub map: ExtentMap,
    pub kind: RootKind,
    /// Bytes; None for what nobody can read any more.
    pub size: Option<u64>,
    /// Of a version: its place in the log. None for a head.
    pub cut: Option<LogAddress>,
    /// What begins below this block was given back, whatever the map says.
    pub from: u64,
    /// Some of what it shows may have been given back.
    pub thinned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RootKind {
    Head,
    Visible,
    Hidden,
    Deleting,
}

impl Core {
    /// Folds what is published, and takes all roots. The fold may go on at once.
    pub(super) async fn freeze_for_check(self: &Rc<Core>) -> Result<Frozen, CheckError> {
        let _turn = self.folded().await?;
        // From here on nothing waits.
        let tree = self.versions.tree().check();
        Ok(Frozen {
            roots: self.roots(),
            catalogs: [self.catalog_tree.borrow().clone(), self.catalog_mirror.borrow().clone()],
            segments: self.segments.frozen(),
            used: self.pages.used(),
            newest: self.newest.get(),
            contradictions: tree,
            snapshots: self.catalog.borrow().folded.snapshots.len() as u64,
            pin: self.pins.pin(),
        })
    }

    /// Every map, as folded.
    pub(crate) fn roots(&self) -> Vec<Root> {
        let catalog = self.catalog.borrow();
        let mut roots = Vec::new();
        // A fork that the fold has not reached has nothing of its own yet.
        for line in self.lines.all().into_iter().filter(|line| !line.borrowed.get()) {
            let of_line = |source: &Source| matches!(source, Source::Head(head) if head.id == line.id);
            let volumes =
                catalog.dots.iter().flat_map(|(dot, d)| d.volumes.iter().map(move |(name, v)| (dot, name, v)));
            let volume = volumes.into_iter().find(|(_, _, volume)| of_line(&volume.state.source));
            let (name, size) = match volume {
                Some((dot, name, volume)) => (format!("{dot}.{name}"), Some(volume.state.size.get())),
                None => (format!("a removed volume on line {}", line.id), None),
            };
            let map = line.map.borrow().clone();
            let node = NodeId::Head(line.id);
            roots.push(Root { name, node, map, kind: RootKind::Head, size, cut: None, from: 0, thinned: false });
        }
        for id in self.versions.ids() {
            let place = self.versions.tree().get(id).map(|version| (version.life, version.position));
            let (Some(version), Some((life, position))) = (self.versions.get(id), place) else { continue };
            let (kind, from, thinned) = match life {
                VersionLife::Visible => (RootKind::Visible, 0, false),
                VersionLife::Hidden { thinned } => (RootKind::Hidden, 0, thinned),
                VersionLife::Deleting { cursor, thinned } => (RootKind::Deleting, cursor, thinned),
            };
            let name = match catalog.snapshots.get(&version.snapshot) {
                Some(snapshot) => format!("{}.{}@{}", catalog.dot_name(snapshot.dot), version.name, snapshot.name),
                None => format!("version {id}, once volume {},", version.name),
            };
            let size = (kind == RootKind::Visible).then_some(version.size);
            let node = NodeId::Frozen(id);
            roots.push(Root { name, node, map: version.map, kind, size, cut: Some(position), from, thinned });
        }
        roots.sort_by_key(|root| (root.thinned, root.from > 0, root.size.is_none()));
        roots
    }
}
