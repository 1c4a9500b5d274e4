//! A tree's root as other structures hold it: a node reference, or all zeros for the tree that is empty.
//!
//! Page 0 holds a superblock, so no node can be there.

use crate::bytes::Reader;
use crate::error::DecodeError;
use crate::node::NodeRef;

const ROOT_BYTES: usize = 24;

pub(crate) fn encode(root: Option<NodeRef>) -> [u8; ROOT_BYTES] {
    assert!(root.is_none_or(|root| root.page.0 != 0), "encode root: page 0 holds a superblock");
    root.map_or([0; ROOT_BYTES], |root| root.encode())
}

pub(crate) fn decode(r: &mut Reader<'_>, field: &'static str) -> Result<Option<NodeRef>, DecodeError> {
    let bytes: [u8; ROOT_BYTES] = r.array(field)?;
    if bytes == [0; ROOT_BYTES] { Ok(None) } else { NodeRef::decode(&bytes).map(Some) }
}
