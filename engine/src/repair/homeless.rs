//! Blocks that a map shows and no slot holds: their data is gone, and a hole takes its place, so that they can be written again. Left
//! in the map, they would stop the fold that displaces them, for what dies must have lain somewhere.
//!
//! Nothing else of the map changes: of a raw extent only the blocks without a place, of compressed data all of it, for a part of its
//! bytes says nothing. Every map that shows them gets the hole, deleted ones as well, so that what versions show of each other
//! stays the same. A thinned version stays as it is: of what it shows some lies nowhere by right.

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, PageIndex};

use super::survey::MapRepair;
use crate::check::stored_run;
use crate::map::{Content, Extent};
use crate::pages::PageSet;
use crate::versions::tree::NodeId;

/// The parts of an extent, each with whether its data has a place. What begins below block `from` was given back and counts as
/// placed: nobody looks for it.
pub(super) fn parts(from: u64, extent: &Extent, holds: impl Fn(LogAddress, u32) -> bool) -> Vec<(Extent, bool)> {
    let whole = |has_place| vec![(extent.clone(), has_place)];
    let Some((first, place, count)) = stored_run(from, extent) else { return whole(true) };
    if holds(first, count) {
        return whole(true);
    }
    if extent.encoding() != Some(Encoding::Raw) {
        return whole(false);
    }
    let has_place = |block: u64| block < place || holds(first.next((block - place) as u32), 1);
    let mut parts = Vec::new();
    let (mut start, end) = (extent.block.0, extent.end().0);
    for block in start + 1..=end {
        if block == end || has_place(block) != has_place(start) {
            parts.push((extent.clip(BlockIndex(start), BlockIndex(block)), has_place(start)));
            start = block;
        }
    }
    parts
}

/// What takes the place of data that is gone; as old as the data was.
pub(super) fn hole(gone: &Extent) -> Extent {
    let content = match &gone.content {
        Content::Data { address, .. } => Content::Hole { address: *address },
        blank => blank.clone(),
    };
    Extent { content, ..gone.clone() }
}

impl MapRepair {
    pub(super) fn nothing_of(node: NodeId) -> MapRepair {
        MapRepair { node, lost_pages: PageSet::default(), ranges: Vec::new(), extents: Vec::new() }
    }

    /// A leaf that can be read says something else from now on.
    pub(super) fn replace_leaf(&mut self, page: PageIndex, range: (u64, u64), extents: Vec<Extent>) {
        self.lost_pages.insert(page);
        self.ranges.push(range);
        self.extents.extend(extents);
    }

    pub(super) fn join(&mut self, other: MapRepair) {
        self.lost_pages.join(&other.lost_pages);
        self.ranges.extend(other.ranges);
        self.extents.extend(other.extents);
        self.ranges.sort_unstable();
        self.extents.sort_by_key(|extent| extent.block);
    }
}

#[cfg(test)]
mod tests {
    use treering_format::units::SegmentId;

    use super::*;

    fn data(block: u64, count: u64, encoding: Encoding) -> Extent {
        let content = Content::Data {
            address: LogAddress::new(SegmentId(3), 10),
            encoding,
            offset: 0,
            extent_blocks: count as u8,
            stored_blocks: 4,
            checksums: [7; 4][..].into(),
        };
        Extent { block: BlockIndex(block), count, content }
    }

    fn found(from: u64, extent: &Extent, placed: &[u32]) -> Vec<(u64, u64, bool)> {
        let holds = |first: LogAddress, count: u32| (first.block()..first.block() + count).all(|b| placed.contains(&b));
        let parts = parts(from, extent, holds).into_iter();
        parts.map(|(part, has_place)| (part.block.0, part.count, has_place)).collect()
    }

    #[test]
    fn of_a_raw_extent_only_what_no_slot_holds_is_gone() {
        let raw = data(100, 4, Encoding::Raw);
        assert_eq!(found(0, &raw, &[10, 11, 12, 13]), [(100, 4, true)]);
        assert_eq!(found(0, &raw, &[10, 13]), [(100, 1, true), (101, 2, false), (103, 1, true)]);
        assert_eq!(found(0, &raw, &[]), [(100, 4, false)]);
    }

    #[test]
    fn what_a_sweep_has_judged_is_left() {
        let raw = data(100, 4, Encoding::Raw);
        assert_eq!(found(102, &raw, &[]), [(100, 2, true), (102, 2, false)]);
        assert_eq!(found(104, &raw, &[]), [(100, 4, true)]);
    }

    #[test]
    fn compressed_data_is_there_or_gone() {
        let compressed = data(100, 6, Encoding::Lz4);
        assert_eq!(found(0, &compressed, &[10, 11, 12, 13]), [(100, 6, true)]);
        assert_eq!(found(0, &compressed, &[10, 11, 12]), [(100, 6, false)]);
    }

    #[test]
    fn a_hole_is_as_old_as_what_it_stands_for() {
        let part = data(100, 4, Encoding::Raw).clip(BlockIndex(101), BlockIndex(103));
        let hole = hole(&part);
        let address = LogAddress::new(SegmentId(3), 11);
        assert_eq!((hole.block.0, hole.count, hole.content), (101, 2, Content::Hole { address }));
    }
}
