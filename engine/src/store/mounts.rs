//! Which mounts the superblock still has to name: those whose log a replay may meet, the current one, and the one whose shared
//! memory still holds what no log has. The list never overflows, however often servers die: one that left no record gives its
//! place to the next, and where the list is nearly full checkpoints come before the first record.

use treering_format::superblock::MountEntry;
use treering_format::units::{Mount, RecordSequence};

use crate::limits::MOUNTS_MAX;

/// Drops the mounts that no replay meets again: those that began at or below the older checkpoint, and those that left no record,
/// whose place the next one takes. The last one, the current, stays; and `remembered`, without which its memory would be nobody's.
pub(super) fn forget(mounts: &mut Vec<MountEntry>, older: RecordSequence, remembered: Option<Mount>) {
    let mut kept: Vec<MountEntry> = Vec::new();
    let last = mounts.len().saturating_sub(1);
    for (i, mut mount) in mounts.drain(..).enumerate() {
        let no_record =
            |before: &mut MountEntry| before.first_sequence == mount.first_sequence && remembered != Some(before.mount);
        if let Some(before) = kept.pop_if(no_record) {
            mount.previous_end = before.previous_end;
        }
        if i == last || mount.first_sequence > older || remembered == Some(mount.mount) {
            kept.push(mount);
        }
    }
    *mounts = kept;
}

/// Whether there is no place for another one beside those that a checkpoint does not drop.
pub(super) fn nearly_full(mounts: &[MountEntry]) -> bool {
    mounts.len() + 2 >= MOUNTS_MAX
}

#[cfg(test)]
mod tests {
    use treering_format::units::{LogAddress, SegmentId, SlotIndex};

    use super::*;

    fn mount(id: u64, first_sequence: u64) -> MountEntry {
        MountEntry {
            mount: Mount(id),
            first_segment: SegmentId(id),
            first_slot: SlotIndex(id),
            first_sequence: RecordSequence(first_sequence),
            previous_end: LogAddress(100 + first_sequence),
            previous_chain: 0,
            time_ns: 0,
        }
    }

    fn kept(mounts: &[(u64, u64)], older: u64, remembered: Option<u64>) -> Vec<u64> {
        let mut mounts: Vec<_> = mounts.iter().map(|(id, first)| mount(*id, *first)).collect();
        forget(&mut mounts, RecordSequence(older), remembered.map(Mount));
        mounts.iter().map(|mount| mount.mount.0).collect()
    }

    #[test]
    fn what_began_before_the_older_checkpoint_goes_and_the_current_one_stays() {
        assert_eq!(kept(&[(1, 1), (2, 10), (3, 20)], 10, None), [3]);
        assert_eq!(kept(&[(1, 1), (2, 10), (3, 20)], 9, None), [2, 3]);
        assert_eq!(kept(&[(3, 20)], 30, None), [3]);
    }

    #[test]
    fn one_that_left_no_record_gives_its_place_to_the_next() {
        assert_eq!(kept(&[(1, 1), (2, 10), (3, 10), (4, 10)], 0, None), [1, 4]);
    }

    #[test]
    fn one_whose_shared_memory_is_needed_stays() {
        assert_eq!(kept(&[(1, 1), (2, 10), (3, 20)], 30, Some(1)), [1, 3]);
        assert_eq!(kept(&[(1, 10), (2, 10), (3, 10)], 0, Some(1)), [1, 3]);
        assert_eq!(kept(&[(1, 10), (2, 10), (3, 10)], 0, Some(2)), [2, 3]);
    }
}
