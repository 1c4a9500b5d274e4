//! Entries that history adds to the catalog: versions, lines, snapshots.

use super::{check_volume, kind, name};
use crate::bytes::{Reader, Writer};
use crate::catalog::valid_name;
use crate::error::{DecodeError, require};
use crate::node::NodeRef;
use crate::root;
use crate::units::*;

const VERSION: &str = "version entry";
const LINE: &str = "line entry";
const SNAPSHOT: &str = "snapshot entry";
pub(super) const KIND_VERSION: u64 = 3;
pub(super) const KIND_LINE: u64 = 4;
pub(super) const KIND_SNAPSHOT: u64 = 6;

const THINNED: u8 = 1;
const PROTECTED: u8 = 1;
const REFLOG: u8 = 2;

/// What is to become of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionState {
    /// A snapshot names it.
    #[default]
    Visible,
    /// Nothing names it, but more than one version or volume is based on it.
    Hidden,
    /// It is being given back; blocks below the cursor were.
    Deleting,
}

/// A volume as it was at one cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionEntry {
    pub state: VersionState,
    /// Some of its entries may show blocks that were freed already.
    pub thinned: bool,
    /// 0: of no snapshot; the volume was removed.
    pub snapshot: SnapshotId,
    pub volume: VolumeId,
    pub line: LineId,
    /// 0: none.
    pub parent: VersionId,
    /// The last address of the cut: everything on its line up to there is in it.
    pub position: LogAddress,
    /// First block that the sweep has not judged; 0 unless deleting.
    pub cursor: u64,
    pub size_bytes: u64,
    pub compression: u8,
    /// The largest address of any hole that this version has dropped: no diff from below it.
    pub hole_floor: LogAddress,
    /// None: nothing was ever written.
    pub root: Option<NodeRef>,
    /// Of the volume.
    pub name: String,
}

/// Where a forked line left the line that it was forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineEntry {
    pub parent_line: LineId,
    /// Everything on the parent line up to there is also on this one.
    pub fork_position: LogAddress,
}

/// Versions that were made by one cut and have one name. Its members are `first_version` and on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotEntry {
    pub name: String,
    pub protected: bool,
    /// Made by a reset of what was there before.
    pub reflog: bool,
    pub public: PublicId,
    pub dot: DotId,
    pub created_ns: u64,
    /// 0: never.
    pub expires_ns: u64,
    pub first_version: VersionId,
    pub count: u32,
}

impl VersionEntry {
    pub fn encode(&self) -> Vec<u8> {
        assert!(valid_name(&self.name), "encode version entry: name {:?}", self.name);
        self.check().unwrap_or_else(|error| panic!("encode version entry that cannot be read back: {error}"));
        let mut w = Writer::with_capacity(96 + self.name.len());
        w.u8(KIND_VERSION as u8);
        w.u8(self.name.len() as u8);
        w.u8(self.compression);
        w.u8(match self.state {
            VersionState::Visible => 0,
            VersionState::Hidden => 1,
            VersionState::Deleting => 2,
        });
        w.u8(if self.thinned { THINNED } else { 0 });
        w.zeros(3);
        w.u64(self.snapshot.0);
        w.u64(self.volume.0);
        w.u64(self.line.0);
        w.u64(self.parent.0);
        w.u64(self.position.0);
        w.u64(self.cursor);
        w.u64(self.size_bytes);
        w.u64(self.hole_floor.0);
        w.bytes(&root::encode(self.root));
        w.bytes(self.name.as_bytes());
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(VERSION, bytes);
        kind(VERSION, r.u8("kind")?, KIND_VERSION)?;
        let name_len = r.u8("name length")?;
        let compression = r.u8("compression")?;
        let state = match r.u8("state")? {
            0 => VersionState::Visible,
            1 => VersionState::Hidden,
            2 => VersionState::Deleting,
            found => {
                return Err(DecodeError::invalid(VERSION, "state", found, "0 (visible), 1 (hidden) or 2 (deleting)"));
            }
        };
        let flags = r.u8("flags")?;
        require(flags <= THINNED, VERSION, "flags", flags, "0 or 1")?;
        r.skip(3)?;
        let mut entry = Self {
            state,
            thinned: flags & THINNED != 0,
            snapshot: SnapshotId(r.u64("snapshot")?),
            volume: VolumeId(r.u64("volume")?),
            line: LineId(r.u64("line")?),
            parent: VersionId(r.u64("parent")?),
            position: LogAddress(r.u64("position")?),
            cursor: r.u64("cursor")?,
            size_bytes: r.u64("size_bytes")?,
            compression,
            hole_floor: LogAddress(r.u64("hole_floor")?),
            root: root::decode(&mut r, "root")?,
            name: String::new(),
        };
        entry.name = name(VERSION, &mut r, name_len)?;
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), DecodeError> {
        check_volume(VERSION, self.size_bytes, self.compression)?;
        let position = self.position;
        require(!position.is_none(), VERSION, "position", position, "an address of the log")?;
        let judged = self.cursor == 0 || self.state == VersionState::Deleting;
        require(judged, VERSION, "cursor", self.cursor, "0 unless the version is being deleted")
    }
}

impl LineEntry {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(24);
        w.u8(KIND_LINE as u8);
        w.zeros(7);
        w.u64(self.parent_line.0);
        w.u64(self.fork_position.0);
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(LINE, bytes);
        kind(LINE, r.u8("kind")?, KIND_LINE)?;
        r.skip(7)?;
        let entry =
            Self { parent_line: LineId(r.u64("parent_line")?), fork_position: LogAddress(r.u64("fork_position")?) };
        let left = r.rest().len();
        require(left == 0, LINE, "length", bytes.len(), 24)?;
        Ok(entry)
    }
}

impl SnapshotEntry {
    pub fn encode(&self) -> Vec<u8> {
        assert!(valid_name(&self.name), "encode snapshot entry: name {:?}", self.name);
        let mut w = Writer::with_capacity(64 + self.name.len());
        w.u8(KIND_SNAPSHOT as u8);
        w.u8(self.name.len() as u8);
        w.u8((if self.protected { PROTECTED } else { 0 }) | (if self.reflog { REFLOG } else { 0 }));
        w.zeros(5);
        w.bytes(&self.public.0);
        w.u64(self.dot.0);
        w.u64(self.created_ns);
        w.u64(self.expires_ns);
        w.u64(self.first_version.0);
        w.u32(self.count);
        w.zeros(4);
        w.bytes(self.name.as_bytes());
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(SNAPSHOT, bytes);
        kind(SNAPSHOT, r.u8("kind")?, KIND_SNAPSHOT)?;
        let name_len = r.u8("name length")?;
        let flags = r.u8("flags")?;
        require(flags <= PROTECTED | REFLOG, SNAPSHOT, "flags", flags, "0 to 3")?;
        r.skip(5)?;
        let mut entry = Self {
            name: String::new(),
            protected: flags & PROTECTED != 0,
            reflog: flags & REFLOG != 0,
            public: PublicId(r.array("public_id")?),
            dot: DotId(r.u64("dot")?),
            created_ns: r.u64("created_ns")?,
            expires_ns: r.u64("expires_ns")?,
            first_version: VersionId(r.u64("first_version")?),
            count: r.u32("count")?,
        };
        r.skip(4)?;
        entry.name = name(SNAPSHOT, &mut r, name_len)?;
        Ok(entry)
    }
}
