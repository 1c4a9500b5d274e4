//! What a head or a version takes, read from the maps as folded: walks that hold nobody up.
//!
//! Each step takes the root of the moment, so that a long walk never meets pages that were given up on its way; what changes
//! meanwhile may be counted as it was or as it is. While the parent is being swept, its part that was judged already may be
//! missing from what is exclusive until the sweep ends.

use std::collections::BTreeSet;

use treering_format::record::Encoding;
use treering_format::units::LogAddress;

use super::tree::NodeId;
use crate::disk::BLOCK;
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
        if children > 0 {
            let unshown = self.shown_by_no_child(node).await?;
            (exclusive, held_by_branching) = if children == 1 { (unshown, 0) } else { (0, unshown) };
        }
        Ok(Sizes { logical: size, referenced, exclusive, dirty, held_by_branching })
    }

    /// The position of the parent, and how many go on from the node.
    fn kin(&self, node: NodeId) -> Option<(Option<LogAddress>, usize)> {
        let tree = self.versions.tree();
        let children = match node {
            NodeId::Head(line) => tree.heads().any(|(head, _)| head == line).then_some(0)?,
            NodeId::Frozen(id) => tree.get(id).map(|_| tree.children(id).count())?,
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
    async fn shown_by_no_child(&self, node: NodeId) -> Result<u64, PageError> {
        let (mut blocks, mut from) = (0, 0);
        while from < u64::MAX {
            let _ticket = self.readers.enter();
            let Some((runs, to)) = self.unshown(node, from, LEAVES).await? else { break };
            blocks += runs.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            from = to;
        }
        Ok(blocks * BLOCK)
    }
}
