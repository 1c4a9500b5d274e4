//! What a head or a version takes, read from the maps as folded: walks that hold nobody up.
//!
//! Each step takes the root of the moment, so that a long walk never meets pages that were given up on its way; what changes
//! meanwhile may be counted as it was or as it is. While the parent is being swept, its part that was judged already may be
//! missing from what is exclusive until the sweep ends.

use std::collections::BTreeSet;

use treering_format::record::Encoding;
use treering_format::units::LogAddress;

use super::sweep::{asked_of_child, dead_of};
use super::tree::NodeId;
use crate::disk::BLOCK;
use crate::limits::COMPRESSED_EXTENT_BLOCKS;
use crate::map::Content;
use crate::pages::PageError;
use crate::store::{Core, Sizes};

/// Leaves looked at in one step.
const LEAVES: usize = 64;

impl Core {
    /// `size`: of the volume in bytes. Zeros if the node is gone.
    pub(crate) async fn sizes_of(&self, node: NodeId, size: u64) -> Result<Sizes, PageError> {
        let Some((floor, children)) = self.kin(node) else { return Ok(Sizes::default()) };
        let referenced = self.stored_after(node, None).await?;
        let dirty = match floor {
            Some(_) => self.stored_after(node, floor).await?,
            None => referenced,
        };
        let (mut exclusive, mut held_by_branching) = (dirty, 0);
        if !children.is_empty() {
            let unshown = self.shown_by_no_child(node, floor, &children).await?;
            (exclusive, held_by_branching) = if children.len() == 1 { (unshown, 0) } else { (0, unshown) };
        }
        Ok(Sizes { logical: size, referenced, exclusive, dirty, held_by_branching })
    }

    /// The position of the parent, and who goes on from the node.
    fn kin(&self, node: NodeId) -> Option<(Option<LogAddress>, Vec<NodeId>)> {
        let tree = self.versions.tree();
        let children = match node {
            NodeId::Head(line) => tree.heads().any(|(head, _)| head == line).then(Vec::new)?,
            NodeId::Frozen(id) => tree.get(id).map(|_| tree.children(id).collect())?,
        };
        Some((tree.page_floor(node), children))
    }

    /// Bytes of stored data that the node shows and that are newer than `floor`.
    async fn stored_after(&self, node: NodeId, floor: Option<LogAddress>) -> Result<u64, PageError> {
        let mut blocks = 0;
        // Compressed extents by where they end: a piece of one may follow until then.
        let mut open: BTreeSet<(u64, LogAddress)> = BTreeSet::new();
        let mut from = 0;
        while from < u64::MAX {
            let _ticket = self.readers.enter();
            let Some(map) = self.versions.map(node, &self.lines) else { break };
            let born = map.born_after(&self.pages, floor, None, (from, u64::MAX), LEAVES).await?;
            for extent in &born.extents {
                let Content::Data { address, encoding, offset, extent_blocks, stored_blocks, .. } = &extent.content
                else {
                    continue;
                };
                if floor.is_some_and(|floor| *address <= floor) {
                    continue;
                }
                match encoding {
                    Encoding::Raw => blocks += extent.count,
                    Encoding::Lz4 => {
                        let begin = extent.block.0 - u64::from(*offset);
                        open.retain(|(end, _)| *end > extent.block.0);
                        if open.insert((begin + u64::from(*extent_blocks), *address)) {
                            blocks += u64::from(*stored_blocks);
                        }
                    }
                }
            }
            from = born.next;
        }
        Ok(blocks * BLOCK)
    }

    /// Bytes that are the node's own and that none of its children shows.
    async fn shown_by_no_child(
        &self,
        node: NodeId,
        floor: Option<LogAddress>,
        children: &[NodeId],
    ) -> Result<u64, PageError> {
        let [only] = children else { return self.shown_by_none_of(node, floor, children).await };
        let mut blocks = 0;
        self.unshown_by(node, floor, *only, &mut |_, count| blocks += u64::from(count)).await?;
        Ok(blocks * BLOCK)
    }

    async fn shown_by_none_of(
        &self,
        node: NodeId,
        floor: Option<LogAddress>,
        children: &[NodeId],
    ) -> Result<u64, PageError> {
        let mut left: Option<BTreeSet<LogAddress>> = None;
        for child in children {
            let mut unshown = BTreeSet::new();
            let mut add = |first: LogAddress, count| {
                let blocks = (0..count).map(|i| first.next(i));
                unshown.extend(blocks.filter(|block| left.as_ref().is_none_or(|left| left.contains(block))));
            };
            self.unshown_by(node, floor, *child, &mut add).await?;
            if unshown.is_empty() {
                return Ok(0);
            }
            left = Some(unshown);
        }
        Ok(left.map_or(0, |left| left.len() as u64) * BLOCK)
    }

    /// Calls `each` with the runs of stored blocks that are the node's own and that the child does not show.
    async fn unshown_by(
        &self,
        node: NodeId,
        floor: Option<LogAddress>,
        child: NodeId,
        each: &mut dyn FnMut(LogAddress, u32),
    ) -> Result<(), PageError> {
        let mut from = 0;
        while from < u64::MAX {
            let _ticket = self.readers.enter();
            let maps = self.versions.map(node, &self.lines).zip(self.versions.map(child, &self.lines));
            let Some((map, child)) = maps else { break };
            let born = map.born_after(&self.pages, floor, Some(&child), (from, u64::MAX), LEAVES).await?;
            let range = (from, born.next);
            let mut extents = born.extents;
            if born.next < u64::MAX {
                // Pieces of compressed extents that start before.
                let tail = (born.next, born.next + COMPRESSED_EXTENT_BLOCKS - 1);
                extents.extend(map.born_after(&self.pages, floor, Some(&child), tail, usize::MAX).await?.extents);
            }
            let theirs = self.shown_at(&child, &asked_of_child(&extents, range)).await?;
            let dead = dead_of(&extents, &theirs, range, |_| floor.unwrap_or(LogAddress::NONE));
            dead.into_iter().for_each(|(first, count)| each(first, count));
            from = born.next;
        }
        Ok(())
    }
}
