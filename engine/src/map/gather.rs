//! Brings the nodes that an edit will touch into memory: the first few leaves in key order, and all branches above them.
//!
//! Each level is read in parallel. Nothing is changed here; a read that fails leaves the tree as it was.

use std::rc::Rc;

use futures_util::future::try_join_all;
use treering_format::DecodeError;
use treering_format::node::TreeKind;

use super::child::{Branch, Child};
use crate::pages::{Page, PageError, Pages};

/// Leaves of one slice: enough to keep a disk busy, few enough to change in a fraction of a millisecond.
pub(super) const LEAVES_PER_SLICE: usize = if cfg!(test) { 10 } else { 32 };

/// A node that will be replaced, with its range.
pub(super) struct Touched {
    pub low: u64,
    pub high: u64,
    pub child: Child,
    pub body: Body,
}

pub(super) enum Body {
    Leaf(Page),
    Branch(Rc<Branch>),
}

/// The touched nodes of a slice: by level, then in key order.
pub(super) struct Gathered {
    pub levels: Vec<Vec<Touched>>,
    /// Everything below this key that the ranges ask for is here.
    pub complete_to: u64,
}

/// Finds the nodes that cover any of the ranges (sorted, disjoint, not empty) below `root`.
pub(super) async fn gather(
    pages: &Pages,
    tree: TreeKind,
    root: &Child,
    ranges: &[(u64, u64)],
) -> Result<Gathered, PageError> {
    let mut complete_to = ranges.last().map_or(0, |(_, to)| *to);
    let mut wanted = vec![(0, u64::MAX, root.clone())];
    let mut levels = Vec::new();
    for level in (0..=root.level()).rev() {
        let touched = try_join_all(wanted.into_iter().map(|place| load(pages, tree, place))).await?;
        wanted = Vec::new();
        if level > 0 && touching_children(&touched, ranges, &mut wanted) {
            complete_to = wanted.last().map_or(complete_to, |(_, high, _)| *high);
        }
        levels.push(touched);
    }
    levels.reverse();
    for level in &mut levels {
        level.retain(|node| node.low < complete_to);
    }
    Ok(Gathered { levels, complete_to })
}

/// Lists the first children that any range touches. True if there are more than a slice takes.
fn touching_children(parents: &[Touched], ranges: &[(u64, u64)], into: &mut Vec<(u64, u64, Child)>) -> bool {
    let mut ranges = ranges.iter().peekable();
    for parent in parents {
        let Body::Branch(branch) = &parent.body else { unreachable!("a parent is a branch") };
        for (index, (low, child)) in branch.children.iter().enumerate() {
            let high = branch.end_of(index).unwrap_or(parent.high);
            while ranges.next_if(|(_, to)| to <= low).is_some() {}
            match ranges.peek() {
                None => return false,
                Some((from, _)) if *from >= high => continue,
                Some(_) if into.len() == LEAVES_PER_SLICE => return true,
                Some(_) => into.push((*low, high, child.clone())),
            }
        }
    }
    false
}

pub(super) async fn load(pages: &Pages, tree: TreeKind, place: (u64, u64, Child)) -> Result<Touched, PageError> {
    let (low, high, child) = place;
    let body = match &child {
        Child::Leaf(page) => Body::Leaf(page.clone()),
        Child::Branch(branch) => Body::Branch(Branch::beginning_at(branch, low)),
        Child::Stored(reference) => {
            let page = pages.read(tree, *reference).await?;
            require_range(tree, &page, low, high)?;
            if page.level() == 0 { Body::Leaf(page) } else { Body::Branch(Rc::new(Branch::of_page(&page, low))) }
        }
    };
    Ok(Touched { low, high, child, body })
}

/// Keys outside the range that the parent gives would break the order of what is made of them.
pub(super) fn require_range(tree: TreeKind, page: &Page, low: u64, high: u64) -> Result<(), PageError> {
    let last = page.len() - 1;
    let first = page.key(0);
    let end = match (page.level(), tree) {
        (0, TreeKind::Map) => page.key(last) + u64::from(page.extent(last).count),
        _ => page.key(last).saturating_add(1),
    };
    if first >= low && end <= high {
        return Ok(());
    }
    let (found, expected) = (format!("{first} to {end}"), format!("{low} to {high}"));
    let source = DecodeError::Invalid { structure: "node", field: "range of keys", found, expected };
    Err(PageError::Content { page: page.header().page, tree: tree.name(), source })
}
