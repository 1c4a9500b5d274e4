//! The data cache: content of log addresses in memory. An address names one content for ever, so nothing here is ever
//! invalidated; it is only forgotten. Raw data is kept by block, compressed extents are kept expanded, under the address of
//! the extent.
//!
//! Half of the cache takes whatever is read. The rest is for what was asked for before (2Q, Johnson and Shasha 1994: addresses of
//! what was read lately are remembered without content). So what is read once does not drive out what is read often, and costs
//! no memory: a block that is kept is memory that no processor has seen lately, and that made a read from disk a sixth dearer.

use std::cell::RefCell;
use std::rc::Rc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use treering_format::units::LogAddress;
use treering_io::Buffer;

#[derive(Clone)]
pub(crate) struct DataCache(Rc<RefCell<State>>);

struct State {
    content: Cache<u64, Rc<Buffer>, Bytes>,
    seen: Seen,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<u64, Rc<Buffer>> for Bytes {
    fn weight(&self, _: &u64, value: &Rc<Buffer>) -> u64 {
        value.capacity() as u64 + 96
    }
}

impl DataCache {
    /// A cache of at most `bytes` bytes, its own book-keeping included.
    pub(crate) fn new(bytes: u64) -> DataCache {
        let items = (bytes / 4096).max(16) as usize;
        let content = Cache::with_weighter(items, bytes.max(1), Bytes);
        DataCache(Rc::new(RefCell::new(State { content, seen: Seen::new(2 * items) })))
    }

    pub(crate) fn get(&self, address: LogAddress) -> Option<Rc<Buffer>> {
        self.0.borrow().content.get(&address.0).cloned()
    }

    /// Whether what is read at this address now is worth being kept. Where it is not, it is remembered that somebody asked.
    pub(crate) fn wants(&self, address: LogAddress) -> bool {
        let State { content, seen } = &mut *self.0.borrow_mut();
        content.weight() < content.capacity() / 2 || seen.again(address)
    }

    pub(crate) fn insert(&self, address: LogAddress, content: Rc<Buffer>) {
        self.0.borrow_mut().content.insert(address.0, content);
    }
}

/// Addresses that were asked for lately, by fingerprints, in sets of a few that forget their oldest. It seldom takes one address
/// for another.
struct Seen(Box<[[u32; WAYS]]>);

const WAYS: usize = 8;

impl Seen {
    /// Remembers so many addresses or more.
    fn new(least: usize) -> Seen {
        Seen(vec![[0; WAYS]; least.div_ceil(WAYS).next_power_of_two()].into())
    }

    fn again(&mut self, address: LogAddress) -> bool {
        let hash = address.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let print = (hash >> 32) as u32 | 1;
        let place = (hash ^ hash >> 32) as usize & (self.0.len() - 1);
        let set = &mut self.0[place];
        let known = set.contains(&print);
        if !known {
            set.rotate_right(1);
            set[0] = print;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treering_format::units::SegmentId;

    const BLOCKS: u64 = 1024;

    fn at(block: u64) -> LogAddress {
        LogAddress::new(SegmentId(1 + block / 4096), (block % 4096) as u32)
    }

    /// One block is asked for, as a read does it. Whether it was there.
    fn read(cache: &DataCache, block: u64) -> bool {
        let hit = cache.get(at(block)).is_some();
        if !hit && cache.wants(at(block)) {
            cache.insert(at(block), Rc::new(Buffer::zeroed(4096)));
        }
        hit
    }

    fn hits(cache: &DataCache, blocks: std::ops::Range<u64>) -> usize {
        blocks.filter(|block| read(cache, *block)).count()
    }

    #[test]
    fn half_takes_what_comes_and_the_rest_what_comes_again() {
        let cache = DataCache::new(BLOCKS * (4096 + 96));
        hits(&cache, 0..BLOCKS);
        let half = (BLOCKS / 2) as usize;
        assert_eq!(hits(&cache, 0..BLOCKS), half);
        let all = hits(&cache, 0..BLOCKS);
        assert!(all > half * 19 / 10, "{all}");
    }

    #[test]
    fn what_is_read_once_does_not_drive_out_what_is_read_often() {
        let cache = DataCache::new(BLOCKS * (4096 + 96));
        let often = 0..BLOCKS / 2;
        for _ in 0..4 {
            hits(&cache, often.clone());
        }
        hits(&cache, 10_000..200_000);
        let kept = hits(&cache, often.clone());
        assert!(kept as u64 > (often.end * 9) / 10, "{kept} of {often:?}");
    }

    #[test]
    fn a_new_working_set_takes_the_place_of_the_old_one() {
        let cache = DataCache::new(BLOCKS * (4096 + 96));
        for _ in 0..4 {
            hits(&cache, 0..BLOCKS * 9 / 10);
        }
        let new = 10_000..10_000 + BLOCKS / 2;
        for _ in 0..8 {
            hits(&cache, new.clone());
        }
        let kept = hits(&cache, new.clone());
        assert!(kept as u64 > BLOCKS * 49 / 100, "{kept} of {new:?}");
    }
}
