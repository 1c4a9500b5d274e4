//! The sweep: a deleted version gives back what nothing else shows.
//!
//! What it shows and its parent does not is its own (newer than the parent's position); of that, what its one child shows goes
//! over to the child. Bits, pages and tree change in one step, under the fold's turn, so no merge sees half of it.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, PageIndex, SegmentId, VersionId};

use super::tree::{NodeId, VersionLife};
use crate::limits::COMPRESSED_EXTENT_BLOCKS;
use crate::map::{Content, Extent, ExtentMap};
use crate::pages::PageError;
use crate::store::Core;

/// Extents of the swept version looked at in one step.
const STEP: usize = 4096;

impl Core {
    /// Sweeps the next deleted version. False: there is none. The caller has the fold's turn.
    pub(crate) async fn sweep_slice(&self) -> Result<bool, PageError> {
        let next = self.versions.tree().begin_sweep();
        let Some(version) = next else { return Ok(false) };
        self.sweep(version).await?;
        Ok(true)
    }

    async fn sweep(&self, id: VersionId) -> Result<(), PageError> {
        let (parent, child, floor, thinned) = {
            let tree = self.versions.tree();
            let thinned =
                tree.get(id).is_some_and(|version| matches!(version.life, VersionLife::Deleting { thinned: true, .. }));
            let floor = tree.page_floor(NodeId::Frozen(id)).unwrap_or(LogAddress::NONE);
            (tree.parent(NodeId::Frozen(id)), tree.only_child(id), floor, thinned)
        };
        let map_of = |node| self.versions.map(node, &self.lines);
        let Some(map) = map_of(NodeId::Frozen(id)) else { return Ok(()) };
        let (parent, child) = (parent.and_then(|id| map_of(NodeId::Frozen(id))), child.and_then(map_of));
        let dead = self.dead_in(&map, child.as_ref(), floor).await?;
        let mut pages = self.pages_of(Some(&map)).await?;
        for other in [&parent, &child] {
            let shared = self.pages_of(other.as_ref()).await?;
            pages.retain(|page| !shared.contains(page));
        }
        let touched: BTreeSet<SegmentId> = dead.iter().map(|(address, _)| address.segment()).collect();
        self.segments.load_bits(&self.pages, touched.into_iter()).await?;
        // From here to the end nothing waits.
        for (address, blocks) in dead {
            if thinned {
                self.segments.clear_if_set(address, blocks)?;
            } else {
                self.segments.clear(address, blocks)?;
            }
        }
        pages.into_iter().for_each(|page| self.pages.release(page));
        let swept = self.versions.tree().finish_sweep(id);
        self.versions.remove(id);
        if let Some(NodeId::Frozen(adopted)) = swept.adopted {
            self.versions.mark_changed(adopted);
        }
        if let Some(queued) = swept.queued {
            self.versions.mark_changed(queued);
        }
        self.pages.check_consistent()
    }

    async fn dead_in(
        &self,
        map: &ExtentMap,
        child: Option<&ExtentMap>,
        floor: LogAddress,
    ) -> Result<Vec<(LogAddress, u32)>, PageError> {
        let mut dead = Vec::new();
        let mut judged = BTreeSet::new();
        let mut from = 0;
        loop {
            let own = map.lookup(&self.pages, BlockIndex(from), BlockIndex(u64::MAX), STEP).await?;
            let Some(last) = own.last() else { return Ok(dead) };
            let to = last.end().0;
            let (low, high) = (from.saturating_sub(COMPRESSED_EXTENT_BLOCKS), to + COMPRESSED_EXTENT_BLOCKS);
            let held = match child {
                Some(child) => child.lookup(&self.pages, BlockIndex(low), BlockIndex(high), usize::MAX).await?,
                None => Vec::new(),
            };
            dead_of(&own, &held, floor, &mut judged, &mut dead);
            from = to;
            self.disk.io().yield_now().await;
        }
    }

    async fn pages_of(&self, map: Option<&ExtentMap>) -> Result<BTreeSet<PageIndex>, PageError> {
        let mut pages = BTreeSet::new();
        if let Some(map) = map {
            map.tree()
                .pages_in_use(&self.pages, &mut |page| {
                    pages.insert(page);
                })
                .await?;
        }
        Ok(pages)
    }
}

/// The runs that a version shows, that are newer than `floor`, and that its child does not show. Raw blocks are compared one by
/// one, at the same block of the volume; a compressed extent is held as long as the child shows a piece of it.
fn dead_of(
    own: &[Extent],
    child: &[Extent],
    floor: LogAddress,
    judged: &mut BTreeSet<LogAddress>,
    dead: &mut Vec<(LogAddress, u32)>,
) {
    let mut raw = BTreeMap::new();
    let mut compressed = BTreeSet::new();
    for extent in child {
        match extent.content {
            Content::Data { address, encoding: Encoding::Raw, .. } => {
                raw.extend((0..extent.count).map(|i| (extent.block.0 + i, address.next(i as u32))));
            }
            Content::Data { address, encoding: Encoding::Lz4, .. } => {
                compressed.insert(address);
            }
            Content::Hole { .. } | Content::Zero { .. } => {}
        }
    }
    for extent in own {
        match extent.content {
            Content::Data { address, encoding: Encoding::Raw, .. } => {
                for i in 0..extent.count {
                    let here = address.next(i as u32);
                    if here > floor && raw.get(&(extent.block.0 + i)) != Some(&here) {
                        dead.push((here, 1));
                    }
                }
            }
            Content::Data { address, encoding: Encoding::Lz4, stored_blocks, .. } => {
                if address > floor && judged.insert(address) && !compressed.contains(&address) {
                    dead.push((address, u32::from(stored_blocks)));
                }
            }
            Content::Hole { .. } | Content::Zero { .. } => {}
        }
    }
}
