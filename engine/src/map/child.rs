//! What a branch in memory holds: a child on disk, or one that was changed and not written yet.

use std::rc::Rc;

use treering_format::node::{ENTRY_OVERHEAD_BYTES, NODE_REF_BYTES, NODE_ROOM_BYTES, Node, NodeRef, NodeWriter};
use treering_io::Buffer;

use crate::pages::Page;

/// Entries of a full branch: what fits a page. Few in tests, so that small trees have many levels.
pub(super) const BRANCH_ENTRIES: usize =
    if cfg!(test) { 12 } else { NODE_ROOM_BYTES / (NODE_REF_BYTES + ENTRY_OVERHEAD_BYTES) };

/// A node as its parent sees it. A clone is another view of the same node.
#[derive(Clone)]
pub(super) enum Child {
    Stored(NodeRef),
    /// A changed leaf, laid out as a page that has no place yet.
    Leaf(Page),
    /// A changed branch.
    Branch(Rc<Branch>),
}

/// Children by the low end of their range. Where the first one's really begins, the branch's own parent says: it may lie further
/// down, if everything left of the branch was removed.
pub(super) struct Branch {
    pub level: u8,
    pub children: Vec<(u64, Child)>,
}

impl Child {
    pub(super) fn level(&self) -> u8 {
        match self {
            Child::Stored(reference) => reference.level,
            Child::Leaf(_) => 0,
            Child::Branch(branch) => branch.level,
        }
    }
}

impl Branch {
    /// The children of a page whose range begins at `low`.
    pub(super) fn of_page(page: &Page, low: u64) -> Branch {
        let key = |index| if index == 0 { low } else { page.key(index) };
        let child = |index| (key(index), Child::Stored(page.child(index)));
        Branch { level: page.level(), children: (0..page.len()).map(child).collect() }
    }

    /// The same branch, its first child beginning at `low`.
    pub(super) fn beginning_at(branch: &Rc<Branch>, low: u64) -> Rc<Branch> {
        if branch.children[0].0 == low {
            return Rc::clone(branch);
        }
        let mut children = branch.children.clone();
        children[0].0 = low;
        Rc::new(Branch { level: branch.level, children })
    }

    /// Where the child that covers `key` stands.
    pub(super) fn position(&self, key: u64) -> usize {
        self.children.partition_point(|(low, _)| *low <= key).saturating_sub(1)
    }

    /// The end of a child's range, if it is not the end of the branch's own.
    pub(super) fn end_of(&self, index: usize) -> Option<u64> {
        self.children.get(index + 1).map(|(low, _)| *low)
    }

    /// Lays the branch out as a page, its children as they were stored.
    pub(super) fn lay_out(children: &[(u64, NodeRef)], page: Buffer) -> Node<Buffer> {
        let mut writer = NodeWriter::default();
        for (low, child) in children {
            writer.push(*low, &child.encode());
        }
        writer.finish(page)
    }
}
