//! A store of a dozen blocks: maps and pages as simple as can be, around the real tree and the real judgement of what is dead.
//!
//! A map is twelve cells. Its pages are four leaves of three cells, two branches, a root; a page that a merge touches is in
//! memory until the next cut or checkpoint gives it a place. What was published waits for the fold; a crash goes back to the
//! last checkpoint and folds the log above it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LineId, LogAddress, VersionId};

use crate::map::{Content, Extent};
use crate::versions::sweep::dead_of;
use crate::versions::tree::{NodeId, VersionLife, VersionTree};

pub(super) const BLOCKS: u64 = 12;

/// A rule that the store breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// A head frees whatever it overwrites.
    FreeShared,
    /// A sweep frees what the parent shows.
    IgnoreParent,
    /// A sweep frees what the child shows.
    IgnoreChild,
    /// A branching point goes at once.
    NoHiding,
    /// A difference leaves holes out.
    HoleWithoutBirth,
    /// The child of a version in deletion goes on from its grandparent at once.
    EarlyReparent,
    /// A sweep compares with the child as it was when the sweep began.
    SweptChild,
    /// A merge judges a compressed extent by the piece it displaced.
    KeyInsteadOfStart,
    /// Pages below the cursor are taken for the child's.
    PageFloorByCursor,
    /// A thinned version does not say so.
    ThinnedNotFlagged,
    /// Thinning asks one child only.
    ThinnedByOneChild,
    /// Cuts are applied when the round's merges are through.
    CutsAfterMerges,
    /// A sweep forgets pages that only the swept version held.
    PagesForgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Raw(LogAddress),
    Lz4 { address: LogAddress, start: u64, blocks: u64 },
    Hole(LogAddress),
}

pub(super) type Cells = BTreeMap<u64, Cell>;

/// A place in the tree of pages: level, index.
type Place = (u8, u64);

#[derive(Clone, Debug, Default)]
pub(super) struct ToyMap {
    pub cells: Cells,
    /// None: changed, and without a page. The other half is the page's birth.
    pages: BTreeMap<Place, Option<(u64, LogAddress)>>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Write {
        line: LineId,
        cells: Vec<(u64, Cell)>,
    },
    NewHead {
        line: LineId,
        from: Option<VersionId>,
    },
    /// Line, the version that it becomes, and whether it ends.
    Freeze {
        line: LineId,
        id: VersionId,
        ends: bool,
    },
    Delete {
        id: VersionId,
    },
}

/// What a crash keeps as of the last checkpoint.
#[derive(Clone, Default)]
pub(super) struct Folded {
    pub tree: VersionTree,
    pub maps: BTreeMap<NodeId, ToyMap>,
    pub live: BTreeSet<LogAddress>,
    pub pages: BTreeSet<u64>,
    next_page: u64,
    /// The child when the sweep began.
    child_then: Cells,
}

#[derive(Clone)]
pub(super) struct Toy {
    pub wrong: Wrong,
    pub folded: Folded,
    log: VecDeque<(LogAddress, Op)>,
    checkpoint: (Folded, Vec<(LogAddress, Op)>),
}

impl Cell {
    /// Where it is judged, if it is data.
    fn data(self, block: u64) -> Option<(LogAddress, u64)> {
        match self {
            Cell::Raw(address) => Some((address, block)),
            Cell::Lz4 { address, start, .. } => Some((address, start)),
            Cell::Hole(_) => None,
        }
    }

    pub(super) fn address(self) -> LogAddress {
        match self {
            Cell::Raw(address) | Cell::Lz4 { address, .. } | Cell::Hole(address) => address,
        }
    }
}

pub(super) fn data_of(cells: &Cells) -> impl Iterator<Item = (LogAddress, u64)> + '_ {
    cells.iter().filter_map(|(block, cell)| cell.data(*block))
}

fn extents(cells: &Cells) -> Vec<Extent> {
    let content = |block: u64, cell: Cell| {
        let (address, encoding, offset, extent_blocks) = match cell {
            Cell::Raw(address) => (address, Encoding::Raw, 0, 1),
            Cell::Lz4 { address, start, blocks } => (address, Encoding::Lz4, (block - start) as u8, blocks as u8),
            Cell::Hole(address) => return Content::Hole { address },
        };
        Content::Data { address, encoding, offset, extent_blocks, stored_blocks: 1, checksums: [0][..].into() }
    };
    let extent =
        |(block, cell): (&u64, &Cell)| Extent { block: BlockIndex(*block), count: 1, content: content(*block, *cell) };
    cells.iter().map(extent).collect()
}

impl ToyMap {
    fn clean(&self) -> bool {
        self.pages.values().all(Option::is_some)
    }

    pub(super) fn page_set(&self) -> BTreeSet<u64> {
        self.pages.values().flatten().map(|(page, _)| *page).collect()
    }
}

impl Toy {
    pub(super) fn new(wrong: Wrong) -> Toy {
        let checkpoint = (Folded::default(), Vec::new());
        Toy { wrong, folded: Folded::default(), log: VecDeque::new(), checkpoint }
    }

    pub(super) fn publish(&mut self, at: LogAddress, op: Op) {
        self.log.push_back((at, op));
    }

    pub(super) fn fold(&mut self) -> Result<(), String> {
        let mut round: Vec<_> = self.log.drain(..).collect();
        self.checkpoint.1.extend(round.iter().cloned());
        if self.wrong == Wrong::CutsAfterMerges {
            let known = |line: &LineId| self.folded.maps.contains_key(&NodeId::Head(*line));
            round.sort_by_key(|(_, op)| !matches!(op, Op::Write { line, .. } if known(line)));
        }
        round.into_iter().try_for_each(|(at, op)| self.apply(at, op))
    }

    pub(super) fn checkpoint(&mut self, at: LogAddress) -> Result<(), String> {
        self.fold()?;
        let heads: Vec<NodeId> = self.folded.tree.heads().map(|(line, _)| NodeId::Head(line)).collect();
        heads.into_iter().for_each(|head| self.write_out(head, at));
        self.checkpoint = (self.folded.clone(), Vec::new());
        Ok(())
    }

    /// What the last checkpoint stored, and the log above it.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        let (stored, log) = self.checkpoint.clone();
        let tree = &stored.tree;
        let versions = tree.frozen().map(|(id, v)| (id, v.parent, v.position, v.life));
        let tree = VersionTree::load(versions, tree.heads())?;
        self.folded = Folded { tree, ..stored };
        self.checkpoint.1.clear();
        self.log = log.into_iter().chain(self.log.drain(..)).collect();
        self.fold()
    }

    fn write_out(&mut self, node: NodeId, birth: LogAddress) {
        let folded = &mut self.folded;
        let Some(map) = folded.maps.get_mut(&node) else { return };
        for page in map.pages.values_mut().filter(|page| page.is_none()) {
            folded.next_page += 1;
            folded.pages.insert(folded.next_page);
            *page = Some((folded.next_page, birth));
        }
    }

    fn apply(&mut self, at: LogAddress, op: Op) -> Result<(), String> {
        match op {
            Op::Write { line, cells } => {
                if self.folded.maps.contains_key(&NodeId::Head(line)) {
                    self.merge(line, &cells)?;
                }
            }
            Op::NewHead { line, from } => {
                let map = from.map(|from| self.folded.maps[&NodeId::Frozen(from)].clone()).unwrap_or_default();
                self.folded.tree.new_head(line, from);
                self.folded.maps.insert(NodeId::Head(line), map);
            }
            Op::Freeze { line, id, ends } => {
                let head = NodeId::Head(line);
                self.write_out(head, at);
                let map = self.folded.maps[&head].clone();
                if !map.clean() {
                    return Err(format!("version {id} shares pages that have no place"));
                }
                self.folded.maps.insert(NodeId::Frozen(id), map);
                if ends {
                    self.folded.tree.freeze_head(line, id, at);
                    self.folded.maps.remove(&head);
                } else {
                    self.folded.tree.snapshot(line, id, at);
                }
            }
            Op::Delete { id } => {
                let children: Vec<NodeId> = self.folded.tree.children(id).collect();
                if self.wrong == Wrong::NoHiding && children.len() > 1 {
                    let cells = self.folded.maps[&NodeId::Frozen(id)].cells.clone();
                    self.free_dead(id, &cells, &self.folded.maps[&children[0]].cells.clone(), (0, u64::MAX), false)?;
                }
                self.folded.tree.delete(id);
            }
        }
        Ok(())
    }

    fn merge(&mut self, line: LineId, new: &[(u64, Cell)]) -> Result<(), String> {
        let head = NodeId::Head(line);
        let page_floor = |block| match self.wrong {
            Wrong::PageFloorByCursor => {
                Some(self.folded.tree.entry_floor(head, block)).filter(|floor| !floor.is_none())
            }
            _ => self.folded.tree.page_floor(head),
        };
        let floors: Vec<_> = new.iter().map(|(block, _)| page_floor(*block)).collect();
        let map = self.folded.maps.get_mut(&head).expect("asked before");
        let mut displaced = Vec::new();
        let mut released = Vec::new();
        for ((block, cell), floor) in new.iter().zip(floors) {
            displaced.extend(map.cells.insert(*block, *cell).and_then(|old| Some((*block, old.data(*block)?))));
            for place in [(0, block / 3), (1, block / 6), (2, 0)] {
                if let Some(Some((page, birth))) = map.pages.insert(place, None)
                    && floor.is_none_or(|floor| birth > floor)
                {
                    released.push(page);
                }
            }
        }
        let left: BTreeSet<LogAddress> = data_of(&map.cells).map(|(address, _)| address).collect();
        for (address, _) in new.iter().filter_map(|(block, cell)| cell.data(*block)) {
            self.folded.live.insert(address);
        }
        let mut dead = BTreeMap::new();
        for (block, (address, start)) in displaced {
            if !left.contains(&address) {
                dead.insert(address, if self.wrong == Wrong::KeyInsteadOfStart { block } else { start });
            }
        }
        for (address, start) in dead {
            if address > self.merge_floor(head, start) {
                self.clear(address, false)?;
            }
        }
        released.into_iter().try_for_each(|page| self.release(page))
    }

    fn merge_floor(&self, head: NodeId, start: u64) -> LogAddress {
        let tree = &self.folded.tree;
        match (self.wrong, tree.parent(head).filter(|parent| tree.active() == Some(*parent))) {
            (Wrong::FreeShared, _) => LogAddress::NONE,
            (Wrong::EarlyReparent, Some(parent)) => tree.entry_floor(NodeId::Frozen(parent), start),
            _ => tree.entry_floor(head, start),
        }
    }

    /// Sweeps what starts in the next `blocks` blocks of the version whose turn it is.
    pub(super) fn sweep(&mut self, blocks: u64) -> Result<bool, String> {
        let tree = &mut self.folded.tree;
        let Some(id) = tree.active().or_else(|| tree.begin_sweep()) else { return Ok(false) };
        let child = tree.only_child(id);
        let life = tree.get(id).expect("active").life;
        let VersionLife::Deleting { cursor, thinned } = life else { return Err(format!("{life:?} is swept")) };
        let to = if cursor + blocks >= BLOCKS { u64::MAX } else { cursor + blocks };
        let theirs = child.map(|child| self.folded.maps[&child].cells.clone()).unwrap_or_default();
        if cursor == 0 {
            self.folded.child_then = theirs.clone();
        }
        let theirs = match self.wrong {
            Wrong::SweptChild => self.folded.child_then.clone(),
            Wrong::IgnoreChild => Cells::new(),
            _ => theirs,
        };
        let cells = self.folded.maps[&NodeId::Frozen(id)].cells.clone();
        self.free_dead(id, &cells, &theirs, (cursor, to), thinned)?;
        self.folded.tree.set_cursor(id, to);
        if to == u64::MAX {
            self.end_sweep(id, child)?;
        }
        Ok(true)
    }

    fn free_dead(
        &mut self,
        id: VersionId,
        cells: &Cells,
        theirs: &Cells,
        range: (u64, u64),
        thinned: bool,
    ) -> Result<(), String> {
        let floor = |start| match self.wrong {
            Wrong::IgnoreParent => LogAddress::NONE,
            _ => self.folded.tree.entry_floor(NodeId::Frozen(id), start),
        };
        let dead = dead_of(&extents(cells), &extents(theirs), range, floor);
        let blocks = dead.into_iter().flat_map(|(first, count)| (0..count).map(move |i| first.next(i)));
        blocks.collect::<Vec<_>>().into_iter().try_for_each(|address| self.clear(address, thinned))
    }

    fn end_sweep(&mut self, id: VersionId, child: Option<NodeId>) -> Result<(), String> {
        let floor = self.folded.tree.page_floor(NodeId::Frozen(id));
        let theirs = child.map(|child| self.folded.maps[&child].page_set()).unwrap_or_default();
        let gone = self.folded.maps.remove(&NodeId::Frozen(id)).expect("swept");
        for (page, birth) in gone.pages.values().flatten() {
            let own = floor.is_none_or(|floor| *birth > floor) && !theirs.contains(page);
            if own && self.wrong != Wrong::PagesForgotten {
                self.release(*page)?;
            }
        }
        self.folded.tree.finish_sweep(id);
        Ok(())
    }

    /// Gives back what a hidden version alone shows.
    pub(super) fn thin(&mut self, id: VersionId) -> Result<(), String> {
        let tree = &mut self.folded.tree;
        if tree.active().is_some() {
            return Ok(());
        }
        if self.wrong != Wrong::ThinnedNotFlagged {
            tree.set_thinned(id);
        }
        let mut left = self.folded.maps[&NodeId::Frozen(id)].cells.clone();
        let children: Vec<NodeId> = self.folded.tree.children(id).collect();
        let asked = if self.wrong == Wrong::ThinnedByOneChild { 1 } else { children.len() };
        for child in &children[..asked] {
            let theirs: BTreeSet<_> = data_of(&self.folded.maps[child].cells).collect();
            left.retain(|block, cell| cell.data(*block).is_none_or(|data| !theirs.contains(&data)));
        }
        self.free_dead(id, &left, &Cells::new(), (0, u64::MAX), true)
    }

    fn clear(&mut self, address: LogAddress, if_set: bool) -> Result<(), String> {
        if !self.folded.live.remove(&address) && !if_set {
            return Err(format!("{address} is freed twice"));
        }
        Ok(())
    }

    fn release(&mut self, page: u64) -> Result<(), String> {
        if !self.folded.pages.remove(&page) {
            return Err(format!("page {page} is released twice"));
        }
        Ok(())
    }
}
