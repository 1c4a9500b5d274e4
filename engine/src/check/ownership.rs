//! Whose blocks and pages are whose, from the roots alone.
//!
//! Maps share leaves. What a leaf shows counts once, with the first root that holds it: roots come in such an order that what
//! must be live is counted before what may have been given back. The one version that is half swept comes last, and what it
//! shows below its cursor counts for nothing; so its leaves are looked at again by nobody.

use std::collections::BTreeSet;

use treering_format::node::NodeRef;
use treering_format::record::Encoding;
use treering_format::units::{LogAddress, PageIndex};

use super::frozen::{Root, RootKind};
use super::shown::Shown;
use super::{CheckReport, Finding};
use crate::disk::BLOCK;
use crate::error::CheckError;
use crate::map::{Content, Extent, Visited, extents_of};
use crate::pages::{Page, PageError, PageSet};
use crate::pin::Pin;
use crate::segments::Table;
use crate::store::Core;

pub(super) struct Ownership<'a> {
    pub core: &'a Core,
    pub report: CheckReport,
    /// Blocks that must be live.
    pub must: Shown,
    /// Blocks that only maps show of which some were given back.
    pub may: Shown,
    /// Pages that a tree holds.
    pub pages: PageSet,
    /// Pages whose leaves are all in `must`.
    pub counted: PageSet,
    /// Pages of maps that cannot be read.
    pub unreadable: PageSet,
}

impl Ownership<'_> {
    /// Counts what a map shows and no root before it did.
    pub(super) async fn root(
        &mut self,
        root: &Root,
        table: &Table,
        data: bool,
        pin: &Pin,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), CheckError> {
        self.report.volumes += u64::from(root.kind == RootKind::Head);
        self.age(root);
        let blocks = root.size.filter(|_| root.kind == RootKind::Head).map_or(0, |size| size.div_ceil(BLOCK));
        let mut told = 0;
        let mut leaves = root.map.tree().leaves(false);
        // Of those that may have been given back, a page is looked at twice: by one that says less of it than another would.
        let whole = root.from == 0;
        let mut seen = PageSet::default();
        loop {
            if pin.is_broken() {
                return Err(CheckError::SpaceNeeded);
            }
            let (pages, counted) = (&mut self.pages, &mut self.counted);
            let mut enter = |reference: &NodeRef| {
                let page = reference.page;
                pages.insert(page);
                match (whole, root.thinned) {
                    (true, false) => counted.insert(page),
                    _ => !counted.contains(page) && seen.insert(page),
                }
            };
            let batch = leaves.next(&self.core.pages, &mut enter).await;
            if batch.is_empty() {
                break;
            }
            for visited in batch {
                let high = match visited {
                    Visited::Leaf { high, page, .. } => {
                        self.leaf(root, &page, table, data).await;
                        high
                    }
                    Visited::Unreadable { high, page, .. } => {
                        self.unreadable.insert(page);
                        high
                    }
                };
                let done = high.min(blocks);
                progress((done - told.min(done)) * BLOCK);
                told = told.max(done);
            }
        }
        progress((blocks - told) * BLOCK);
        Ok(())
    }

    /// A version's pages are not younger than its cut: who goes on from it would take younger ones for its own, and release them.
    /// No page is younger than the one above it, so the topmost tells of all.
    fn age(&mut self, root: &Root) {
        if let (Some(cut), Some(top)) = (root.cut, root.map.stored_root())
            && top.birth > cut
        {
            let (name, page, birth) = (&root.name, top.page, top.birth);
            self.find(true, format!("{name}: page {page} of its map is of {birth}, younger than its cut at {cut}"));
        }
    }

    /// Says of each root what of it cannot be read, also where it was seen with another root.
    pub(super) async fn name_unreadable(&mut self, roots: &[Root]) {
        if self.unreadable.len() == 0 {
            return;
        }
        for root in roots {
            for (low, high, _, error) in unreadable(self.core, root, &self.unreadable).await {
                let to = match high {
                    u64::MAX => "the end".into(),
                    high => format!("block {}", high - 1),
                };
                self.find(true, format!("{}: where blocks {low} to {to} are cannot be read: {error}", root.name));
            }
        }
    }

    async fn leaf(&mut self, root: &Root, leaf: &Page, table: &Table, data: bool) {
        let mut compressed = BTreeSet::new();
        for extent in extents_of(leaf) {
            self.extent(root, &extent, table, &mut compressed, data).await;
        }
    }

    async fn extent(
        &mut self,
        root: &Root,
        extent: &Extent,
        table: &Table,
        compressed: &mut BTreeSet<LogAddress>,
        data: bool,
    ) {
        self.report.extents += 1;
        let Some((first, place, count)) = stored_run(root.from, extent) else { return };
        let raw = extent.encoding() == Some(Encoding::Raw);
        // Pieces of one compressed extent are stored once.
        if !raw && !compressed.insert(first) {
            return;
        }
        let inside =
            first.block().checked_add(count).is_some_and(|end| end <= self.core.disk.geometry().segment_blocks);
        // Of what a thinned version shows, some may lie nowhere any more.
        if !inside || !root.thinned && !table.holds(first, count) {
            if !root.thinned {
                let (from, to) = (extent.block, extent.block.0 + extent.count - 1);
                let segment = first.segment();
                let what =
                    format!("{}: blocks {from} to {to} lie in segment {segment}, which no slot holds", root.name);
                self.find(true, what);
            }
            return;
        }
        let shown = if root.thinned { &mut self.may } else { &mut self.must };
        let put = shown.put(first, count, place, raw);
        if let Some(block) = put.elsewhere {
            let (segment, name) = (first.segment(), &root.name);
            self.find(
                true,
                format!("block {block} of segment {segment} is shown by {name}, and for another block too"),
            );
        }
        if root.thinned {
            return;
        }
        self.report.live_blocks += u64::from(put.fresh);
        if data && root.size.is_some() && put.fresh > 0 {
            self.verify(root, extent).await;
        }
    }

    async fn verify(&mut self, root: &Root, extent: &Extent) {
        let (verified, broken) = self.core.verify_stored(extent).await;
        self.report.data_bytes_verified += verified;
        for broken in broken {
            let (from, to) = (broken.from * BLOCK, broken.to * BLOCK - 1);
            self.find(true, format!("{}: bytes {from} to {to} are lost: {}", root.name, broken.what));
        }
    }

    pub(super) fn find(&mut self, damage: bool, what: String) {
        self.report.findings.push(Finding { damage, what });
    }
}

/// Where the data of an extent is stored, the block that it begins at, and how many stored blocks; None if it has none that count.
/// What begins below `cursor` was given back.
pub(crate) fn stored_run(cursor: u64, extent: &Extent) -> Option<(LogAddress, u64, u32)> {
    let Content::Data { address, encoding, offset, stored_blocks, .. } = &extent.content else { return None };
    let (first, place, count) = match encoding {
        Encoding::Raw => {
            // Blocks below the cursor of a sweep were judged one by one.
            let gone = cursor.saturating_sub(extent.block.0).min(extent.count) as u32;
            (address.next(gone), extent.block.0 + u64::from(gone), extent.count as u32 - gone)
        }
        Encoding::Lz4 => (*address, extent.block.0.saturating_sub(u64::from(*offset)), u32::from(*stored_blocks)),
    };
    (count > 0 && place >= cursor).then_some((first, place, count))
}

/// The ranges of blocks of a map that hang below pages known to be unreadable, with those pages.
pub(crate) async fn unreadable(core: &Core, root: &Root, known: &PageSet) -> Vec<(u64, u64, PageIndex, PageError)> {
    let mut found = Vec::new();
    let mut leaves = root.map.tree().leaves(false);
    loop {
        let mut enter = |reference: &NodeRef| reference.level > 0 || known.contains(reference.page);
        let batch = leaves.next(&core.pages, &mut enter).await;
        if batch.is_empty() {
            return found;
        }
        for visited in batch {
            if let Visited::Unreadable { low, high, page, error } = visited {
                found.push((low, high, page, error));
            }
        }
    }
}
