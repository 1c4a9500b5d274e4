//! What a dead server left in shared memory: finding it, publishing it again, and forgetting it.
//!
//! Two files take turns. A recovery publishes the entries of the old arena again, into its own in the other file, and removes
//! the old one only when all of them are durable. So at any moment the file with the newest published operation holds
//! everything that matters, and a recovery that dies half-way leaves it untouched. An arena counts only if the superblock
//! knows its mount: one that was made and whose superblock was never written is nobody's, and is written over.

use std::path::{Path, PathBuf};

use treering_format::superblock::Superblock;
use treering_format::units::{BlockIndex, OrderNumber, StoreId};
use treering_io::Io;

use crate::disk::BLOCK;
use crate::error::{StoreError, VolumeError};
use crate::log::arena::{Entry, EntryKind, Remains};
use crate::store::Core;

/// Where arenas go unless options say otherwise: memory that outlives the process and not the host.
const SHARED_MEMORY: &str = "/dev/shm";

/// The two files of a store's arenas.
fn arena_files(store: &StoreId, dir: &Path) -> [PathBuf; 2] {
    ["a", "b"].map(|turn| dir.join(format!("treering-{store}-{turn}.arena")))
}

/// The file for a new arena: the one that holds nothing to be published again.
pub(crate) fn free_file(store: &StoreId, dir: &Path, leftover: Option<&Leftover>) -> PathBuf {
    let [first, second] = arena_files(store, dir);
    if leftover.is_some_and(|l| l.path == first) { second } else { first }
}

/// The directory for a store's arenas.
pub(crate) fn arena_dir(chosen: Option<&Path>, store: &Path) -> PathBuf {
    match chosen {
        Some(dir) => dir.to_owned(),
        None if Path::new(SHARED_MEMORY).is_dir() => SHARED_MEMORY.into(),
        None => store.parent().unwrap_or(Path::new(".")).to_owned(),
    }
}

/// What must be published again, and from where.
pub(crate) struct Leftover {
    pub path: PathBuf,
    pub remains: Remains,
    pub entries: Vec<Entry>,
}

/// Finds what was acknowledged after the end of the log. `Err` says why it cannot be whole.
pub(crate) fn find(
    io: &Io,
    superblock: &Superblock,
    dir: &Path,
    after: OrderNumber,
) -> Result<Result<Leftover, (PathBuf, String)>, StoreError> {
    let mut best: Option<(PathBuf, Remains)> = None;
    let [first, second] = arena_files(&superblock.store_id, dir);
    let mut missing = (first.clone(), String::from("is not there"));
    for path in [first, second] {
        let existing = io.existing_shared_memory(&path).map_err(|source| StoreError::Io {
            doing: "opening the arena",
            path: path.clone(),
            source,
        })?;
        let Some(memory) = existing else { continue };
        let known = |mount| mount == superblock.mount || superblock.mounts.iter().any(|m| m.mount == mount);
        match Remains::open(memory, io.boot_id(), superblock.store_id, known) {
            Ok(remains) if best.as_ref().is_none_or(|(_, b)| b.published() < remains.published()) => {
                best = Some((path, remains));
            }
            Ok(_) => {}
            Err(why) => missing = (path, why),
        }
    }
    let Some((path, remains)) = best else { return Ok(Err(missing)) };
    Ok(match remains.entries_after(after) {
        Ok(entries) => Ok(Leftover { path, remains, entries }),
        Err(why) => Err((path, why)),
    })
}

/// Publishes again what the dead server had acknowledged, in its order, and makes it durable.
pub(crate) async fn publish_again(core: &Core, leftover: &Leftover) -> Result<u64, StoreError> {
    let mut published = 0;
    // Each entry that comes behind another one would be taken for one that the log has already, if this recovery died.
    let before = leftover.entries.first().map_or(u64::MAX, |entry| entry.order.0);
    assert!(core.log.published().0 < before, "nothing is published before what was acknowledged earlier");
    for entry in &leftover.entries {
        let Some(line) = core.lines.get(entry.line).filter(|l| !l.removed.get()) else { continue };
        match entry.kind {
            EntryKind::Cut => {}
            EntryKind::Hole | EntryKind::Zero => {
                core.room.admit_again(0).await.map_err(stopped)?;
                let block = BlockIndex(entry.block);
                core.log.publish_blank(&line, block.0, entry.count, entry.kind == EntryKind::Zero);
            }
            EntryKind::Data => {
                // One entry is one operation again, never more: so order numbers of this mount stay at or below those of
                // the old arena, and a recovery that dies here and is followed by another skips none of its entries.
                assert!(entry.count <= core.publish_blocks(), "an entry holds what one publish holds");
                let mut data = vec![0u8; (entry.count * BLOCK) as usize];
                leftover.remains.payload(entry, 0, &mut data);
                core.room.admit_again(entry.count).await.map_err(stopped)?;
                core.log.publish_data(&line, entry.block, &data);
            }
        }
        published += 1;
    }
    core.log.persist(core.log.published()).await?;
    Ok(published)
}

/// Removes every arena file but this mount's own.
pub(crate) fn remove_others(io: &Io, store: &StoreId, dir: &Path, own: &Path) -> Result<(), StoreError> {
    for path in arena_files(store, dir) {
        if path != own {
            let removed = io.remove_shared_memory(&path);
            if let Err(source) = removed
                && source.kind() != std::io::ErrorKind::NotFound
            {
                return Err(StoreError::Io { doing: "removing the old arena", path, source });
            }
        }
    }
    Ok(())
}

/// The store is cleanly closed: nothing in shared memory is of use any more.
pub(crate) async fn forget(core: &Core) {
    let removed = core.disk.io().remove_shared_memory(&core.arena_path);
    if let Err(error) = removed {
        tracing::warn!("removing {}: {error}", core.arena_path.display());
    }
}

pub(super) fn stopped(error: VolumeError) -> StoreError {
    match error {
        VolumeError::Failed(failure) => StoreError::Failed(failure),
        other => StoreError::NoCheckpoint(other.to_string()),
    }
}
