//! What is damaged, and what will stand in its place: found out before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::container::ContainerPiece;
use treering_format::node::NodeRef;
use treering_format::record::Encoding;
use treering_format::units::{ContainerId, LogAddress, SegmentId};

use super::RepairReport;
use super::catalogs::catalogs;
use super::heirs::Doubts;
use super::homeless;
use super::rebuild::{Base, Claims, Lost, Path, Rebuilt, rebuild, within};
use super::scan::{Evidence, directories};
use crate::canary::{self, Canary};
use crate::check::{Root, Shown, stored_run, unreadable};
use crate::error::StoreError;
use crate::map::{Extent, Visited, extents_of};
use crate::pages::{Page, PageSet};
use crate::segments::{LiveBits, Table};
use crate::store::{Core, Salvage};
use crate::versions::tree::NodeId;

pub(super) struct Plan {
    pub maps: Vec<MapRepair>,
    /// Pages that trees refer to.
    pub pages: PageSet,
    /// What the table must say; None if it does.
    pub live: Option<BTreeMap<SegmentId, LiveBits>>,
    pub table: Table,
    /// Whether nothing of the old table can be used.
    pub table_lost: bool,
    pub mirror_lost: bool,
}

/// A map with lost parts, and with leaves that show what is lost.
pub(super) struct MapRepair {
    pub node: NodeId,
    pub lost_pages: PageSet,
    pub ranges: Vec<(u64, u64)>,
    pub extents: Vec<Extent>,
}

/// What of which root cannot be read.
type LostParts = (usize, Path, Vec<Lost>);

/// `salvage`: what is known where no checkpoint says what lives, and where.
pub(super) async fn survey(
    core: &Core,
    salvage: Option<&Salvage>,
    report: &mut RepairReport,
) -> Result<Plan, StoreError> {
    let mut pages = PageSet::default();
    let mirror_lost = catalogs(core, &mut pages, report).await;
    let mut own = PageSet::default();
    let (mut table, wrong) = core.segments.frozen().read(&core.pages, &mut own).await;
    let containers = match salvage {
        Some(salvage) => salvage.said.clone(),
        None => directories(core).await,
    };
    let table_is_known = wrong.is_empty() && salvage.is_none();
    if !table_is_known {
        table.take_directories(salvage.map_or(&containers, |salvage| &salvage.placed));
    }
    pages.join(&own);
    let roots = core.roots();
    let mut survey = Survey {
        core,
        table: &table,
        table_is_known,
        salvaged: salvage.is_some(),
        must: Shown::new(core.disk.geometry().segment_blocks),
        may: Shown::new(core.disk.geometry().segment_blocks),
        pages,
        lost_pages: PageSet::default(),
        homeless: Doubts::default(),
        homeless_blocks: 0,
        without_homeless: BTreeMap::new(),
        report,
    };
    for root in &roots {
        survey.count(root).await;
    }
    let rebuilt = survey.maps(&roots, &containers).await;
    let maps = survey.join_homeless(rebuilt);
    for error in wrong.iter().take(1) {
        survey.report.actions.push(format!("the liveness of segments is computed from the maps: {error}"));
    }
    let live = survey.liveness();
    survey.report.lost.extend(std::mem::take(&mut survey.homeless).named(core));
    let pages = survey.pages;
    Ok(Plan { maps, pages, live, table, table_lost: !table_is_known, mirror_lost })
}

struct Survey<'a> {
    core: &'a Core,
    table: &'a Table,
    table_is_known: bool,
    /// What a slot holds is known from its header alone.
    salvaged: bool,
    must: Shown,
    may: Shown,
    pages: PageSet,
    lost_pages: PageSet,
    /// What maps show and no slot has.
    homeless: Doubts,
    homeless_blocks: u64,
    /// The leaves that show it, as they will be.
    without_homeless: BTreeMap<NodeId, MapRepair>,
    report: &'a mut RepairReport,
}

impl Survey<'_> {
    /// What can be read of a map.
    async fn count(&mut self, root: &Root) {
        let mut leaves = root.map.tree().leaves(true);
        let mut seen = PageSet::default();
        loop {
            let pages = &mut self.pages;
            let mut enter = |reference: &NodeRef| {
                pages.insert(reference.page);
                seen.insert(reference.page)
            };
            let batch = leaves.next(&self.core.pages, &mut enter).await;
            if batch.is_empty() {
                return;
            }
            for visited in batch {
                match visited {
                    Visited::Leaf { page, high } => self.leaf(root, &page, high),
                    Visited::Unreadable { page, .. } => {
                        self.lost_pages.insert(page);
                    }
                }
            }
        }
    }

    fn leaf(&mut self, root: &Root, leaf: &Page, high: u64) {
        let homeless_before = self.homeless_blocks;
        let extents: Vec<Extent> = extents_of(leaf).flat_map(|extent| self.show(root, extent)).collect();
        if self.homeless_blocks > homeless_before {
            let repair = self.without_homeless.entry(root.node).or_insert_with(|| MapRepair::nothing_of(root.node));
            repair.replace_leaf(leaf.header().page, (leaf.key(0), high), extents);
        }
    }

    /// Counts what an extent shows, and gives what the map may say of its blocks: holes where no slot holds them.
    fn show(&mut self, root: &Root, extent: Extent) -> Vec<Extent> {
        let table = self.table;
        if root.thinned {
            self.put(root, &extent);
            return vec![extent];
        }
        let mut left = Vec::new();
        for (part, has_place) in homeless::parts(root.from, &extent, |first, count| table.holds(first, count)) {
            if has_place {
                self.put(root, &part);
                left.push(part);
                continue;
            }
            if let Some((first, ..)) = stored_run(root.from, &part) {
                let why = format!("segment {} lies in no slot", first.segment());
                self.homeless.add(root.node, (part.block.0, part.end().0), why);
            }
            self.homeless_blocks += part.count;
            left.push(if canary::is(Canary::LostStaysInMaps) { part } else { homeless::hole(&part) });
        }
        left
    }

    fn put(&mut self, root: &Root, extent: &Extent) {
        let Some((first, place, count)) = stored_run(root.from, extent) else { return };
        if first.block().checked_add(count).is_none_or(|end| end > self.core.disk.geometry().segment_blocks) {
            return;
        }
        let raw = extent.encoding() == Some(Encoding::Raw);
        let shown = if root.thinned { &mut self.may } else { &mut self.must };
        shown.put(first, count, place, raw);
    }

    /// Rebuilds what is lost of each map.
    async fn maps(&mut self, roots: &[Root], containers: &[(ContainerId, ContainerPiece)]) -> Vec<MapRepair> {
        let mut lost: Vec<LostParts> = Vec::new();
        for (index, root) in roots.iter().enumerate().filter(|_| self.lost_pages.len() > 0) {
            let parts = unreadable(self.core, root, &self.lost_pages).await;
            let part = |(low, high, page, error): (u64, u64, _, crate::pages::PageError)| Lost {
                low,
                high,
                page,
                why: error.to_string(),
            };
            let parts: Vec<Lost> = parts.into_iter().map(part).collect();
            if !parts.is_empty() {
                lost.push((index, self.path(root), parts));
            }
        }
        if lost.is_empty() {
            return Vec::new();
        }
        let wanted = |line, from: u64, to: u64| {
            lost.iter().any(|(_, path, parts)| {
                path.iter().any(|(l, _)| *l == line) && parts.iter().any(|part| part.low < to && from < part.high)
            })
        };
        let newest = self.core.newest.get();
        let evidence = Evidence::gather(self.core, &newest, containers, &wanted).await;
        let (table, table_is_known) = (self.table, self.table_is_known);
        let intact = match self.salvaged && !canary::is(Canary::HeadersBelieved) {
            true => Some(evidence.intact(self.core, table).await),
            false => None,
        };
        // Where the bits are lost, anything may live that has a slot; and what is known to be the newest does.
        let lives = |stored: LogAddress, is_known: bool| match &intact {
            _ if table_is_known => table.live.get(&stored.segment()).is_some_and(|bits| bits.get(stored.block())),
            None => is_known || table.holds(stored, 1),
            Some(intact) => {
                let shown = || self.must.shows(stored.segment(), stored.block());
                is_known || intact.contains(&stored) || shown() && table.holds(stored, 1)
            }
        };
        // A version is built on the one that it goes on from, so that one comes first.
        lost.sort_by_cached_key(|(index, ..)| (self.depth(roots[*index].node), *index));
        let mut claims = Claims::default();
        let mut rebuilt: Vec<Vec<Rebuilt>> = Vec::new();
        for (index, path, parts) in &lost {
            let mut each = Vec::new();
            for part in parts {
                let base = self.base(roots, *index, part, (&lost, &rebuilt)).await;
                let new = rebuild(&evidence, path, &base, part, &lives);
                claims.take(part.page, &new);
                each.push(new);
            }
            rebuilt.push(each);
        }
        // Who shows a block for sure is known before anything new is counted.
        let only_here = |address: LogAddress| {
            let shown = |by: &Shown| by.shows(address.segment(), address.block());
            table_is_known && claims.only_one(address) && !shown(&self.must) && !shown(&self.may)
        };
        let mut doubts = Doubts::default();
        for ((index, _, parts), each) in lost.iter().zip(&rebuilt) {
            for (part, new) in parts.iter().zip(each) {
                let ranges = new.doubtful(only_here).into_iter();
                ranges.for_each(|range| doubts.add(roots[*index].node, range, part.why.clone()));
            }
        }
        let mut maps = Vec::new();
        for ((index, _, parts), each) in lost.iter().zip(&rebuilt) {
            let root = &roots[*index];
            let mut repair = MapRepair {
                node: root.node,
                lost_pages: parts.iter().map(|part| part.page).collect(),
                ranges: parts.iter().map(|part| (part.low, part.high)).collect(),
                extents: Vec::new(),
            };
            for (part, new) in parts.iter().zip(each) {
                for extent in within(&new.extents, part.low, part.high) {
                    repair.extents.extend(self.show(root, extent));
                }
            }
            let blocks: u64 = repair.extents.iter().map(|extent| extent.count).sum();
            let what =
                format!("{}: {} parts of the map, {blocks} blocks, are taken from the log", root.name, parts.len());
            self.report.actions.push(what);
            maps.push(repair);
        }
        // Live blocks that nobody shows now may have stood anywhere that is not known from whole records; and so may, where it is
        // not known what lives, what records said that cannot be read, or whose slots are gone.
        let unshown = if table_is_known { self.unshown() } else { 0 };
        let unread = if table_is_known { 0 } else { evidence.unread };
        let why = match (unshown, unread) {
            (0, 0) if self.homeless_blocks == 0 => None,
            (0, 0) => Some("records that told of it were in slots that are gone".into()),
            (0, unread) => Some(format!("records in {unread} segments of the log cannot be read")),
            (unshown, _) => Some(format!("{unshown} stored blocks of which it is not known where they stood")),
        };
        let in_doubt = |(_, path, _): &&LostParts| {
            let limit = path.first().map_or(LogAddress::NONE, |(_, limit)| *limit);
            why.is_some() && evidence.known_from(limit) > LogAddress::NONE
        };
        for (index, _, parts) in lost.iter().filter(in_doubt) {
            let why = || why.clone().unwrap_or_default();
            parts.iter().for_each(|part| doubts.add(roots[*index].node, (part.low, part.high), why()));
        }
        self.report.doubtful.extend(doubts.named(self.core));
        maps
    }

    /// With the maps of which a leaf shows what no slot holds.
    fn join_homeless(&mut self, mut maps: Vec<MapRepair>) -> Vec<MapRepair> {
        if self.homeless_blocks > 0 {
            let blocks = self.homeless_blocks;
            self.report.actions.push(format!("{blocks} blocks that are lost, for no slot holds them, become holes"));
        }
        for (node, repair) in std::mem::take(&mut self.without_homeless) {
            match maps.iter_mut().find(|map| map.node == node) {
                Some(map) => map.join(repair),
                None => maps.push(repair),
            }
        }
        maps
    }

    /// How many versions a node goes on from.
    fn depth(&self, node: NodeId) -> usize {
        let tree = self.core.versions.tree();
        std::iter::successors(tree.parent(node), |id| tree.parent(NodeId::Frozen(*id))).count()
    }

    /// What a map shows of a lost part because the version does that it goes on from. Of that one, what was lost is rebuilt.
    async fn base(
        &self,
        roots: &[Root],
        index: usize,
        part: &Lost,
        (lost, rebuilt): (&[LostParts], &[Vec<Rebuilt>]),
    ) -> Base {
        let parent = {
            let tree = self.core.versions.tree();
            tree.parent(roots[index].node).and_then(|id| Some((id, tree.get(id)?.position)))
        };
        let Some((id, floor)) = parent else { return Base::default() };
        let mut base = Base { floor, ..Base::default() };
        let Some(root) = roots.iter().position(|root| root.node == NodeId::Frozen(id)) else { return base };
        let mut leaves = roots[root].map.tree().leaves(false);
        loop {
            let batch = leaves.next(&self.core.pages, &mut |_| true).await;
            if batch.is_empty() {
                break;
            }
            for visited in batch {
                if let Visited::Leaf { page, .. } = visited {
                    let extents: Vec<Extent> = extents_of(&page).collect();
                    base.extents.extend(within(&extents, part.low, part.high));
                }
            }
        }
        let before = lost.iter().zip(rebuilt).find(|((of, ..), _)| *of == root);
        for new in before.into_iter().flat_map(|(_, each)| each) {
            base.extents.extend(within(&new.extents, part.low, part.high));
            base.unsure.extend(new.unsure().iter().map(|(block, candidates)| (*block, candidates.clone())));
        }
        base
    }

    fn path(&self, root: &Root) -> Path {
        let (line, limit) = match root.node {
            NodeId::Head(line) => (line, self.core.newest.get().fold),
            NodeId::Frozen(id) => {
                let line = self.core.versions.get(id).map(|version| version.line).unwrap_or_default();
                (line, self.core.versions.tree().get(id).map_or(LogAddress::NONE, |version| version.position))
            }
        };
        self.core.versions.lines_of(line, limit)
    }

    /// Live blocks that nothing shows.
    fn unshown(&self) -> u64 {
        let shown = |id, block| self.must.shows(id, block) || self.may.shows(id, block);
        let of = |(id, bits): (&SegmentId, &LiveBits)| bits.blocks().filter(|block| !shown(*id, *block)).count() as u64;
        self.table.live.iter().map(of).sum()
    }

    /// The bits as the maps have them, if the table says anything else.
    fn liveness(&mut self) -> Option<BTreeMap<SegmentId, LiveBits>> {
        let (table, table_is_known) = (self.table, self.table_is_known);
        let segment_blocks = self.core.disk.geometry().segment_blocks;
        let none = LiveBits::empty(segment_blocks);
        let mut live = BTreeMap::new();
        let segments: BTreeSet<SegmentId> =
            self.must.segments().chain(self.may.segments()).chain(table.live.keys().copied()).collect();
        let (mut set, mut cleared) = (0u64, 0u64);
        for id in segments {
            let old = table.live.get(&id).unwrap_or(&none);
            let mut bits = LiveBits::empty(segment_blocks);
            for block in 0..segment_blocks {
                let known = old.get(block) || !table_is_known && table.holds(LogAddress::new(id, block), 1);
                let lives = self.must.shows(id, block) || self.may.shows(id, block) && known;
                bits.put(block, lives);
                set += u64::from(lives && !old.get(block));
                cleared += u64::from(!lives && old.get(block));
            }
            live.insert(id, bits);
        }
        if !table_is_known {
            return Some(live);
        }
        if set > 0 {
            self.report.actions.push(format!("{set} stored blocks that counted as free count as live"));
        }
        if cleared > 0 {
            self.report.actions.push(format!("{cleared} stored blocks that nothing shows are given back"));
        }
        (set + cleared > 0).then_some(live)
    }
}
