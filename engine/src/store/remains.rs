//! What a dead server left in shared memory: finding it, publishing it again, and forgetting it.
//!
//! Each mount has an arena file of its own, named by store and mount. A recovery publishes the entries of the old arena
//! again, into its own, and removes the old file only when all of them are durable. So at any moment the file with the newest
//! published operation holds everything that matters, and a recovery that dies half-way leaves it untouched.

use std::path::{Path, PathBuf};

use treering_format::superblock::Superblock;
use treering_format::units::{BlockIndex, Mount, OrderNumber};
use treering_io::Io;

use crate::disk::BLOCK;
use crate::error::{StoreError, VolumeError};
use crate::log::arena::{Entry, EntryKind, Identity, Remains};
use crate::store::Core;

/// Where arenas go unless options say otherwise: memory that outlives the process and not the host.
const SHARED_MEMORY: &str = "/dev/shm";

/// Arena files that may be there, the newest mount first.
pub(crate) fn arena_files(superblock: &Superblock, dir: &Path) -> Vec<(Mount, PathBuf)> {
    let mut mounts: Vec<Mount> = superblock.mounts.iter().map(|m| m.mount).collect();
    mounts.push(superblock.mount);
    mounts.dedup();
    mounts.reverse();
    mounts.into_iter().map(|mount| (mount, arena_path(superblock, mount, dir))).collect()
}

pub(crate) fn arena_path(superblock: &Superblock, mount: Mount, dir: &Path) -> PathBuf {
    let store: String = superblock.store_id.0.iter().map(|b| format!("{b:02x}")).collect();
    dir.join(format!("treering-{store}-{:016x}.arena", mount.0))
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
    let mut missing = (arena_path(superblock, superblock.mount, dir), String::from("is not there"));
    for (mount, path) in arena_files(superblock, dir) {
        let existing = io.existing_shared_memory(&path).map_err(|source| StoreError::Io {
            doing: "opening the arena",
            path: path.clone(),
            source,
        })?;
        let Some(memory) = existing else { continue };
        let identity = Identity { boot: io.boot_id(), store: superblock.store_id, mount };
        match Remains::open(memory, &identity) {
            Ok(remains) if best.as_ref().is_none_or(|(_, b)| b.published() < remains.published()) => {
                best = Some((path, remains));
            }
            Ok(_) => {}
            Err(why) => missing = (path, why),
        }
    }
    let Some((path, remains)) = best else { return Ok(Err(missing)) };
    Ok(match remains.entries_after(after) {
        Ok(entries) => Ok(Leftover { remains, entries }),
        Err(why) => Err((path, why)),
    })
}

/// Publishes again what the dead server had acknowledged, in its order, and makes it durable.
pub(crate) async fn publish_again(core: &Core, leftover: &Leftover) -> Result<u64, StoreError> {
    let mut published = 0;
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
                let step = core.record_blocks();
                let mut at = 0;
                while at < entry.count {
                    let blocks = step.min(entry.count - at);
                    let mut data = vec![0u8; (blocks * BLOCK) as usize];
                    leftover.remains.payload(entry, at, &mut data);
                    core.room.admit_again(blocks).await.map_err(stopped)?;
                    core.log.publish_data(&line, entry.block + at, &data);
                    at += blocks;
                }
            }
        }
        published += 1;
    }
    core.log.persist(core.log.published()).await?;
    Ok(published)
}

/// Removes the arena files of all mounts but `keep`.
pub(crate) fn remove_others(
    io: &Io,
    superblock: &Superblock,
    dir: &Path,
    keep: Option<Mount>,
) -> Result<(), StoreError> {
    for (mount, path) in arena_files(superblock, dir) {
        if Some(mount) != keep {
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

fn stopped(error: VolumeError) -> StoreError {
    match error {
        VolumeError::Failed(failure) => StoreError::Failed(failure),
        other => StoreError::NoCheckpoint(other.to_string()),
    }
}
