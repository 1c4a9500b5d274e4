//! Pages of the trees: the extent map of each line, the liveness of segments, the catalog.
//!
//! All trees are made of the same 4 KiB page: a header, a directory of 16-bit offsets, then entries in key order. A branch
//! holds references to its children, a leaf holds values. The parent's reference carries the checksum of the whole page, so that
//! an old page at the right place, or a right page at the wrong place, is refused; the page's own header says the same
//! about itself, for a repair that has lost the parent.
//!
//! This module knows what one page may look like. It does not know how keys are spread over pages; the map does.

mod extent;
mod page;

pub use extent::{ChecksumList, ExtentContent, ExtentEntry};
pub use page::{ENTRY_OVERHEAD_BYTES, NODE_ROOM_BYTES, Node, NodeHeader, NodeWriter};

use std::fmt;

use crate::bytes::{Reader, Writer};
use crate::error::DecodeError;
use crate::units::{BLOCK_BYTES, LogAddress, PageIndex};

/// A page of a tree is one block of the store file.
pub const NODE_BYTES: usize = BLOCK_BYTES;

/// Levels that a tree may have. Four-level trees reach 10⁸ leaves; more than this is damage.
pub const NODE_LEVELS_MAX: u8 = 12;

/// The longest value of a leaf: three of them fit a page, so a split always makes progress.
pub const VALUE_BYTES_MAX: usize = 1200;

pub const NODE_REF_BYTES: usize = 24;

/// What the keys and values of a tree mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeKind {
    /// Block of a volume → extent.
    Map,
    /// Segment → which of its blocks live.
    Liveness,
    /// Kind and id → dot or volume.
    Catalog,
}

/// A page as its parent, the catalog and checkpoints know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeRef {
    pub page: PageIndex,
    /// Of the page, as its header repeats it.
    pub checksum: u32,
    /// 0 for a leaf.
    pub level: u8,
    /// Of the page, as its header repeats it. Nothing below it was born later, and no log address below it is larger.
    pub birth: LogAddress,
}

impl NodeRef {
    pub fn encode(&self) -> [u8; NODE_REF_BYTES] {
        let mut w = Writer::with_capacity(NODE_REF_BYTES);
        w.u64(self.page.0);
        w.u32(self.checksum);
        w.u8(self.level);
        w.zeros(3);
        w.u64(self.birth.0);
        let mut bytes = [0; NODE_REF_BYTES];
        bytes.copy_from_slice(w.written());
        bytes
    }

    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len("node reference", bytes, NODE_REF_BYTES)?;
        let page = PageIndex(r.u64("page")?);
        let checksum = r.u32("checksum")?;
        let level = r.u8("level")?;
        r.skip(3)?;
        let birth = LogAddress(r.u64("birth")?);
        if page.0 == 0 || level > NODE_LEVELS_MAX {
            let found = format_args!("page {page}, level {level}");
            return Err(DecodeError::invalid(
                "node reference",
                "place",
                found,
                "a page after the superblock, level 0 to 12",
            ));
        }
        Ok(Self { page, checksum, level, birth })
    }
}

impl TreeKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Liveness => "liveness",
            Self::Catalog => "catalog",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Map => 1,
            Self::Liveness => 2,
            Self::Catalog => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Map, Self::Liveness, Self::Catalog].into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for TreeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
