//! Puts new pages onto the disk: neighbours as one write, several writes under way, none waited for longer than needed.
//!
//! Pages come in the order in which they were allocated, which is mostly ascending, so that a checkpoint of thousands of nodes
//! costs few large writes. The caller must await `finish` before it relies on any of them; nothing is synced here.

use std::io;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use treering_format::node::NODE_BYTES;
use treering_format::units::PageIndex;
use treering_io::{Durability, WriteBuffer};

use super::{Page, PageError, Pages};

/// 1 MiB: beyond this a longer write is not cheaper.
const PAGES_PER_WRITE: usize = 256;
const WRITES_IN_FLIGHT: usize = 8;

type Write = Pin<Box<dyn Future<Output = (PageIndex, io::Result<()>)>>>;

pub(crate) struct PageWriter<'a> {
    pages: &'a Pages,
    tree: &'static str,
    first: PageIndex,
    run: Vec<WriteBuffer>,
    in_flight: FuturesUnordered<Write>,
}

impl<'a> PageWriter<'a> {
    pub(crate) fn new(pages: &'a Pages, tree: &'static str) -> PageWriter<'a> {
        let (first, run, in_flight) = (PageIndex(0), Vec::new(), FuturesUnordered::new());
        PageWriter { pages, tree, first, run, in_flight }
    }

    /// Takes a sealed page for its place. It goes into the cache at once; nobody may refer to it before `finish`.
    pub(crate) async fn push(&mut self, place: PageIndex, page: Page) -> Result<(), PageError> {
        let neighbour = self.first.0 + self.run.len() as u64 == place.0;
        if !self.run.is_empty() && (!neighbour || self.run.len() == PAGES_PER_WRITE) {
            self.submit();
            // A long series of nodes is encoded here without waiting for anything; others want a turn.
            self.pages.0.io.yield_now().await;
        }
        if self.run.is_empty() {
            self.first = place;
        }
        self.pages.0.cache.borrow_mut().insert(place, page.clone());
        self.run.push(page.into_inner().into());
        while self.in_flight.len() > WRITES_IN_FLIGHT {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Waits until all of them are written.
    pub(crate) async fn finish(mut self) -> Result<(), PageError> {
        if !self.run.is_empty() {
            self.submit();
        }
        while !self.in_flight.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    fn submit(&mut self) {
        let (first, run) = (self.first, std::mem::take(&mut self.run));
        let inner = &self.pages.0;
        let write = inner.io.write_at(&inner.file, first.0 * NODE_BYTES as u64, run, Durability::Volatile);
        self.in_flight.push(Box::pin(async move { (first, write.await) }));
    }

    async fn wait_for_one(&mut self) -> Result<(), PageError> {
        match self.in_flight.next().await {
            Some((first, Err(source))) => Err(PageError::io(first, self.tree, source)),
            _ => Ok(()),
        }
    }
}
