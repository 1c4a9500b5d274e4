//! The value of a map leaf: what is stored for a run of blocks that starts at the entry's key.
//!
//! Raw extents carry one checksum for each block, so that any block can be read and verified alone. A compressed extent is read
//! whole; an entry may show only part of it (`offset`, `count`) after the rest was overwritten. Holes and allocated zeros
//! have an address too, for a difference between two states must see them.

use super::page::{u32_at, u64_at};
use crate::error::{DecodeError, require};
use crate::record::DATA_BLOCKS_MAX;
use crate::units::LogAddress;

const STRUCTURE: &str = "map entry";
const FIXED_BYTES: usize = 16;

const RAW: u8 = 1;
const LZ4: u8 = 2;
const HOLE: u8 = 3;
const ZERO: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentEntry<'a> {
    /// Raw: of the first block. Lz4: of the first stored block. Hole, Zero: of the record that said so.
    pub address: LogAddress,
    /// Logical blocks.
    pub count: u32,
    pub content: ExtentContent<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentContent<'a> {
    /// One checksum for each block.
    Raw {
        checksums: ChecksumList<'a>,
    },
    /// Blocks `offset..offset + count` of an extent that holds `extent_blocks` blocks in `stored_blocks`.
    Lz4 {
        offset: u8,
        extent_blocks: u8,
        stored_blocks: u8,
        checksum: u32,
    },
    Hole,
    Zero,
}

impl<'a> ExtentEntry<'a> {
    #[inline]
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        if value.len() < FIXED_BYTES {
            let (found, expected) = (value.len() as u64, FIXED_BYTES as u64);
            return Err(DecodeError::Truncated { structure: STRUCTURE, field: "whole", found, expected });
        }
        let address = LogAddress(u64_at(value, 0));
        let count = u32_at(value, 8);
        let [kind, offset, extent_blocks, stored_blocks] = [value[12], value[13], value[14], value[15]];
        let checksums = ChecksumList(&value[FIXED_BYTES..]);
        let shape = (offset, extent_blocks, stored_blocks);
        require(!address.is_none(), STRUCTURE, "address", address, "an address")?;
        let (content, holds) = match kind {
            RAW => {
                let blocks = u32::from(extent_blocks);
                let holds = extent_blocks == stored_blocks
                    && offset == 0
                    && count == blocks
                    && (1..=u32::from(DATA_BLOCKS_MAX)).contains(&count)
                    && checksums.0.len() == 4 * count as usize;
                (ExtentContent::Raw { checksums }, holds)
            }
            LZ4 => {
                let end = u64::from(offset) + u64::from(count);
                let holds = count > 0
                    && end <= u64::from(extent_blocks)
                    && u16::from(extent_blocks) <= DATA_BLOCKS_MAX
                    && (1..=extent_blocks).contains(&stored_blocks)
                    && checksums.0.len() == 4;
                let checksum = if holds { checksums.get(0) } else { 0 };
                (ExtentContent::Lz4 { offset, extent_blocks, stored_blocks, checksum }, holds)
            }
            HOLE | ZERO => {
                let holds = count > 0 && shape == (0, 0, 0) && checksums.0.is_empty();
                (if kind == HOLE { ExtentContent::Hole } else { ExtentContent::Zero }, holds)
            }
            kind => return Err(DecodeError::invalid(STRUCTURE, "kind", kind, "1 to 4")),
        };
        let found = format_args!("kind {kind}, {count} blocks, {shape:?}, {} bytes of checksums", checksums.0.len());
        require(holds, STRUCTURE, "shape", found, "counts and checksums that agree")?;
        Ok(Self { address, count, content })
    }

    pub fn encoded_len(&self) -> usize {
        FIXED_BYTES
            + match self.content {
                ExtentContent::Raw { checksums } => checksums.0.len(),
                ExtentContent::Lz4 { .. } => 4,
                ExtentContent::Hole | ExtentContent::Zero => 0,
            }
    }

    /// Appends the encoded entry.
    #[inline]
    pub fn encode(&self, into: &mut Vec<u8>) {
        let blocks = self.count as u8;
        let shape = match self.content {
            ExtentContent::Raw { .. } => [RAW, 0, blocks, blocks],
            ExtentContent::Lz4 { offset, extent_blocks, stored_blocks, .. } => {
                [LZ4, offset, extent_blocks, stored_blocks]
            }
            ExtentContent::Hole => [HOLE, 0, 0, 0],
            ExtentContent::Zero => [ZERO, 0, 0, 0],
        };
        into.extend_from_slice(&self.address.0.to_le_bytes());
        into.extend_from_slice(&self.count.to_le_bytes());
        into.extend_from_slice(&shape);
        match self.content {
            ExtentContent::Raw { checksums } => into.extend_from_slice(checksums.0),
            ExtentContent::Lz4 { checksum, .. } => into.extend_from_slice(&checksum.to_le_bytes()),
            ExtentContent::Hole | ExtentContent::Zero => {}
        }
    }

    /// The entry for `count` of its blocks, after the first `skip`.
    #[inline]
    pub fn part(&self, skip: u32, count: u32) -> Self {
        assert!(count > 0 && count <= self.count - skip, "map entry: {count} blocks after {skip} of {}", self.count);
        let content = match self.content {
            ExtentContent::Raw { checksums } => {
                let bytes = &checksums.0[4 * skip as usize..][..4 * count as usize];
                return Self {
                    address: self.address.next(skip),
                    count,
                    content: ExtentContent::Raw { checksums: ChecksumList(bytes) },
                };
            }
            ExtentContent::Lz4 { offset, extent_blocks, stored_blocks, checksum } => {
                ExtentContent::Lz4 { offset: offset + skip as u8, extent_blocks, stored_blocks, checksum }
            }
            blank => blank,
        };
        Self { address: self.address, count, content }
    }
}

/// Checksums as they lie in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumList<'a>(&'a [u8]);

impl<'a> ChecksumList<'a> {
    /// Little-endian bytes, four for each checksum.
    pub fn new(bytes: &'a [u8]) -> Self {
        assert!(bytes.len().is_multiple_of(4), "checksums: {} bytes are not a multiple of 4", bytes.len());
        Self(bytes)
    }

    /// Little-endian, as they lie in the page.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    pub fn get(&self, index: usize) -> u32 {
        u32_at(self.0, 4 * index)
    }

    pub fn len(&self) -> usize {
        self.0.len() / 4
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four))
    }
}
