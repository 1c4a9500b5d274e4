//! The catalog, looked for among the pages.
//!
//! A page of the catalog knows what it is, how high it stands, and where the fold was when it was written; the superblock knows
//! where the fold was at both checkpoints. Whatever moves the fold changes the catalog, so the root that was born at a
//! checkpoint's F is that checkpoint's; with the log above it, it says everything. Where both are found they must come to the same, and
//! the one that comes to more is believed. Pages of a checkpoint that never came to its end were born elsewhere, or say the same.
//!
//! A catalog without a name in it is not believed: what is left of one after everything was deleted cannot be told from a part
//! of one that is lost.

use std::cmp::Reverse;

use treering_format::catalog::VersionState;
use treering_format::checkpoint::{Slot, SlotState};
use treering_format::node::NodeRef;
use treering_format::record::Record;
use treering_format::superblock::{CheckpointRef, Superblock};
use treering_format::units::{ContainerId, DotId, LogAddress, SnapshotId};

use super::ground::Ground;
use super::names::Names;
use crate::canary::{self, Canary};
use crate::catalog::Entries;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::log::replay;
use crate::map::{Tree, TreeKind};
use crate::pages::Pages;
use crate::segments::Segments;
use crate::store::load::understand;
use crate::store::open::Table;
use crate::versions::Versions;

/// A catalog that reads whole and makes sense.
pub(super) struct Found {
    pub root: Option<NodeRef>,
    pub entries: Entries,
    pub versions: Versions,
    /// Where the log goes on from it.
    pub from: CheckpointRef,
    /// Why it may not be what it was.
    pub doubt: Option<String>,
}

pub(super) struct Search<'a> {
    pub disk: &'a Disk,
    pub pages: &'a Pages,
    pub superblock: &'a Superblock,
    pub ground: &'a Ground,
}

impl Search<'_> {
    /// The catalog to go on from. `why`: what is wrong with the checkpoints.
    pub(super) async fn catalog(&self, why: &str) -> Result<Found, StoreError> {
        let [newest, older] = self.superblock.checkpoints;
        let (first, second) = match canary::is(Canary::CatalogOfAnyTime) {
            true => (self.oldest(newest).await, None),
            false => (self.of(newest).await, self.of(older).await),
        };
        match (first, second) {
            (Some((first, all)), Some((second, others))) => Ok(match (all.hold(&others), others.hold(&all)) {
                (true, _) => first,
                (false, true) => second,
                (false, false) => {
                    let doubt = Some("the catalogs of both checkpoints do not come to the same".to_owned());
                    Found { doubt, ..first }
                }
            }),
            (Some((found, _)), None) | (None, Some((found, _))) => Ok(found),
            (None, None) => Err(StoreError::BeyondRepair(format!(
                "{why}; and of neither a catalog is left whole, from which the log leads on and in which something has a name"
            ))),
        }
    }

    /// The catalog of a checkpoint, and what it comes to.
    async fn of(&self, checkpoint: CheckpointRef) -> Option<(Found, Names)> {
        if checkpoint.is_absent() {
            return None;
        }
        let from = CheckpointRef { sequence: self.superblock.checkpoints[0].sequence, blob_bytes: 0, ..checkpoint };
        let records = self.log_from(&from).await?;
        let mut best: Option<(Found, Names)> = None;
        for root in self.roots(from.fold) {
            let Some(found) = self.read(root, from).await else { continue };
            let Some(names) = Names::of(&found.entries).after(&records) else { continue };
            // Part of a tree is lower than the tree.
            if best.as_ref().is_some_and(|(best, _)| level(best) > level(&found)) {
                break;
            }
            if best.as_ref().is_none_or(|(best, _)| progress(&found.entries) > progress(&best.entries)) {
                best = Some((found, names));
            }
        }
        best
    }

    /// What may be the root of a catalog of that birth, the highest first. At the beginning there was none.
    fn roots(&self, birth: LogAddress) -> Vec<Option<NodeRef>> {
        if birth.is_none() {
            return vec![None];
        }
        let mut roots: Vec<NodeRef> = self.ground.roots().filter(|root| root.birth == birth).collect();
        roots.sort_by_key(|root| (Reverse(root.level), root.page));
        roots.into_iter().map(Some).collect()
    }

    /// What the canary takes.
    async fn oldest(&self, from: CheckpointRef) -> Option<(Found, Names)> {
        let root = self.ground.roots().min_by_key(|root| root.birth)?;
        let found = self.read(Some(root), from).await?;
        let names = Names::of(&found.entries);
        Some((found, names))
    }

    /// The log from a point on; None if it does not come to the newest checkpoint.
    async fn log_from(&self, from: &CheckpointRef) -> Option<Vec<Record>> {
        let to = self.superblock.checkpoints[0];
        let last = from.next.segment().max(from.fold.segment());
        let state = |state: &SlotState| match state {
            SlotState::Log(id) if *id > last => SlotState::Free,
            state => *state,
        };
        let slots = self.ground.slots.iter().map(|found| Slot { state: state(found), written: true }).collect();
        let segments = segments(self.disk, from, slots, ContainerId(1));
        let replayed = replay::replay(self.disk, self.superblock, from, &Table { segments: &segments }).await;
        let comes_to =
            |record: &Record| (record.header.sequence, record.header.header_crc) == (to.fold_sequence, to.fold_chain);
        let arrives = from.fold_sequence == to.fold_sequence || replayed.records.iter().any(comes_to);
        arrives.then_some(replayed.records)
    }

    /// A whole catalog, or nothing.
    async fn read(&self, root: Option<NodeRef>, from: CheckpointRef) -> Option<Found> {
        let scanned = Tree::open(TreeKind::Catalog, 0, root).scan(self.pages, 0, usize::MAX).await.ok()?;
        let (entries, versions) = understand(scanned).ok()?;
        let is_named = root.is_none() || !entries.dots.is_empty();
        (is_named && is_whole(&entries)).then_some(Found { root, entries, versions, from, doubt: None })
    }
}

/// The table of slots as of a point of the log.
pub(super) fn segments(disk: &Disk, from: &CheckpointRef, slots: Vec<Slot>, next: ContainerId) -> Segments {
    let tree = Tree::empty(TreeKind::Liveness, 0);
    Segments::load(disk.geometry().segment_blocks, slots, tree, from.fold_sequence, next)
}

fn level(found: &Found) -> u8 {
    found.root.map_or(0, |root| root.level)
}

/// While the fold stands, sweeps alone change the catalog: versions go, cursors move, and what is hidden is thinned or swept.
fn progress(entries: &Entries) -> (Reverse<usize>, u128, usize) {
    let versions = || entries.versions.iter().map(|(_, version)| version);
    let cursors = versions().map(|version| u128::from(version.cursor)).sum();
    let begun = versions().filter(|version| version.thinned || version.state == VersionState::Deleting).count();
    (Reverse(entries.versions.len()), cursors, begun)
}

/// Whether nothing that is named is missing: part of a catalog is not a catalog.
fn is_whole(entries: &Entries) -> bool {
    let dot = |id: DotId| entries.dots.iter().any(|(other, _)| *other == id);
    let snapshot = |id: SnapshotId| entries.snapshots.iter().any(|(other, _)| *other == id);
    entries.volumes.iter().all(|(_, volume)| dot(volume.dot))
        && entries.versions.iter().all(|(_, v)| v.state != VersionState::Visible || snapshot(v.snapshot))
        && entries.snapshots.iter().all(|(_, snapshot)| dot(snapshot.dot))
}
