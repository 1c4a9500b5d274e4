//! The catalog: which dots, volumes, versions and snapshots there are, as values of one small tree keyed by kind and id.
//!
//! An entry holds all that must be known of a volume before its map is touched. Names are unique among dots, and among the
//! volumes of a dot; that is the engine's to keep, the bytes cannot show it.

mod history;

pub use history::{LineEntry, SnapshotEntry, VersionEntry, VersionState};

use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};
use crate::node::NodeRef;
use crate::record::COMPRESSION_OFF;
use crate::root;
use crate::units::*;
use history::{KIND_LINE, KIND_SNAPSHOT, KIND_VERSION};

pub const NAME_BYTES_MAX: usize = 64;

const KEY: &str = "catalog key";
const DOT: &str = "dot entry";
const VOLUME: &str = "volume entry";
const KIND_DOT: u64 = 1;
const KIND_VOLUME: u64 = 2;
const KIND_SHIFT: u32 = 56;
const ID_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// A key of the catalog tree: the kind in the top byte, so that entries of one kind lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CatalogKey {
    Dot(DotId),
    Volume(VolumeId),
    Version(VersionId),
    Line(LineId),
    Snapshot(SnapshotId),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DotEntry {
    pub name: String,
    /// Wall clock; 0: never.
    pub expires_ns: u64,
    /// 0: none. For people; the snapshot may be gone.
    pub forked_from: SnapshotId,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeEntry {
    pub dot: DotId,
    pub line: LineId,
    pub name: String,
    pub size_bytes: u64,
    pub compression: u8,
    /// The largest address of any hole that this line has dropped: no diff from below it.
    pub hole_floor: LogAddress,
    /// The version that it goes on from; 0: none.
    pub parent: VersionId,
    /// None: nothing was ever written.
    pub root: Option<NodeRef>,
}

/// Whether a dot or a volume may be called this: `^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`.
pub fn valid_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| plain(byte) || byte == b'_' || byte == b'-';
    match name.as_bytes() {
        [only] => plain(*only),
        [first, middle @ .., last] => {
            name.len() <= NAME_BYTES_MAX && plain(*first) && plain(*last) && middle.iter().all(|&byte| inner(byte))
        }
        [] => false,
    }
}

impl CatalogKey {
    /// # Panics
    /// If the id needs more than 56 bits.
    pub fn encode(self) -> u64 {
        let (kind, id) = match self {
            Self::Dot(dot) => (KIND_DOT, dot.0),
            Self::Volume(volume) => (KIND_VOLUME, volume.0),
            Self::Version(version) => (KIND_VERSION, version.0),
            Self::Line(line) => (KIND_LINE, line.0),
            Self::Snapshot(snapshot) => (KIND_SNAPSHOT, snapshot.0),
        };
        assert!(id <= ID_MASK, "encode catalog key: id {id} needs more than 56 bits");
        kind << KIND_SHIFT | id
    }

    pub fn decode(key: u64) -> Result<Self, DecodeError> {
        match key >> KIND_SHIFT {
            KIND_DOT => Ok(Self::Dot(DotId(key & ID_MASK))),
            KIND_VOLUME => Ok(Self::Volume(VolumeId(key & ID_MASK))),
            KIND_VERSION => Ok(Self::Version(VersionId(key & ID_MASK))),
            KIND_LINE => Ok(Self::Line(LineId(key & ID_MASK))),
            KIND_SNAPSHOT => Ok(Self::Snapshot(SnapshotId(key & ID_MASK))),
            found => {
                let expected = if found == 5 { "refs" } else { "unknown" };
                Err(DecodeError::Unsupported { structure: KEY, field: "kind", found, expected })
            }
        }
    }
}

impl DotEntry {
    pub fn encode(&self) -> Vec<u8> {
        assert!(valid_name(&self.name), "encode dot entry: name {:?}", self.name);
        let mut w = Writer::with_capacity(24 + self.name.len());
        w.u8(KIND_DOT as u8);
        w.u8(self.name.len() as u8);
        w.zeros(6);
        w.u64(self.expires_ns);
        w.u64(self.forked_from.0);
        w.bytes(self.name.as_bytes());
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(DOT, bytes);
        kind(DOT, r.u8("kind")?, KIND_DOT)?;
        let name_len = r.u8("name length")?;
        r.skip(6)?;
        let expires_ns = r.u64("expires_ns")?;
        let forked_from = SnapshotId(r.u64("forked_from")?);
        Ok(Self { name: name(DOT, &mut r, name_len)?, expires_ns, forked_from })
    }
}

impl VolumeEntry {
    pub fn encode(&self) -> Vec<u8> {
        assert!(valid_name(&self.name), "encode volume entry: name {:?}", self.name);
        self.check().unwrap_or_else(|error| panic!("encode volume entry that cannot be read back: {error}"));
        let mut w = Writer::with_capacity(80 + self.name.len());
        w.u8(KIND_VOLUME as u8);
        w.u8(self.name.len() as u8);
        w.u8(self.compression);
        w.zeros(5);
        w.u64(self.dot.0);
        w.u64(self.line.0);
        w.u64(self.size_bytes);
        w.u64(self.hole_floor.0);
        w.bytes(&root::encode(self.root));
        w.u64(self.parent.0);
        w.u64(0); // reserved
        w.bytes(self.name.as_bytes());
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(VOLUME, bytes);
        kind(VOLUME, r.u8("kind")?, KIND_VOLUME)?;
        let name_len = r.u8("name length")?;
        let compression = r.u8("compression")?;
        r.skip(5)?;
        let dot = DotId(r.u64("dot")?);
        let line = LineId(r.u64("line")?);
        let size_bytes = r.u64("size_bytes")?;
        let hole_floor = LogAddress(r.u64("hole_floor")?);
        let root = root::decode(&mut r, "root")?;
        let parent = VersionId(r.u64("parent")?);
        let found = r.u64("reserved word")?;
        if found != 0 {
            return Err(DecodeError::Unsupported {
                structure: VOLUME,
                field: "reserved word",
                found,
                expected: "unknown",
            });
        }
        let name = name(VOLUME, &mut r, name_len)?;
        let entry = Self { dot, line, name, size_bytes, compression, hole_floor, parent, root };
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), DecodeError> {
        check_volume(VOLUME, self.size_bytes, self.compression)
    }
}

fn check_volume(structure: &'static str, size_bytes: u64, compression: u8) -> Result<(), DecodeError> {
    let most = VOLUME_BLOCKS_MAX * BLOCK_BYTES as u64;
    require(size_bytes <= most, structure, "size_bytes", size_bytes, "at most 2^52")?;
    require(compression <= COMPRESSION_OFF, structure, "compression", compression, "0 (auto), 1 (lz4) or 2 (off)")
}

fn kind(structure: &'static str, found: u8, expected: u64) -> Result<(), DecodeError> {
    require(u64::from(found) == expected, structure, "kind", found, expected)
}

/// The name that ends an entry: as long as said, and nothing behind it.
fn name(structure: &'static str, r: &mut Reader<'_>, len: u8) -> Result<String, DecodeError> {
    let bytes = r.slice("name", len.into())?;
    let left = r.rest().len();
    require(left == 0, structure, "name length", len, format_args!("{left} more"))?;
    match std::str::from_utf8(bytes) {
        Ok(name) if valid_name(name) => Ok(name.to_owned()),
        _ => Err(DecodeError::invalid(
            structure,
            "name",
            format_args!("{:?}", bytes.escape_ascii().to_string()),
            "1 to 64 of a-z, 0-9, _ and -",
        )),
    }
}
