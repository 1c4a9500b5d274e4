//! A tree whose keys are the first blocks of extents: looked up and changed by ranges of blocks.
//!
//! A merge walks the old extents of each run and the changes side by side: old pieces before a change are kept, those under it
//! are reported if they were data, the change follows. The pieces that a change cuts off keep their place in the log; only
//! their counts and, within a compressed extent, their offsets change.

use treering_format::node::{ExtentContent, ExtentEntry, NodeRef, TreeKind};
use treering_format::units::{BlockIndex, LogAddress};

use super::extent::{Content, Extent};
use super::packer::Packer;
use super::rewrite::Run;
use super::tree::{CHANGES_PER_SLICE, Step, Tree};
use crate::pages::{Page, PageError, Pages};

#[derive(Clone)]
pub struct ExtentMap {
    pub(super) tree: Tree,
}

/// What a merge cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    pub slices: usize,
    pub leaves_replaced: usize,
    pub leaves_made: usize,
}

impl ExtentMap {
    pub fn empty(owner: u64) -> ExtentMap {
        ExtentMap { tree: Tree::empty(TreeKind::Map, owner) }
    }

    pub fn open(owner: u64, root: Option<NodeRef>) -> ExtentMap {
        ExtentMap { tree: Tree::open(TreeKind::Map, owner, root) }
    }

    /// The first `max` pieces within `[from, to)`; where nothing was ever said, there is none.
    pub async fn lookup(
        &self,
        pages: &Pages,
        from: BlockIndex,
        to: BlockIndex,
        max: usize,
    ) -> Result<Vec<Extent>, PageError> {
        let mut found = Vec::new();
        let mut at = from.0;
        while at < to.0 && found.len() < max {
            let Some((leaf, high)) = self.tree.leaf(pages, at).await? else { break };
            collect(&leaf, at, to.0, max, &mut found);
            at = high;
        }
        Ok(found)
    }

    /// As `lookup`, without waiting: None if a node is not in memory.
    pub fn lookup_cached(&self, pages: &Pages, from: BlockIndex, to: BlockIndex, max: usize) -> Option<Vec<Extent>> {
        let mut found = Vec::new();
        let mut at = from.0;
        while at < to.0 && found.len() < max {
            match self.tree.find(pages, at) {
                Step::Leaf(leaf, high) => {
                    collect(&leaf, at, to.0, max, &mut found);
                    at = high;
                }
                Step::Missing(..) => return None,
                Step::Empty => break,
            }
        }
        Some(found)
    }

    /// Lets `changes` (sorted, disjoint) replace whatever the map says of their blocks. `displaced` gets each piece of data
    /// that the map said before and says no more. Pages born at or below `floor` are another version's: they are not released.
    /// After each slice it waits for what `between` gives, so that others can run; an error leaves the changes of whole slices in.
    pub async fn merge(
        &mut self,
        pages: &Pages,
        changes: &[Extent],
        floor: Option<LogAddress>,
        displaced: &mut dyn FnMut(Extent),
        between: impl AsyncFn(),
    ) -> Result<MergeStats, PageError> {
        let sorted = changes.is_sorted_by(|a, b| a.end() <= b.block) && changes.iter().all(|change| change.count > 0);
        assert!(sorted, "changes of a map are sorted, disjoint and not empty");
        let mut stats = MergeStats::default();
        let mut left = changes;
        let mut done_to = 0;
        while !left.is_empty() {
            let range = |change: &Extent| (change.block.0.max(done_to), change.end().0);
            let ranges: Vec<_> = left.iter().take(CHANGES_PER_SLICE).map(range).collect();
            let from = done_to;
            let slice = self
                .tree
                .rewrite(pages, &ranges, floor, |run, to, packer| {
                    let first = left.partition_point(|change| change.end().0 <= run.low);
                    Merge { from, to: to.min(run.high), packer, displaced }.run(&run, &left[first..]);
                })
                .await?;
            done_to = slice.done_to;
            left = &left[left.partition_point(|change| change.end().0 <= done_to)..];
            stats.slices += 1;
            stats.leaves_replaced += slice.leaves_replaced;
            stats.leaves_made += slice.leaves_made;
            between().await;
        }
        Ok(stats)
    }

    pub fn dirty_nodes(&self) -> usize {
        self.tree.dirty_nodes()
    }

    /// The same content, whose new nodes will name another line.
    pub fn owned_by(&self, owner: u64) -> ExtentMap {
        ExtentMap { tree: Tree { owner, ..self.tree.clone() } }
    }

    /// The root's page, if there is one that holds the tree as it is.
    pub fn stored_root(&self) -> Option<NodeRef> {
        self.tree.stored_root()
    }

    /// The tree as it is now.
    pub fn tree(&self) -> Tree {
        self.tree.clone()
    }

    #[cfg(test)]
    pub(super) fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// See `Tree::write_out`.
    pub async fn write_out(&mut self, pages: &Pages, birth: LogAddress) -> Result<Option<NodeRef>, PageError> {
        self.tree.write_out(pages, birth).await
    }

    /// See `Tree::release_all`.
    #[cfg(test)]
    pub async fn release_all(&mut self, pages: &Pages) -> Result<(), PageError> {
        self.tree.release_all(pages).await
    }
}

/// The pieces of one leaf within `[from, to)`.
pub(super) fn collect(leaf: &Page, from: u64, to: u64, max: usize, found: &mut Vec<Extent>) {
    for index in leaf.rank(from).saturating_sub(1)..leaf.len() {
        let key = leaf.key(index);
        if key >= to || found.len() == max {
            break;
        }
        let entry = leaf.extent(index);
        if let Some((start, part)) = within(key, &entry, from, to) {
            found.push(Extent::of_entry(start, &part));
        }
    }
}

/// The part of an entry within `[from, to)`, and its first block.
fn within<'a>(key: u64, entry: &ExtentEntry<'a>, from: u64, to: u64) -> Option<(u64, ExtentEntry<'a>)> {
    let (start, end) = (key.max(from), (key + u64::from(entry.count)).min(to));
    (start < end).then(|| (start, entry.part((start - key) as u32, (end - start) as u32)))
}

/// The merge of one run, of changes within `[from, to)`.
struct Merge<'a> {
    from: u64,
    to: u64,
    packer: &'a mut Packer,
    displaced: &'a mut dyn FnMut(Extent),
}

impl Merge<'_> {
    fn run(mut self, run: &Run<'_>, changes: &[Extent]) {
        let entries =
            run.leaves.iter().flat_map(|leaf| (0..leaf.len()).map(|index| (leaf.key(index), leaf.extent(index))));
        let mut old = OldPieces { entries, head: None };
        let (from, to) = (BlockIndex(self.from.max(run.low)), BlockIndex(self.to));
        let mut scratch = Vec::new();
        let mut in_a_row = 0;
        for change in changes.iter().take_while(|change| change.block < to) {
            let change = change.clip(from, to);
            while let Some((key, entry)) = old.next_before(change.block.0) {
                self.packer.push_extent(key, &entry);
                in_a_row = 0;
            }
            while let Some((key, entry)) = old.next_before(change.end().0) {
                if matches!(entry.content, ExtentContent::Raw { .. } | ExtentContent::Lz4 { .. }) {
                    (self.displaced)(Extent::of_entry(key, &entry));
                }
            }
            self.push(&change, &mut scratch);
            in_a_row += 1;
        }
        while let Some((key, entry)) = old.next_before(u64::MAX) {
            self.packer.push_extent(key, &entry);
            in_a_row = 0;
        }
        self.packer.ends_with_new(run, in_a_row);
    }

    /// Pushes a change, in parts if it is longer than an entry can say.
    fn push(&mut self, change: &Extent, scratch: &mut Vec<u8>) {
        if let Content::Data { .. } = change.content {
            return self.packer.push_extent(change.block.0, &change.as_entry(scratch));
        }
        let mut at = change.block;
        while at < change.end() {
            let part = change.clip(at, BlockIndex(at.0.saturating_add(u64::from(u32::MAX))));
            self.packer.push_extent(at.0, &part.as_entry(scratch));
            at = part.end();
        }
    }
}

/// The old extents of a run, cut wherever the merge asks.
struct OldPieces<'a, I: Iterator<Item = (u64, ExtentEntry<'a>)>> {
    entries: I,
    head: Option<(u64, ExtentEntry<'a>)>,
}

impl<'a, I: Iterator<Item = (u64, ExtentEntry<'a>)>> OldPieces<'a, I> {
    /// The next piece that begins before `limit`, cut there.
    fn next_before(&mut self, limit: u64) -> Option<(u64, ExtentEntry<'a>)> {
        let (key, entry) = self.head.take().or_else(|| self.entries.next())?;
        let end = key + u64::from(entry.count);
        if key >= limit || end > limit {
            self.head = within(key, &entry, limit.max(key), end);
        }
        within(key, &entry, key, limit)
    }
}
