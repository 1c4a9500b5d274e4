//! What a tree is made of, for who walks it page by page.

use treering_format::node::{NodeRef, TreeKind};

use super::child::Child;
use super::tree::Tree;

impl Tree {
    pub fn kind(&self) -> TreeKind {
        self.kind
    }

    /// The topmost nodes that lie on disk.
    pub fn stored_roots(&self) -> Vec<NodeRef> {
        let mut roots = Vec::new();
        self.root.iter().for_each(|root| stored(root, &mut roots));
        roots
    }
}

/// The topmost stored nodes of a tree that is partly in memory.
pub(super) fn stored(child: &Child, into: &mut Vec<NodeRef>) {
    match child {
        Child::Stored(reference) => into.push(*reference),
        Child::Leaf(_) => {}
        Child::Branch(branch) => branch.children.iter().for_each(|(_, child)| stored(child, into)),
    }
}
