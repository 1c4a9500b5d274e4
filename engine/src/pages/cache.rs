//! Clean pages in memory, as many as the limit allows; the least useful goes first.
//!
//! A place is used again for another page long after this cache may have forgotten to forget the old one, so a hit must have
//! the checksum that the reference asks for. The hash is fixed: the same run evicts the same pages, which the simulator needs.

use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::UnitWeighter;
use quick_cache::unsync::Cache;
use treering_format::node::{NODE_BYTES, NodeRef};
use treering_format::units::PageIndex;

use super::Page;

/// What a cached page costs in memory: itself, its counter and its place in the cache's table.
const PAGE_COST_BYTES: u64 = NODE_BYTES as u64 + 160;

/// Even the smallest cache keeps the path from a root to a leaf.
const PAGES_MIN: u64 = 16;

pub(super) struct NodeCache {
    pages: Cache<PageIndex, Page, UnitWeighter, BuildHasherDefault<PageHasher>>,
}

impl NodeCache {
    pub(super) fn new(bytes: u64) -> NodeCache {
        let capacity = (bytes / PAGE_COST_BYTES).max(PAGES_MIN);
        NodeCache {
            pages: Cache::with(
                capacity as usize,
                capacity,
                UnitWeighter,
                BuildHasherDefault::default(),
                Default::default(),
            ),
        }
    }

    pub(super) fn get(&self, reference: &NodeRef) -> Option<Page> {
        self.pages.get(&reference.page).filter(|page| page.checksum() == reference.checksum).cloned()
    }

    pub(super) fn insert(&mut self, place: PageIndex, page: Page) {
        self.pages.insert(place, page);
    }

    pub(super) fn remove(&mut self, place: PageIndex) {
        self.pages.remove(&place);
    }
}

/// Page numbers are dense and nobody chooses them to collide: one multiplication spreads them.
#[derive(Default)]
pub(super) struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // 2⁶⁴ divided by the golden ratio.
        let product = u128::from(self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
