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
use crate::versions::tree::VersionLife;
use crate::versions::{FrozenView, Source};

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
        let mut check = Check {
            core,
            report: CheckReport::default(),
            live: BTreeMap::new(),
            may_live: BTreeMap::new(),
            verified: BTreeMap::new(),
            pages: BTreeSet::new(),
        };
        for root in core.roots() {
            check.root(&root, data, progress).await;
        }
        for what in core.versions.tree().check() {
            check.find(true, what);
        }
        check.liveness().await;
        check.trees().await;
        Ok(check.report)
    }
}

/// A map that the store keeps, and what it says about liveness.
struct Root {
    name: String,
    source: Source,
    /// Bytes; None for what nobody can read any more.
    size: Option<u64>,
    /// What begins below this block was given back, whatever the map says.
    from: u64,
    /// Some of what it shows may have been given back.
    thinned: bool,
}

impl Core {
    /// Volumes first, then versions.
    fn roots(&self) -> Vec<Root> {
        let catalog = self.catalog.borrow();
        let mut roots = Vec::new();
        for (dot_name, dot) in &catalog.dots {
            for (name, volume) in &dot.volumes {
                let (source, size) = (volume.state.source.clone(), Some(volume.state.size.get()));
                roots.push(Root { name: format!("{dot_name}.{name}"), source, size, from: 0, thinned: false });
            }
        }
        for id in self.versions.ids() {
            let (Some(version), Some(life)) = (self.versions.get(id), self.versions.tree().get(id).map(|v| v.life))
            else {
                continue;
            };
            let (from, thinned) = match life {
                VersionLife::Visible => (0, false),
                VersionLife::Hidden { thinned } => (0, thinned),
                VersionLife::Deleting { cursor, thinned } => (cursor, thinned),
            };
            let name = match catalog.snapshots.get(&version.snapshot) {
                Some(snapshot) => format!("{}.{}@{}", catalog.dot_name(snapshot.dot), version.name, snapshot.name),
                None => format!("version {id}, once volume {},", version.name),
            };
            let size = (life == VersionLife::Visible).then_some(version.size);
            roots.push(Root { name, source: Source::Frozen(FrozenView::folded(version.map)), size, from, thinned });
        }
        roots
    }
}

struct Check<'a> {
    core: &'a Core,
    report: CheckReport,
    /// Blocks that a map shows.
    live: BTreeMap<SegmentId, LiveBits>,
    /// Blocks that only maps show of which some were given back.
    may_live: BTreeMap<SegmentId, LiveBits>,
    /// Blocks whose content was read, with `data`.
    verified: BTreeMap<SegmentId, LiveBits>,
    pages: BTreeSet<PageIndex>,
}

impl Check<'_> {
    async fn root(&mut self, root: &Root, data: bool, progress: &mut dyn FnMut(u64)) {
        if matches!(root.source, Source::Head(_)) {
            self.report.volumes += 1;
        }
        let (_, _, map) = root.source.look(0, 0);
        let blocks = root.size.map_or(0, |size| size.div_ceil(BLOCK));
        let mut from = 0;
        let mut compressed = BTreeSet::new();
        // Within one map no block is shown twice. Two maps may rightly show the same.
        let mut shown = BTreeMap::new();
        loop {
            let found = map.lookup(&self.core.pages, BlockIndex(from), BlockIndex(u64::MAX), STEP).await;
            let extents = match found {
                Ok(extents) => extents,
                Err(error) => {
                    let what = format!("{}: data from block {from} on cannot be found: {error}", root.name);
                    self.find(true, what);
                    break;
                }
            };
            let Some(last) = extents.last() else { break };
            let next = last.block.0 + last.count;
            for extent in &extents {
                self.extent(root, extent, &mut compressed, &mut shown, data).await;
            }
            progress((next.min(blocks) - from.min(blocks)) * BLOCK);
            from = next;
        }
        let tree = map.tree();
        let mut pages = Vec::new();
        let walked = tree.pages_in_use(&self.core.pages, &mut |page| pages.push(page)).await;
        // Versions share pages.
        self.pages.extend(pages);
        self.note_walk(walked, &root.name);
    }

    async fn extent(
        &mut self,
        root: &Root,
        extent: &Extent,
        compressed: &mut BTreeSet<LogAddress>,
        shown: &mut BTreeMap<SegmentId, LiveBits>,
        data: bool,
    ) {
        self.report.extents += 1;
        let Content::Data { address, encoding, offset, stored_blocks, .. } = &extent.content else { return };
        let (first, start, count) = match encoding {
            Encoding::Raw => {
                // Blocks below the cursor of a sweep were judged one by one.
                let gone = root.from.saturating_sub(extent.block.0).min(extent.count) as u32;
                (address.next(gone), extent.block.0 + u64::from(gone), extent.count as u32 - gone)
            }
            Encoding::Lz4 if compressed.insert(*address) => {
                (*address, extent.block.0 - u64::from(*offset), u32::from(*stored_blocks))
            }
            Encoding::Lz4 => return,
        };
        if count == 0 || start < root.from {
            return;
        }
        let segment_blocks = self.core.disk.geometry().segment_blocks;
        if !self.core.segments.lists(first.segment()) || first.block() + count > segment_blocks {
            if root.thinned {
                return;
            }
            let what = format!(
                "{}: blocks {} to {} lie in segment {}, which no slot holds",
                root.name,
                extent.block,
                extent.block.0 + extent.count - 1,
                first.segment()
            );
            self.find(true, what);
            return;
        }
        if let Some(block) = put_all(shown, first, count, segment_blocks).1 {
            let what = format!("block {block} of segment {} is shown twice by {}", first.segment(), root.name);
            self.find(true, what);
        }
        if root.thinned {
            put_all(&mut self.may_live, first, count, segment_blocks);
            return;
        }
        self.report.live_blocks += u64::from(put_all(&mut self.live, first, count, segment_blocks).0);
        if data && root.size.is_some() && put_all(&mut self.verified, first, count, segment_blocks).0 > 0 {
            self.verify(root, extent).await;
        }
    }

    async fn verify(&mut self, root: &Root, extent: &Extent) {
        let (from, to) = (extent.block.0, extent.block.0 + extent.count);
        let mut lost: Vec<(u64, u64, String)> = Vec::new();
        if self.core.read_blocks(&root.source, from, to).await.is_err() {
            // Which blocks of it: raw data is read and verified block by block.
            for block in from..to {
                if let Err(error) = self.core.read_blocks(&root.source, block, block + 1).await {
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
            self.find(true, format!("{}: bytes {} to {} are lost: {error}", root.name, from * BLOCK, to * BLOCK - 1));
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
            let may: BTreeSet<u32> = self.may_live.get(&id).unwrap_or(&none).blocks().collect();
            let leaked = kept.difference(&shown).filter(|block| !may.contains(block)).count();
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
            (self.core.catalog_mirror.borrow().clone(), "the second catalog"),
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

    fn note_walk(&mut self, walked: Result<(), PageError>, whose: &str) {
        if let Err(error) = walked {
            self.find(true, format!("{whose}: part of its tree cannot be read: {error}"));
        }
    }

    /// Pages of a tree that shares none with others.
    fn note_pages(&mut self, pages: Vec<PageIndex>, walked: Result<(), PageError>, whose: &str) {
        self.note_walk(walked, whose);
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

/// Sets the bits of a run. Returns how many were not set before, and one that was.
fn put_all(
    bits: &mut BTreeMap<SegmentId, LiveBits>,
    first: LogAddress,
    count: u32,
    segment_blocks: u32,
) -> (u32, Option<u32>) {
    let bits = bits.entry(first.segment()).or_insert_with(|| LiveBits::empty(segment_blocks));
    let mut again = None;
    let mut fresh = 0;
    for block in first.block()..first.block() + count {
        if bits.put(block, true) {
            again = Some(block);
        } else {
            fresh += 1;
        }
    }
    (fresh, again)
}
