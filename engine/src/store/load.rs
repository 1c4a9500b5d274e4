//! Loading a checkpoint: the newest one that can be read, else the older.

use treering_format::catalog::{CatalogKey, DotEntry, VolumeEntry};
use treering_format::checkpoint::Checkpoint;
use treering_format::superblock::{CheckpointRef, Superblock};
use treering_format::units::{DotId, VolumeId};

use super::{RecoveryReport, geometry};
use crate::disk::{BLOCK, Disk};
use crate::error::StoreError;
use crate::limits::Limits;
use crate::map::{Tree, TreeKind};
use crate::pages::Pages;
use crate::segments::Segments;

/// A checkpoint in memory.
pub(super) struct Loaded {
    pub reference: CheckpointRef,
    pub checkpoint: Checkpoint,
    pub pages: Pages,
    pub segments: Segments,
    pub catalog_tree: Tree,
    pub dots: Vec<(DotId, DotEntry)>,
    pub volumes: Vec<(VolumeId, VolumeEntry)>,
}

pub(super) async fn load_newest(
    disk: &Disk,
    superblock: &Superblock,
    limits: &Limits,
    report: &mut RecoveryReport,
) -> Result<Loaded, StoreError> {
    let mut reasons = Vec::new();
    for reference in superblock.checkpoints.iter().filter(|c| !c.is_absent()) {
        match load(disk, superblock, reference, limits).await {
            Ok(loaded) => {
                if !reasons.is_empty() {
                    report.older_checkpoint = Some(reasons.join("; "));
                }
                return Ok(loaded);
            }
            Err(why) => reasons.push(format!("checkpoint {}: {why}", reference.sequence)),
        }
    }
    Err(StoreError::NoCheckpoint(reasons.join("; ")))
}

/// Reads the blob, the whole catalog, and the roots: enough to know that the checkpoint was written. Deeper damage is found
/// when it is read.
async fn load(
    disk: &Disk,
    superblock: &Superblock,
    reference: &CheckpointRef,
    limits: &Limits,
) -> Result<Loaded, String> {
    let geometry = disk.geometry();
    let end = geometry.data_start + geometry.slot_count * geometry.slot_bytes();
    let start = reference.blob_page.0.checked_mul(BLOCK).filter(|s| *s >= geometry.data_start);
    let start = start.filter(|s| s.checked_add(reference.blob_bytes).is_some_and(|e| e <= end));
    let start = start.ok_or_else(|| format!("its blob at page {} lies outside the store", reference.blob_page))?;
    let bytes =
        disk.read_bytes(start, reference.blob_bytes.next_multiple_of(BLOCK)).await.map_err(|e| e.to_string())?;
    let blob = &bytes[..reference.blob_bytes as usize];
    let sum = crc32fast::hash(blob);
    if sum != reference.blob_crc {
        return Err(format!("its blob's checksum is {sum:08x}, {:08x} is due", reference.blob_crc));
    }
    let checkpoint = Checkpoint::decode(blob).map_err(|e| e.to_string())?;
    let header = &checkpoint.header;
    if header.store_id != superblock.store_id
        || header.sequence != reference.sequence
        || checkpoint.slots.len() as u64 != geometry.slot_count
    {
        return Err("its blob belongs to another checkpoint".into());
    }
    geometry::check_numbers(header)?;
    geometry::check_page_maps(&checkpoint, geometry.segment_blocks)?;
    let pages = Pages::new(
        disk.io().clone(),
        disk.file().clone(),
        geometry.data_start,
        geometry.segment_blocks,
        limits.node_cache_bytes,
    );
    pages.load(checkpoint.page_maps.clone());
    let catalog_tree = Tree::open(TreeKind::Catalog, 0, header.catalog_root);
    let liveness = Tree::open(TreeKind::Liveness, 0, header.liveness_root);
    let segments =
        Segments::load(geometry.segment_blocks, checkpoint.slots.clone(), liveness.clone(), reference.fold_sequence);
    let (mut dots, mut volumes) = (Vec::new(), Vec::new());
    for (key, value) in catalog_tree.scan(&pages, 0, usize::MAX).await.map_err(|e| e.to_string())? {
        match CatalogKey::decode(key).map_err(|e| e.to_string())? {
            CatalogKey::Dot(id) => dots.push((id, DotEntry::decode(&value).map_err(|e| e.to_string())?)),
            CatalogKey::Volume(id) => volumes.push((id, VolumeEntry::decode(&value).map_err(|e| e.to_string())?)),
            CatalogKey::Version(_) | CatalogKey::Line(_) | CatalogKey::Snapshot(_) => {
                return Err("it holds versions".into());
            }
        }
    }
    liveness.scan(&pages, 0, 1).await.map_err(|e| e.to_string())?;
    Ok(Loaded { reference: *reference, checkpoint, pages, segments, catalog_tree, dots, volumes })
}
