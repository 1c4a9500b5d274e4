//! Which dots, volumes and snapshots there are once the log was applied to a catalog.
//!
//! Every catalog of the store, with the log above it, must come to the same. A page that is only part of a catalog, its root being
//! lost, can look like a small one; it comes to less.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::record::{Descriptor, Record};
use treering_format::units::{DotId, LineId, SnapshotId, VolumeId};

use crate::catalog::Entries;

#[derive(Clone, Default)]
pub(super) struct Names {
    dots: BTreeSet<DotId>,
    volumes: BTreeMap<VolumeId, DotId>,
    snapshots: BTreeMap<SnapshotId, DotId>,
    /// Lines that anything was written to, or may have been.
    lines: BTreeSet<LineId>,
}

impl Names {
    pub(super) fn of(entries: &Entries) -> Names {
        Names {
            dots: entries.dots.iter().map(|(id, _)| *id).collect(),
            volumes: entries.volumes.iter().map(|(id, volume)| (*id, volume.dot)).collect(),
            snapshots: entries.snapshots.iter().map(|(id, snapshot)| (*id, snapshot.dot)).collect(),
            lines: entries.volumes.iter().map(|(_, volume)| volume.line).collect(),
        }
    }

    /// Whether the other ones are all among these.
    pub(super) fn hold(&self, other: &Names) -> bool {
        let volumes = |names: &Names| names.volumes.keys().copied().collect::<BTreeSet<_>>();
        let snapshots = |names: &Names| names.snapshots.keys().copied().collect::<BTreeSet<_>>();
        self.dots.is_superset(&other.dots)
            && volumes(self).is_superset(&volumes(other))
            && snapshots(self).is_superset(&snapshots(other))
    }

    /// These names after the log; None if the log writes to what they do not have.
    pub(super) fn after(mut self, records: &[Record]) -> Option<Names> {
        let told = records.iter().flat_map(|record| &record.descriptors).all(|descriptor| self.follow(descriptor));
        told.then_some(self)
    }

    fn follow(&mut self, change: &Descriptor) -> bool {
        match change {
            Descriptor::Data(data) => return self.lines.contains(&data.line),
            Descriptor::Hole { line, .. } | Descriptor::Zero { line, .. } => return self.lines.contains(line),
            Descriptor::CreateDot { dot, .. } => drop(self.dots.insert(*dot)),
            Descriptor::RemoveDot { dot, .. } => {
                self.volumes.retain(|_, of| of != dot);
                self.snapshots.retain(|_, of| of != dot);
                return self.dots.remove(dot);
            }
            Descriptor::CreateVolume { volume, dot, line, .. } => {
                self.volumes.insert(*volume, *dot);
                self.lines.insert(*line);
            }
            Descriptor::RemoveVolume { volume, .. } => return self.volumes.remove(volume).is_some(),
            Descriptor::ResizeVolume { volume, .. } | Descriptor::ConfigureVolume { volume, .. } => {
                return self.volumes.contains_key(volume);
            }
            Descriptor::Snapshot(cut) => {
                let new = (cut.first_snapshot.0..).map(SnapshotId).zip(cut.dots.iter().map(|part| part.dot));
                self.snapshots.extend(new);
            }
            Descriptor::DeleteSnapshots { snapshots } => {
                return snapshots.iter().all(|id| self.snapshots.remove(id).is_some());
            }
            Descriptor::ConfigureSnapshot(cut) => return self.snapshots.contains_key(&cut.snapshot),
            Descriptor::Fork(cut) => {
                self.dots.insert(cut.dot);
                self.begin(cut.dot, cut.volume_count, cut.first_volume, cut.first_line);
                return self.snapshots.contains_key(&cut.source);
            }
            Descriptor::Reset(cut) => {
                self.volumes.retain(|_, dot| *dot != cut.dot);
                self.snapshots.insert(cut.reflog_snapshot, cut.dot);
                self.begin(cut.dot, cut.volume_count, cut.first_volume, cut.first_line);
                return self.snapshots.contains_key(&cut.source);
            }
        }
        true
    }

    fn begin(&mut self, dot: DotId, count: u32, volume: VolumeId, line: LineId) {
        let count = u64::from(count);
        self.volumes.extend((volume.0..volume.0.saturating_add(count)).map(|id| (VolumeId(id), dot)));
        self.lines.extend((line.0..line.0.saturating_add(count)).map(LineId));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treering_format::catalog::{DotEntry, VolumeEntry};
    use treering_format::record::{Record, RecordHeader, SnapshotCut, SnapshotDot};
    use treering_format::units::BlockIndex;

    fn entries(volumes: &[u64]) -> Entries {
        let of = |id: &u64| (VolumeId(*id), VolumeEntry { dot: DotId(1), line: LineId(*id), ..VolumeEntry::default() });
        Entries {
            dots: vec![(DotId(1), DotEntry::default())],
            volumes: volumes.iter().map(of).collect(),
            ..Entries::default()
        }
    }

    fn record(descriptors: Vec<Descriptor>) -> Record {
        Record { header: RecordHeader::default(), descriptors }
    }

    fn after(volumes: &[u64], log: &[Record]) -> Option<Names> {
        Names::of(&entries(volumes)).after(log)
    }

    #[test]
    fn a_catalog_and_an_older_one_with_the_log_above_it_come_to_the_same() {
        let create = Descriptor::CreateVolume {
            volume: VolumeId(2),
            dot: DotId(1),
            line: LineId(2),
            size_bytes: 4096,
            compression: 0,
            name: "w".into(),
        };
        let part = SnapshotDot { dot: DotId(1), volumes: vec![VolumeId(1)], ..SnapshotDot::default() };
        let snapshot = Descriptor::Snapshot(SnapshotCut {
            first_snapshot: SnapshotId(7),
            dots: vec![part],
            ..SnapshotCut::default()
        });
        let log = [
            record(vec![create]),
            record(vec![snapshot]),
            record(vec![Descriptor::DeleteSnapshots { snapshots: vec![SnapshotId(7)] }]),
        ];
        let (newest, older) = (after(&[1, 2], &[]).expect("no log"), after(&[1], &log).expect("all is known"));
        assert!(newest.hold(&older) && older.hold(&newest));
    }

    #[test]
    fn part_of_a_catalog_comes_to_less_or_lacks_what_the_log_writes_to() {
        let (whole, part) = (after(&[1, 2], &[]).expect("no log"), after(&[1], &[]).expect("no log"));
        assert!(whole.hold(&part) && !part.hold(&whole));
        let written = [record(vec![Descriptor::Hole { line: LineId(2), block: BlockIndex(0), count: 1 }])];
        assert!(after(&[1, 2], &written).is_some() && after(&[1], &written).is_none());
    }
}
