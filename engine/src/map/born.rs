//! What a tree holds that is new since a cut, and that another tree does not share with it.
//!
//! Subtrees from before the cut are not entered, nor are those that both trees hold: a page that two trees share is found in
//! the other by the low end of the range that it has here. An untouched page's range only ever grows, downwards when all that
//! was left of it is gone, upwards when all that was right of it is. So the cost follows the difference, not the trees.

use futures_util::future::try_join_all;
use treering_format::node::{NodeRef, TreeKind};
use treering_format::units::{LogAddress, PageIndex};

use super::child::Child;
use super::extent::Extent;
use super::extent_map::{ExtentMap, collect};
use super::gather::{Body, load};
use super::tree::Tree;
use crate::pages::{PageError, Pages};

/// Branches that are read at once.
const READS_AT_ONCE: usize = 64;

/// Extents of leaves that are new.
pub struct Born {
    /// In block order, cut to the range that was asked for.
    pub extents: Vec<Extent>,
    /// Everything below this block was looked at.
    pub next: u64,
}

/// What counts as new: born after the floor, and not in the other tree.
#[derive(Clone, Copy)]
struct New<'a> {
    pages: &'a Pages,
    floor: Option<LogAddress>,
    other: Option<&'a Tree>,
}

impl New<'_> {
    /// Whether anything at or below the child may be new. A child that was never written out is.
    async fn holds(&self, low: u64, child: &Child) -> Result<bool, PageError> {
        match child {
            Child::Stored(reference) => self.holds_stored(low, reference).await,
            Child::Leaf(_) | Child::Branch(_) => Ok(true),
        }
    }

    async fn holds_stored(&self, low: u64, reference: &NodeRef) -> Result<bool, PageError> {
        if self.floor.is_some_and(|floor| reference.birth <= floor) {
            return Ok(false);
        }
        match self.other {
            Some(other) => Ok(other.ref_at(self.pages, reference.level, low).await? != Some(*reference)),
            None => Ok(true),
        }
    }
}

impl Tree {
    /// The stored node on `level` whose range covers `key`.
    pub(super) async fn ref_at(&self, pages: &Pages, level: u8, key: u64) -> Result<Option<NodeRef>, PageError> {
        let Some(mut child) = self.root.as_ref() else { return Ok(None) };
        while let Child::Branch(branch) = child
            && branch.level > level
        {
            child = &branch.children[branch.position(key)].1;
        }
        let Child::Stored(mut reference) = *child else { return Ok(None) };
        while reference.level > level {
            let page = pages.read(self.kind, reference).await?;
            reference = page.child(page.rank(key).saturating_sub(1));
        }
        Ok((reference.level == level).then_some(reference))
    }

    /// The pages born after `floor` that `other` does not hold. Leaves are not read. Others run meanwhile; neither tree may change.
    ///
    /// # Panics
    /// If a node of the tree has no page.
    pub async fn pages_only_here(
        &self,
        pages: &Pages,
        other: Option<&Tree>,
        floor: Option<LogAddress>,
    ) -> Result<Vec<PageIndex>, PageError> {
        assert_eq!(self.dirty, 0, "a tree whose pages are compared with another's has been written out");
        let new = New { pages, floor, other };
        let mut open: Vec<(u64, NodeRef)> = Vec::new();
        if let Some(Child::Stored(root)) = &self.root {
            open.push((0, *root));
        }
        let mut found = Vec::new();
        while !open.is_empty() {
            let mut branches = Vec::new();
            for (low, reference) in open.split_off(open.len().saturating_sub(READS_AT_ONCE)) {
                if new.holds_stored(low, &reference).await? {
                    found.push(reference.page);
                    branches.extend((reference.level > 0).then_some((low, reference)));
                }
            }
            let read = branches.iter().map(|(_, reference)| pages.read(self.kind, *reference));
            for (page, (low, _)) in try_join_all(read).await?.into_iter().zip(&branches) {
                let key = |index| if index == 0 { *low } else { page.key(index) };
                open.extend((0..page.len()).map(|index| (key(index), page.child(index))));
            }
            pages.let_others_run().await;
        }
        Ok(found)
    }

    /// The first `most` new leaves that touch `[from, to)`, with their ranges, and the key below which there are no others.
    async fn born_leaves(
        &self,
        new: New<'_>,
        (from, to): (u64, u64),
        most: usize,
    ) -> Result<(Vec<(u64, u64, Child)>, u64), PageError> {
        let (mut wanted, mut next) = (Vec::new(), to);
        let Some(root) = &self.root else { return Ok((wanted, next)) };
        if new.holds(0, root).await? {
            wanted.push((0, u64::MAX, root.clone()));
        }
        for _ in 0..root.level() {
            let parents = wanted.into_iter().map(|place| load(new.pages, self.kind, place));
            let parents = try_join_all(parents).await?;
            wanted = Vec::new();
            'level: for parent in &parents {
                let Body::Branch(branch) = &parent.body else { unreachable!("a parent is a branch") };
                for (index, (low, child)) in branch.children.iter().enumerate() {
                    let high = branch.end_of(index).unwrap_or(parent.high);
                    if *low >= next {
                        break 'level;
                    }
                    if high <= from || !new.holds(*low, child).await? {
                        continue;
                    }
                    if wanted.len() == most {
                        next = *low;
                        break 'level;
                    }
                    wanted.push((*low, high, child.clone()));
                }
            }
        }
        Ok((wanted, next))
    }
}

impl ExtentMap {
    /// The extents within `[from, to)` of leaves born after `floor` that `other` does not share: of the first `leaves` such
    /// leaves, at least one. Beside what is new they hold what lay in the same leaf.
    pub async fn born_after(
        &self,
        pages: &Pages,
        floor: Option<LogAddress>,
        other: Option<&ExtentMap>,
        (from, to): (u64, u64),
        leaves: usize,
    ) -> Result<Born, PageError> {
        let new = New { pages, floor, other: other.map(|other| &other.tree) };
        let (wanted, next) = self.tree.born_leaves(new, (from, to), leaves).await?;
        let mut extents = Vec::new();
        for leaf in try_join_all(wanted.into_iter().map(|place| load(pages, TreeKind::Map, place))).await? {
            let Body::Leaf(page) = &leaf.body else { unreachable!("level 0 is leaves") };
            collect(page, from, to, usize::MAX, &mut extents);
        }
        Ok(Born { extents, next })
    }
}
