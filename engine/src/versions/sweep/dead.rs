//! Which blocks die with a version. Pure: what the version shows, what its child shows, and the floor.
//!
//! Raw data is judged block by block, by its own block. A compressed extent is judged as a whole, by the first block that it
//! once covered, however little of it is shown and wherever; one piece that the child shows keeps all of it.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::record::Encoding;
use treering_format::units::LogAddress;

use crate::map::{Content, Extent};

/// The runs of stored blocks that start in `[from, to)`, were written after the floor, and that the child does not show.
/// `version` and `child` are sorted by block. Of a compressed extent that starts in the range, all pieces must be among them.
pub(crate) fn dead_of(
    version: &[Extent],
    child: &[Extent],
    (from, to): (u64, u64),
    floor: impl Fn(u64) -> LogAddress,
) -> Vec<(LogAddress, u32)> {
    let shown: BTreeSet<LogAddress> = child.iter().filter_map(compressed).map(|(address, ..)| address).collect();
    let mut raw = child.iter().filter(|extent| is_raw(extent)).peekable();
    let mut whole: BTreeMap<LogAddress, u32> = BTreeMap::new();
    let mut dead: Vec<(LogAddress, u32)> = Vec::new();
    for extent in version {
        if let Some((address, start, stored_blocks)) = compressed(extent) {
            if (from..to).contains(&start) && address > floor(start) && !shown.contains(&address) {
                whole.insert(address, stored_blocks);
            }
        } else if let Content::Data { address, .. } = extent.content {
            for block in extent.block.0.max(from)..extent.end().0.min(to) {
                let at = address.next((block - extent.block.0) as u32);
                while raw.next_if(|other| other.end().0 <= block).is_some() {}
                if at <= floor(block) || raw.peek().is_some_and(|other| raw_at(other, block) == Some(at)) {
                    continue;
                }
                match dead.last_mut() {
                    Some((first, count)) if first.next(*count) == at => *count += 1,
                    _ => dead.push((at, 1)),
                }
            }
        }
    }
    dead.extend(whole);
    dead
}

/// The blocks at which the child must be asked about these extents of the version, as ranges in order.
pub(crate) fn asked_of_child(version: &[Extent], (from, to): (u64, u64)) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = version
        .iter()
        .filter_map(|extent| match &extent.content {
            Content::Data { encoding: Encoding::Lz4, extent_blocks, .. } => {
                let (_, start, _) = compressed(extent)?;
                (from..to).contains(&start).then_some((start, start + u64::from(*extent_blocks)))
            }
            Content::Data { .. } => {
                let range = (extent.block.0.max(from), extent.end().0.min(to));
                (range.0 < range.1).then_some(range)
            }
            Content::Hole { .. } | Content::Zero { .. } => None,
        })
        .collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let joins = next.0 <= before.1;
        if joins {
            before.1 = before.1.max(next.1);
        }
        joins
    });
    ranges
}

/// Address, first block and stored blocks of the extent that a piece is of.
fn compressed(piece: &Extent) -> Option<(LogAddress, u64, u32)> {
    match piece.content {
        Content::Data { address, encoding: Encoding::Lz4, offset, stored_blocks, .. } => {
            Some((address, piece.block.0.saturating_sub(u64::from(offset)), u32::from(stored_blocks)))
        }
        _ => None,
    }
}

fn is_raw(extent: &Extent) -> bool {
    matches!(extent.content, Content::Data { encoding: Encoding::Raw, .. })
}

fn raw_at(extent: &Extent, block: u64) -> Option<LogAddress> {
    match extent.content {
        Content::Data { address, .. } if extent.block.0 <= block => Some(address.next((block - extent.block.0) as u32)),
        _ => None,
    }
}
