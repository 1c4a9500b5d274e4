//! What the store keeps beside the maps, held against what follows from them.

use std::collections::BTreeSet;

use treering_format::units::{PageIndex, SegmentId};

use super::ownership::Ownership;
use crate::disk::BLOCK;
use crate::map::{Tree, Visited};
use crate::pages::PageSet;
use crate::segments::{LiveBits, Table};
use crate::store::understand;
use treering_format::superblock::CheckpointRef;

/// Names of the catalog's trees.
const CATALOGS: [&str; 2] = ["the catalog", "the second catalog"];

impl Ownership<'_> {
    /// The table's bits must be exactly those that the maps show.
    pub(super) fn liveness(&mut self, table: &Table) {
        let segments: BTreeSet<SegmentId> = table.live.keys().copied().chain(self.must.segments()).collect();
        let segment_blocks = self.core.disk.geometry().segment_blocks;
        let none = LiveBits::empty(segment_blocks);
        for id in segments {
            let live = table.live.get(&id).unwrap_or(&none);
            let blocks = || 0..segment_blocks;
            let freed = blocks().filter(|block| self.must.shows(id, *block) && !live.get(*block)).count();
            let shown = |block| self.must.shows(id, block) || self.may.shows(id, block);
            let leaked = blocks().filter(|block| live.get(*block) && !shown(*block)).count();
            if freed > 0 {
                self.find(true, format!("segment {id}: {freed} blocks count as free and a volume shows them"));
            }
            // What cannot be read may show them.
            if leaked > 0 && self.unreadable.len() == 0 {
                self.find(false, format!("segment {id}: {leaked} blocks count as live and nothing shows them"));
            }
        }
    }

    /// Both trees of the catalog, from disk. They must say the same, and it must make sense.
    pub(super) async fn catalogs(&mut self, trees: &[Tree; 2]) {
        let mut said = Vec::new();
        for (tree, whose) in trees.iter().zip(CATALOGS) {
            let mut own = PageSet::default();
            let mut entries = Some(Vec::new());
            let mut leaves = tree.leaves(true);
            loop {
                let batch = leaves.next(&self.core.pages, &mut |reference| own.insert(reference.page)).await;
                if batch.is_empty() {
                    break;
                }
                for visited in batch {
                    match visited {
                        Visited::Leaf { page, .. } => {
                            let found = (0..page.len()).map(|index| (page.key(index), page.value(index).to_vec()));
                            entries.iter_mut().for_each(|entries| entries.extend(found.clone()));
                        }
                        Visited::Unreadable { error, .. } => {
                            entries = None;
                            self.find(true, format!("{whose}: part of its tree cannot be read: {error}"));
                        }
                    }
                }
            }
            self.take_pages(&own, whose);
            said.extend(entries);
        }
        if let [first, second] = &said[..]
            && first != second
        {
            self.find(true, "the catalog and its second tree do not say the same".into());
        }
        if let Some(entries) = said.into_iter().next()
            && let Err(what) = understand(entries)
        {
            self.find(true, format!("the catalog makes no sense: {what}"));
        }
    }

    /// Pages that nobody else may hold.
    pub(super) fn take_pages(&mut self, own: &PageSet, whose: &str) {
        let twice = own.len() - own.missing_in(&self.pages);
        if twice > 0 {
            self.find(true, format!("{twice} pages are used twice, once by {whose}"));
        }
        self.pages.join(own);
    }

    /// The allocator's pages must be exactly those that the trees and the newest checkpoint use.
    pub(super) fn pages(&mut self, used: &PageSet, newest: &CheckpointRef) {
        let blob = (0..newest.blob_bytes.div_ceil(BLOCK)).map(|page| PageIndex(newest.blob_page.0 + page));
        self.take_pages(&blob.collect(), "the newest checkpoint");
        self.report.pages = self.pages.len();
        let free = self.pages.missing_in(used);
        let leaked = used.missing_in(&self.pages);
        if free > 0 {
            self.find(true, format!("{free} pages count as free and a tree uses them"));
        }
        if leaked > 0 && self.unreadable.len() == 0 {
            self.find(false, format!("{leaked} pages count as used and no tree uses them"));
        }
    }
}
