//! Which stored blocks the maps show, and for which blocks of volumes: a byte for each.
//!
//! A stored block was written for one block of a volume, and whoever shows it, volume, fork or snapshot, shows it there. So an
//! address that is met at two places is damage, whichever maps say so. The byte is a print of the place, never 0.

use std::collections::BTreeMap;

use treering_format::units::{LogAddress, SegmentId};

pub(crate) struct Shown {
    segment_blocks: u32,
    prints: BTreeMap<SegmentId, Box<[u8]>>,
}

/// What became of a run of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Put {
    /// Blocks that were not shown before.
    pub fresh: u32,
    /// A block that was shown for another place before.
    pub elsewhere: Option<u32>,
}

impl Shown {
    pub(crate) fn new(segment_blocks: u32) -> Shown {
        Shown { segment_blocks, prints: BTreeMap::new() }
    }

    /// `count` blocks from `first` on are shown: raw ones for `place` and those behind it, all of a compressed extent for `place`.
    pub(crate) fn put(&mut self, first: LogAddress, count: u32, place: u64, raw: bool) -> Put {
        let blocks = self.segment_blocks as usize;
        let prints = self.prints.entry(first.segment()).or_insert_with(|| vec![0; blocks].into());
        let mut put = Put::default();
        for i in 0..count {
            let new = print(if raw { place + u64::from(i) } else { place });
            let old = &mut prints[(first.block() + i) as usize];
            match *old {
                0 => put.fresh += 1,
                old if old != new => put.elsewhere = Some(first.block() + i),
                _ => {}
            }
            *old = new;
        }
        put
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.prints.keys().copied()
    }

    pub(crate) fn shows(&self, segment: SegmentId, block: u32) -> bool {
        self.prints.get(&segment).is_some_and(|prints| prints[block as usize] != 0)
    }
}

/// 1 to 255, spread over neighbours.
fn print(place: u64) -> u8 {
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % 255) as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_shown_for_two_places_is_noticed() {
        let at = |block| LogAddress::new(SegmentId(3), block);
        let mut shown = Shown::new(64);
        assert_eq!(shown.put(at(10), 4, 100, true), Put { fresh: 4, elsewhere: None });
        assert_eq!(
            shown.put(at(12), 4, 102, true),
            Put { fresh: 2, elsewhere: None },
            "a fork shows it at the same place"
        );
        assert_eq!(shown.put(at(20), 2, 50, false), Put { fresh: 2, elsewhere: None });
        assert_eq!(shown.put(at(20), 2, 50, false), Put::default());
        assert_eq!(shown.put(at(13), 1, 100, true), Put { fresh: 0, elsewhere: Some(13) });
        assert_eq!(shown.put(at(9), 2, 100, true), Put { fresh: 1, elsewhere: Some(10) });
        assert!(shown.shows(SegmentId(3), 9) && !shown.shows(SegmentId(3), 8) && !shown.shows(SegmentId(4), 9));
    }
}
