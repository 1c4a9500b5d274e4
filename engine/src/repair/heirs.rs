//! What is doubtful of a volume is doubtful of every snapshot, fork and reset that the log makes of it above the checkpoint:
//! they are not folded yet and have no map of their own, but they will show the same.

use std::collections::BTreeMap;

use treering_format::record::Descriptor;
use treering_format::units::{DotId, LineId, SnapshotId, VersionId, VolumeId};

use super::rebuild::bytes_of;
use crate::catalog::{Catalog, members_of};
use crate::scrub::Damaged;
use crate::store::Core;
use crate::versions::Source;
use crate::versions::tree::NodeId;

/// Ranges of blocks that are only a guess, by whose they are.
#[derive(Default)]
pub(super) struct Doubts(BTreeMap<NodeId, Vec<Doubt>>);

#[derive(Clone)]
struct Doubt {
    range: (u64, u64),
    why: String,
}

/// Everything that can be opened, by name.
pub(super) fn names(core: &Core) -> Vec<String> {
    shown(&core.catalog.borrow()).into_iter().map(|(_, name, _)| name).collect()
}

/// With name and size in bytes.
fn shown(catalog: &Catalog) -> Vec<(NodeId, String, u64)> {
    let mut found = Vec::new();
    for (dot, name, volume) in catalog.dots.iter().flat_map(|(dot, d)| d.volumes.iter().map(move |(n, v)| (dot, n, v)))
    {
        if let Source::Head(line) = &volume.state.source {
            found.push((NodeId::Head(line.id), format!("{dot}.{name}"), volume.state.size.get()));
        }
    }
    for (snapshot, member) in catalog.snapshots.values().flat_map(|s| s.members.iter().map(move |member| (s, member))) {
        let name = format!("{}.{}@{}", catalog.dot_name(snapshot.dot), member.name, snapshot.name);
        found.push((NodeId::Frozen(member.version), name, member.size));
    }
    found
}

/// The catalog as it changes from cut to cut.
struct Names {
    volumes: BTreeMap<VolumeId, (DotId, LineId)>,
    snapshots: BTreeMap<SnapshotId, Vec<VersionId>>,
}

impl Doubts {
    pub(super) fn add(&mut self, node: NodeId, range: (u64, u64), why: String) {
        self.0.entry(node).or_default().push(Doubt { range, why });
    }

    /// Follows the cuts that wait for the fold, and names everything that can be opened afterwards.
    pub(super) fn named(mut self, core: &Core) -> Vec<Damaged> {
        let catalog = core.catalog.borrow();
        let mut names = Names {
            volumes: catalog.folded.volumes.iter().map(|(id, volume)| (*id, (volume.dot, volume.line))).collect(),
            snapshots: catalog.folded.snapshots.iter().map(|(id, s)| (*id, members_of(s).collect())).collect(),
        };
        for cut in core.fold.borrow().cuts.iter() {
            self.follow(&cut.change, &mut names);
        }
        let mut found = Vec::new();
        for (node, name, size) in shown(&catalog) {
            for Doubt { range, why } in self.0.get(&node).into_iter().flatten() {
                let bytes = bytes_of(*range, size);
                found.extend(bytes.map(|bytes| Damaged { name: name.clone(), bytes: Some(bytes), what: why.clone() }));
            }
        }
        found
    }

    fn follow(&mut self, change: &Descriptor, names: &mut Names) {
        match change {
            Descriptor::CreateVolume { volume, dot, line, .. } => drop(names.volumes.insert(*volume, (*dot, *line))),
            Descriptor::RemoveVolume { volume, .. } => drop(names.volumes.remove(volume)),
            Descriptor::RemoveDot { dot, .. } => names.volumes.retain(|_, (of, _)| of != dot),
            Descriptor::Snapshot(cut) => {
                let mut version = cut.first_version.0;
                for (i, dot) in cut.dots.iter().enumerate() {
                    let versions = (version..).map(VersionId).take(dot.volumes.len());
                    let lines = dot.volumes.iter().map(|volume| names.volumes.get(volume).map(|(_, line)| *line));
                    let members = self.freeze(lines, versions);
                    names.snapshots.insert(SnapshotId(cut.first_snapshot.0 + i as u64), members);
                    version += dot.volumes.len() as u64;
                }
            }
            Descriptor::Reset(cut) => {
                let old = names.volumes.extract_if(.., |_, (dot, _)| *dot == cut.dot);
                let lines: Vec<LineId> = old.map(|(_, (_, line))| line).collect();
                let versions = (cut.first_version.0..).map(VersionId);
                let members = self.freeze(lines.into_iter().map(Some), versions);
                names.snapshots.insert(cut.reflog_snapshot, members);
                self.begin(cut.dot, cut.source, (cut.first_volume, cut.first_line), names);
            }
            Descriptor::Fork(cut) => self.begin(cut.dot, cut.source, (cut.first_volume, cut.first_line), names),
            _ => {}
        }
    }

    /// The heads of these lines become versions, in order.
    fn freeze(
        &mut self,
        lines: impl Iterator<Item = Option<LineId>>,
        versions: impl Iterator<Item = VersionId>,
    ) -> Vec<VersionId> {
        let pass = |(line, version): (Option<LineId>, VersionId)| {
            if let Some(line) = line {
                self.pass(NodeId::Head(line), NodeId::Frozen(version));
            }
            version
        };
        lines.zip(versions).map(pass).collect()
    }

    /// A dot's volumes begin as the members of a snapshot.
    fn begin(&mut self, dot: DotId, source: SnapshotId, (volume, line): (VolumeId, LineId), names: &mut Names) {
        for (i, member) in names.snapshots.get(&source).into_iter().flatten().enumerate() {
            let (volume, line) = (VolumeId(volume.0 + i as u64), LineId(line.0 + i as u64));
            self.pass(NodeId::Frozen(*member), NodeId::Head(line));
            names.volumes.insert(volume, (dot, line));
        }
    }

    fn pass(&mut self, from: NodeId, to: NodeId) {
        if let Some(doubts) = self.0.get(&from).cloned() {
            self.0.insert(to, doubts);
        }
    }
}
