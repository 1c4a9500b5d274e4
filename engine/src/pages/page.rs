//! A page in memory: shared, never changed, searched where it lies.

use std::ops::Deref;
use std::rc::Rc;

use treering_format::DecodeError;
use treering_format::node::{Node, NodeRef, TreeKind};
use treering_io::{Buffer, WriteBuffer};

use super::PageError;

/// Clones share the memory.
pub(crate) type Page = Node<PageBytes>;

#[derive(Clone, Debug)]
pub(crate) struct PageBytes(Rc<Buffer>);

impl Deref for PageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Buffer> for PageBytes {
    fn from(buffer: Buffer) -> PageBytes {
        PageBytes(Rc::new(buffer))
    }
}

impl From<PageBytes> for WriteBuffer {
    fn from(bytes: PageBytes) -> WriteBuffer {
        WriteBuffer::Counted(bytes.0)
    }
}

/// Accepts what was read if it is the page that the reference means.
pub(super) fn verified(buffer: Buffer, tree: TreeKind, reference: &NodeRef) -> Result<Page, PageError> {
    let (page, tree_name) = (reference.page, tree.name());
    let mismatch = |stored, computed| PageError::Checksum {
        page,
        tree: tree_name,
        expected: reference.checksum,
        stored,
        computed,
    };
    let node = match Node::decode(PageBytes::from(buffer)) {
        Ok(node) => node,
        Err(DecodeError::Checksum { found, expected, .. }) => return Err(mismatch(expected, found)),
        Err(source) => return Err(PageError::Content { page, tree: tree_name, source }),
    };
    if node.checksum() != reference.checksum {
        return Err(mismatch(node.checksum(), node.checksum()));
    }
    let header = node.header();
    if header.kind != tree || header.level != reference.level || header.birth != reference.birth {
        let found = format!("{} level {} born at {}", header.kind, header.level, header.birth);
        let expected = format!("{tree} level {} born at {}", reference.level, reference.birth);
        let source = DecodeError::Invalid { structure: "node", field: "kind, level and birth", found, expected };
        return Err(PageError::Content { page, tree: tree_name, source });
    }
    Ok(node)
}
