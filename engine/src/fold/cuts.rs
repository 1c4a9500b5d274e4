//! Cuts: changes of the catalog, applied where they stand in the log.
//!
//! A line that a cut freezes is merged up to the cut and no further, and its map is written out: a tree is shared with a version
//! only when every node of it has a page, so no page belongs to two trees without saying since when.

use std::rc::Rc;

use treering_format::catalog::{DotEntry, SnapshotEntry, VolumeEntry};
use treering_format::record::{Descriptor, ForkCut, ResetCut, SnapshotCut};
use treering_format::units::{DotId, LineId, LogAddress, SnapshotId, VersionId, VolumeId};

use super::Cut;
use crate::catalog::members_of;
use crate::line::Line;
use crate::log::Published;
use crate::map::ExtentMap;
use crate::overlay::Layer;
use crate::pages::PageError;
use crate::store::Core;
use crate::versions::Version;

/// What a frozen head becomes.
struct Becomes {
    version: VersionId,
    snapshot: SnapshotId,
}

impl Core {
    pub(super) async fn apply_cut(&self, cut: &Cut) -> Result<(), PageError> {
        let at = cut.at;
        match &cut.change {
            Descriptor::CreateVolume { line, .. } => {
                self.versions.new_head(*line, None);
                self.catalog.borrow_mut().folded.apply(&cut.change);
            }
            Descriptor::RemoveVolume { volume, version } => self.fold_removal(*volume, *version, at).await?,
            Descriptor::RemoveDot { dot, first_version } => self.fold_dot_removal(*dot, *first_version, at).await?,
            Descriptor::Snapshot(snapshot) => self.fold_snapshot(snapshot, at).await?,
            Descriptor::DeleteSnapshots { snapshots } => snapshots.iter().for_each(|id| self.fold_deletion(*id)),
            Descriptor::Fork(fork) => self.fold_fork(fork)?,
            Descriptor::Reset(reset) => self.fold_reset(reset, at).await?,
            change => self.catalog.borrow_mut().folded.apply(change),
        }
        Ok(())
    }

    async fn fold_snapshot(&self, cut: &SnapshotCut, at: Published) -> Result<(), PageError> {
        let mut version = cut.first_version.0;
        for (i, dot) in cut.dots.iter().enumerate() {
            let snapshot = SnapshotId(cut.first_snapshot.0 + i as u64);
            let first_version = VersionId(version);
            for volume in &dot.volumes {
                let becomes = Becomes { version: VersionId(version), snapshot };
                self.freeze(*volume, becomes, at, false).await?;
                version += 1;
            }
            let entry = SnapshotEntry {
                name: cut.name.clone(),
                protected: cut.protected,
                reflog: cut.reflog,
                public: dot.public,
                dot: dot.dot,
                created_ns: cut.time_ns,
                expires_ns: cut.expires_ns,
                first_version,
                count: dot.volumes.len() as u32,
            };
            self.catalog.borrow_mut().folded.put_snapshot(snapshot, entry);
        }
        Ok(())
    }

    async fn fold_reset(&self, cut: &ResetCut, at: Published) -> Result<(), PageError> {
        let old = self.catalog.borrow().folded.volumes_of(cut.dot);
        for (i, volume) in old.iter().enumerate() {
            let version = VersionId(cut.first_version.0 + i as u64);
            let line = self.freeze(*volume, Becomes { version, snapshot: cut.reflog_snapshot }, at, true).await?;
            self.lines.remove(line);
            self.catalog.borrow_mut().folded.remove_volume(*volume);
        }
        let entry = SnapshotEntry {
            name: cut.name.clone(),
            protected: false,
            reflog: true,
            public: cut.public,
            dot: cut.dot,
            created_ns: cut.time_ns,
            expires_ns: cut.expires_ns,
            first_version: cut.first_version,
            count: old.len() as u32,
        };
        self.catalog.borrow_mut().folded.put_snapshot(cut.reflog_snapshot, entry);
        self.begin_heads(cut.dot, cut.source, cut.first_volume, cut.first_line)
    }

    fn fold_fork(&self, cut: &ForkCut) -> Result<(), PageError> {
        let entry = DotEntry { name: cut.name.clone(), expires_ns: cut.expires_ns, forked_from: cut.source };
        self.catalog.borrow_mut().folded.put_dot(cut.dot, entry);
        self.begin_heads(cut.dot, cut.source, cut.first_volume, cut.first_line)
    }

    /// Makes the volumes of a dot begin as the members of a snapshot.
    fn begin_heads(
        &self,
        dot: DotId,
        source: SnapshotId,
        first_volume: VolumeId,
        first_line: LineId,
    ) -> Result<(), PageError> {
        let members = self.catalog.borrow().folded.snapshots.get(&source).map(members_of);
        for (i, id) in members.into_iter().flatten().enumerate() {
            let from = self.versions.get(id).ok_or_else(|| unknown("version", id.0))?;
            let (volume, line_id) = (VolumeId(first_volume.0 + i as u64), LineId(first_line.0 + i as u64));
            let line = self.lines.get(line_id).ok_or_else(|| unknown("line", line_id.0))?;
            // From here on nothing waits: the line shows the version's own map where it showed its layers.
            *line.map.borrow_mut() = from.map.owned_by(line_id.0);
            self.pass(line.overlay.borrow_mut().drop_base());
            line.borrowed.set(false);
            self.versions.new_head(line_id, Some(id));
            let entry = VolumeEntry {
                dot,
                line: line_id,
                name: from.name.to_string(),
                size_bytes: from.size,
                compression: from.compression,
                hole_floor: from.hole_floor,
                parent: id,
                root: from.map.stored_root(),
            };
            self.catalog.borrow_mut().folded.put_volume(volume, entry);
        }
        Ok(())
    }

    /// Its blocks that were not merged yet never became live.
    async fn fold_removal(&self, volume: VolumeId, version: VersionId, at: Published) -> Result<(), PageError> {
        let line = self.line_of(volume)?.1;
        self.pass(line.overlay.borrow_mut().drop_all());
        let line = self.freeze(volume, Becomes { version, snapshot: SnapshotId(0) }, at, true).await?;
        self.lines.remove(line);
        self.catalog.borrow_mut().folded.remove_volume(volume);
        self.versions.delete(version);
        Ok(())
    }

    async fn fold_dot_removal(&self, dot: DotId, first: VersionId, at: Published) -> Result<(), PageError> {
        let volumes = self.catalog.borrow().folded.volumes_of(dot);
        for (i, volume) in volumes.into_iter().enumerate() {
            self.fold_removal(volume, VersionId(first.0 + i as u64), at).await?;
        }
        let snapshots = self.catalog.borrow().folded.snapshots_of(dot);
        snapshots.into_iter().for_each(|id| self.fold_deletion(id));
        self.catalog.borrow_mut().folded.remove_dot(dot);
        Ok(())
    }

    fn fold_deletion(&self, snapshot: SnapshotId) {
        let entry = self.catalog.borrow_mut().folded.remove_snapshot(snapshot);
        for version in entry.iter().flat_map(members_of) {
            self.versions.delete(version);
        }
    }

    /// Makes a volume as of the cut a version. Returns the line it lies on; the head goes on from the version unless it `ends`.
    async fn freeze(&self, volume: VolumeId, becomes: Becomes, at: Published, ends: bool) -> Result<LineId, PageError> {
        let (entry, line) = self.line_of(volume)?;
        self.merge_up_to(&line, at.order).await?;
        let map = self.freeze_map(&line, at.position).await?;
        let version = Version {
            map: map.clone(),
            line: line.id,
            volume,
            snapshot: becomes.snapshot,
            size: entry.size_bytes,
            compression: entry.compression,
            name: entry.name.as_str().into(),
            hole_floor: entry.hole_floor,
        };
        self.versions.freeze(becomes.version, version, at.position, ends);
        self.pass(self.catalog.borrow_mut().folded_version(becomes.snapshot, becomes.version, map));
        Ok(line.id)
    }

    /// A line's map with a page for each of its nodes, all of them born at `position` or before.
    async fn freeze_map(&self, line: &Line, position: LogAddress) -> Result<ExtentMap, PageError> {
        let mut map = line.map.borrow().clone();
        // A store that is only read writes no page, and gives none back: there a tree may be shared as it is.
        if map.dirty_nodes() > 0 && !self.read_only {
            self.ensure_pages(map.dirty_nodes() as u64)?;
            map.write_out(&self.pages, position).await?;
            assert_eq!(map.dirty_nodes(), 0, "a frozen map is written");
            *line.map.borrow_mut() = map.clone();
        }
        Ok(map)
    }

    /// Nobody shows these here any more. They are freed behind the cut.
    fn pass(&self, layers: Vec<Rc<Layer>>) {
        self.fold.borrow_mut().passed.extend(layers);
    }

    fn line_of(&self, volume: VolumeId) -> Result<(VolumeEntry, Rc<Line>), PageError> {
        let entry = self.catalog.borrow().folded.volumes.get(&volume).cloned();
        let entry = entry.ok_or_else(|| unknown("volume", volume.0))?;
        let line = self.lines.get(entry.line).ok_or_else(|| unknown("line", entry.line.0))?;
        Ok((entry, line))
    }
}

/// A cut that was accepted names what is not there: the log contradicts the checkpoint.
fn unknown(kind: &str, id: u64) -> PageError {
    PageError::value_damaged("catalog", id, format!("a change in the log names {kind} {id}, which is not there"))
}
