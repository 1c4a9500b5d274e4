//! The data cache: content of log addresses in memory. An address names one content for ever, so nothing here is ever
//! invalidated; it is only forgotten. Raw data is kept by block, compressed extents are kept expanded, under the address of
//! the extent.

use std::cell::RefCell;
use std::rc::Rc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use treering_format::units::LogAddress;
use treering_io::Buffer;

#[derive(Clone)]
pub(crate) struct DataCache(Rc<RefCell<Cache<u64, Rc<Buffer>, Bytes>>>);

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
        DataCache(Rc::new(RefCell::new(Cache::with_weighter(items, bytes.max(1), Bytes))))
    }

    pub(crate) fn get(&self, address: LogAddress) -> Option<Rc<Buffer>> {
        self.0.borrow().get(&address.0).cloned()
    }

    pub(crate) fn insert(&self, address: LogAddress, content: Rc<Buffer>) {
        self.0.borrow_mut().insert(address.0, content);
    }
}
