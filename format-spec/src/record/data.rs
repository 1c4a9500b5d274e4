//! The descriptor of data: which blocks of a line lie where in the payload, and how each is known to be right.
//!
//! Raw data has one checksum for each block, so that any block is read, verified and kept alone. Compressed data has one for
//! all, for it is read whole or not at all.

use super::descriptor::{STRUCTURE, check_range};
use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};
use crate::units::*;

/// The most logical blocks that one data descriptor covers: 256 KiB.
pub const DATA_BLOCKS_MAX: u16 = 64;

/// Prefix and body without checksums.
const DATA_BYTES: usize = 28;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDescriptor {
    pub line: LineId,
    pub block: BlockIndex,
    /// Logical blocks, 1 to 64.
    pub count: u16,
    pub encoding: Encoding,
    /// Blocks in the payload; as many as `count` when raw, at most as many when compressed.
    pub stored_blocks: u16,
    /// Offset in blocks from the first payload block.
    pub payload: u32,
    /// Raw: one for each block. Lz4: one for all stored blocks.
    pub checksums: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Raw,
    Lz4,
}

impl DataDescriptor {
    /// The length on disk before padding.
    pub(super) fn bytes(&self) -> usize {
        DATA_BYTES + 4 * self.checksums.len()
    }

    /// The body, behind type, flags and length; the encoding is in the flags.
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u16(self.count);
        w.u16(self.stored_blocks);
        w.u64(self.line.0);
        w.u64(self.block.0);
        w.u32(self.payload);
        self.checksums.iter().for_each(|&checksum| w.u32(checksum));
    }

    pub(super) fn decode(flags: u8, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.u16("count")?;
        let stored_blocks = r.u16("stored_blocks")?;
        let line = LineId(r.u64("line")?);
        let block = BlockIndex(r.u64("block")?);
        let payload = r.u32("payload")?;
        let (encoding, checksum_count) = match flags {
            0 => (Encoding::Raw, count),
            1 => (Encoding::Lz4, 1),
            _ => {
                return Err(DecodeError::invalid(STRUCTURE, "encoding", flags, "0 (raw) or 1 (lz4)"));
            }
        };
        let checksums = (0..checksum_count).map(|_| r.u32("checksums")).collect::<Result<_, _>>()?;
        Ok(Self { line, block, count, encoding, stored_blocks, payload, checksums })
    }

    pub(super) fn check(&self, payload_blocks: u32) -> Result<(), DecodeError> {
        let (count, stored) = (self.count, self.stored_blocks);
        require((1..=DATA_BLOCKS_MAX).contains(&count), STRUCTURE, "count", count, "1 to 64")?;
        check_range(self.block, count.into())?;
        let (fits, checksums) = match self.encoding {
            Encoding::Raw => (stored == count, usize::from(count)),
            Encoding::Lz4 => ((1..=count).contains(&stored), 1),
        };
        require(fits, STRUCTURE, "stored_blocks", stored, format_args!("as many as suit {count} blocks"))?;
        require(self.checksums.len() == checksums, STRUCTURE, "checksums", self.checksums.len(), checksums)?;
        let end = u64::from(self.payload) + u64::from(stored);
        require(end <= payload_blocks.into(), STRUCTURE, "payload", self.payload, "a place inside the payload")
    }
}
