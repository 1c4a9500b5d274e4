//! For how long cuts hold everybody else: a cut is published in one stretch without waiting, and nobody writes meanwhile.

use std::cell::{Cell, RefCell};

/// Durations of cuts since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutHolds {
    pub longest_ns: u64,
    /// Cuts that took at least 2^i ns and less than 2^(i+1), for each i; without the zeros at the end.
    pub by_log2_ns: Vec<u64>,
}

impl CutHolds {
    /// A duration in nanoseconds that `percent` of the cuts did not exceed: the upper end of its power of two.
    pub fn percentile_ns(&self, percent: u64) -> u64 {
        let wanted = (self.by_log2_ns.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        let reached = self.by_log2_ns.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |i| (2u64 << i).min(self.longest_ns))
    }
}

#[derive(Default)]
pub(crate) struct Holds {
    longest_ns: Cell<u64>,
    by_log2_ns: RefCell<Vec<u64>>,
}

impl Holds {
    pub(super) fn note(&self, ns: u64) {
        self.longest_ns.set(self.longest_ns.get().max(ns));
        let mut counts = self.by_log2_ns.borrow_mut();
        let index = ns.max(1).ilog2() as usize;
        if counts.len() <= index {
            counts.resize(index + 1, 0);
        }
        counts[index] += 1;
    }

    pub(super) fn figures(&self) -> CutHolds {
        CutHolds { longest_ns: self.longest_ns.get(), by_log2_ns: self.by_log2_ns.borrow().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_counted_by_powers_of_two() {
        let holds = Holds::default();
        [0, 1, 5, 7, 900].into_iter().for_each(|ns| holds.note(ns));
        let by_log2_ns = vec![2, 0, 2, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(holds.figures(), CutHolds { longest_ns: 900, by_log2_ns });
        assert_eq!([40, 80, 81].map(|percent| holds.figures().percentile_ns(percent)), [2, 8, 900]);
    }
}
