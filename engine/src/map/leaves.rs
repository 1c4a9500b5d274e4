//! A walk over the leaves of a tree, in order of keys, that says of what it cannot read which range of keys is lost.
//!
//! Many trees share pages. Whoever walks them all is asked for each page whether to enter it, so that what was seen with one
//! tree is not read again with the next.

use futures_util::future::join_all;
use treering_format::node::{NodeRef, TreeKind};
use treering_format::units::PageIndex;

use super::child::{Branch, Child};
use super::extent::Extent;
use super::gather::require_range;
use super::tree::Tree;
use crate::pages::{Page, PageError, Pages};

/// Leaves that are read at once.
const READS_AT_ONCE: usize = 64;

pub(crate) struct Leaves {
    kind: TreeKind,
    from_disk: bool,
    /// With their ranges, the next one last.
    open: Vec<(u64, u64, Child)>,
}

/// A leaf, or what cannot be read.
pub(crate) enum Visited {
    Leaf {
        high: u64,
        page: Page,
    },
    /// Everything in the range; the page is the one that fails.
    Unreadable {
        low: u64,
        high: u64,
        page: PageIndex,
        error: PageError,
    },
}

/// What a leaf of a map says.
pub(crate) fn extents_of(leaf: &Page) -> impl Iterator<Item = Extent> + '_ {
    (0..leaf.len()).map(|index| Extent::of_entry(leaf.key(index), &leaf.extent(index)))
}

impl Tree {
    /// `from_disk`: no page is taken from the cache.
    pub(crate) fn leaves(&self, from_disk: bool) -> Leaves {
        let open = self.root.iter().map(|root| (0, u64::MAX, root.clone())).collect();
        Leaves { kind: self.kind, from_disk, open }
    }
}

impl Leaves {
    /// The next few leaves; none at the end. `enter` is asked for each page that lies on disk: the part of the tree below it
    /// is passed by if it says no.
    pub(crate) async fn next(&mut self, pages: &Pages, enter: &mut dyn FnMut(&NodeRef) -> bool) -> Vec<Visited> {
        let mut batch = Vec::new();
        while let Some((low, high, child)) = self.open.pop() {
            match &child {
                Child::Leaf(_) => batch.push((low, high, child)),
                Child::Branch(branch) => self.push(branch, high),
                Child::Stored(reference) if reference.level == 0 => {
                    if enter(reference) {
                        batch.push((low, high, child));
                    }
                }
                Child::Stored(_) if !batch.is_empty() => {
                    self.open.push((low, high, child));
                    break;
                }
                Child::Stored(reference) => {
                    if !enter(reference) {
                        continue;
                    }
                    match self.read(pages, low, high, &child).await {
                        Ok(page) => self.push(&Branch::of_page(&page, low), high),
                        Err(error) => return vec![Visited::Unreadable { low, high, page: reference.page, error }],
                    }
                }
            }
            if batch.len() == READS_AT_ONCE {
                break;
            }
        }
        let reads = batch.iter().map(|(low, high, child)| self.read(pages, *low, *high, child));
        let read = join_all(reads).await;
        let visited = |((low, high, child), read): ((u64, u64, Child), Result<Page, PageError>)| match (read, child) {
            (Ok(page), _) => Visited::Leaf { high, page },
            (Err(error), Child::Stored(reference)) => Visited::Unreadable { low, high, page: reference.page, error },
            (Err(_), _) => unreachable!("what is in memory can be read"),
        };
        batch.into_iter().zip(read).map(visited).collect()
    }

    fn push(&mut self, branch: &Branch, high: u64) {
        let ends = (0..branch.children.len()).map(|index| branch.end_of(index).unwrap_or(high));
        let children = branch.children.iter().zip(ends).map(|((low, child), end)| (*low, end, child.clone()));
        self.open.extend(children.rev());
    }

    async fn read(&self, pages: &Pages, low: u64, high: u64, child: &Child) -> Result<Page, PageError> {
        let page = match child {
            Child::Leaf(page) => return Ok(page.clone()),
            Child::Branch(_) => unreachable!("branches in memory are not read"),
            Child::Stored(reference) if self.from_disk => pages.read_from_disk(self.kind, *reference).await?,
            Child::Stored(reference) => pages.read(self.kind, *reference).await?,
        };
        require_range(self.kind, &page, low, high)?;
        Ok(page)
    }
}
