//! How many pages the fold and the checkpoints that follow may take for what was published and what is about to be, at the
//! most. Arithmetic alone; the figures come from those who know them.
//!
//! Each bound holds whatever the operations were: a page that is changed is written once for each cut and once for the
//! checkpoint, however often it was changed between; and no more pages are changed than there are, and than each operation
//! reaches. It is a bound and no forecast: a checkpoint that runs on time takes far less, and brings it down.

use std::ops::{Add, AddAssign};

use crate::canary::{self, Canary};

/// Entries of a catalog tree that a change makes or touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// With neighbouring keys.
    pub beside: u64,
    /// Anywhere; also the ends of series of neighbours.
    pub scattered: u64,
}

impl Add for Keys {
    type Output = Keys;

    fn add(self, other: Keys) -> Keys {
        Keys { beside: self.beside + other.beside, scattered: self.scattered + other.scattered }
    }
}

impl AddAssign for Keys {
    fn add_assign(&mut self, other: Keys) {
        *self = *self + other;
    }
}

/// Entries of the catalog that sweeps may change between two checkpoints, however full the store is.
pub(super) const SWEEP_KEYS: Keys = Keys { beside: 0, scattered: 8 };

/// What the next checkpoints have to write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// Operations that are not folded, cuts among them, and the blocks of log that they take.
    pub operations: u64,
    pub blocks: u64,
    pub cuts: u64,
    /// Nodes of maps that are folded and have no page yet.
    pub dirty_nodes: u64,
    /// Pages in use, of whatever tree.
    pub used_pages: u64,
    /// Heads that began on another one's map: their maps may be the same pages.
    pub forked_heads: u64,
    /// Nodes of one of the catalog's trees, and its entries that are volumes: any checkpoint may change all of these.
    pub catalog_nodes: u64,
    pub volumes: u64,
    /// Entries that differ from the last checkpoint, or will.
    pub keys: Keys,
    pub liveness_bytes: u64,
    pub blob_pages: u64,
}

impl Demand {
    /// Pages until those that are replaced come back, which takes two checkpoints, and until then for any deletion. The largest
    /// one changes the whole catalog.
    pub(super) fn pages(&self) -> u64 {
        self.besides() + 2 * self.of_catalog(self.whole_catalog())
    }

    /// As `pages`, for what is published and no deletion besides.
    pub(super) fn pages_without_more(&self) -> u64 {
        self.besides() + 2 * self.of_catalog(self.catalog(self.keys))
    }

    /// As `pages`, once a checkpoint holds everything.
    pub(super) fn pages_once_stored(&self) -> u64 {
        Demand { operations: 0, blocks: 0, cuts: 0, dirty_nodes: 0, keys: Keys::default(), ..*self }.pages()
    }

    fn besides(&self) -> u64 {
        2 * (self.maps() + self.liveness() + self.blob_pages + 4)
    }

    /// Of one tree: `first`, and what sweeps change for the checkpoint after it.
    fn of_catalog(&self, first: u64) -> u64 {
        if canary::is(Canary::ReserveForgetsCatalog) { 0 } else { first + self.catalog(SWEEP_KEYS) }
    }

    fn maps(&self) -> u64 {
        let there = (self.used_pages + self.dirty_nodes) * (1 + self.forked_heads);
        let rounds = self.cuts + 1;
        // An operation cuts a leaf in two and leaves what it wrote between; above are the branches on the way there.
        let reached = 3 * self.operations + (levels(there) * self.operations).min(rounds * there / 8);
        let grown = self.operations / 8 + self.blocks / 128;
        self.dirty_nodes + reached.min(rounds * (there + 16) + grown)
    }

    /// Pages of one of the two trees that a change of these entries reaches.
    fn catalog(&self, keys: Keys) -> u64 {
        let Keys { beside, scattered } = keys;
        let levels = levels(self.catalog_nodes + beside);
        let leaves = beside / 6 + 2 * scattered + self.volumes / 6 + 2;
        let branches = levels * (scattered + (beside + self.volumes) / 64 + 2);
        (leaves + branches).min(self.whole_catalog())
    }

    /// Of one of the two trees, with what it grows by.
    fn whole_catalog(&self) -> u64 {
        // The longest entries leave room for twelve in a page that is half full. Of those that come one by one each may split a
        // page, but no page is split twice before it was filled.
        let Keys { beside, scattered } = self.keys;
        self.catalog_nodes + beside / 8 + scattered.min(self.catalog_nodes + scattered / 6) + 2
    }

    /// Any checkpoint may change all of it: it is small.
    fn liveness(&self) -> u64 {
        let leaves = self.liveness_bytes / 2000 + 1;
        leaves + leaves / 8 + 1
    }
}

/// Of a tree of so many pages, at the most, the root included.
fn levels(pages: u64) -> u64 {
    2 + u64::from(u64::BITS - pages.leading_zeros()) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: Demand = Demand {
        operations: 0,
        blocks: 0,
        cuts: 0,
        dirty_nodes: 0,
        used_pages: 1000,
        forked_heads: 0,
        catalog_nodes: 100,
        volumes: 1,
        keys: Keys { beside: 0, scattered: 0 },
        liveness_bytes: 2000,
        blob_pages: 2,
    };

    #[test]
    fn a_store_at_rest_keeps_room_for_its_catalog_and_little_more() {
        assert!(STORE.pages() < 400, "{}", STORE.pages());
        assert_eq!(STORE.pages_once_stored(), STORE.pages());
        assert!(STORE.pages_without_more() < STORE.pages());
    }

    #[test]
    fn neither_many_operations_nor_many_keys_need_more_than_there_is() {
        let much = Demand { operations: 1 << 20, ..STORE };
        assert!(much.pages() < 2 * (1016 + (1 << 17)) + 400, "{}", much.pages());
        let keys = Keys { beside: 20_000, scattered: 200 };
        let fresh = Demand { keys, ..STORE };
        assert!(fresh.pages() < 7_000, "ten thousand snapshots: {}", fresh.pages());
        assert!(fresh.pages_without_more() <= fresh.pages());
    }

    #[test]
    fn each_cut_may_write_a_map_once_more_and_no_more_of_it_than_was_changed() {
        let once = Demand { operations: 1 << 20, ..STORE }.pages();
        let eleven = Demand { operations: 1 << 20, cuts: 10, ..STORE }.pages();
        assert!(eleven > once + 2 * 10 * 1000);
        let little = Demand { operations: 10, cuts: 10, ..STORE }.pages();
        assert!(little < STORE.pages() + 2 * 10 * 8, "{little}");
    }
}
