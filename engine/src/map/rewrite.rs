//! One slice of an edit: the first leaves that it touches are replaced by what the edit makes of them, and so are the branches
//! up to the root.
//!
//! Touched leaves that are neighbours are one *run*: the borders between them may move. A run that leaves little behind takes
//! a neighbour in. Everything that can fail comes first; then the edit is called, new nodes are made, and the pages of the
//! old ones are released, once. A damaged neighbour is left alone: whoever needs it will report it.

use std::rc::Rc;

use treering_format::node::NODE_ROOM_BYTES;
use treering_format::units::LogAddress;

use super::child::{Branch, Child};
use super::gather::{Body, Gathered, Touched, gather, require_range};
use super::packer::Packer;
use super::regroup::{Replaced, neighbours, regroup};
use super::tree::Tree;
use crate::pages::{Page, PageError, Pages};

/// A run that uses less room than this looks for company.
const LITTLE_ROOM_BYTES: usize = NODE_ROOM_BYTES / 4;

/// Neighbouring leaves as they are before the edit, and the range that they cover.
pub(super) struct Run<'a> {
    pub low: u64,
    pub high: u64,
    pub leaves: &'a [&'a Page],
}

/// What a slice did.
#[derive(Default)]
pub(super) struct Slice {
    /// Every range below this key is done.
    pub done_to: u64,
    pub leaves_replaced: usize,
    pub leaves_made: usize,
}

impl Tree {
    /// Edits the first leaves that `ranges` (sorted, disjoint, not empty) touch. `edit` sees each run once, with the key up
    /// to which it must apply its changes, and pushes what shall stand there. Of the old pages those born after `floor` are
    /// released; the others are shared with another tree, which goes on holding them. None: nothing is shared.
    pub(super) async fn rewrite(
        &mut self,
        pages: &Pages,
        ranges: &[(u64, u64)],
        floor: Option<LogAddress>,
        mut edit: impl FnMut(Run<'_>, u64, &mut Packer),
    ) -> Result<Slice, PageError> {
        let Gathered { levels, complete_to } = match &self.root {
            Some(root) => gather(pages, self.kind, root, ranges).await?,
            None => Gathered { levels: Vec::new(), complete_to: ranges.last().map_or(0, |(_, to)| *to) },
        };
        let mut slice = Slice { done_to: complete_to, ..Slice::default() };
        let mut replaced: Vec<Replaced> = Vec::new();
        let mut absorbed = Vec::new();
        for run in runs(&levels) {
            let (low, high) = run.first().zip(run.last()).map_or((0, u64::MAX), |(first, last)| (first.low, last.high));
            let leaves: Vec<&Page> = run.iter().map(Touched::leaf).collect();
            let mut packer = Packer::new(run.len());
            edit(Run { low, high, leaves: &leaves }, complete_to, &mut packer);
            let mut result = Replaced { low, high, children: Vec::new(), grew_at_end: packer.grew_at_end };
            let free_from = replaced.last().map_or(0, |before| before.high);
            if let Some(parents) = levels.get(1) {
                absorbed.extend(self.join_neighbour(pages, parents, free_from, &mut result, &mut packer).await);
            }
            result.children = packer.finish(result.low);
            slice.leaves_replaced += run.len();
            slice.leaves_made += result.children.len();
            replaced.push(result);
        }

        let at_hand = |child: &Child, low: u64, high: u64| self.branch_at_hand(pages, child, low, high);
        let made = regroup(&levels, replaced, &at_hand);
        self.root = made.root;
        self.dirty += slice.leaves_made + made.branches_made;
        self.grown += (slice.leaves_made + made.branches_made) as i64;
        let touched = levels.iter().flatten().map(|touched| &touched.child);
        for old in touched.chain(&absorbed).chain(&made.absorbed) {
            self.grown -= 1;
            match old {
                Child::Stored(reference) if floor.is_none_or(|floor| reference.birth > floor) => {
                    pages.release(reference.page)
                }
                Child::Stored(_) => {}
                Child::Leaf(_) | Child::Branch(_) => self.dirty -= 1,
            }
        }
        Ok(slice)
    }

    /// If little is left of a run, takes the left or right neighbour in. Returns the neighbour.
    async fn join_neighbour(
        &self,
        pages: &Pages,
        parents: &[Touched],
        free_from: u64,
        result: &mut Replaced,
        packer: &mut Packer,
    ) -> Option<Child> {
        let room = packer.room_used();
        if room == 0 || room >= LITTLE_ROOM_BYTES {
            return None;
        }
        let candidates: Vec<_> = neighbours(parents, result.low, result.high).collect();
        for (low, high, child) in candidates.into_iter().filter(|(low, ..)| *low >= free_from) {
            let leaf = match child {
                Child::Leaf(page) => page.clone(),
                Child::Stored(reference) => match pages.read(self.kind, *reference).await {
                    Ok(page) if require_range(self.kind, &page, low, high).is_ok() => page,
                    _ => continue,
                },
                Child::Branch(_) => unreachable!("a child on level 0 is a leaf"),
            };
            if leaf.room_used() + room > NODE_ROOM_BYTES {
                continue;
            }
            if low < result.low {
                packer.push_leaf_before(self.kind, &leaf);
                result.low = low;
            } else {
                packer.push_leaf(self.kind, &leaf);
                packer.grew_at_end = false;
                result.high = high;
            }
            return Some(child.clone());
        }
        None
    }

    fn branch_at_hand(&self, pages: &Pages, child: &Child, low: u64, high: u64) -> Option<Rc<Branch>> {
        match child {
            Child::Branch(branch) => Some(Branch::beginning_at(branch, low)),
            Child::Stored(reference) => {
                let page = pages.cached(reference)?;
                require_range(self.kind, &page, low, high).ok()?;
                Some(Rc::new(Branch::of_page(&page, low)))
            }
            Child::Leaf(_) => None,
        }
    }
}

/// The runs of a slice; one without leaves for the empty tree.
fn runs(levels: &[Vec<Touched>]) -> impl Iterator<Item = &[Touched]> {
    let empty: &[Touched] = &[];
    let of_nothing = levels.is_empty().then_some(empty);
    let leaves = levels.first().map_or(empty, |leaves| leaves);
    of_nothing.into_iter().chain(leaves.chunk_by(|left, right| left.high == right.low))
}

impl Touched {
    fn leaf(&self) -> &Page {
        match &self.body {
            Body::Leaf(page) => page,
            Body::Branch(_) => unreachable!("a node on level 0 is a leaf"),
        }
    }
}
