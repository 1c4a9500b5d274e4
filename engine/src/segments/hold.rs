//! The segment table as of one moment, for who compares it with the maps of that moment while the store goes on.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::units::{LogAddress, SegmentId};

use super::{LiveBits, Segments};
use crate::map::{Tree, Visited};
use crate::pages::{PageError, PageSet, Pages};

pub(crate) struct FrozenSegments {
    pub tree: Tree,
    segment_blocks: u32,
    /// What the tree does not have yet.
    in_memory: BTreeMap<SegmentId, LiveBits>,
    with_slot: BTreeSet<SegmentId>,
}

/// All of it, read.
pub(crate) struct Table {
    segment_blocks: u32,
    pub live: BTreeMap<SegmentId, LiveBits>,
    with_slot: BTreeSet<SegmentId>,
}

impl Segments {
    /// The caller has the fold's turn.
    pub(crate) fn frozen(&self) -> FrozenSegments {
        let state = self.0.borrow();
        let dirty = state.live.iter().filter(|(_, live)| live.dirty);
        FrozenSegments {
            tree: state.tree.clone(),
            segment_blocks: state.segment_blocks,
            in_memory: dirty.map(|(id, live)| (*id, live.bits.clone())).collect(),
            with_slot: state.by_segment.keys().copied().collect(),
        }
    }
}

impl FrozenSegments {
    /// Reads the liveness tree from disk, all of it. `seen` gets its pages, and the answer has what cannot be read.
    pub(crate) async fn read(self, pages: &Pages, seen: &mut PageSet) -> (Table, Vec<PageError>) {
        let FrozenSegments { tree, segment_blocks, in_memory, with_slot } = self;
        let mut table = Table { segment_blocks, live: BTreeMap::new(), with_slot };
        let mut wrong = Vec::new();
        let mut leaves = tree.leaves(true);
        loop {
            let visited = leaves.next(pages, &mut |reference| seen.insert(reference.page)).await;
            if visited.is_empty() {
                break;
            }
            for visited in visited {
                match visited {
                    Visited::Unreadable { error, .. } => wrong.push(error),
                    Visited::Leaf { page, .. } => {
                        let entries = (0..page.len()).map(|index| (page.key(index), page.value(index)));
                        entries.for_each(|(key, value)| wrong.extend(table.take(key, value).err()));
                    }
                }
            }
        }
        table.live.extend(in_memory);
        table.live.retain(|_, bits| !bits.is_empty());
        (table, wrong)
    }
}

impl Table {
    fn take(&mut self, key: u64, value: &[u8]) -> Result<(), PageError> {
        let damaged = |what| PageError::value_damaged("liveness", key, what);
        let bits = LiveBits::decode(value, self.segment_blocks).map_err(damaged)?;
        self.live.insert(SegmentId(key), bits);
        Ok(())
    }

    /// Whether stored blocks have a place.
    pub(crate) fn holds(&self, first: LogAddress, count: u32) -> bool {
        let inside = u64::from(first.block()) + u64::from(count) <= u64::from(self.segment_blocks);
        inside && self.with_slot.contains(&first.segment())
    }
}
