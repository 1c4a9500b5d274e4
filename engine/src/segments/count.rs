//! How many blocks live, segment by segment: counted from the bits after each open, in the background, and kept in step from
//! then on. Counts are never stored. What is not counted yet is neither freed nor moved.

use treering_format::units::{ContainerId, SegmentId};

use super::bits::{self, Held};
use super::{Segments, State};
use crate::canary::{self, Canary};
use crate::limits::container_pieces;
use crate::log::Frontier;
use crate::pages::{PageError, Pages};

/// Entries of the tree looked at in one step; more than any segment has.
const COUNTED_AT_ONCE: usize = 256;

/// A slot that might be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Segment(SegmentId),
    Container(ContainerId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub source: Source,
    /// What it takes up of a container, in blocks: those that live, or as much as its pieces are of all that one may hold.
    pub takes: u32,
    /// The segment that wrote the youngest of them.
    pub written: SegmentId,
}

impl Segments {
    /// Counts a few segments more. True when all are.
    pub(crate) async fn count_some(&self, pages: &Pages) -> Result<bool, PageError> {
        let (tree, from, settled) = {
            let state = self.0.borrow();
            (state.tree.clone(), state.counted_to, state.settled)
        };
        if from == u64::MAX {
            return Ok(true);
        }
        let mut found = tree.scan(pages, bits::key(SegmentId(from), 0), COUNTED_AT_ONCE).await?;
        let mut state = self.0.borrow_mut();
        if state.settled != settled || state.counted_to != from {
            return Ok(false);
        }
        let mut to = u64::MAX;
        if let (Some((last, _)), true) = (found.last(), found.len() == COUNTED_AT_ONCE) {
            to = bits::segment_of(*last).0;
            found.retain(|(key, _)| bits::segment_of(*key).0 < to);
        }
        let blocks = state.segment_blocks;
        let mut segments: std::collections::BTreeMap<SegmentId, Held> = Default::default();
        for (key, value) in found {
            segments.entry(bits::segment_of(key)).or_insert_with(|| Held::empty(blocks)).add(key, &value, blocks)?;
        }
        let in_memory = state.live.iter().filter(|(id, _)| (from..to).contains(&id.0));
        let in_memory: Vec<(SegmentId, Held)> = in_memory.map(|(id, held)| (*id, held.clone())).collect();
        segments.extend(in_memory);
        for (id, held) in segments {
            state.count(id, &held);
        }
        state.counted_to = to;
        Ok(to == u64::MAX)
    }

    /// Slots that take up no more than `most` blocks of a container, and whose every record the fold has passed.
    pub(crate) fn candidates_to_clean(&self, fold: &Frontier, most: u32) -> Vec<Candidate> {
        let state = self.0.borrow();
        if state.counted_to != u64::MAX {
            return Vec::new();
        }
        let ahead = canary::is(Canary::CleanerAheadOfFold);
        let end = if ahead { SegmentId(u64::MAX) } else { fold.next.segment() };
        let folded = |s: &super::Segment| s.last_record.is_some_and(|last| last <= fold.sequence || ahead);
        let takes = |live: u32, pieces: usize| {
            let of_pieces =
                u64::from(state.segment_blocks) * pieces as u64 / u64::from(container_pieces(state.segment_blocks));
            if live == 0 { 0 } else { live.max(of_pieces as u32) }
        };
        let segments = state.by_segment.range(..end).filter(|(_, s)| folded(s));
        let segments =
            segments.map(|(id, s)| Candidate { source: Source::Segment(*id), takes: takes(s.live, 1), written: *id });
        let containers = state.containers.iter().map(|(id, c)| Candidate {
            source: Source::Container(*id),
            takes: takes(c.live, c.pieces.len()),
            written: c.pieces.last().map_or(SegmentId(0), |(segment, _)| *segment),
        });
        segments.chain(containers).filter(|candidate| (1..=most).contains(&candidate.takes)).collect()
    }

    /// Slots that the next checkpoint frees, and those that wait for one more.
    pub(crate) fn emptied(&self, fold: &Frontier) -> u64 {
        let state = self.0.borrow();
        if state.counted_to != u64::MAX {
            return 0;
        }
        let segments = state.by_segment.range(..fold.next.segment());
        let segments = segments.filter(|(_, s)| s.live == 0 && s.last_record.is_some_and(|l| l <= fold.sequence));
        (segments.count() + state.containers.values().filter(|c| c.live == 0).count()) as u64
    }
}

impl State {
    /// Adds what a segment has to the counts.
    fn count(&mut self, id: SegmentId, held: &Held) {
        if let Some(segment) = self.by_segment.get_mut(&id) {
            segment.live = held.unplaced().count();
        }
        for piece in &held.pieces {
            if let Some(container) = self.containers.get_mut(&piece.container) {
                container.live += held.bits.and(&piece.placed).count();
                container.pieces.insert((id, piece.part));
            }
        }
    }
}
