//! A tree of 64-bit keys and short values. A clone costs nothing and never changes.

use treering_format::node::{NodeRef, TreeKind};

use super::child::Child;
use super::packer::Packer;
use super::rewrite::Run;
use crate::pages::{Page, PageError, Pages};

/// Changes of one slice.
pub(super) const CHANGES_PER_SLICE: usize = if cfg!(test) { 300 } else { 512 };

#[derive(Clone)]
pub struct Tree {
    pub(super) kind: TreeKind,
    pub(super) owner: u64,
    pub(super) root: Option<Child>,
    /// Nodes in memory that no page holds yet.
    pub(super) dirty: usize,
    /// Nodes that it has more than when it was opened.
    pub(super) grown: i64,
}

/// How far a search came without waiting.
pub(super) enum Step {
    /// The leaf whose range covers the key, and that range's end.
    Leaf(Page, u64),
    Missing(NodeRef, u64),
    Empty,
}

impl Tree {
    pub fn empty(kind: TreeKind, owner: u64) -> Tree {
        Tree::open(kind, owner, None)
    }

    pub fn open(kind: TreeKind, owner: u64, root: Option<NodeRef>) -> Tree {
        Tree { kind, owner, root: root.map(Child::Stored), dirty: 0, grown: 0 }
    }

    #[cfg(test)]
    pub async fn get(&self, pages: &Pages, key: u64) -> Result<Option<Vec<u8>>, PageError> {
        let Some((leaf, _)) = self.leaf(pages, key).await? else { return Ok(None) };
        let found = leaf.rank(key).checked_sub(1).filter(|index| leaf.key(*index) == key);
        Ok(found.map(|index| leaf.value(index).to_vec()))
    }

    /// The first `max` entries whose key is at least `from`.
    pub async fn scan(&self, pages: &Pages, from: u64, max: usize) -> Result<Vec<(u64, Vec<u8>)>, PageError> {
        let mut found = Vec::new();
        let mut at = from;
        while let Some((leaf, high)) = self.leaf(pages, at).await? {
            let entries = (0..leaf.len()).filter(|index| leaf.key(*index) >= at);
            found.extend(entries.take(max - found.len()).map(|index| (leaf.key(index), leaf.value(index).to_vec())));
            if high == u64::MAX || found.len() == max {
                break;
            }
            at = high;
        }
        Ok(found)
    }

    /// The entries whose keys are in `[from, to)`.
    pub async fn range(&self, pages: &Pages, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, PageError> {
        let mut found = Vec::new();
        let mut at = from;
        while let Some((leaf, high)) = self.leaf(pages, at).await? {
            let entries = (0..leaf.len()).filter(|index| (at..to).contains(&leaf.key(*index)));
            found.extend(entries.map(|index| (leaf.key(index), leaf.value(index).to_vec())));
            if high >= to {
                break;
            }
            at = high;
        }
        Ok(found)
    }

    /// Whether it holds nothing at all.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Sets and removes values. `changes` are sorted by key, each key once, and below `u64::MAX`.
    pub async fn apply(&mut self, pages: &Pages, changes: &[(u64, Option<Vec<u8>>)]) -> Result<(), PageError> {
        assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "changes of a tree are sorted, each key once");
        let mut left = changes;
        while !left.is_empty() {
            let ranges: Vec<_> = left.iter().take(CHANGES_PER_SLICE).map(|(key, _)| (*key, *key + 1)).collect();
            let mut rest = left;
            let slice = self
                .rewrite(pages, &ranges, None, |run, to, packer| {
                    let count = rest.partition_point(|(key, _)| *key < run.high.min(to));
                    apply_to_run(&run, &rest[..count], packer);
                    rest = &rest[count..];
                })
                .await?;
            left = &left[left.partition_point(|(key, _)| *key < slice.done_to)..];
        }
        Ok(())
    }

    pub(super) fn stored_root(&self) -> Option<NodeRef> {
        match &self.root {
            Some(Child::Stored(reference)) => Some(*reference),
            _ => None,
        }
    }

    /// Nodes that `write_out` has to find a page for.
    pub fn dirty_nodes(&self) -> usize {
        self.dirty
    }

    /// Nodes that it has more than when it was opened, or fewer.
    pub fn grown(&self) -> i64 {
        self.grown
    }

    /// The leaf that covers `key`, and the end of its range.
    pub(super) async fn leaf(&self, pages: &Pages, key: u64) -> Result<Option<(Page, u64)>, PageError> {
        let mut step = self.find(pages, key);
        loop {
            let (reference, high) = match step {
                Step::Leaf(leaf, high) => return Ok(Some((leaf, high))),
                Step::Empty => return Ok(None),
                Step::Missing(reference, high) => (reference, high),
            };
            let page = pages.read(self.kind, reference).await?;
            step = below(pages, page, key, high);
        }
    }

    /// Searches as far as nodes are in memory.
    pub(super) fn find(&self, pages: &Pages, key: u64) -> Step {
        let Some(mut child) = self.root.as_ref() else { return Step::Empty };
        let mut high = u64::MAX;
        loop {
            match child {
                Child::Leaf(leaf) => return Step::Leaf(leaf.clone(), high),
                Child::Branch(branch) => {
                    let index = branch.position(key);
                    high = branch.end_of(index).unwrap_or(high);
                    child = &branch.children[index].1;
                }
                Child::Stored(reference) => {
                    return match pages.cached(reference) {
                        Some(page) => below(pages, page, key, high),
                        None => Step::Missing(*reference, high),
                    };
                }
            }
        }
    }
}

/// Searches on from a stored page; everything beneath is stored too.
fn below(pages: &Pages, mut page: Page, key: u64, mut high: u64) -> Step {
    while page.level() > 0 {
        let index = page.rank(key).saturating_sub(1);
        if index + 1 < page.len() {
            high = high.min(page.key(index + 1));
        }
        let reference = page.child(index);
        match pages.cached(&reference) {
            Some(child) => page = child,
            None => return Step::Missing(reference, high),
        }
    }
    Step::Leaf(page, high)
}

fn apply_to_run(run: &Run<'_>, changes: &[(u64, Option<Vec<u8>>)], packer: &mut Packer) {
    let mut changes = changes.iter().peekable();
    for leaf in run.leaves {
        for index in 0..leaf.len() {
            let key = leaf.key(index);
            while let Some((new, value)) = changes.next_if(|(new, _)| *new < key) {
                value.iter().for_each(|value| packer.push(*new, value));
            }
            match changes.next_if(|(new, _)| *new == key) {
                Some((_, value)) => value.iter().for_each(|value| packer.push(key, value)),
                None => packer.push(key, leaf.value(index)),
            }
        }
    }
    packer.ends_with_new(run, changes.len());
    for (key, value) in changes {
        value.iter().for_each(|value| packer.push(*key, value));
    }
}
