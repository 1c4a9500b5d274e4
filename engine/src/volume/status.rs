//! Block status: which parts of a volume are holes, which are zeros.

use treering_format::units::BlockIndex;

use super::{Volume, blocks_of};
use crate::disk::BLOCK;
use crate::error::VolumeError;
use crate::map::Content;
use crate::overlay::Place;

/// Map extents looked at for one answer; a longer answer ends early, which NBD allows.
const LOOKUP_MAX: usize = 4096;

/// A run of bytes with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub len: u64,
    /// Nothing is stored for it.
    pub hole: bool,
    /// It reads as zeros.
    pub zero: bool,
}

impl Volume {
    /// The status of a range from its beginning, in at most `max` extents; it may end before the range does.
    pub async fn extents(&self, offset: u64, len: u64, max: usize) -> Result<Vec<Extent>, VolumeError> {
        self.check_range(offset, len)?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let (from, to) = blocks_of(offset, len);
        let _ticket = self.core.readers.enter();
        let (pieces, gaps, map) = self.state.source.look(from, to);
        let mut parts: Vec<(u64, u64, bool, bool)> = pieces
            .iter()
            .map(|p| match p.place {
                Place::Blank { allocated, .. } => (p.block, p.end(), !allocated, true),
                Place::Arena { .. } | Place::Log { .. } => (p.block, p.end(), false, false),
            })
            .collect();
        // Past this block nothing is known: a lookup was cut short there.
        let mut known = to;
        for (gap_from, gap_to) in gaps {
            let found = map
                .lookup(&self.core.pages, BlockIndex(gap_from), BlockIndex(gap_to), LOOKUP_MAX)
                .await
                .map_err(|e| VolumeError::Damaged { block: gap_from, what: e.to_string() })?;
            let cut = found.len() == LOOKUP_MAX;
            let mut at = gap_from;
            for extent in found {
                if extent.block.0 > at {
                    parts.push((at, extent.block.0, true, true));
                }
                let end = extent.block.0 + extent.count;
                let (hole, zero) = match extent.content {
                    Content::Data { .. } => (false, false),
                    Content::Hole { .. } => (true, true),
                    Content::Zero { .. } => (false, true),
                };
                parts.push((extent.block.0, end, hole, zero));
                at = end;
            }
            if cut {
                known = known.min(at);
            } else if at < gap_to {
                parts.push((at, gap_to, true, true));
            }
        }
        parts.sort_unstable();
        Ok(describe(parts, offset, offset + len, known * BLOCK, max))
    }
}

/// Joins neighbours of one status, clips to the range, and stops at `known` or after `max`.
fn describe(parts: Vec<(u64, u64, bool, bool)>, offset: u64, end: u64, known: u64, max: usize) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for (from, to, hole, zero) in parts {
        let from = (from * BLOCK).max(offset);
        let to = (to * BLOCK).min(end).min(known);
        if from >= to {
            continue;
        }
        let full = extents.len() == max;
        match extents.last_mut() {
            Some(last) if last.hole == hole && last.zero == zero => last.len += to - from,
            _ if full => break,
            _ => extents.push(Extent { len: to - from, hole, zero }),
        }
    }
    extents
}
