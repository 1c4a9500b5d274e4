//! What lies in the slots, by what it says of itself.
//!
//! A header says what a slot was for when it was written. The slot may have been given up since, and somebody may have begun to
//! write over it: pages and segments from the front, a container with its header last. So a header is a hint, and bytes that are
//! needed are held against their checksums.

use std::collections::{BTreeMap, HashSet};

use treering_format::checkpoint::SlotState;
use treering_format::container::{ContainerHeader, ContainerPiece};
use treering_format::node::{Node, NodeRef, TreeKind};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::units::{ContainerId, LogAddress, PageIndex, SegmentId, SlotIndex, StoreId};

use crate::canary::{self, Canary};
use crate::disk::{BLOCK, Disk};
use crate::store::containers::{directory, is_whole, survivor_lies_at};

/// Blocks read at once.
const READ_BLOCKS: u32 = 256;

/// Where a page says what it is.
const PAGE_MAGIC: &[u8] = b"TRNODEPG";
const PAGE_KIND_AT: usize = 12;
const PAGE_LEVEL_AT: usize = 13;
const PAGE_BIRTH_AT: usize = 32;
const PAGE_NUMBER_AT: usize = 40;

#[derive(Default)]
pub(super) struct Ground {
    /// By their headers; nothing says of a page's slot that it is one.
    pub slots: Vec<SlotState>,
    /// The number of slot 0's first page.
    pub first_page: u64,
    /// What containers say that they hold.
    pub pieces: Vec<FoundPiece>,
    /// Segments of which a container holds what their slot no longer does.
    pub overwritten: HashSet<SegmentId>,
    catalog: Vec<CatalogPage>,
    /// Pages that a branch born when they were refers to, as they were then.
    referred: HashSet<NodeRef>,
    /// Level and birth of what was a page of the catalog, by its damaged header.
    ruined: Vec<(u8, LogAddress)>,
}

pub(super) struct FoundPiece {
    pub container: ContainerId,
    pub piece: ContainerPiece,
    /// All of it lies there.
    pub is_whole: bool,
}

/// A whole page of a catalog.
struct CatalogPage {
    reference: NodeRef,
    /// Its first and its last key.
    keys: (u64, u64),
}

/// Reads the whole store.
pub(super) async fn look(disk: &Disk, store: StoreId) -> Ground {
    let geometry = disk.geometry();
    let mut ground = Ground { first_page: geometry.data_start / BLOCK, ..Ground::default() };
    for slot in (0..geometry.slot_count).map(SlotIndex) {
        let mut first = Vec::new();
        let mut state = SlotState::Free;
        for from in (0..geometry.segment_blocks).step_by(READ_BLOCKS as usize) {
            let count = READ_BLOCKS.min(geometry.segment_blocks - from);
            for (at, block) in (from..).zip(read(disk, slot, from, count).await) {
                if at + 1 == geometry.segment_blocks {
                    state = state_by(&first, &block, slot, store);
                }
                let page = ground.first_page + slot.0 * u64::from(geometry.segment_blocks) + u64::from(at);
                ground.note(&block, PageIndex(page));
                if at == 0 {
                    first = block;
                }
            }
        }
        ground.slots.push(state);
    }
    ground.open_containers(disk, store).await;
    ground
}

/// Blocks one by one; an unreadable one is empty.
async fn read(disk: &Disk, slot: SlotIndex, from: u32, count: u32) -> Vec<Vec<u8>> {
    if let Ok(bytes) = disk.read(slot, from, u64::from(count)).await {
        return bytes.chunks_exact(BLOCK as usize).map(<[u8]>::to_vec).collect();
    }
    let mut blocks = Vec::new();
    for block in from..from + count {
        blocks.push(disk.read(slot, block, 1).await.map(|block| block.to_vec()).unwrap_or_default());
    }
    blocks
}

/// What a slot holds by its first block; or by its last one, if the first is lost and not something else.
fn state_by(first: &[u8], last: &[u8], slot: SlotIndex, store: StoreId) -> SlotState {
    if let Ok(header) = SegmentHeader::decode(first) {
        return if header.store_id == store && header.slot == slot {
            SlotState::Log(header.segment)
        } else {
            SlotState::Free
        };
    }
    if let Ok(header) = ContainerHeader::decode(first) {
        let ours = header.store_id == store && header.slot == slot;
        return if ours { SlotState::Container(header.container) } else { SlotState::Free };
    }
    let is_lost = first.iter().all(|byte| *byte == 0) || first.starts_with(b"TRSEGMNT");
    match SegmentFooter::decode_trailer(last) {
        Ok(footer) if is_lost && footer.store_id == store => SlotState::Log(footer.segment),
        _ => SlotState::Free,
    }
}

impl Ground {
    fn note(&mut self, block: &[u8], page: PageIndex) {
        if !block.starts_with(PAGE_MAGIC) {
            return;
        }
        let Ok(node) = Node::decode(block) else {
            let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
            if block[PAGE_KIND_AT] == CATALOG && word(PAGE_NUMBER_AT) == page.0 {
                self.ruined.push((block[PAGE_LEVEL_AT], LogAddress(word(PAGE_BIRTH_AT))));
            }
            return;
        };
        let header = node.header();
        if header.kind != TreeKind::Catalog || header.page != page || node.len() == 0 {
            return;
        }
        let children = (0..node.len()).filter(|_| header.level > 0).map(|index| node.child(index));
        self.referred.extend(children.filter(|child| child.birth == header.birth));
        let reference = NodeRef { page, checksum: node.checksum(), level: header.level, birth: header.birth };
        let keys = (node.key(0), node.key(node.len() - 1));
        self.catalog.push(CatalogPage { reference, keys });
    }

    /// Reads what containers say, and whether it is so; and of the segments they took from, whether the slot still has it.
    async fn open_containers(&mut self, disk: &Disk, store: StoreId) {
        let slots = || (0..).map(SlotIndex).zip(&self.slots);
        let segments = slots().filter_map(|(slot, state)| match state {
            SlotState::Log(id) => Some((*id, slot)),
            _ => None,
        });
        let segments: BTreeMap<SegmentId, SlotIndex> = segments.collect();
        let (mut found, mut overwritten) = (Vec::new(), HashSet::new());
        for (slot, state) in slots() {
            let SlotState::Container(container) = *state else { continue };
            for piece in directory(disk, store, slot, container).await.unwrap_or_default() {
                if let Some(from) = segments.get(&piece.segment)
                    && !canary::is(Canary::HeadersBelieved)
                    && moved_away(disk, (slot, *from), &piece).await
                {
                    overwritten.insert(piece.segment);
                }
                let is_whole = is_whole(disk, slot, &piece).await;
                found.push(FoundPiece { container, piece, is_whole });
            }
        }
        (self.pieces, self.overwritten) = (found, overwritten);
    }

    /// Pages of catalogs that may be roots.
    pub(super) fn roots(&self) -> impl Iterator<Item = NodeRef> + '_ {
        self.catalog.iter().filter(|page| self.may_be_root(page)).map(|page| page.reference)
    }

    /// Whether nothing speaks against a page being the root of its tree.
    fn may_be_root(&self, page: &CatalogPage) -> bool {
        let NodeRef { level, birth, .. } = page.reference;
        let above = |(other, born): &(u8, LogAddress)| *born == birth && *other > level;
        // Roots begin and end about where each other do; parts of one tree lie side by side.
        let beside = |other: &CatalogPage| {
            let same = (other.reference.level, other.reference.birth) == (level, birth);
            same && (other.keys.1 < page.keys.0 || page.keys.1 < other.keys.0)
        };
        !self.referred.contains(&page.reference) && !self.ruined.iter().any(above) && !self.catalog.iter().any(beside)
    }

    pub(super) fn next_segment(&self) -> SegmentId {
        let log = self.slots.iter().filter_map(|slot| match slot {
            SlotState::Log(id) => Some(id.0 + 1),
            _ => None,
        });
        SegmentId(log.max().unwrap_or(1))
    }

    pub(super) fn next_container(&self) -> ContainerId {
        let containers = self.slots.iter().filter_map(|slot| match slot {
            SlotState::Container(id) => Some(id.0 + 1),
            _ => None,
        });
        ContainerId(containers.max().unwrap_or(1))
    }
}

/// The kind of a catalog's pages.
const CATALOG: u8 = 3;

/// Whether a container has any of what it took from a segment that the segment's slot has no longer.
async fn moved_away(disk: &Disk, (slot, from): (SlotIndex, SlotIndex), piece: &ContainerPiece) -> bool {
    let mut at = piece.base;
    for survivor in &piece.survivors {
        if !survivor_lies_at(disk, from, survivor.first, survivor).await
            && survivor_lies_at(disk, slot, at, survivor).await
        {
            return true;
        }
        at += u32::from(survivor.count);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page: u64, level: u8, birth: u64, keys: (u64, u64)) -> CatalogPage {
        CatalogPage { reference: NodeRef { page: PageIndex(page), checksum: 1, level, birth: LogAddress(birth) }, keys }
    }

    fn roots(ground: &Ground) -> Vec<u64> {
        ground.roots().map(|root| root.page.0).collect()
    }

    #[test]
    fn parts_of_a_tree_are_no_roots() {
        let (left, right) = (page(1, 0, 70, (1, 5)), page(2, 0, 70, (6, 9)));
        let root = page(3, 1, 70, (0, 6));
        let referred = [left.reference, right.reference].into();
        let ground = Ground { catalog: vec![left, right, root], referred, ..Ground::default() };
        assert_eq!(roots(&ground), [3]);
        // What referred to them is lost.
        let ground = Ground { referred: HashSet::new(), ..ground };
        assert_eq!(roots(&ground), [3]);
    }

    #[test]
    fn what_hangs_below_a_ruined_page_is_no_root() {
        let ground = Ground {
            catalog: vec![page(1, 0, 70, (1, 5)), page(2, 0, 60, (1, 5))],
            ruined: vec![(1, LogAddress(70))],
            ..Ground::default()
        };
        assert_eq!(roots(&ground), [2]);
    }

    /// Found by seed 7015 of `treering-sim repairs`. A page that is long given up referred to what lay there before.
    #[test]
    fn a_root_lies_where_part_of_an_older_tree_lay() {
        let root = page(3, 1, 70, (0, 6));
        let before = NodeRef { level: 0, birth: LogAddress(50), ..root.reference };
        let ground = Ground { catalog: vec![root], referred: [before].into(), ..Ground::default() };
        assert_eq!(roots(&ground), [3]);
    }
}
