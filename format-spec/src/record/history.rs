//! Bodies of the descriptors that make and end versions: snapshot, fork, delete, configure, reset.
//!
//! Ids are counted on from a first one, in the order of the lists here and of what is there already: the n-th volume frozen
//! becomes version `first_version + n`. So a cut of a thousand volumes stays short, and replay gives the ids that were given.

use super::descriptor::{STRUCTURE, check_name, name};
use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};
use crate::units::*;

/// Volumes of one snapshot cut, at most.
pub const SNAPSHOT_VOLUMES_MAX: usize = 4000;
/// Snapshots that one descriptor deletes, at most.
pub const DELETE_MAX: usize = 4000;

const PROTECTED: u8 = 1;
const REFLOG: u8 = 2;

/// All volumes named here are frozen at this place of the order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotCut {
    pub name: String,
    pub protected: bool,
    /// Made by a reset of what was there before.
    pub reflog: bool,
    pub first_snapshot: SnapshotId,
    pub first_version: VersionId,
    pub time_ns: u64,
    /// 0: never.
    pub expires_ns: u64,
    /// One snapshot each.
    pub dots: Vec<SnapshotDot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotDot {
    pub dot: DotId,
    pub public: PublicId,
    pub volumes: Vec<VolumeId>,
}

/// A new dot whose volumes begin as the members of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForkCut {
    pub name: String,
    pub dot: DotId,
    pub source: SnapshotId,
    pub first_volume: VolumeId,
    pub first_line: LineId,
    pub time_ns: u64,
    /// 0: never.
    pub expires_ns: u64,
    /// Members of the source.
    pub volume_count: u32,
}

/// A snapshot is protected or not, and goes at a time or never.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigureCut {
    pub snapshot: SnapshotId,
    /// None: as it was.
    pub name: Option<String>,
    pub protected: bool,
    /// 0: never.
    pub expires_ns: u64,
}

/// A dot's volumes become a snapshot, and new ones begin as the members of another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResetCut {
    /// Of the snapshot that keeps what was there.
    pub name: String,
    pub dot: DotId,
    pub source: SnapshotId,
    pub reflog_snapshot: SnapshotId,
    pub public: PublicId,
    pub first_version: VersionId,
    pub first_volume: VolumeId,
    pub first_line: LineId,
    /// Members of the source.
    pub volume_count: u32,
    /// Volumes of the dot before.
    pub old_count: u32,
    pub time_ns: u64,
    /// 0: never.
    pub expires_ns: u64,
}

impl SnapshotCut {
    /// The length of a descriptor for so many dots with so many volumes together, without padding.
    pub fn len_of(dots: usize, volumes: usize, name_bytes: usize) -> usize {
        40 + 32 * dots + 8 * volumes + name_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        Self::len_of(self.dots.len(), self.volume_count(), self.name.len())
    }

    /// Of all dots together.
    pub fn volume_count(&self) -> usize {
        self.dots.iter().map(|dot| dot.volumes.len()).sum()
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(self.name.len() as u8);
        w.u8((if self.protected { PROTECTED } else { 0 }) | (if self.reflog { REFLOG } else { 0 }));
        w.u16(self.dots.len() as u16);
        w.u64(self.first_snapshot.0);
        w.u64(self.first_version.0);
        w.u64(self.time_ns);
        w.u64(self.expires_ns);
        for dot in &self.dots {
            w.u64(dot.dot.0);
            w.bytes(&dot.public.0);
            w.u32(dot.volumes.len() as u32);
            w.zeros(4);
        }
        self.dots.iter().flat_map(|dot| &dot.volumes).for_each(|volume| w.u64(volume.0));
        w.bytes(self.name.as_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name_len = r.u8("name length")?;
        let flags = r.u8("snapshot flags")?;
        require(flags <= PROTECTED | REFLOG, STRUCTURE, "snapshot flags", flags, "0 to 3")?;
        let dot_count = r.u16("dots")?;
        let mut cut = Self {
            protected: flags & PROTECTED != 0,
            reflog: flags & REFLOG != 0,
            first_snapshot: SnapshotId(r.u64("first_snapshot")?),
            first_version: VersionId(r.u64("first_version")?),
            time_ns: r.u64("time_ns")?,
            expires_ns: r.u64("expires_ns")?,
            ..Self::default()
        };
        let mut counts = Vec::new();
        for _ in 0..dot_count {
            let (dot, public) = (DotId(r.u64("dot")?), PublicId(r.array("public_id")?));
            counts.push(r.u32("volumes")?);
            r.skip(4)?;
            cut.dots.push(SnapshotDot { dot, public, volumes: Vec::new() });
        }
        for (dot, count) in cut.dots.iter_mut().zip(counts) {
            dot.volumes = (0..count).map(|_| Ok(VolumeId(r.u64("volume")?))).collect::<Result<_, DecodeError>>()?;
        }
        cut.name = name(r, name_len)?;
        Ok(cut)
    }

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let (dots, volumes) = (self.dots.len(), self.volume_count());
        let some = dots > 0 && self.dots.iter().all(|dot| !dot.volumes.is_empty());
        require(some && volumes <= SNAPSHOT_VOLUMES_MAX, STRUCTURE, "volumes", volumes, "1 to 4000, some of each dot")?;
        let len = self.bytes().next_multiple_of(8);
        require(len <= usize::from(u16::MAX), STRUCTURE, "length", len, "below 65536")?;
        check_name(&self.name)
    }
}

impl ForkCut {
    pub(super) fn bytes(&self) -> usize {
        64 + self.name.len()
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(self.name.len() as u8);
        w.zeros(3);
        w.u64(self.dot.0);
        w.u64(self.source.0);
        w.u64(self.first_volume.0);
        w.u64(self.first_line.0);
        w.u64(self.time_ns);
        w.u64(self.expires_ns);
        w.u32(self.volume_count);
        w.zeros(4);
        w.bytes(self.name.as_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name_len = r.u8("name length")?;
        r.skip(3)?;
        let mut cut = Self {
            name: String::new(),
            dot: DotId(r.u64("dot")?),
            source: SnapshotId(r.u64("source")?),
            first_volume: VolumeId(r.u64("first_volume")?),
            first_line: LineId(r.u64("first_line")?),
            time_ns: r.u64("time_ns")?,
            expires_ns: r.u64("expires_ns")?,
            volume_count: r.u32("volume_count")?,
        };
        r.skip(4)?;
        cut.name = name(r, name_len)?;
        Ok(cut)
    }

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        check_count("volume_count", self.volume_count)?;
        check_name(&self.name)
    }
}

impl ConfigureCut {
    pub(super) fn bytes(&self) -> usize {
        24 + self.name.as_ref().map_or(0, String::len)
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        let name = self.name.as_deref().unwrap_or_default();
        w.u8(name.len() as u8);
        w.u8(if self.protected { PROTECTED } else { 0 });
        w.zeros(2);
        w.u64(self.snapshot.0);
        w.u64(self.expires_ns);
        w.bytes(name.as_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name_len = r.u8("name length")?;
        let flags = r.u8("snapshot flags")?;
        require(flags <= PROTECTED, STRUCTURE, "snapshot flags", flags, "0 or 1")?;
        r.skip(2)?;
        let snapshot = SnapshotId(r.u64("snapshot")?);
        let expires_ns = r.u64("expires_ns")?;
        let name = if name_len == 0 { None } else { Some(name(r, name_len)?) };
        Ok(Self { snapshot, name, protected: flags & PROTECTED != 0, expires_ns })
    }

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        self.name.as_ref().map_or(Ok(()), |name| check_name(name))
    }
}

impl ResetCut {
    pub(super) fn bytes(&self) -> usize {
        96 + self.name.len()
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(self.name.len() as u8);
        w.zeros(3);
        w.u64(self.dot.0);
        w.u64(self.source.0);
        w.u64(self.reflog_snapshot.0);
        w.bytes(&self.public.0);
        w.u64(self.first_version.0);
        w.u64(self.first_volume.0);
        w.u64(self.first_line.0);
        w.u32(self.volume_count);
        w.u32(self.old_count);
        w.u64(self.time_ns);
        w.u64(self.expires_ns);
        w.bytes(self.name.as_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name_len = r.u8("name length")?;
        r.skip(3)?;
        let mut cut = Self {
            name: String::new(),
            dot: DotId(r.u64("dot")?),
            source: SnapshotId(r.u64("source")?),
            reflog_snapshot: SnapshotId(r.u64("reflog_snapshot")?),
            public: PublicId(r.array("public_id")?),
            first_version: VersionId(r.u64("first_version")?),
            first_volume: VolumeId(r.u64("first_volume")?),
            first_line: LineId(r.u64("first_line")?),
            volume_count: r.u32("volume_count")?,
            old_count: r.u32("old_count")?,
            time_ns: r.u64("time_ns")?,
            expires_ns: r.u64("expires_ns")?,
        };
        cut.name = name(r, name_len)?;
        Ok(cut)
    }

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        check_count("volume_count", self.volume_count)?;
        let old = self.old_count;
        require(old as usize <= SNAPSHOT_VOLUMES_MAX, STRUCTURE, "old_count", old, "at most 4000")?;
        check_name(&self.name)
    }
}

pub(super) fn decode_deleted(r: &mut Reader<'_>) -> Result<Vec<SnapshotId>, DecodeError> {
    r.skip(2)?;
    let count = r.u16("snapshots")?;
    (0..count).map(|_| Ok(SnapshotId(r.u64("snapshot")?))).collect()
}

pub(super) fn check_deleted(snapshots: &[SnapshotId]) -> Result<(), DecodeError> {
    let count = snapshots.len();
    require((1..=DELETE_MAX).contains(&count), STRUCTURE, "snapshots", count, "1 to 4000")
}

fn check_count(field: &'static str, count: u32) -> Result<(), DecodeError> {
    let fits = (1..=SNAPSHOT_VOLUMES_MAX).contains(&(count as usize));
    require(fits, STRUCTURE, field, count, "1 to 4000")
}
