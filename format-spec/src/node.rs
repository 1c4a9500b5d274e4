//! A reference to a tree page, as parents, the catalog and checkpoints hold it.

use crate::bytes::{Reader, Writer};
use crate::error::DecodeError;
use crate::units::{LogAddress, PageIndex};

pub const NODE_REF_BYTES: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeRef {
    pub page: PageIndex,
    pub checksum: u32,
    pub level: u8,
    /// The largest log address in the subtree.
    pub newest: LogAddress,
}

impl NodeRef {
    pub fn encode(&self) -> [u8; NODE_REF_BYTES] {
        let mut w = Writer::with_capacity(NODE_REF_BYTES);
        w.u64(self.page.0);
        w.u32(self.checksum);
        w.u8(self.level);
        w.zeros(3);
        w.u64(self.newest.0);
        let mut bytes = [0; NODE_REF_BYTES];
        bytes.copy_from_slice(w.written());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len("node reference", bytes, NODE_REF_BYTES)?;
        let page = PageIndex(r.u64("page")?);
        let checksum = r.u32("checksum")?;
        let level = r.u8("level")?;
        r.skip(3)?;
        Ok(Self {
            page,
            checksum,
            level,
            newest: LogAddress(r.u64("newest")?),
        })
    }
}
