//! One run of blocks and what the map says about it, as the rest of the engine sees it.

use std::ops::Deref;
use std::rc::Rc;

use treering_format::node::{ChecksumList, ExtentContent, ExtentEntry};
use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub block: BlockIndex,
    /// Logical blocks.
    pub count: u64,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Data {
        /// Raw: of this extent's first block. Lz4: of the stored extent's first block.
        address: LogAddress,
        encoding: Encoding,
        /// Lz4: blocks of the stored extent before this piece. Raw: 0.
        offset: u8,
        /// Lz4: logical blocks of the stored extent. Raw: those of this piece; not looked at when it is merged.
        extent_blocks: u8,
        /// Lz4: blocks of the stored extent in the log. Raw: as `extent_blocks`.
        stored_blocks: u8,
        /// Raw: one for each block of this piece. Lz4: one over all stored blocks.
        checksums: Checksums,
    },
    /// Nothing is stored; reads as zeros.
    Hole { address: LogAddress },
    /// Allocated zeros.
    Zero { address: LogAddress },
}

impl Extent {
    pub fn end(&self) -> BlockIndex {
        BlockIndex(self.block.0 + self.count)
    }

    /// None for what is not stored.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.content {
            Content::Data { encoding, .. } => Some(*encoding),
            Content::Hole { .. } | Content::Zero { .. } => None,
        }
    }

    /// The part of it within `[from, to)`.
    ///
    /// # Panics
    /// If no block of it is.
    pub fn clip(&self, from: BlockIndex, to: BlockIndex) -> Extent {
        let (start, end) = (self.block.max(from), self.end().min(to));
        assert!(start < end, "blocks {} to {} are clipped to {from} to {to}", self.block, self.end());
        let (skip, count) = (start.0 - self.block.0, end.0 - start.0);
        let content = match &self.content {
            Content::Data { address, encoding: Encoding::Raw, checksums, .. } => Content::Data {
                address: address.next(skip as u32),
                encoding: Encoding::Raw,
                offset: 0,
                extent_blocks: count as u8,
                stored_blocks: count as u8,
                checksums: checksums.part(skip as usize, count as usize),
            },
            Content::Data { address, encoding, offset, extent_blocks, stored_blocks, checksums } => Content::Data {
                address: *address,
                encoding: *encoding,
                offset: offset + skip as u8,
                extent_blocks: *extent_blocks,
                stored_blocks: *stored_blocks,
                checksums: checksums.clone(),
            },
            blank => blank.clone(),
        };
        Extent { block: start, count, content }
    }

    /// What a leaf says of the blocks from `block` on.
    pub(super) fn of_entry(block: u64, entry: &ExtentEntry<'_>) -> Extent {
        let address = entry.address;
        let content = match entry.content {
            ExtentContent::Raw { checksums } => Content::Data {
                address,
                encoding: Encoding::Raw,
                offset: 0,
                extent_blocks: entry.count as u8,
                stored_blocks: entry.count as u8,
                checksums: checksums.into(),
            },
            ExtentContent::Lz4 { offset, extent_blocks, stored_blocks, checksum } => Content::Data {
                address,
                encoding: Encoding::Lz4,
                offset,
                extent_blocks,
                stored_blocks,
                checksums: Checksums::Few(1, [checksum, 0, 0, 0]),
            },
            ExtentContent::Hole => Content::Hole { address },
            ExtentContent::Zero => Content::Zero { address },
        };
        Extent { block: BlockIndex(block), count: u64::from(entry.count), content }
    }

    /// The same as a leaf would say it. The bytes of checksums go into `scratch`. At most `u32::MAX` blocks.
    pub(super) fn as_entry<'a>(&self, scratch: &'a mut Vec<u8>) -> ExtentEntry<'a> {
        scratch.clear();
        let count = u32::try_from(self.count).expect("longer extents are split before");
        let (address, content) = match &self.content {
            Content::Data { address, encoding: Encoding::Raw, checksums, .. } => {
                assert!(checksums.len() as u64 == self.count, "{} checksums for {count} raw blocks", checksums.len());
                scratch.extend(checksums.iter().flat_map(|checksum| checksum.to_le_bytes()));
                (*address, ExtentContent::Raw { checksums: ChecksumList::new(scratch) })
            }
            Content::Data { address, offset, extent_blocks, stored_blocks, checksums, .. } => {
                let (offset, extent_blocks, stored_blocks) = (*offset, *extent_blocks, *stored_blocks);
                (*address, ExtentContent::Lz4 { offset, extent_blocks, stored_blocks, checksum: checksums[0] })
            }
            Content::Hole { address } => (*address, ExtentContent::Hole),
            Content::Zero { address } => (*address, ExtentContent::Zero),
        };
        ExtentEntry { address, count, content }
    }
}

/// Checksums of an extent; the few of a small read need no memory of their own.
#[derive(Clone)]
pub enum Checksums {
    Few(u8, [u32; 4]),
    /// The given range of a shared list.
    Many(Rc<[u32]>, u8, u8),
}

impl Checksums {
    fn part(&self, skip: usize, count: usize) -> Checksums {
        match self {
            Checksums::Many(all, start, _) if count > 4 => {
                Checksums::Many(Rc::clone(all), start + skip as u8, count as u8)
            }
            _ => self[skip..skip + count].into(),
        }
    }
}

impl Deref for Checksums {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Checksums::Few(count, few) => &few[..usize::from(*count)],
            Checksums::Many(all, start, count) => &all[usize::from(*start)..][..usize::from(*count)],
        }
    }
}

impl From<&[u32]> for Checksums {
    fn from(list: &[u32]) -> Checksums {
        let mut few = [0; 4];
        match few.get_mut(..list.len()) {
            Some(room) => {
                room.copy_from_slice(list);
                Checksums::Few(list.len() as u8, few)
            }
            None => Checksums::Many(list.into(), 0, list.len() as u8),
        }
    }
}

impl From<ChecksumList<'_>> for Checksums {
    fn from(list: ChecksumList<'_>) -> Checksums {
        if list.len() > 4 {
            return Checksums::Many(list.iter().collect(), 0, list.len() as u8);
        }
        let mut few = [0; 4];
        few.iter_mut().zip(list.iter()).for_each(|(room, checksum)| *room = checksum);
        Checksums::Few(list.len() as u8, few)
    }
}

impl PartialEq for Checksums {
    fn eq(&self, other: &Checksums) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Checksums {}

impl std::fmt::Debug for Checksums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|checksum| format!("{checksum:08x}"))).finish()
    }
}
