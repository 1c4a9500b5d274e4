//! Visits every page of a tree: to release them all, or to count them. Leaves are not read, their parents name them.

use futures_util::future::try_join_all;
use treering_format::node::{NodeRef, TreeKind};
use treering_format::units::PageIndex;

use super::child::Child;
use super::tree::Tree;
use crate::pages::{PageError, Pages};

/// Branches that are read at once.
const READS_AT_ONCE: usize = 64;

impl Tree {
    /// Calls `visit` with each page that the tree holds, once, in no particular order.
    pub async fn pages_in_use(&self, pages: &Pages, visit: &mut dyn FnMut(PageIndex)) -> Result<(), PageError> {
        let mut open = Vec::new();
        self.root.iter().for_each(|root| stored(root, &mut open));
        open.iter().for_each(|reference| visit(reference.page));
        open.retain(|reference| reference.level > 0);
        while !open.is_empty() {
            let batch = open.split_off(open.len().saturating_sub(READS_AT_ONCE));
            let branches = try_join_all(batch.into_iter().map(|reference| pages.read(self.kind, reference))).await?;
            for branch in branches {
                for child in (0..branch.len()).map(|index| branch.child(index)) {
                    visit(child.page);
                    if child.level > 0 {
                        open.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    pub fn kind(&self) -> TreeKind {
        self.kind
    }

    /// The topmost nodes that lie on disk.
    pub fn stored_roots(&self) -> Vec<NodeRef> {
        let mut roots = Vec::new();
        self.root.iter().for_each(|root| stored(root, &mut roots));
        roots
    }

    /// Releases every page. What the values refer to is the caller's business. If a page can't be read, none is released.
    #[cfg(test)]
    pub async fn release_all(&mut self, pages: &Pages) -> Result<(), PageError> {
        let mut all = Vec::new();
        self.pages_in_use(pages, &mut |page| all.push(page)).await?;
        all.into_iter().for_each(|page| pages.release(page));
        self.root = None;
        self.dirty = 0;
        Ok(())
    }
}

/// The topmost stored nodes of a tree that is partly in memory.
fn stored(child: &Child, into: &mut Vec<NodeRef>) {
    match child {
        Child::Stored(reference) => into.push(*reference),
        Child::Leaf(_) => {}
        Child::Branch(branch) => branch.children.iter().for_each(|(_, child)| stored(child, into)),
    }
}
