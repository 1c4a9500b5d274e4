//! Cuts that are published and that the fold has not come to.
//!
//! Two kinds count apart. Most cuts make the fold write a map out once more, and add a layer that reads look through, so many
//! of them make a fold due. What only gives something back costs nothing while it waits; that it does not wait for ever is
//! a matter of time.

use std::collections::VecDeque;

use treering_format::record::Descriptor;
use treering_format::units::OrderNumber;

use crate::log::{Keys, Published};

/// A catalog change and its place.
pub(crate) struct Cut {
    pub at: Published,
    pub change: Descriptor,
    /// Entries of the catalog that it changes.
    pub keys: Keys,
}

impl Cut {
    fn only_changes_names(&self) -> bool {
        matches!(self.change, Descriptor::DeleteSnapshots { .. } | Descriptor::ConfigureSnapshot(_))
    }

    fn gives_back(&self) -> bool {
        let change = &self.change;
        matches!(
            change,
            Descriptor::DeleteSnapshots { .. } | Descriptor::RemoveVolume { .. } | Descriptor::RemoveDot { .. }
        )
    }
}

#[derive(Default)]
pub(crate) struct PendingCuts {
    cuts: VecDeque<Cut>,
    /// Those that make the fold write a map.
    maps: u64,
    /// Those that give space back, and when the oldest of them came, by the store's clock.
    releases: u64,
    releases_since: u64,
}

impl PendingCuts {
    pub(crate) fn push(&mut self, cut: Cut, now_ns: u64) {
        self.maps += u64::from(!cut.only_changes_names());
        if cut.gives_back() {
            self.releases_since = if self.releases == 0 { now_ns } else { self.releases_since };
            self.releases += 1;
        }
        self.cuts.push_back(cut);
    }

    /// The oldest cut up to `order`.
    pub(crate) fn pop(&mut self, order: OrderNumber) -> Option<Cut> {
        let cut = self.cuts.pop_front_if(|cut| cut.at.order <= order)?;
        self.maps -= u64::from(!cut.only_changes_names());
        self.releases -= u64::from(cut.gives_back());
        Some(cut)
    }

    /// In the order of the log.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.iter()
    }

    pub(crate) fn maps(&self) -> u64 {
        self.maps
    }

    pub(crate) fn keys(&self) -> Keys {
        self.cuts.iter().fold(Keys::default(), |sum, cut| sum + cut.keys)
    }

    pub(crate) fn releases(&self) -> u64 {
        self.releases
    }

    /// Whether something to be given back has waited for so long.
    pub(crate) fn release_is_due(&self, now_ns: u64, age_ns: u64) -> bool {
        self.releases > 0 && now_ns.saturating_sub(self.releases_since) >= age_ns
    }
}

#[cfg(test)]
mod tests {
    use treering_format::units::{LogAddress, SnapshotId};

    use super::*;

    fn deletion(order: u64) -> Cut {
        let change = Descriptor::DeleteSnapshots { snapshots: vec![SnapshotId(order)] };
        Cut { at: Published { order: OrderNumber(order), position: LogAddress(order) }, change, keys: Keys::default() }
    }

    #[test]
    fn deletions_make_a_fold_due_by_their_age_and_not_by_their_number() {
        let mut pending = PendingCuts::default();
        (1..=1000).for_each(|order| pending.push(deletion(order), order));
        assert_eq!((pending.maps(), pending.releases()), (0, 1000));
        assert!(!pending.release_is_due(10, 10));
        assert!(pending.release_is_due(11, 10));
        while pending.pop(OrderNumber(1000)).is_some() {}
        assert!(!pending.release_is_due(5000, 10));
        pending.push(deletion(1001), 6000);
        assert!(pending.pop(OrderNumber(1000)).is_none(), "it stands behind");
        assert!(!pending.release_is_due(6001, 10), "the age is its own");
    }
}
