//! Loading a checkpoint: the newest one that can be read, else the older.

use std::collections::BTreeSet;

use treering_format::DecodeError;
use treering_format::catalog::{CatalogKey, DotEntry, LineEntry, SnapshotEntry, VersionEntry, VolumeEntry};
use treering_format::checkpoint::Checkpoint;
use treering_format::node::NodeRef;
use treering_format::superblock::{CheckpointRef, Superblock};
use treering_format::units::{LineId, VolumeId};

use super::{RecoveryReport, geometry};
use crate::catalog::{Entries, members_of};
use crate::disk::{BLOCK, Disk};
use crate::error::StoreError;
use crate::limits::Limits;
use crate::map::{Tree, TreeKind};
use crate::pages::Pages;
use crate::segments::Segments;
use crate::versions::Versions;

/// A checkpoint in memory.
pub(super) struct Loaded {
    pub reference: CheckpointRef,
    pub checkpoint: Checkpoint,
    pub pages: Pages,
    pub segments: Segments,
    pub catalog_tree: Tree,
    /// Of that tree, as it is on disk.
    pub catalog_nodes: u64,
    pub catalog_mirror: Tree,
    pub entries: Entries,
    pub versions: Versions,
}

pub(super) async fn load_newest(
    disk: &Disk,
    superblock: &Superblock,
    limits: &Limits,
    repairs: bool,
    report: &mut RecoveryReport,
) -> Result<Loaded, StoreError> {
    let mut reasons = Vec::new();
    for reference in superblock.checkpoints.iter().filter(|c| !c.is_absent()) {
        match load(disk, superblock, reference, limits, repairs).await {
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
    repairs: bool,
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
        || checkpoint.slots.len() as u64 > geometry.slot_count
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
    let liveness = Tree::open(TreeKind::Liveness, 0, header.liveness_root);
    let segments = Segments::load(
        geometry.segment_blocks,
        checkpoint.slots.clone(),
        liveness.clone(),
        reference.fold_sequence,
        header.next_container,
    );
    // A store that grew since then has more slots than its checkpoint knows.
    segments.grow(geometry.slot_count);
    let mut catalog_tree = Tree::open(TreeKind::Catalog, 0, header.catalog_root);
    let catalog_mirror = Tree::open(TreeKind::Catalog, 0, header.catalog_mirror_root);
    let scanned = match catalog_tree.scan(&pages, 0, usize::MAX).await {
        Ok(scanned) => scanned,
        Err(why) => {
            let scanned = catalog_mirror.scan(&pages, 0, usize::MAX).await.map_err(|e| format!("{why}; {e}"))?;
            tracing::warn!("the catalog is read from its second tree: {why}");
            // The next checkpoint writes the first one anew.
            catalog_tree = Tree::empty(TreeKind::Catalog, 0);
            let all: Vec<_> = scanned.iter().map(|(key, value)| (*key, Some(value.clone()))).collect();
            catalog_tree.apply(&pages, &all).await.map_err(|e| e.to_string())?;
            scanned
        }
    };
    // A tree that is made anew counts what it grows by itself.
    let mut catalog_nodes = 0;
    if catalog_tree.grown() == 0 {
        let mut leaves = catalog_tree.leaves(false);
        let mut count = |_: &NodeRef| {
            catalog_nodes += 1;
            true
        };
        while !leaves.next(&pages, &mut count).await.is_empty() {}
    }
    let (entries, versions) = understand(scanned)?;
    if !repairs {
        liveness.scan(&pages, 0, 1).await.map_err(|e| e.to_string())?;
    }
    Ok(Loaded {
        reference: *reference,
        checkpoint,
        pages,
        segments,
        catalog_tree,
        catalog_nodes,
        catalog_mirror,
        entries,
        versions,
    })
}

/// What the catalog says, if it makes sense.
pub(crate) fn understand(scanned: Vec<(u64, Vec<u8>)>) -> Result<(Entries, Versions), String> {
    let entries = entries(scanned).map_err(|e| e.to_string())?;
    let versions = versions(&entries)?;
    Ok((entries, versions))
}

/// What the catalog says, by kind.
fn entries(scanned: Vec<(u64, Vec<u8>)>) -> Result<Entries, DecodeError> {
    let mut entries = Entries::default();
    scanned.iter().try_for_each(|(key, value)| take_entry(&mut entries, *key, value))?;
    Ok(entries)
}

fn take_entry(entries: &mut Entries, key: u64, value: &[u8]) -> Result<(), DecodeError> {
    match CatalogKey::decode(key)? {
        CatalogKey::Dot(id) => entries.dots.push((id, DotEntry::decode(value)?)),
        CatalogKey::Volume(id) => entries.volumes.push((id, VolumeEntry::decode(value)?)),
        CatalogKey::Version(id) => entries.versions.push((id, VersionEntry::decode(value)?)),
        CatalogKey::Line(id) => entries.lines.push((id, LineEntry::decode(value)?)),
        CatalogKey::Snapshot(id) => entries.snapshots.push((id, SnapshotEntry::decode(value)?)),
    }
    Ok(())
}

/// The versions, if they, the volumes and the snapshots agree.
fn versions(entries: &Entries) -> Result<Versions, String> {
    let head = |(_, entry): &(VolumeId, VolumeEntry)| (entry.line, (entry.parent.0 != 0).then_some(entry.parent));
    let heads: Vec<_> = entries.volumes.iter().map(head).collect();
    let lines: BTreeSet<LineId> = heads.iter().map(|(line, _)| *line).collect();
    if lines.len() < heads.len() {
        return Err("two volumes lie on one line".into());
    }
    let versions = Versions::load(&entries.versions, &entries.lines, heads)?;
    for (id, snapshot) in &entries.snapshots {
        let missing = members_of(snapshot).find(|member| versions.get(*member).is_none());
        if let Some(member) = missing {
            return Err(format!("snapshot {id} has version {member}, which is not there"));
        }
    }
    Ok(versions)
}
