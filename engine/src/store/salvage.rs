//! When no checkpoint can be read: the catalog is looked for among the pages, and the table of slots is made from what the slots
//! say of themselves. For a repair.
//!
//! A checkpoint's blob says where the trees are, what each slot holds and which pages are used. All of that is said a second
//! time: by the pages of the catalog (`catalogs`), by the headers of slots and the directories of containers (`ground`,
//! `places`), and by the trees. Which blocks live follows from the maps, as after the loss of the liveness tree alone.
//!
//! Numbers of what was made and removed meanwhile are not known; new ones begin far above those that are.

use treering_format::checkpoint::{Checkpoint, CheckpointHeader, PageMap, Slot, SlotState};
use treering_format::container::ContainerPiece;
use treering_format::node::NodeRef;
use treering_format::superblock::{CheckpointRef, Superblock};
use treering_format::units::{
    ContainerId, DotId, LineId, OrderNumber, PageIndex, SlotIndex, SnapshotId, VersionId, VolumeId,
};

use super::load::Loaded;
use crate::catalog::Entries;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::Limits;
use crate::map::{Tree, TreeKind};
use crate::pages::{PageSet, Pages};

mod catalogs;
mod ground;
mod names;
mod places;

use catalogs::{Search, segments};
use ground::Ground;
use places::{places, walk};

/// No store makes so many of anything between two checkpoints.
const ID_GAP: u64 = 1 << 32;

/// What stands in the place of a checkpoint.
pub(crate) struct Salvage {
    pub action: String,
    /// Why nothing is certain.
    pub doubt: Option<String>,
    /// All that containers say of what they hold.
    pub said: Vec<(ContainerId, ContainerPiece)>,
    /// Of that, what is looked for there.
    pub placed: Vec<(ContainerId, ContainerPiece)>,
}

/// Builds what a checkpoint would have said.
pub(super) async fn salvage(
    disk: &Disk,
    superblock: &Superblock,
    limits: &Limits,
    why: &str,
) -> Result<(Loaded, Salvage), StoreError> {
    let geometry = disk.geometry();
    let blocks = geometry.segment_blocks;
    let pages =
        Pages::new(disk.io().clone(), disk.file().clone(), geometry.data_start, blocks, limits.node_cache_bytes);
    let ground = ground::look(disk, superblock.store_id).await;
    let found = Search { disk, pages: &pages, superblock, ground: &ground }.catalog(why).await?;
    let action = match found.root {
        Some(root) => format!("no checkpoint can be read ({why}): the catalog is found in page {}", root.page),
        None => format!("no checkpoint can be read ({why}): everything is read from the log"),
    };
    let reached = walk(&pages, &found, blocks).await;
    let places = places(&ground, &reached, &found.from, blocks);
    let page_maps = page_maps(&places.slots, &reached.pages, ground.first_page, blocks);
    let slots: Vec<Slot> =
        places.slots.into_iter().map(|state| Slot { state, written: state != SlotState::Free }).collect();
    let segments = segments(disk, &found.from, slots.clone(), ground.next_container());
    pages.load(page_maps.clone());
    let catalog_tree = Tree::open(TreeKind::Catalog, 0, found.root);
    let mut catalog_nodes = 0;
    let mut leaves = catalog_tree.leaves(false);
    let mut count = |_: &NodeRef| {
        catalog_nodes += 1;
        true
    };
    while !leaves.next(&pages, &mut count).await.is_empty() {}
    let header = header(&found.entries, superblock, &found.from, &ground, found.root);
    let loaded = Loaded {
        reference: found.from,
        checkpoint: Checkpoint { header, slots, page_maps },
        pages,
        segments,
        catalog_tree,
        catalog_nodes,
        catalog_mirror: Tree::empty(TreeKind::Catalog, 0),
        entries: found.entries,
        versions: found.versions,
    };
    let said = ground.pieces.into_iter().map(|found| (found.container, found.piece)).collect();
    Ok((loaded, Salvage { action, doubt: found.doubt, said, placed: places.placed }))
}

/// Which pages are used, of each slot that holds any.
fn page_maps(slots: &[SlotState], used: &PageSet, first_page: u64, segment_blocks: u32) -> Vec<PageMap> {
    let map = |slot: SlotIndex| {
        let first = first_page + slot.0 * u64::from(segment_blocks);
        let mut bits = vec![0u8; segment_blocks.div_ceil(8) as usize];
        let here = (0..segment_blocks).filter(|block| used.contains(PageIndex(first + u64::from(*block))));
        here.for_each(|block| bits[block as usize / 8] |= 1 << (block % 8));
        PageMap { slot, quarantined: vec![0; bits.len()], used: bits }
    };
    let of_pages = (0..).map(SlotIndex).zip(slots).filter(|(_, state)| **state == SlotState::Pages);
    of_pages.map(|(slot, _)| map(slot)).collect()
}

fn header(
    entries: &Entries,
    superblock: &Superblock,
    from: &CheckpointRef,
    ground: &Ground,
    root: Option<NodeRef>,
) -> CheckpointHeader {
    let after = |last: Option<u64>| last.unwrap_or(0) + ID_GAP;
    let lines = entries.lines.iter().map(|(id, _)| id.0).chain(entries.volumes.iter().map(|(_, v)| v.line.0));
    CheckpointHeader {
        store_id: superblock.store_id,
        sequence: from.sequence,
        fold: from.fold,
        catalog_root: root,
        next_segment: ground.next_segment(),
        next_order: OrderNumber(from.fold_order.0 + 1),
        next_volume: VolumeId(after(entries.volumes.iter().map(|(id, _)| id.0).max())),
        next_dot: DotId(after(entries.dots.iter().map(|(id, _)| id.0).max())),
        next_line: LineId(after(lines.chain(entries.versions.iter().map(|(_, v)| v.line.0)).max())),
        next_version: VersionId(after(entries.versions.iter().map(|(id, _)| id.0).max())),
        next_snapshot: SnapshotId(after(entries.snapshots.iter().map(|(id, _)| id.0).max())),
        next_container: ground.next_container(),
        ..CheckpointHeader::default()
    }
}
