//! The superblock: who the store is, what its bytes need of a reader, and from where recovery starts.
//!
//! It keeps one promise: whichever write of it was torn, an older one is whole. Sixteen places in each of two regions take
//! turns by generation, so a write never touches the newest valid copy, and a run of ruined blocks at either region leaves the
//! other. It does not hold anything that grows with the store: that is the checkpoint's.

mod features;
mod links;

pub use features::{
    CLASS_CLEAR_ON_WRITE, CLASS_COMPATIBLE, CLASS_INCOMPATIBLE, CONTAINERS, FORWARDS, Feature, FeatureName, Features,
    UnknownFeatures, VERSIONS,
};
pub use links::{CheckpointRef, MountEntry};

use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};
use crate::units::*;
use features::FEATURE_NAME_BYTES;
use links::{CHECKPOINT_REF_BYTES, MOUNT_ENTRY_BYTES};

/// The version that this crate writes. Another major version is refused, another minor one is not.
pub const VERSION: (u16, u16) = (0, 1);
/// Places for copies in each of the two regions.
pub const COPIES_PER_REGION: u64 = 16;
/// The first block of each region.
pub const REGION_STARTS: [u64; 2] = [0, 16];
/// Where slots begin unless a superblock says otherwise: byte 1 MiB.
pub const DATA_START: u64 = 1 << 20;
/// Blocks in a segment by default: 32 MiB.
pub const SEGMENT_BLOCKS_DEFAULT: u32 = 8192;
/// The fewest blocks a segment can do with: header, footer trailer, and something between.
pub const SEGMENT_BLOCKS_MIN: u32 = 8;
pub const NODE_BYTES_LOG2: u8 = 12;
pub const MOUNTS_MAX: usize = 32;
pub const FEATURE_NAMES_MAX: usize = 16;
pub const WRITER_BYTES_MAX: usize = 32;

const STRUCTURE: &str = "superblock";
const MAGIC: u64 = u64::from_le_bytes(*b"TREERING");
const CRC_AT: usize = 8;
const CHECKPOINTS_AT: usize = 256;
const MOUNTS_AT: usize = 512;
const FEATURE_NAMES_AT: usize = 2304;

const _: () = assert!(MOUNTS_AT + MOUNTS_MAX * MOUNT_ENTRY_BYTES <= FEATURE_NAMES_AT);
const _: () = assert!(FEATURE_NAMES_AT + FEATURE_NAMES_MAX * FEATURE_NAME_BYTES <= BLOCK_BYTES);
const _: () = assert!(CHECKPOINTS_AT + 2 * CHECKPOINT_REF_BYTES <= MOUNTS_AT);

/// The default is no store yet: its geometry is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Superblock {
    pub version: (u16, u16),
    pub features: Features,
    pub store_id: StoreId,
    pub incarnation: Incarnation,
    /// Grows by one with every superblock written; decides which copy is the newest and where it lies.
    pub generation: u64,
    pub created_ns: u64,
    /// The program that wrote this copy; for people.
    pub writer: String,
    pub node_bytes_log2: u8,
    pub segment_blocks: u32,
    pub slot_count: u64,
    /// The byte where slot 0 begins.
    pub data_start: u64,
    /// The mount that wrote this copy.
    pub mount: Mount,
    /// The boot of the host that this mount runs in: tells a server that died from a host that did.
    pub boot_id: [u8; 16],
    /// Nothing of the log above the newest checkpoint is needed: the store was closed.
    pub clean: bool,
    /// All records up to here are known durable; one of them missing is damage, not a torn tail.
    pub attested_sequence: RecordSequence,
    pub attested_order: OrderNumber,
    /// Newest first; sequence 0 is absent.
    pub checkpoints: [CheckpointRef; 2],
    /// Oldest first: one for each mount since the older checkpoint.
    pub mounts: Vec<MountEntry>,
    pub feature_names: Vec<FeatureName>,
}

impl Superblock {
    /// The two blocks of the file that the copies of a generation are written to.
    pub fn positions(generation: u64) -> [u64; 2] {
        REGION_STARTS.map(|start| start + generation % COPIES_PER_REGION)
    }

    /// # Panics
    /// If a list or a text is longer than the block has room for, or a value could not be decoded again.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert!(self.writer.len() <= WRITER_BYTES_MAX, "encode superblock: writer \"{}\" is too long", self.writer);
        assert!(self.mounts.len() <= MOUNTS_MAX, "encode superblock: {} mounts", self.mounts.len());
        assert!(self.feature_names.len() <= FEATURE_NAMES_MAX, "encode superblock: {} names", self.feature_names.len());
        self.check().unwrap_or_else(|error| panic!("encode superblock that cannot be read back: {error}"));

        let mut w = Writer::with_capacity(BLOCK_BYTES);
        w.u64(MAGIC);
        w.u32(0); // the checksum, below
        w.u16(self.version.0);
        w.u16(self.version.1);
        w.u64(self.features.incompatible);
        w.u64(self.features.compatible);
        w.u64(self.features.clear_on_write);
        w.bytes(&self.store_id.0);
        w.bytes(&self.incarnation.0);
        w.u64(self.generation);
        w.u64(self.created_ns);
        w.u8(self.writer.len() as u8);
        w.u8(self.node_bytes_log2);
        w.u8(u8::from(self.clean));
        w.u8(self.mounts.len() as u8);
        w.u8(self.feature_names.len() as u8);
        w.zeros(3);
        w.bytes(self.writer.as_bytes());
        w.zeros(WRITER_BYTES_MAX - self.writer.len());
        w.u32(self.segment_blocks);
        w.zeros(4);
        w.u64(self.slot_count);
        w.u64(self.data_start);
        w.u64(self.mount.0);
        w.u64(self.attested_sequence.0);
        w.u64(self.attested_order.0);
        w.zeros_up_to(CHECKPOINTS_AT); // reserved, of it 64 bytes for encryption
        self.checkpoints.iter().for_each(|checkpoint| checkpoint.encode(&mut w));
        w.bytes(&self.boot_id);
        w.zeros_up_to(MOUNTS_AT);
        self.mounts.iter().for_each(|mount| mount.encode(&mut w));
        w.zeros_up_to(FEATURE_NAMES_AT);
        self.feature_names.iter().for_each(|name| name.encode(&mut w));
        w.into_sealed_block(CRC_AT)
    }

    /// Reads one copy. Magic, checksum and version keep their places in every version of the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len(STRUCTURE, bytes, BLOCK_BYTES)?;
        r.magic(MAGIC)?;
        r.block_checksum(&bytes[..BLOCK_BYTES], CRC_AT)?;
        let version = (r.u16("version")?, r.u16("version")?);
        if version.0 != VERSION.0 {
            return Err(DecodeError::Unsupported {
                structure: STRUCTURE,
                field: "version",
                found: version.0.into(),
                expected: "another major version of the format",
            });
        }
        let features = Features {
            incompatible: r.u64("features")?,
            compatible: r.u64("features")?,
            clear_on_write: r.u64("features")?,
        };
        let store_id = StoreId(r.array("store_id")?);
        let incarnation = Incarnation(r.array("incarnation")?);
        let generation = r.u64("generation")?;
        let created_ns = r.u64("created_ns")?;
        let writer_bytes = r.u8("writer")?;
        let node_bytes_log2 = r.u8("node_bytes_log2")?;
        let clean = r.u8("clean")?;
        let mount_count = r.u8("mounts")?;
        let feature_name_count = r.u8("feature_names")?;
        require(clean <= 1, STRUCTURE, "clean", clean, "0 or 1")?;
        require(usize::from(mount_count) <= MOUNTS_MAX, STRUCTURE, "mounts", mount_count, "at most 32")?;
        let names_fit = usize::from(feature_name_count) <= FEATURE_NAMES_MAX;
        require(names_fit, STRUCTURE, "feature_names", feature_name_count, "at most 16")?;
        r.skip(3)?;
        let writer = text("writer", r.slice("writer", WRITER_BYTES_MAX)?, writer_bytes)?;
        let segment_blocks = r.u32("segment_blocks")?;
        r.skip(4)?;
        let slot_count = r.u64("slot_count")?;
        let data_start = r.u64("data_start")?;
        let mount = Mount(r.u64("mount")?);
        let attested_sequence = RecordSequence(r.u64("attested_sequence")?);
        let attested_order = OrderNumber(r.u64("attested_order")?);
        r.seek(CHECKPOINTS_AT)?;
        let checkpoints = [CheckpointRef::decode(&mut r)?, CheckpointRef::decode(&mut r)?];
        let boot_id = r.array("boot_id")?;
        r.seek(MOUNTS_AT)?;
        let mounts = (0..mount_count).map(|_| MountEntry::decode(&mut r)).collect::<Result<_, _>>()?;
        r.seek(FEATURE_NAMES_AT)?;
        let feature_names = (0..feature_name_count).map(|_| FeatureName::decode(&mut r)).collect::<Result<_, _>>()?;
        let superblock = Self {
            version,
            features,
            store_id,
            incarnation,
            generation,
            created_ns,
            writer,
            node_bytes_log2,
            segment_blocks,
            slot_count,
            data_start,
            mount,
            boot_id,
            clean: clean == 1,
            attested_sequence,
            attested_order,
            checkpoints,
            mounts,
            feature_names,
        };
        superblock.check()?;
        Ok(superblock)
    }

    /// The geometry, before anybody divides by it or allocates from it.
    fn check(&self) -> Result<(), DecodeError> {
        let log2 = self.node_bytes_log2;
        require(log2 == NODE_BYTES_LOG2, STRUCTURE, "node_bytes_log2", log2, NODE_BYTES_LOG2)?;
        let segment = self.segment_blocks;
        let fits = (SEGMENT_BLOCKS_MIN..=SEGMENT_BLOCKS_MAX).contains(&segment) && segment.is_multiple_of(8);
        require(fits, STRUCTURE, "segment_blocks", segment, "a multiple of 8 from 8 to 65536")?;
        let start = self.data_start;
        let after_copies = start >= (REGION_STARTS[1] + COPIES_PER_REGION) * BLOCK_BYTES as u64;
        let aligned = start.is_multiple_of(BLOCK_BYTES as u64);
        require(after_copies && aligned, STRUCTURE, "data_start", start, "a multiple of 4096, at least 131072")?;
        let end = u64::from(segment)
            .checked_mul(BLOCK_BYTES as u64)
            .and_then(|slot| slot.checked_mul(self.slot_count))
            .and_then(|slots| slots.checked_add(start));
        require(end.is_some(), STRUCTURE, "slot_count", self.slot_count, "slots that end below 2^64 bytes")?;
        let [newest, older] = &self.checkpoints;
        let ordered = older.sequence.0 == 0 || older.sequence < newest.sequence;
        require(ordered, STRUCTURE, "checkpoints", older.sequence, "below the newest checkpoint's sequence")
    }
}

/// The first `len` bytes of a field that holds text.
fn text(field: &'static str, bytes: &[u8], len: u8) -> Result<String, DecodeError> {
    let Some(text) = bytes.get(..usize::from(len)) else {
        return Err(DecodeError::invalid(STRUCTURE, field, format_args!("{len} bytes long"), "a shorter text"));
    };
    match std::str::from_utf8(text) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(DecodeError::invalid(STRUCTURE, field, format_args!("{text:02x?}"), "UTF-8")),
    }
}
