//! Where the pages of all trees live: 4 KiB pages in slots that the log has given up.
//!
//! It keeps three things true. A page is handed out once, and given back once. A page that was given back is not handed out
//! again while one of the two retained checkpoints needs it. What `read` returns is the page that the parent meant: it has
//! the checksum of the reference, and all its offsets and values were checked, so that nothing after it can trip over bytes
//! from disk.
//!
//! Pages are never changed in place. A node that is being edited belongs to its tree until `write_out` gives it a page; only
//! clean pages are kept here, in a cache of bounded size. It does not know keys, and does not decide when to sync: the
//! checkpoint does.

mod cache;
mod error;
mod page;
mod set;
mod space;
#[cfg(test)]
mod tests;
mod writer;

pub use error::PageError;
pub(crate) use page::{Page, PageBytes};
pub(crate) use set::PageSet;
pub(crate) use writer::PageWriter;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use treering_format::checkpoint::PageMap;
use treering_format::node::{NODE_BYTES, NodeRef, TreeKind};
use treering_format::units::{PageIndex, SlotIndex};
use treering_io::{Buffer, File, Io, Notify};

use self::cache::NodeCache;
use self::space::PageSpace;

/// How often a page that reads back wrong is read: a flip on the way from the disk does not last, damage does.
const READ_ATTEMPTS: u32 = 2;

#[derive(Clone)]
pub struct Pages(Rc<Inner>);

struct Inner {
    io: Io,
    file: File,
    space: RefCell<PageSpace>,
    cache: RefCell<NodeCache>,
    /// Reads under way, so that a page that many want is read once.
    flights: RefCell<HashMap<PageIndex, Flight>>,
    /// A page that was released and not in use.
    stray: Cell<Option<PageIndex>>,
    #[cfg(test)]
    forget_release: Cell<Option<usize>>,
}

/// A read under way: the bell rings when it has landed or was given up.
#[derive(Clone, Default)]
struct Flight {
    over: Notify,
    landed: Rc<RefCell<Option<Result<Page, PageError>>>>,
}

impl Pages {
    pub fn new(io: Io, file: File, data_start: u64, slot_blocks: u32, cache_bytes: u64) -> Pages {
        Pages(Rc::new(Inner {
            io,
            file,
            space: RefCell::new(PageSpace::new(data_start / NODE_BYTES as u64, slot_blocks)),
            cache: RefCell::new(NodeCache::new(cache_bytes)),
            flights: RefCell::default(),
            stray: Cell::new(None),
            #[cfg(test)]
            forget_release: Default::default(),
        }))
    }

    /// Takes over the state that a checkpoint recorded.
    pub fn load(&self, maps: Vec<PageMap>) {
        self.0.space.borrow_mut().load(maps);
    }

    /// A slot whose pages are all free.
    pub fn add_slot(&self, slot: SlotIndex) {
        self.0.space.borrow_mut().add_slot(slot);
    }

    /// Pages that `allocate` can still give.
    pub fn available(&self) -> u64 {
        self.0.space.borrow().available()
    }

    pub fn used_pages(&self) -> u64 {
        self.0.space.borrow().used_pages()
    }

    pub fn page_map_count(&self) -> usize {
        self.0.space.borrow().slot_count()
    }

    pub fn allocate(&self) -> Option<PageIndex> {
        self.0.space.borrow_mut().allocate()
    }

    /// The first of `pages` neighbouring pages of one slot.
    pub fn allocate_run(&self, pages: u64) -> Option<PageIndex> {
        self.0.space.borrow_mut().allocate_run(pages)
    }

    /// No tree of this window's end holds the page any more. It stays readable until both checkpoints have moved on.
    pub fn release(&self, page: PageIndex) {
        #[cfg(test)]
        if self.0.forget_release.get().is_some_and(|which| {
            self.0.forget_release.set(which.checked_sub(1));
            which == 1
        }) {
            return;
        }
        if !self.0.space.borrow_mut().release(page) {
            self.0.stray.set(Some(page));
        }
    }

    /// Whether every page that was released had been in use. If not, trees and allocator contradict each other: by damage
    /// that kept its checksums, or by our bug. No checkpoint may be written from such a state.
    pub(crate) fn check_consistent(&self) -> Result<(), PageError> {
        match self.0.stray.get() {
            None => Ok(()),
            Some(page) => {
                Err(PageError::value_damaged("page map", page.0, "a tree releases this page, which was not in use"))
            }
        }
    }

    /// For walks that find all they read in the cache, and so wait for nothing.
    pub(crate) async fn let_others_run(&self) {
        self.0.io.yield_now().await;
    }

    /// The state that a checkpoint records; what was released since the last call is quarantined in it.
    pub fn seal_window(&self) -> Vec<PageMap> {
        let mut space = self.0.space.borrow_mut();
        let mut cache = self.0.cache.borrow_mut();
        space.released().for_each(|page| cache.remove(page));
        space.seal_window()
    }

    /// The checkpoint of the last `seal_window` is durable: what the one before it quarantined is free, unless it is to be
    /// kept back.
    pub fn window_durable(&self, keep_back: bool) {
        self.0.space.borrow_mut().window_durable(keep_back);
    }

    /// Sees to it that none of these pages counts as free, and says how many did. For a repair.
    pub(crate) fn claim(&self, pages: &PageSet) -> u64 {
        let mut space = self.0.space.borrow_mut();
        pages.iter().filter(|page| space.claim(*page)).count() as u64
    }

    /// Releases every page in use that is not one of these. For a repair.
    pub(crate) fn release_all_but(&self, pages: &PageSet) {
        let used = self.used();
        used.iter().filter(|page| !pages.contains(*page)).for_each(|page| self.release(page));
    }

    /// What was kept back is free. Returns how many pages that are.
    pub(crate) fn let_go(&self) -> u64 {
        self.0.space.borrow_mut().let_go()
    }

    /// Every page that is handed out and not released: what `check` compares with the trees.
    pub(crate) fn used(&self) -> PageSet {
        self.0.space.borrow().used_page_list().into_iter().collect()
    }

    /// The page if it is in memory.
    pub(crate) fn cached(&self, reference: &NodeRef) -> Option<Page> {
        self.0.cache.borrow().get(reference)
    }

    /// The page from memory or from disk, verified.
    pub(crate) async fn read(&self, tree: TreeKind, reference: NodeRef) -> Result<Page, PageError> {
        loop {
            if let Some(page) = self.cached(&reference) {
                return Ok(page);
            }
            let flight = match self.0.flights.borrow_mut().entry(reference.page) {
                Entry::Occupied(entry) => Some(entry.get().clone()),
                Entry::Vacant(entry) => {
                    entry.insert(Flight::default());
                    None
                }
            };
            let Some(flight) = flight else {
                let pilot = Pilot { pages: self, page: reference.page, result: None };
                return pilot.fly(tree, reference).await;
            };
            let over = flight.over.notified();
            over.await;
            let landed = flight.landed.borrow_mut().clone();
            match landed {
                Some(Ok(page)) if page.checksum() == reference.checksum => return Ok(page),
                Some(Err(error)) => return Err(error),
                // Its reader was dropped midway, or the page was read for an older life: look again.
                _ => {}
            }
        }
    }

    /// The canary: the n-th release from now does not happen.
    #[cfg(test)]
    pub(crate) fn forget_release(&self, which: usize) {
        self.0.forget_release.set(Some(which));
    }

    /// The page from disk, verified, whatever is in memory.
    pub(crate) async fn read_from_disk(&self, tree: TreeKind, reference: NodeRef) -> Result<Page, PageError> {
        let mut attempt = 1;
        loop {
            let buffer = Buffer::with_len(NODE_BYTES);
            let offset = reference.page.0 * NODE_BYTES as u64;
            let (result, buffer) = self.0.io.read_at(&self.0.file, offset, buffer).await;
            let outcome = match result {
                Ok(()) => page::verified(buffer, tree, &reference),
                Err(source) => Err(PageError::io(reference.page, tree.name(), source)),
            };
            if outcome.is_ok() || attempt == READ_ATTEMPTS {
                return outcome;
            }
            attempt += 1;
        }
    }
}

/// Whoever reads a page for all that want it. However it ends, also by being dropped, the flight ends with it.
struct Pilot<'a> {
    pages: &'a Pages,
    page: PageIndex,
    result: Option<Result<Page, PageError>>,
}

impl Pilot<'_> {
    async fn fly(mut self, tree: TreeKind, reference: NodeRef) -> Result<Page, PageError> {
        let result = self.pages.read_from_disk(tree, reference).await;
        if let Ok(page) = &result {
            self.pages.0.cache.borrow_mut().insert(reference.page, page.clone());
        }
        self.result = Some(result.clone());
        result
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.pages.0.flights.borrow_mut().remove(&self.page) {
            *flight.landed.borrow_mut() = self.result.take();
            flight.over.notify_all();
        }
    }
}
