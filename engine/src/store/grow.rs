//! Growing: more slots behind the last one, while the store is open and in use.
//!
//! The file grows first and durably, then the superblock says how many slots there are, and only then is the first of them
//! used. A checkpoint from before knows fewer slots: what it does not know was free when it was written, and a record found
//! there is found by the log above it. So a crash at any moment leaves a store of the old size or of the new one.

use super::Store;
use crate::disk::Geometry;
use crate::error::StoreError;

/// What growing brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Bytes of the store, before and now.
    pub from: u64,
    pub to: u64,
}

/// The byte behind the last slot.
fn file_end(geometry: &Geometry) -> u64 {
    geometry.data_start + geometry.slot_count * geometry.slot_bytes()
}

impl Store {
    /// Takes in what the file or device has more than the store knows of; with `size` bytes, makes the file that long before,
    /// its space allocated unless `sparse`. What is too little for a segment is left alone.
    pub async fn grow(&self, size: Option<u64>, sparse: bool) -> Result<Grown, StoreError> {
        let core = &self.core;
        let (file, geometry) = (core.disk.file(), || core.disk.geometry());
        let path = || file.path().to_owned();
        let failed = |doing| move |source| StoreError::Io { doing, path: file.path().to_owned(), source };
        if core.read_only {
            return Err(StoreError::OpenedForReading { path: path() });
        }
        core.health.check().map_err(StoreError::Failed)?;
        // No checkpoint is under way meanwhile, and no other growing.
        let _turn = core.fold_turn.take_soon().await;
        let from = file_end(&geometry());
        if let Some(size) = size {
            if size < from {
                return Err(StoreError::Shrinks { path: path(), from, to: size });
            }
            file.allocate(size, sparse).map_err(failed("allocating space for"))?;
        }
        let found = file.len().map_err(failed("reading the size of"))?;
        let slots = found.saturating_sub(geometry().data_start) / geometry().slot_bytes();
        if slots <= geometry().slot_count {
            return Ok(Grown { from, to: from });
        }
        // The new length is durable before anything names it.
        core.health.require("syncing the store's new size", core.disk.sync().await).map_err(StoreError::Failed)?;
        let committed = core.superblock.commit(&core.disk, |s| s.slot_count = slots).await;
        core.health.require("writing the superblock of a store that grows", committed).map_err(StoreError::Failed)?;
        core.disk.set_slot_count(slots);
        core.segments.grow(slots);
        core.room.space_came_back();
        Ok(Grown { from, to: file_end(&geometry()) })
    }
}
