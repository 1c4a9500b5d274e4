//! Check: everything the store keeps beside the maps, recomputed from the maps and compared.
//!
//! The roots are the truth. From them follow which blocks are live, which pages are used, which slots hold what; a difference
//! is either space that leaks or, far worse, space that is free while something still shows it. Damaged pages are named with
//! what hangs below them, and the walk goes on elsewhere. With `data`, every stored block is read and its checksum verified.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, PageIndex, SegmentId};

use crate::disk::BLOCK;
use crate::error::Failure;
use crate::map::{Content, Extent};
use crate::pages::PageError;
use crate::segments::LiveBits;
use crate::store::{Core, Store};

/// Map extents looked at in one step.
const STEP: usize = 1024;

/// One thing that is not as it should be, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether data is lost or in danger; else only space is.
    pub damage: bool,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub volumes: u64,
    pub extents: u64,
    pub live_blocks: u64,
    pub pages: u64,
    pub data_bytes_verified: u64,
    pub findings: Vec<Finding>,
}

impl Store {
    /// Folds what is published, then recomputes everything from the roots. `progress` is told the bytes of volumes looked at.
    pub async fn check(&self, data: bool, progress: &mut dyn FnMut(u64)) -> Result<CheckReport, std::rc::Rc<Failure>> {
        let core = &self.core;
        let _turn = core.fold_turn.take().await;
        core.fold_to_now().await?;
        let mut check = Check { core, report: CheckReport::default(), live: BTreeMap::new(), pages: BTreeSet::new() };
        for dot in self.dots() {
            for volume in dot.volumes {
                check.volume(&dot.name, &volume.name, data, progress).await;
            }
        }
        check.liveness().await;
        check.trees().await;
        Ok(check.report)
    }
}

struct Check<'a> {
    core: &'a Core,
    report: CheckReport,
    live: BTreeMap<SegmentId, LiveBits>,
    pages: BTreeSet<PageIndex>,
}

impl Check<'_> {
    async fn volume(&mut self, dot: &str, name: &str, data: bool, progress: &mut dyn FnMut(u64)) {
        let Some(state) = self.core.catalog.borrow().volume(dot, name).map(|v| std::rc::Rc::clone(&v.state)) else {
            return;
        };
        self.report.volumes += 1;
        let map = state.line.map.borrow().clone();
        let blocks = state.size.get().div_ceil(BLOCK);
        let mut from = 0;
        let mut compressed = BTreeSet::new();
        loop {
            let found = map.lookup(&self.core.pages, BlockIndex(from), BlockIndex(u64::MAX), STEP).await;
            let extents = match found {
                Ok(extents) => extents,
                Err(error) => {
                    let what = format!("{dot}.{name}: data from block {from} on cannot be found: {error}");
                    self.find(true, what);
                    break;
                }
            };
            let Some(last) = extents.last() else { break };
            let next = last.block.0 + last.count;
            for extent in &extents {
                self.extent(dot, name, extent, &mut compressed, data).await;
            }
            progress((next.min(blocks) - from.min(blocks)) * BLOCK);
            from = next;
        }
        let mut pages = Vec::new();
        let walked = map.tree().pages_in_use(&self.core.pages, &mut |page| pages.push(page)).await;
        self.note_pages(pages, walked, &format!("{dot}.{name}"));
    }

    async fn extent(
        &mut self,
        dot: &str,
        name: &str,
        extent: &Extent,
        compressed: &mut BTreeSet<LogAddress>,
        data: bool,
    ) {
        self.report.extents += 1;
        let Content::Data { address, encoding, stored_blocks, .. } = &extent.content else { return };
        let (first, count) = match encoding {
            Encoding::Raw => (*address, extent.count as u32),
            Encoding::Lz4 if compressed.insert(*address) => (*address, u32::from(*stored_blocks)),
            Encoding::Lz4 => return,
        };
        let segment_blocks = self.core.disk.geometry().segment_blocks;
        if self.core.segments.locate(first.segment()).is_none() || first.block() + count > segment_blocks {
            let what = format!(
                "{dot}.{name}: blocks {} to {} lie in segment {}, which no slot holds",
                extent.block,
                extent.block.0 + extent.count - 1,
                first.segment()
            );
            self.find(true, what);
            return;
        }
        let bits = self.live.entry(first.segment()).or_insert_with(|| LiveBits::empty(segment_blocks));
        let mut twice = None;
        for block in first.block()..first.block() + count {
            if bits.put(block, true) {
                twice = Some(block);
            }
        }
        self.report.live_blocks += u64::from(count);
        if let Some(block) = twice {
            self.find(
                true,
                format!("block {block} of segment {} is shown twice, once by {dot}.{name}", first.segment()),
            );
        }
        if data {
            self.verify(dot, name, extent).await;
        }
    }

    async fn verify(&mut self, dot: &str, name: &str, extent: &Extent) {
        let state = self.core.catalog.borrow().volume(dot, name).map(|v| std::rc::Rc::clone(&v.state));
        let Some(state) = state else { return };
        let (from, to) = (extent.block.0, extent.block.0 + extent.count);
        let mut lost: Vec<(u64, u64, String)> = Vec::new();
        if self.core.read_blocks(&state.line, from, to).await.is_err() {
            // Which blocks of it: raw data is read and verified block by block.
            for block in from..to {
                if let Err(error) = self.core.read_blocks(&state.line, block, block + 1).await {
                    match lost.last_mut() {
                        Some((_, end, _)) if *end == block => *end += 1,
                        _ => lost.push((block, block + 1, error.to_string())),
                    }
                }
            }
        }
        self.report.data_bytes_verified += (to - from) * BLOCK;
        for (from, to, error) in lost {
            self.report.data_bytes_verified -= (to - from) * BLOCK;
            self.find(true, format!("{dot}.{name}: bytes {} to {} are lost: {error}", from * BLOCK, to * BLOCK - 1));
        }
    }

    /// The table's bits must be exactly those that the maps show.
    async fn liveness(&mut self) {
        let stored = match self.core.segments.all_live(&self.core.pages).await {
            Ok(stored) => stored,
            Err(error) => return self.find(true, format!("the liveness of segments cannot be read: {error}")),
        };
        let segments: BTreeSet<SegmentId> = stored.keys().chain(self.live.keys()).copied().collect();
        let none = LiveBits::empty(self.core.disk.geometry().segment_blocks);
        for id in segments {
            let (shown, kept) = (self.live.get(&id).unwrap_or(&none), stored.get(&id).unwrap_or(&none));
            if shown == kept {
                continue;
            }
            let shown: BTreeSet<u32> = shown.blocks().collect();
            let kept: BTreeSet<u32> = kept.blocks().collect();
            let freed = shown.difference(&kept).count();
            let leaked = kept.difference(&shown).count();
            if freed > 0 {
                self.find(true, format!("segment {id}: {freed} blocks count as free and a volume shows them"));
            }
            if leaked > 0 {
                self.find(false, format!("segment {id}: {leaked} blocks count as live and nothing shows them"));
            }
        }
    }

    /// The allocator's pages must be exactly those that the trees and the retained blobs use.
    async fn trees(&mut self) {
        let trees = [
            (self.core.catalog_tree.borrow().clone(), "the catalog"),
            (self.core.segments.tree(), "the segment table"),
        ];
        for (tree, whose) in trees {
            let mut pages = Vec::new();
            let walked = tree.pages_in_use(&self.core.pages, &mut |page| pages.push(page)).await;
            self.note_pages(pages, walked, whose);
        }
        let newest = self.core.newest.get();
        for page in 0..newest.blob_bytes.div_ceil(BLOCK) {
            self.pages.insert(PageIndex(newest.blob_page.0 + page));
        }
        self.report.pages = self.pages.len() as u64;
        let used: BTreeSet<PageIndex> = self.core.pages.used_page_list().into_iter().collect();
        let free = self.pages.difference(&used).count();
        let leaked = used.difference(&self.pages).count();
        if free > 0 {
            self.find(true, format!("{free} pages count as free and a tree uses them"));
        }
        if leaked > 0 {
            self.find(false, format!("{leaked} pages count as used and no tree uses them"));
        }
    }

    fn note_pages(&mut self, pages: Vec<PageIndex>, walked: Result<(), PageError>, whose: &str) {
        if let Err(error) = walked {
            self.find(true, format!("{whose}: part of its tree cannot be read: {error}"));
        }
        for page in pages {
            if !self.pages.insert(page) {
                self.find(true, format!("page {page} is used twice, once by {whose}"));
            }
        }
    }

    fn find(&mut self, damage: bool, what: String) {
        self.report.findings.push(Finding { damage, what });
    }
}
