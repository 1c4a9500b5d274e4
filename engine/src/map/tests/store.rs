//! A store of nothing but pages, on a simulated disk, and the checks that must hold of any tree in it.

use std::collections::BTreeSet;
use std::path::Path;

use treering_format::checkpoint::PageMap;
use treering_format::node::{NodeRef, TreeKind};
use treering_format::units::{LogAddress, SlotIndex};
use treering_io::sim::Host;
use treering_io::{FileOptions, Io, Runtime};

use crate::map::Tree;
use crate::pages::Pages;

const DISK: &str = "/pages";
const DATA_START: u64 = 1 << 20;
const SLOT_PAGES: u32 = 512;
const SLOTS: u64 = 64;

pub(super) struct TestStore {
    pub host: Host,
    pub io: Io,
    pub pages: Pages,
    runtime: Runtime,
    next_slot: u64,
    cache_bytes: u64,
    last_birth: u64,
}

impl TestStore {
    pub(super) fn new(cache_bytes: u64) -> TestStore {
        let host = Host::new(1);
        host.add_disk(Path::new(DISK), DATA_START + SLOTS * u64::from(SLOT_PAGES) * 4096);
        let (runtime, io, pages) = open(&host, cache_bytes);
        TestStore { host, io, pages, runtime, next_slot: 0, cache_bytes, last_birth: 0 }
    }

    pub(super) fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What a checkpoint does: all nodes written, the window sealed, and durable.
    pub(super) fn checkpoint(&mut self, tree: &mut Tree) -> Option<NodeRef> {
        let root = self.write_out(tree);
        self.pages.seal_window();
        self.pages.window_durable(false);
        root
    }

    pub(super) fn write_out(&mut self, tree: &mut Tree) -> Option<NodeRef> {
        while self.pages.available() < tree.dirty_nodes() as u64 {
            self.pages.add_slot(SlotIndex(self.next_slot));
            self.next_slot += 1;
        }
        let before = self.pages.available();
        let dirty = tree.dirty_nodes() as u64;
        let pages = self.pages.clone();
        let birth = self.next_birth();
        let root = self.run(tree.write_out(&pages, birth)).expect("the disk is sound");
        assert_eq!(before - self.pages.available(), dirty, "dirty nodes were counted wrongly");
        assert_eq!(tree.dirty_nodes(), 0);
        root
    }

    /// Later than all before, as the fold's position is.
    pub(super) fn next_birth(&mut self) -> LogAddress {
        self.last_birth += 1 << 16;
        LogAddress(self.last_birth)
    }

    pub(super) fn last_birth(&self) -> LogAddress {
        LogAddress(self.last_birth)
    }

    /// A new process that knows what a checkpoint recorded.
    pub(super) fn reopen(&mut self) {
        let maps = self.pages.seal_window();
        self.reopen_from(maps);
    }

    pub(super) fn reopen_from(&mut self, maps: Vec<PageMap>) {
        (self.runtime, self.io, self.pages) = open(&self.host, self.cache_bytes);
        self.pages.load(maps);
    }

    /// Every page in use belongs to one of the trees, once, and the other way round.
    pub(super) fn check_pages(&mut self, trees: &[&Tree]) -> Result<(), String> {
        let mut reached = BTreeSet::new();
        let mut twice = Vec::new();
        let pages = self.pages.clone();
        for tree in trees {
            let visit = &mut |page| {
                if !reached.insert(page) {
                    twice.push(page)
                }
            };
            self.run(tree.pages_in_use(&pages, visit)).map_err(|error| error.to_string())?;
        }
        let used: BTreeSet<_> = self.pages.used().iter().collect();
        let leaked: Vec<_> = used.difference(&reached).collect();
        let missing: Vec<_> = reached.difference(&used).collect();
        match (twice.is_empty(), leaked.is_empty(), missing.is_empty()) {
            (true, true, true) => Ok(()),
            _ => Err(format!("pages reached twice {twice:?}, leaked {leaked:?}, in use and free {missing:?}")),
        }
    }

    /// Ranges, levels and births hold from the root down. Returns the number of leaves.
    pub(super) fn check_nodes(&mut self, kind: TreeKind, root: Option<NodeRef>) -> Result<usize, String> {
        let Some(root) = root else { return Ok(0) };
        let mut leaves = 0;
        let mut open = vec![(root, 0, u64::MAX)];
        while let Some((reference, low, high)) = open.pop() {
            let pages = self.pages.clone();
            let page = self.run(pages.read(kind, reference)).map_err(|error| error.to_string())?;
            crate::map::gather::require_range(kind, &page, low, high).map_err(|error| error.to_string())?;
            if page.level() == 0 {
                leaves += 1;
                continue;
            }
            for index in 0..page.len() {
                let begin = if index == 0 { low } else { page.key(index) };
                let end = if index + 1 < page.len() { page.key(index + 1) } else { high };
                open.push((page.child(index), begin, end));
            }
        }
        Ok(leaves)
    }
}

fn open(host: &Host, cache_bytes: u64) -> (Runtime, Io, Pages) {
    let runtime = host.runtime();
    let io = runtime.io();
    let options = FileOptions { write: true, ..FileOptions::default() };
    let file = io.open_file(Path::new(DISK), &options).expect("the disk is there");
    let pages = Pages::new(io.clone(), file, DATA_START, SLOT_PAGES, cache_bytes);
    (runtime, io, pages)
}
