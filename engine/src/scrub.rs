//! Scrub: everything that is stored is read from the disk and verified, at a given rate, while the store goes on.
//!
//! Data is found through the maps, which hold its checksums, and pages through their parents, which hold theirs. What the
//! disk does not give back as it was is named by who shows it and where. Nothing is kept from being freed meanwhile: each
//! step takes the root of the moment, and a page that is gone by the time it is read is no damage.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU64;
use std::rc::Rc;

use treering_format::node::NODE_BYTES;
use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, PageIndex};
use treering_io::Io;

use crate::disk::BLOCK;
use crate::error::Failure;
use crate::map::{Content, Extent, Tree};
use crate::store::{Core, Store};
use crate::versions::{Source, tree::NodeId, tree::VersionLife};
use crate::volume::Broken;

/// Leaves whose data is verified before the pace is looked at. A checkpoint may have to wait for it.
const LEAVES: usize = 1;
/// Pages that are read before the pace is looked at.
const PAGES_PER_STEP: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Stored data that verified.
    pub data_bytes: u64,
    /// Pages that verified.
    pub page_bytes: u64,
    pub damaged: Vec<Damaged>,
}

/// Something that cannot be read as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// `DOT.VOLUME` or `DOT.VOLUME@SNAPSHOT`, or a part of the store.
    pub name: String,
    /// First byte of the volume, and one past the last; None if they are not known.
    pub bytes: Option<(u64, u64)>,
    pub what: String,
}

impl Store {
    /// Reads and verifies everything. `progress` is told the bytes as they are read.
    pub async fn scrub(&self, rate: NonZeroU64, progress: &mut dyn FnMut(u64)) -> Result<ScrubReport, Rc<Failure>> {
        let core = &self.core;
        drop(core.folded().await?);
        let pace = Pace { io: core.disk.io().clone(), rate, begun: core.disk.io().now(), done: 0 };
        let nodes = names(core);
        let mut scrub =
            Scrub { core, nodes: &nodes, pace, progress, report: ScrubReport::default(), pages: HashSet::new() };
        for (node, name) in &nodes {
            scrub.data(*node, name).await;
            scrub.tree(name, || Some(core.versions.map(*node, &core.lines)?.tree())).await;
        }
        scrub.tree("the catalog", || Some(core.catalog_tree.borrow().clone())).await;
        scrub.tree("the second catalog", || Some(core.catalog_mirror.borrow().clone())).await;
        scrub.tree("the segment table", || Some(core.segments.tree())).await;
        Ok(scrub.report)
    }
}

/// Every head and every version, as people name them.
fn names(core: &Core) -> BTreeMap<NodeId, String> {
    let catalog = core.catalog.borrow();
    let mut names = BTreeMap::new();
    for (dot, found) in &catalog.dots {
        for (name, volume) in &found.volumes {
            if let Source::Head(line) = &volume.state.source {
                names.insert(NodeId::Head(line.id), format!("{dot}.{name}"));
            }
        }
    }
    for snapshot in catalog.snapshots.values() {
        let dot = catalog.dot_name(snapshot.dot);
        for member in &snapshot.members {
            names.insert(NodeId::Frozen(member.version), format!("{dot}.{}@{}", member.name, snapshot.name));
        }
    }
    for id in core.versions.ids() {
        let deleted = || {
            let name = core.versions.get(id).map(|version| version.name).unwrap_or_default();
            format!("a deleted version of a volume {name}")
        };
        names.entry(NodeId::Frozen(id)).or_insert_with(deleted);
    }
    names
}

/// Keeps to so many bytes a second.
struct Pace {
    io: Io,
    rate: NonZeroU64,
    begun: u64,
    done: u64,
}

impl Pace {
    async fn wait(&mut self, bytes: u64) {
        self.done += bytes;
        let due = u128::from(self.done) * 1_000_000_000 / u128::from(self.rate.get());
        let due = self.begun.saturating_add(u64::try_from(due).unwrap_or(u64::MAX));
        let wait = due.saturating_sub(self.io.now());
        self.io.sleep(std::time::Duration::from_nanos(wait)).await;
    }
}

struct Scrub<'a> {
    core: &'a Core,
    nodes: &'a BTreeMap<NodeId, String>,
    pace: Pace,
    progress: &'a mut dyn FnMut(u64),
    report: ScrubReport,
    /// Verified already, with the checksums their parents have: a page that was used again since is another one.
    pages: HashSet<(PageIndex, u32)>,
}

impl Scrub<'_> {
    /// Verifies what a head or a version shows and its parent does not. What both show is verified with the parent, so all is
    /// read once, however many versions there are.
    async fn data(&mut self, node: NodeId, name: &str) {
        let mut from = 0;
        while from < u64::MAX {
            let ticket = self.core.readers.enter();
            let Some(map) = self.core.versions.map(node, &self.core.lines) else { return };
            let floor = self.floor(node);
            // A page that cannot be read is named below, with all other pages.
            let pages = &self.core.pages;
            let Ok(born) = map.born_after(pages, floor, None, (from, u64::MAX), LEAVES).await else { return };
            from = born.next;
            let mut verified = 0;
            let mut compressed = HashSet::new();
            for extent in &born.extents {
                // Pieces of one compressed extent are stored once.
                match extent.content {
                    Content::Data { address, .. } if floor.is_some_and(|floor| address <= floor) => continue,
                    Content::Data { address, encoding: Encoding::Lz4, .. } if !compressed.insert(address) => continue,
                    _ => {}
                }
                for part in self.living(node, extent).await {
                    let (bytes, broken) = self.core.verify_stored(&part).await;
                    verified += bytes;
                    for broken in broken {
                        self.broken(node, name, broken).await;
                    }
                }
            }
            drop(ticket);
            self.report.data_bytes += verified;
            self.advance(verified).await;
        }
    }

    /// The parts of an extent that are stored. Of what a deleted version shows, some may have been given back.
    async fn living(&self, node: NodeId, extent: &Extent) -> Vec<Extent> {
        let whole = match node {
            NodeId::Head(_) => true,
            NodeId::Frozen(id) => self.core.versions.tree().get(id).is_some_and(|v| v.life == VersionLife::Visible),
        };
        let Content::Data { address, encoding, .. } = &extent.content else { return Vec::new() };
        if whole {
            return vec![extent.clone()];
        }
        // A page of the table that cannot be read is named with the table.
        let Ok(live) = self.core.segments.live_bits(&self.core.pages, address.segment()).await else {
            return Vec::new();
        };
        if *encoding == Encoding::Lz4 {
            return if live.get(address.block()) { vec![extent.clone()] } else { Vec::new() };
        }
        let lives = |block: &u64| live.get(address.next((block - extent.block.0) as u32).block());
        let blocks: Vec<u64> = (extent.block.0..extent.end().0).filter(lives).collect();
        let runs = blocks.chunk_by(|left, right| left + 1 == *right);
        runs.map(|run| extent.clip(BlockIndex(run[0]), BlockIndex(run[run.len() - 1] + 1))).collect()
    }

    /// The position of the parent: what is older is verified with that.
    fn floor(&self, node: NodeId) -> Option<LogAddress> {
        let tree = self.core.versions.tree();
        let known = match node {
            NodeId::Head(line) => tree.heads().any(|(head, _)| head == line),
            NodeId::Frozen(id) => tree.get(id).is_some(),
        };
        if known { tree.page_floor(node) } else { None }
    }

    /// Names a range that is damaged, here and wherever else it is shown.
    async fn broken(&mut self, node: NodeId, name: &str, broken: Broken) {
        let Broken { address, from, to, what } = broken;
        self.report.damaged.push(Damaged {
            name: name.into(),
            bytes: Some((from * BLOCK, to * BLOCK)),
            what: what.clone(),
        });
        for (other, name) in self.nodes.iter().filter(|(other, _)| **other != node) {
            let Some(map) = self.core.versions.map(*other, &self.core.lines) else { continue };
            let shown = map.lookup(&self.core.pages, BlockIndex(from), BlockIndex(to), usize::MAX).await;
            for extent in shown.unwrap_or_default() {
                let same = match extent.content {
                    Content::Data { address: here, encoding: Encoding::Raw, .. } => {
                        here == address.next((extent.block.0 - from) as u32)
                    }
                    Content::Data { address: here, encoding: Encoding::Lz4, .. } => here == address,
                    Content::Hole { .. } | Content::Zero { .. } => false,
                };
                if same {
                    let bytes = Some((extent.block.0 * BLOCK, extent.end().0 * BLOCK));
                    self.report.damaged.push(Damaged { name: name.clone(), bytes, what: what.clone() });
                }
            }
        }
    }

    /// Verifies every page of a tree, from the roots that `now` gives. What a page that cannot be read had below it cannot be
    /// found; it is read again from a newer root first, since it may have been given up and used again on the way.
    async fn tree(&mut self, name: &str, now: impl Fn() -> Option<Tree>) {
        let mut failed: HashSet<(PageIndex, u32)> = HashSet::new();
        for round in 0.. {
            let Some(tree) = now() else { return };
            // What verified is not read again, but for the way to what did not.
            let skip = |pages: &HashSet<_>, key: &(PageIndex, u32)| round == 0 && pages.contains(key);
            let mut open = tree.stored_roots();
            let mut failures = Vec::new();
            while !open.is_empty() {
                let batch = open.split_off(open.len().saturating_sub(PAGES_PER_STEP));
                let mut verified = 0;
                for reference in batch {
                    let key = (reference.page, reference.checksum);
                    if skip(&self.pages, &key) {
                        continue;
                    }
                    match self.core.pages.read_from_disk(tree.kind(), reference).await {
                        Ok(page) => {
                            self.pages.insert(key);
                            verified += NODE_BYTES as u64;
                            if reference.level > 0 {
                                open.extend((0..page.len()).map(|index| page.child(index)));
                            }
                        }
                        Err(error) => failures.push((key, error.to_string())),
                    }
                }
                self.report.page_bytes += verified;
                self.advance(verified).await;
            }
            let new = failures.iter().filter(|(key, _)| failed.insert(*key)).count();
            if new == 0 {
                for (_, what) in failures {
                    self.report.damaged.push(Damaged { name: name.into(), bytes: None, what });
                }
                return;
            }
        }
    }

    async fn advance(&mut self, bytes: u64) {
        (self.progress)(bytes);
        self.pace.wait(bytes).await;
    }
}
