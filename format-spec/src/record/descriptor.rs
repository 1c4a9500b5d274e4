//! Descriptors: what a record says happened. No two ranges in one record overlap, and a cut is its last descriptor, so their
//! order means nothing else.
//!
//! Every descriptor starts with its type, its flags and its whole length, a multiple of eight bytes. The length lets a
//! dump tool step over what it does not know; replay must not, for an operation left out is a wrong volume.

use super::data::DataDescriptor;
use super::history::{ConfigureCut, ForkCut, ResetCut, SnapshotCut, check_deleted, decode_deleted};
use crate::bytes::{Reader, Writer};
use crate::catalog::valid_name;
use crate::error::{DecodeError, require};
use crate::units::*;

/// What a volume asks of the writer; what a reader meets is each descriptor's own encoding.
pub const COMPRESSION_AUTO: u8 = 0;
pub const COMPRESSION_LZ4: u8 = 1;
pub const COMPRESSION_OFF: u8 = 2;

pub(super) const STRUCTURE: &str = "descriptor";
const PREFIX_BYTES: usize = 4;

const DATA: u8 = 1;
const HOLE: u8 = 2;
const ZERO: u8 = 3;
const CREATE_DOT: u8 = 16;
const REMOVE_DOT: u8 = 17;
const CREATE_VOLUME: u8 = 18;
const REMOVE_VOLUME: u8 = 19;
const RESIZE_VOLUME: u8 = 20;
const CONFIGURE_VOLUME: u8 = 21;
const SNAPSHOT: u8 = 32;
const FORK: u8 = 33;
const DELETE_SNAPSHOTS: u8 = 34;
const CONFIGURE_SNAPSHOT: u8 = 36;
const RESET: u8 = 38;

/// Type numbers set aside; each needs a feature bit before a store may hold it.
const RESERVED: [(u8, &str); 2] = [(35, "Rename"), (37, "Forward")];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descriptor {
    Data(DataDescriptor),
    /// Nothing is stored here any more; reads as zeros.
    Hole {
        line: LineId,
        block: BlockIndex,
        count: u64,
    },
    /// Reads as zeros, but counts as allocated.
    Zero {
        line: LineId,
        block: BlockIndex,
        count: u64,
    },
    CreateDot {
        dot: DotId,
        name: String,
    },
    /// All its volumes, in order of id, become versions that are to be deleted; all its snapshots go.
    RemoveDot {
        dot: DotId,
        first_version: VersionId,
    },
    CreateVolume {
        volume: VolumeId,
        dot: DotId,
        line: LineId,
        size_bytes: u64,
        compression: u8,
        name: String,
    },
    /// The volume becomes a version that is to be deleted.
    RemoveVolume {
        volume: VolumeId,
        version: VersionId,
    },
    ResizeVolume {
        volume: VolumeId,
        line: LineId,
        size_bytes: u64,
    },
    ConfigureVolume {
        volume: VolumeId,
        compression: u8,
    },
    Snapshot(SnapshotCut),
    Fork(ForkCut),
    DeleteSnapshots {
        snapshots: Vec<SnapshotId>,
    },
    ConfigureSnapshot(ConfigureCut),
    Reset(ResetCut),
}

impl Descriptor {
    /// Whether it changes more than the content of one volume: it closes its record.
    pub fn is_cut(&self) -> bool {
        !matches!(self, Self::Data(_) | Self::Hole { .. } | Self::Zero { .. })
    }

    /// The length on disk, padding included.
    pub fn encoded_len(&self) -> usize {
        let len = match self {
            Self::Data(data) => data.bytes(),
            Self::Hole { .. } | Self::Zero { .. } | Self::ResizeVolume { .. } => 32,
            Self::CreateDot { name, .. } => 16 + name.len(),
            Self::CreateVolume { name, .. } => 40 + name.len(),
            Self::RemoveDot { .. } | Self::RemoveVolume { .. } => 24,
            Self::ConfigureVolume { .. } => 16,
            Self::Snapshot(cut) => cut.bytes(),
            Self::Fork(cut) => cut.bytes(),
            Self::DeleteSnapshots { snapshots } => 8 + 8 * snapshots.len(),
            Self::ConfigureSnapshot(cut) => cut.bytes(),
            Self::Reset(cut) => cut.bytes(),
        };
        len.next_multiple_of(8)
    }

    pub(super) fn encode(&self, w: &mut Writer, payload_blocks: u32) {
        self.check(payload_blocks)
            .unwrap_or_else(|error| panic!("encode descriptor that cannot be read back: {error}"));
        let len = self.encoded_len();
        let end = w.len() + len;
        let (kind, flags) = self.kind_and_flags();
        w.u8(kind);
        w.u8(flags);
        w.u16(len as u16);
        match self {
            Self::Data(data) => data.encode(w),
            Self::Hole { line, block, count } | Self::Zero { line, block, count } => {
                w.zeros(4);
                w.u64(line.0);
                w.u64(block.0);
                w.u64(*count);
            }
            Self::CreateDot { dot, name } => {
                w.u8(name.len() as u8);
                w.zeros(3);
                w.u64(dot.0);
                w.bytes(name.as_bytes());
            }
            Self::RemoveDot { dot, first_version } => {
                w.zeros(4);
                w.u64(dot.0);
                w.u64(first_version.0);
            }
            Self::CreateVolume { volume, dot, line, size_bytes, compression, name } => {
                w.u8(name.len() as u8);
                w.u8(*compression);
                w.zeros(2);
                w.u64(volume.0);
                w.u64(dot.0);
                w.u64(line.0);
                w.u64(*size_bytes);
                w.bytes(name.as_bytes());
            }
            Self::RemoveVolume { volume, version } => {
                w.zeros(4);
                w.u64(volume.0);
                w.u64(version.0);
            }
            Self::ResizeVolume { volume, line, size_bytes } => {
                w.zeros(4);
                w.u64(volume.0);
                w.u64(line.0);
                w.u64(*size_bytes);
            }
            Self::ConfigureVolume { volume, compression } => {
                w.u8(0);
                w.u8(*compression);
                w.zeros(2);
                w.u64(volume.0);
            }
            Self::Snapshot(cut) => cut.encode(w),
            Self::Fork(cut) => cut.encode(w),
            Self::DeleteSnapshots { snapshots } => {
                w.zeros(2);
                w.u16(snapshots.len() as u16);
                snapshots.iter().for_each(|snapshot| w.u64(snapshot.0));
            }
            Self::ConfigureSnapshot(cut) => cut.encode(w),
            Self::Reset(cut) => cut.encode(w),
        }
        w.zeros_up_to(end);
    }

    pub(super) fn decode(record: &mut Reader<'_>, payload_blocks: u32) -> Result<Self, DecodeError> {
        let mut prefix = Reader::of_len(STRUCTURE, record.rest(), PREFIX_BYTES)?;
        let (kind, flags) = (prefix.u8("type")?, prefix.u8("flags")?);
        let len = usize::from(prefix.u16("length")?);
        require(len >= 8 && len.is_multiple_of(8), STRUCTURE, "length", len, "a multiple of 8, at least 8")?;
        let mut r = Reader::new(STRUCTURE, record.slice("descriptor", len)?);
        r.seek(PREFIX_BYTES)?;
        let descriptor = Self::decode_body(kind, flags, &mut r)?;
        let expected = descriptor.encoded_len();
        require(len == expected, STRUCTURE, "length", len, expected)?;
        require(kind == DATA || flags == 0, STRUCTURE, "flags", flags, 0)?;
        descriptor.check(payload_blocks)?;
        Ok(descriptor)
    }

    fn decode_body(kind: u8, flags: u8, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            DATA => Self::Data(DataDescriptor::decode(flags, r)?),
            HOLE | ZERO => {
                r.skip(4)?;
                let line = LineId(r.u64("line")?);
                let block = BlockIndex(r.u64("block")?);
                let count = r.u64("count")?;
                if kind == HOLE { Self::Hole { line, block, count } } else { Self::Zero { line, block, count } }
            }
            CREATE_DOT => {
                let name_len = r.u8("name length")?;
                r.skip(3)?;
                Self::CreateDot { dot: DotId(r.u64("dot")?), name: name(r, name_len)? }
            }
            REMOVE_DOT => {
                r.skip(4)?;
                Self::RemoveDot { dot: DotId(r.u64("dot")?), first_version: VersionId(r.u64("first_version")?) }
            }
            CREATE_VOLUME => {
                let name_len = r.u8("name length")?;
                let compression = r.u8("compression")?;
                r.skip(2)?;
                let volume = VolumeId(r.u64("volume")?);
                let dot = DotId(r.u64("dot")?);
                let line = LineId(r.u64("line")?);
                let size_bytes = r.u64("size_bytes")?;
                Self::CreateVolume { volume, dot, line, size_bytes, compression, name: name(r, name_len)? }
            }
            REMOVE_VOLUME => {
                r.skip(4)?;
                Self::RemoveVolume { volume: VolumeId(r.u64("volume")?), version: VersionId(r.u64("version")?) }
            }
            RESIZE_VOLUME => {
                r.skip(4)?;
                let volume = VolumeId(r.u64("volume")?);
                Self::ResizeVolume { volume, line: LineId(r.u64("line")?), size_bytes: r.u64("size_bytes")? }
            }
            CONFIGURE_VOLUME => {
                r.skip(1)?;
                let compression = r.u8("compression")?;
                r.skip(2)?;
                Self::ConfigureVolume { volume: VolumeId(r.u64("volume")?), compression }
            }
            SNAPSHOT => Self::Snapshot(SnapshotCut::decode(r)?),
            FORK => Self::Fork(ForkCut::decode(r)?),
            DELETE_SNAPSHOTS => Self::DeleteSnapshots { snapshots: decode_deleted(r)? },
            CONFIGURE_SNAPSHOT => Self::ConfigureSnapshot(ConfigureCut::decode(r)?),
            RESET => Self::Reset(ResetCut::decode(r)?),
            unknown => return Err(unsupported(unknown)),
        })
    }

    fn kind_and_flags(&self) -> (u8, u8) {
        match self {
            Self::Data(data) => (DATA, data.encoding as u8),
            Self::Hole { .. } => (HOLE, 0),
            Self::Zero { .. } => (ZERO, 0),
            Self::CreateDot { .. } => (CREATE_DOT, 0),
            Self::RemoveDot { .. } => (REMOVE_DOT, 0),
            Self::CreateVolume { .. } => (CREATE_VOLUME, 0),
            Self::RemoveVolume { .. } => (REMOVE_VOLUME, 0),
            Self::ResizeVolume { .. } => (RESIZE_VOLUME, 0),
            Self::ConfigureVolume { .. } => (CONFIGURE_VOLUME, 0),
            Self::Snapshot(_) => (SNAPSHOT, 0),
            Self::Fork(_) => (FORK, 0),
            Self::DeleteSnapshots { .. } => (DELETE_SNAPSHOTS, 0),
            Self::ConfigureSnapshot(_) => (CONFIGURE_SNAPSHOT, 0),
            Self::Reset(_) => (RESET, 0),
        }
    }

    /// What both ends hold every descriptor to.
    fn check(&self, payload_blocks: u32) -> Result<(), DecodeError> {
        match self {
            Self::Data(data) => data.check(payload_blocks),
            Self::Hole { block, count, .. } | Self::Zero { block, count, .. } => check_range(*block, *count),
            Self::CreateDot { name, .. } => check_name(name),
            Self::CreateVolume { size_bytes, compression, name, .. } => {
                check_name(name)?;
                check_size(*size_bytes)?;
                check_compression(*compression)
            }
            Self::ResizeVolume { size_bytes, .. } => check_size(*size_bytes),
            Self::ConfigureVolume { compression, .. } => check_compression(*compression),
            Self::RemoveDot { .. } | Self::RemoveVolume { .. } => Ok(()),
            Self::Snapshot(cut) => cut.check(),
            Self::Fork(cut) => cut.check(),
            Self::DeleteSnapshots { snapshots } => check_deleted(snapshots),
            Self::ConfigureSnapshot(cut) => cut.check(),
            Self::Reset(cut) => cut.check(),
        }
    }
}

pub(super) fn check_range(block: BlockIndex, count: u64) -> Result<(), DecodeError> {
    let end = block.0.checked_add(count).filter(|&end| count > 0 && end <= VOLUME_BLOCKS_MAX);
    require(end.is_some(), STRUCTURE, "block", format_args!("{block} + {count}"), "a range inside 2^40 blocks")
}

pub(super) fn check_name(name: &str) -> Result<(), DecodeError> {
    require(valid_name(name), STRUCTURE, "name", format_args!("{name:?}"), "1 to 64 of a-z, 0-9, _ and -")
}

fn check_size(size_bytes: u64) -> Result<(), DecodeError> {
    let most = VOLUME_BLOCKS_MAX * BLOCK_BYTES as u64;
    require(size_bytes <= most, STRUCTURE, "size_bytes", size_bytes, "at most 2^52")
}

fn check_compression(compression: u8) -> Result<(), DecodeError> {
    require(compression <= COMPRESSION_OFF, STRUCTURE, "compression", compression, "0 (auto), 1 (lz4) or 2 (off)")
}

pub(super) fn name(r: &mut Reader<'_>, len: u8) -> Result<String, DecodeError> {
    let bytes = r.slice("name", len.into())?;
    match std::str::from_utf8(bytes) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(DecodeError::invalid(STRUCTURE, "name", format_args!("{bytes:02x?}"), "UTF-8")),
    }
}

fn unsupported(kind: u8) -> DecodeError {
    let expected = RESERVED.iter().find(|reserved| reserved.0 == kind).map_or("unknown", |reserved| reserved.1);
    DecodeError::Unsupported { structure: STRUCTURE, field: "type", found: kind.into(), expected }
}
