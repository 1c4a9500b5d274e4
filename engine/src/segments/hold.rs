//! The segment table as of one moment, for who compares it with the maps of that moment while the store goes on.

use std::collections::{BTreeMap, BTreeSet};

use treering_format::checkpoint::Slot;
use treering_format::container::ContainerPiece;
use treering_format::units::{ContainerId, LogAddress, SegmentId};

use super::bits::{self, Held, Piece};
use super::{LiveBits, Segments, Source};
use crate::map::{Tree, TreeKind, Visited};
use crate::pages::{PageError, PageSet, Pages};

pub(crate) struct FrozenSegments {
    pub tree: Tree,
    segment_blocks: u32,
    /// What the tree does not have yet.
    in_memory: BTreeMap<SegmentId, Held>,
    slots: Slots,
}

/// What has a slot, with the count of live blocks that need it if it is known.
struct Slots {
    segments: BTreeMap<SegmentId, Option<u32>>,
    containers: BTreeMap<ContainerId, Option<u32>>,
}

/// All of it, read.
pub(crate) struct Table {
    segment_blocks: u32,
    pub live: BTreeMap<SegmentId, LiveBits>,
    pieces: BTreeMap<SegmentId, Vec<Piece>>,
    /// Which parts the tree has, a bit for each.
    stored: BTreeMap<SegmentId, u8>,
    slots: Slots,
}

impl Segments {
    /// The caller has the fold's turn.
    pub(crate) fn frozen(&self) -> FrozenSegments {
        let state = self.0.borrow();
        let dirty = state.live.iter().filter(|(_, held)| held.dirty);
        let all = state.counted_to == u64::MAX;
        let segments = state.by_segment.iter().map(|(id, s)| (*id, (id.0 < state.counted_to).then_some(s.live)));
        let containers = state.containers.iter().map(|(id, container)| (*id, all.then_some(container.live)));
        FrozenSegments {
            tree: state.tree.clone(),
            segment_blocks: state.segment_blocks,
            in_memory: dirty.map(|(id, held)| (*id, held.clone())).collect(),
            slots: Slots { segments: segments.collect(), containers: containers.collect() },
        }
    }
}

impl Segments {
    /// Which blocks of a segment live, as of now.
    pub(crate) async fn live_bits(&self, pages: &Pages, id: SegmentId) -> Result<LiveBits, PageError> {
        Ok(self.look(pages, id).await?.bits)
    }

    /// All slots, in order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.0.borrow().slots.clone()
    }

    /// Takes these bits for what lives, and the table's pieces; `all`: and nothing else counts, whatever the tree says. For a
    /// repair, before anything is counted.
    pub(crate) fn correct(&self, live: BTreeMap<SegmentId, LiveBits>, table: &Table, all: bool) {
        let mut state = self.0.borrow_mut();
        if all {
            state.tree = Tree::empty(TreeKind::Liveness, 0);
            state.live.clear();
        }
        for (id, bits) in live {
            let pieces = table.pieces.get(&id).cloned().unwrap_or_default();
            let stored = if all { 0 } else { table.stored.get(&id).copied().unwrap_or(0) };
            state.live.insert(id, Held { bits, pieces, dirty: true, stored });
        }
        state.settled += 1;
        state.counted_to = 0;
        state.by_segment.values_mut().for_each(|segment| segment.live = 0);
        for container in state.containers.values_mut() {
            container.live = 0;
            container.pieces.clear();
        }
    }
}

impl FrozenSegments {
    /// Reads the liveness tree from disk, all of it. `seen` gets its pages, and the answer has what cannot be read.
    pub(crate) async fn read(self, pages: &Pages, seen: &mut PageSet) -> (Table, Vec<PageError>) {
        let FrozenSegments { tree, segment_blocks, in_memory, slots } = self;
        let mut all: BTreeMap<SegmentId, Held> = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut leaves = tree.leaves(true);
        loop {
            let visited = leaves.next(pages, &mut |reference| seen.insert(reference.page)).await;
            if visited.is_empty() {
                break;
            }
            for visited in visited {
                match visited {
                    Visited::Unreadable { error, .. } => wrong.push(error),
                    Visited::Leaf { page, .. } => {
                        for (key, value) in (0..page.len()).map(|index| (page.key(index), page.value(index))) {
                            let held = all.entry(bits::segment_of(key)).or_insert_with(|| Held::empty(segment_blocks));
                            wrong.extend(held.add(key, value, segment_blocks).err());
                        }
                    }
                }
            }
        }
        all.extend(in_memory);
        let (live, pieces, stored) = Default::default();
        let mut table = Table { segment_blocks, live, pieces, stored, slots };
        for (id, held) in all {
            table.stored.insert(id, held.stored);
            if !held.bits.is_empty() {
                table.live.insert(id, held.bits);
            }
            if !held.pieces.is_empty() {
                table.pieces.insert(id, held.pieces);
            }
        }
        (table, wrong)
    }
}

impl Table {
    /// Takes what containers say of themselves for the pieces that there are. For a repair that has lost the tree.
    pub(crate) fn take_directories(&mut self, containers: &[(ContainerId, ContainerPiece)]) {
        self.pieces.clear();
        for (container, piece) in containers {
            let mut placed = LiveBits::empty(self.segment_blocks);
            let blocks = piece.survivors.iter().flat_map(|s| s.first..s.first + u32::from(s.count));
            blocks.filter(|block| *block < self.segment_blocks).for_each(|block| {
                placed.put(block, true);
            });
            let (part, container, base) = (piece.part, *container, piece.base);
            let known = self.pieces.entry(piece.segment).or_default();
            if known.iter().all(|other| other.part != part && other.placed.and(&placed).is_empty()) {
                known.push(Piece { part, container, base, placed });
            }
        }
    }

    /// Whether stored blocks have a place.
    pub(crate) fn holds(&self, first: LogAddress, count: u32) -> bool {
        let end = u64::from(first.block()) + u64::from(count);
        let pieces = self.pieces.get(&first.segment()).map_or(&[][..], |pieces| pieces);
        let placed = |block| pieces.iter().any(|piece| self.has_slot(piece) && piece.placed.get(block));
        end <= u64::from(self.segment_blocks)
            && (self.slots.segments.contains_key(&first.segment()) || (first.block()..end as u32).all(placed))
    }

    /// Where a stored block lies: in its segment's slot, or in a container; and at which block there.
    pub(crate) fn place(&self, address: LogAddress) -> Option<(Source, u32)> {
        let (id, block) = (address.segment(), address.block());
        if self.slots.segments.contains_key(&id) {
            return Some((Source::Segment(id), block));
        }
        let holds = |piece: &&Piece| self.has_slot(piece) && piece.placed.get(block);
        let piece = self.pieces.get(&id)?.iter().find(holds)?;
        Some((Source::Container(piece.container), piece.base + piece.placed.rank(block)))
    }

    fn has_slot(&self, piece: &Piece) -> bool {
        self.slots.containers.contains_key(&piece.container)
    }

    /// What pieces, containers and slots say of each other that cannot all be true.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut used: BTreeMap<ContainerId, BTreeSet<u32>> = BTreeMap::new();
        let mut live: BTreeMap<ContainerId, u32> = BTreeMap::new();
        let none = LiveBits::empty(self.segment_blocks);
        for (id, pieces) in &self.pieces {
            let bits = self.live.get(id).unwrap_or(&none);
            for piece in pieces {
                let blocks = used.entry(piece.container).or_default();
                if (0..piece.placed.count()).any(|n| !blocks.insert(piece.base + n)) {
                    wrong.push(format!("part {} of segment {id} shares blocks of its container", piece.part));
                }
                let living = bits.and(&piece.placed).count();
                *live.entry(piece.container).or_default() += living;
                if living > 0 && !self.has_slot(piece) {
                    wrong.push(format!("part {} of segment {id} lies in a container without a slot", piece.part));
                }
            }
        }
        let segments: BTreeSet<SegmentId> = self.live.keys().chain(self.slots.segments.keys()).copied().collect();
        for id in segments {
            let pieces = self.pieces.get(&id).into_iter().flatten();
            let bits = self.live.get(&id).unwrap_or(&none).clone();
            let unplaced = pieces.fold(bits, |left, piece| left.minus(&piece.placed)).count();
            match self.slots.segments.get(&id) {
                None if unplaced > 0 => wrong.push(format!("{unplaced} live blocks of segment {id} lie in no slot")),
                Some(Some(counted)) if *counted != unplaced => {
                    wrong.push(format!("segment {id}: {counted} blocks are counted as live, {unplaced} are"))
                }
                _ => {}
            }
        }
        for (id, counted) in &self.slots.containers {
            let found = live.get(id).copied().unwrap_or(0);
            if counted.is_some_and(|counted| counted != found) {
                let counted = counted.unwrap_or_default();
                wrong.push(format!("container {id}: {counted} blocks are counted as live, {found} are"));
            }
        }
        wrong
    }
}
