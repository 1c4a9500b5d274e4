//! Puts new leaves where pages of a map are lost, and changes no other page: what the map shares with others stays shared, and a
//! neighbour that is whole stays as it is.

use std::pin::Pin;
use std::rc::Rc;

use treering_format::node::{NodeRef, TreeKind};
use treering_format::units::BlockIndex;

use super::child::{Branch, Child};
use super::extent::{Content, Extent};
use super::extent_map::ExtentMap;
use super::packer::Packer;
use super::regroup::Regrouped;
use crate::pages::{PageError, PageSet, Pages};

/// Longer extents are split.
const BLOCKS_MAX: u64 = u32::MAX as u64;

struct Replace<'a> {
    pages: &'a Pages,
    lost: &'a PageSet,
    ranges: &'a [(u64, u64)],
    /// Sorted and disjoint, within the ranges.
    extents: &'a [Extent],
    made: Regrouped,
    leaves_made: usize,
}

impl ExtentMap {
    /// Puts `extents` into the `ranges` that hang below `lost` pages; all other pages can be read.
    pub(crate) async fn replace(
        &mut self,
        pages: &Pages,
        lost: &PageSet,
        ranges: &[(u64, u64)],
        extents: &[Extent],
    ) -> Result<(), PageError> {
        let Some(root) = self.tree.root.clone() else { return Ok(()) };
        let made = Regrouped { root: None, branches_made: 0, absorbed: Vec::new() };
        let mut replace = Replace { pages, lost, ranges, extents, made, leaves_made: 0 };
        let mut level = root.level();
        let mut children = replace.child(0, u64::MAX, root).await?;
        while children.len() > 1 {
            level += 1;
            children = replace.made.branches(level, children, false);
        }
        self.tree.root = children.pop().map(|(_, root)| root);
        self.tree.dirty += replace.leaves_made + replace.made.branches_made;
        Ok(())
    }
}

type Children = Vec<(u64, Child)>;

impl Replace<'_> {
    /// What stands in the place of a child: nodes of its level, or nothing.
    fn child<'b>(
        &'b mut self,
        low: u64,
        high: u64,
        child: Child,
    ) -> Pin<Box<dyn Future<Output = Result<Children, PageError>> + 'b>> {
        Box::pin(async move {
            let touched = self.ranges.iter().any(|(from, to)| *from < high && low < *to);
            match child {
                Child::Stored(reference) if self.lost.contains(reference.page) => {
                    Ok(self.new_nodes(low, high, &reference))
                }
                Child::Stored(reference) if touched && reference.level > 0 => {
                    let page = self.pages.read(TreeKind::Map, reference).await?;
                    let branch = Branch::of_page(&page, low);
                    let mut children = Vec::new();
                    for (index, (low, child)) in branch.children.iter().enumerate() {
                        let end = branch.end_of(index).unwrap_or(high);
                        children.extend(self.child(*low, end, child.clone()).await?);
                    }
                    if unchanged(&branch, &children) {
                        return Ok(vec![(low, Child::Stored(reference))]);
                    }
                    if let Some((first, _)) = children.first_mut() {
                        *first = low;
                    }
                    Ok(self.made.branches(reference.level, children, false))
                }
                whole => Ok(vec![(low, whole)]),
            }
        })
    }

    fn new_nodes(&mut self, low: u64, high: u64, lost: &NodeRef) -> Children {
        let mut packer = Packer::new(0);
        let mut scratch = Vec::new();
        for extent in self.extents.iter().filter(|extent| extent.block.0 < high && low < extent.end().0) {
            let mut from = extent.block.0.max(low);
            let end = extent.end().0.min(high);
            while from < end {
                let to = end.min(from + BLOCKS_MAX);
                let part = extent.clip(BlockIndex(from), BlockIndex(to));
                packer.push_extent(from, &part.as_entry(&mut scratch));
                from = to;
            }
        }
        if packer.room_used() == 0 {
            // A neighbour whose range grew would not be found by it in the trees that share it.
            let blank = Extent { block: BlockIndex(low), count: 1, content: Content::Hole { address: lost.birth } };
            packer.push_extent(low, &blank.as_entry(&mut scratch));
        }
        let mut nodes = packer.finish(low);
        self.leaves_made += nodes.len();
        for level in 1..=lost.level {
            nodes = self.made.branches(level, nodes, false);
        }
        nodes
    }
}

/// Whether a branch has the children that it had.
fn unchanged(branch: &Branch, children: &[(u64, Child)]) -> bool {
    let same = |(old, new): (&(u64, Child), &(u64, Child))| match (&old.1, &new.1) {
        (Child::Stored(old), Child::Stored(new)) => old == new,
        (Child::Branch(old), Child::Branch(new)) => Rc::ptr_eq(old, new),
        _ => false,
    };
    branch.children.len() == children.len() && branch.children.iter().zip(children).all(same)
}
