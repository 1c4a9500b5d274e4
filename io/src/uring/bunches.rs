//! How many reads to have with the disk at a time.
//!
//! The disk of a virtual machine may work on its reads one after the other and report them all together, once there is nothing left
//! to do. Given all of them at once, it then stands still while the bunch is answered and the clients ask for more: disk, server and
//! client take turns at being idle. So some reads are kept back from such a disk, and go to it the moment a bunch comes back. A
//! disk that reports reads as they end gets every one at once.

/// Fewer reads than this say nothing of the disk, and are never kept back.
const FEW: u64 = 8;

/// Of 32 reads of 4 KiB, 16 to 20 with the disk were best where it was measured; 12 keep it too short, 24 keep the others too short.
const SHARE: [u64; 2] = [5, 8];

/// How many reads change what is thought of a disk, and where that turns.
const SURE: u64 = 512;
const LIKELY: u64 = 256;

#[derive(Default)]
pub(super) struct Bunches {
    /// Reads that came in bunches, less those that did not; 0 to `SURE`.
    seen: u64,
}

impl Bunches {
    /// The disk has reported `ended` of the `given` reads that it had. Half of them are a bunch: the rest may have been seen just
    /// before, or were given while it worked.
    pub(super) fn reported(&mut self, ended: u64, given: u64) {
        if given >= FEW {
            self.seen =
                if ended * 2 >= given { (self.seen + ended).min(SURE) } else { self.seen.saturating_sub(ended) };
        }
    }

    /// Reads that the disk may have at a time, of so many that are wanted.
    pub(super) fn allowed(&self, wanted: u64) -> u64 {
        if self.seen < LIKELY { u64::MAX } else { (wanted * SHARE[0] / SHARE[1]).max(FEW) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_reports_in_bunches_is_found_out_and_so_is_one_that_stops() {
        let mut bunches = Bunches::default();
        for _ in 0..SURE / 32 {
            bunches.reported(3, 32);
            bunches.reported(29, 29);
        }
        assert_eq!((bunches.allowed(32), bunches.allowed(4)), (20, FEW));
        (0..SURE / 3).for_each(|_| bunches.reported(3, 32));
        assert_eq!(bunches.allowed(32), u64::MAX);
    }

    #[test]
    fn a_client_with_few_reads_under_way_says_nothing() {
        let mut bunches = Bunches::default();
        (0..100).for_each(|_| bunches.reported(4, 4));
        assert_eq!(bunches.allowed(32), u64::MAX);
    }
}
