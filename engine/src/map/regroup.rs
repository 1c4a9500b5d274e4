//! Carries new nodes up to the root: each touched branch is made anew, with its replaced children in place.
//!
//! Touched branches that are neighbours are cut anew together, so a child may come to lie under another parent; a branch that
//! is left with few children joins a neighbour if one is at hand. Nothing here waits: the tree is whole before and after.

use std::rc::Rc;

use treering_format::node::NODE_LEVELS_MAX;

use super::child::{BRANCH_ENTRIES, Branch, Child};
use super::gather::{Body, Touched};

/// Fewer children than this, and a branch looks for company.
const FEW_CHILDREN: usize = BRANCH_ENTRIES / 4;

/// Children that a branch is given when more than one is made: leaves room to grow.
const EVEN_CHILDREN: usize = BRANCH_ENTRIES / 10 * 9;

/// What stands in a range of keys now, on one level.
pub(super) struct Replaced {
    pub low: u64,
    pub high: u64,
    pub children: Vec<(u64, Child)>,
    /// It grew at its end, and will again.
    pub grew_at_end: bool,
}

/// Gives a branch with its range, if that needs no waiting.
pub(super) type AtHand<'a> = &'a dyn Fn(&Child, u64, u64) -> Option<Rc<Branch>>;

/// The new root, and what it took.
pub(super) struct Regrouped {
    pub root: Option<Child>,
    pub branches_made: usize,
    /// Nodes beyond the touched ones that are part of the tree no more.
    pub absorbed: Vec<Child>,
}

/// `levels` are the touched nodes from the leaves up; `leaves` what replaces those of level 0.
pub(super) fn regroup(levels: &[Vec<Touched>], leaves: Vec<Replaced>, at_hand: AtHand<'_>) -> Regrouped {
    let mut made = Regrouped { root: None, branches_made: 0, absorbed: Vec::new() };
    let mut below = leaves;
    for level in 1..levels.len() {
        let mut replaced = below.into_iter().peekable();
        below = Vec::new();
        for group in levels[level].chunk_by(|left, right| left.high == right.low) {
            let mut group = join_group(group, &mut replaced);
            if (1..FEW_CHILDREN).contains(&group.children.len())
                && let Some(parents) = levels.get(level + 1)
            {
                let free_from = below.last().map_or(0, |before: &Replaced| before.high);
                made.absorbed.extend(join_neighbour(&mut group, parents, free_from, at_hand));
            }
            group.children = made.branches(level as u8, group.children, group.grew_at_end);
            below.push(group);
        }
    }
    let mut level = levels.len().max(1) as u8;
    let whole = below.pop().expect("an edit replaces something");
    assert!(below.is_empty(), "the root is one node");
    let mut children = whole.children;
    while children.len() > 1 {
        children = made.branches(level, children, whole.grew_at_end);
        level += 1;
    }
    made.root = children.pop().map(|(_, root)| root);
    while let Some(Child::Branch(branch)) = &made.root
        && let [(_, only)] = &branch.children[..]
    {
        made.branches_made -= 1;
        made.root = Some(only.clone());
    }
    made
}

/// The children of neighbouring branches as one list, with everything replaced that has been.
fn join_group(group: &[Touched], replaced: &mut std::iter::Peekable<std::vec::IntoIter<Replaced>>) -> Replaced {
    let (low, high) = (group[0].low, group[group.len() - 1].high);
    let mut joined = Replaced { low, high, children: Vec::new(), grew_at_end: false };
    let mut skip_to = 0;
    for touched in group {
        let Body::Branch(branch) = &touched.body else { unreachable!("above level 0 all nodes are branches") };
        for (key, child) in &branch.children {
            if let Some(new) = replaced.next_if(|new| new.low == *key) {
                skip_to = new.high;
                joined.grew_at_end = new.grew_at_end && new.high == high;
                joined.children.extend(new.children);
            } else if *key >= skip_to {
                joined.children.push((*key, child.clone()));
            }
        }
    }
    if let Some((first, _)) = joined.children.first_mut() {
        *first = low;
    }
    joined
}

/// Takes in a neighbour with the same parent, if both fit one branch. Returns the neighbour.
fn join_neighbour(group: &mut Replaced, parents: &[Touched], free_from: u64, at_hand: AtHand<'_>) -> Option<Child> {
    for (low, high, child) in neighbours(parents, group.low, group.high) {
        let fits = |branch: &Rc<Branch>| branch.children.len() + group.children.len() <= BRANCH_ENTRIES;
        if low < free_from {
            continue;
        }
        let Some(branch) = at_hand(child, low, high).filter(fits) else { continue };
        let mut theirs = branch.children.clone();
        if low < group.low {
            theirs.append(&mut group.children);
            group.children = theirs;
            group.low = low;
        } else {
            group.children.append(&mut theirs);
            group.high = high;
        }
        return Some(child.clone());
    }
    None
}

/// The nodes left and right of `[low, high)` that share a parent with its ends.
pub(super) fn neighbours(parents: &[Touched], low: u64, high: u64) -> impl Iterator<Item = (u64, u64, &Child)> {
    let child = |parent: usize, index: usize| {
        let touched = &parents[parent];
        let Body::Branch(branch) = &touched.body else { unreachable!("a parent is a branch") };
        let (low, child) = branch.children.get(index)?;
        Some((*low, branch.end_of(index).unwrap_or(touched.high), child))
    };
    let stands = |key: u64| {
        let parent = parents.partition_point(|parent| parent.low <= key).checked_sub(1)?;
        let Body::Branch(branch) = &parents[parent].body else { unreachable!("a parent is a branch") };
        Some((parent, branch.position(key)))
    };
    let left = stands(low).and_then(|(parent, index)| child(parent, index.checked_sub(1)?));
    let right = stands(high - 1).and_then(|(parent, index)| child(parent, index + 1));
    left.into_iter().chain(right)
}

impl Regrouped {
    /// Cuts a list of children into branches.
    pub(super) fn branches(&mut self, level: u8, children: Vec<(u64, Child)>, grew_at_end: bool) -> Vec<(u64, Child)> {
        assert!(level <= NODE_LEVELS_MAX, "a tree of more than {NODE_LEVELS_MAX} levels");
        if children.is_empty() {
            return children;
        }
        let count = if children.len() <= BRANCH_ENTRIES { 1 } else { children.len().div_ceil(EVEN_CHILDREN) };
        let each = if grew_at_end { BRANCH_ENTRIES } else { children.len().div_ceil(count) };
        let branch = |part: &[(u64, Child)]| {
            let branch = Branch { level, children: part.to_vec() };
            (part[0].0, Child::Branch(Rc::new(branch)))
        };
        let branches: Vec<_> = children.chunks(each).map(branch).collect();
        self.branches_made += branches.len();
        branches
    }
}
