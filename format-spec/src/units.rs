//! Numbers with a meaning are types: an index cannot be added to a count, a segment cannot be taken for a slot.
//!
//! Zero means *none* wherever an identifier or an address may be absent; the first real one is 1.

use std::fmt;

/// The unit of everything on disk: a volume's block, a page, the alignment of records.
pub const BLOCK_BYTES: usize = 4096;

/// The most blocks that a segment may hold; a log address keeps the block in its low 16 bits.
pub const SEGMENT_BLOCKS_MAX: u32 = 1 << 16;

/// The most blocks that a volume may hold: 4 PiB.
pub const VOLUME_BLOCKS_MAX: u64 = 1 << 40;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

numbers! {
    /// A 4 KiB block of a volume.
    BlockIndex
    /// A number of 4 KiB blocks.
    BlockCount
    /// A stretch of the log; never reused. The first is 1, 0 is none.
    SegmentId
    /// The path that a volume's head has lived on; map entries and descriptors name it, not the volume.
    LineId
    /// A volume, for as long as it exists.
    VolumeId
    /// A dot: a named group of volumes.
    DotId
    /// A volume as it was at one cut; never reused. The first is 1, 0 is none.
    VersionId
    /// A snapshot: the versions of several volumes at one cut. The first is 1, 0 is none.
    SnapshotId
    /// What the cleaner moved into one slot; never reused. The first is 1, 0 is none.
    ContainerId
    /// The place of a record among all records. The first is 1, 0 is none.
    RecordSequence
    /// The place of an operation among all operations.
    OrderNumber
    /// The place of a checkpoint among all checkpoints. The first is 1, 0 is none.
    CheckpointSequence
    /// A place of the store file that can hold one segment.
    SlotIndex
    /// A 4 KiB block of the store file, counted from its first byte.
    PageIndex
}

/// A number drawn at random each time a store is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mount(pub u64);

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The everlasting name of a block of the log: segment, then block in the segment. Grows with every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogAddress(pub u64);

impl LogAddress {
    pub const NONE: Self = Self(0);

    /// # Panics
    /// If the segment id needs more than 48 bits, or the block more than 16.
    pub fn new(segment: SegmentId, block_in_segment: u32) -> Self {
        assert!(segment.0 < 1 << 48, "log address: segment {segment} needs more than 48 bits");
        assert!(block_in_segment < SEGMENT_BLOCKS_MAX, "log address: block {block_in_segment} needs more than 16 bits");
        Self(segment.0 << 16 | u64::from(block_in_segment))
    }

    pub fn segment(self) -> SegmentId {
        SegmentId(self.0 >> 16)
    }

    pub fn block(self) -> u32 {
        (self.0 & 0xffff) as u32
    }

    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The address `blocks` further on. Past the largest segment's end it is block 0 of the next.
    pub fn next(self, blocks: u32) -> Self {
        Self(self.0.saturating_add(u64::from(blocks)))
    }
}

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.block())
    }
}

macro_rules! identities {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    )*};
}

identities! {
    /// Which store this is; drawn at random when it is created.
    StoreId
    /// Which life of the store this is; drawn anew when acknowledged data may have been lost.
    Incarnation
    /// A snapshot as people name it; drawn at random when it is made.
    PublicId
}

impl StoreId {
    /// The part that fits into a record header: enough to tell a foreign record from one of ours.
    pub fn tag(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
