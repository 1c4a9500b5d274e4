//! The checkpoint: map, liveness, catalog and slot table, all as of one F, made durable; and what may be used again after it.
//!
//! Order is everything here. The log up to F is durable before any page says what is in it. Pages and blob are durable before
//! the superblock names them. What the older of the two retained checkpoints needs is not given out before a newer one is
//! durable *and* every read that could still be on its way there has ended. An error anywhere leaves the last checkpoint as it
//! was, and stops the store.

use std::collections::HashMap;
use std::rc::Rc;

use treering_format::checkpoint::{Checkpoint, CheckpointHeader};
use treering_format::node::NodeRef;
use treering_format::superblock::CheckpointRef;
use treering_format::units::{CheckpointSequence, DotId, LineId, OrderNumber, SnapshotId, VersionId, VolumeId};
use treering_io::{Buffer, Durability, WriteBuffer};

use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::error::Failure;
use crate::log::Frontier;
use crate::pages::PageError;
use crate::store::{Core, mounts};
use crate::versions::tree::NodeId;

impl Core {
    /// Writes a checkpoint of everything published before the call.
    pub(crate) async fn write_checkpoint(&self) -> Result<(), Rc<Failure>> {
        let _turn = self.fold_turn.take().await;
        self.pressure.checkpoint.set(false);
        let reached = self.fold_to_now().await?;
        self.sweep_next().await?;
        if !canary::is(Canary::FoldAheadOfDurability) {
            self.log.persist(reached.order).await?;
        }
        let older = self.superblock.current().checkpoints[0];
        let sequence = CheckpointSequence(older.sequence.0 + 1);
        let written = self.write_trees(reached, sequence, &older).await;
        let newest = written.map_err(|error| self.map_failed(error))?;
        let synced = self.disk.sync().await;
        self.health.require("syncing a checkpoint", synced)?;

        let durable = self.log.durable();
        let commit = self.superblock.commit(&self.disk, |s| {
            s.checkpoints = [newest, older];
            s.attested_sequence = durable.sequence;
            s.attested_order = durable.order;
            mounts::forget(&mut s.mounts, older.fold_sequence, self.remembered.get());
        });
        let committed = commit.await;
        self.health.require("writing the superblock of a checkpoint", committed)?;
        self.newest.set(newest);

        self.readers.drain().await;
        let keep_back = self.pins.hold();
        self.pages.window_durable(keep_back);
        self.segments.checkpoint_durable(sequence, keep_back);
        if keep_back && self.pressure.held.get() > 0 {
            self.pins.break_all();
        }
        self.checkpoint_bytes.set(self.fold.borrow().reached_bytes);
        self.pressure.checkpoints.set(self.pressure.checkpoints.get() + 1);
        self.health.progress().notify_all();
        tracing::debug!("checkpoint {sequence} at record {}", reached.sequence);
        Ok(())
    }

    /// Writes every changed node and the blob; nothing of it counts before the superblock does.
    async fn write_trees(
        &self,
        reached: Frontier,
        sequence: CheckpointSequence,
        older: &CheckpointRef,
    ) -> Result<CheckpointRef, PageError> {
        self.segments.settle(&self.pages, &reached, sequence).await?;
        let lines: Vec<_> = self.lines.all().into_iter().filter(|line| !line.borrowed.get()).collect();
        let dirty: usize = lines.iter().map(|l| l.map.borrow().dirty_nodes()).sum();
        self.ensure_pages(dirty as u64)?;
        let mut roots = HashMap::new();
        for line in lines {
            let mut map = line.map.borrow().clone();
            if map.dirty_nodes() > 0 {
                let floor = self.versions.tree().page_floor(NodeId::Head(line.id));
                assert!(
                    floor.is_none_or(|floor| reached.address > floor),
                    "pages of a head are younger than its parent"
                );
                map.write_out(&self.pages, reached.address).await?;
                *line.map.borrow_mut() = map.clone();
            }
            // A map that a cut wrote out is clean, and its root is as new.
            roots.insert(line.id, map.stored_root());
        }

        let changes = self.catalog_changes(&roots);
        let (mut catalog, mut mirror) = (self.catalog_tree.borrow().clone(), self.catalog_mirror.borrow().clone());
        catalog.apply(&self.pages, &changes).await?;
        mirror.apply(&self.pages, &changes).await?;
        let mut liveness = self.segments.tree();
        let dirty = catalog.dirty_nodes() + mirror.dirty_nodes() + liveness.dirty_nodes();
        self.ensure_pages(dirty as u64)?;
        let catalog_root = catalog.write_out(&self.pages, reached.address).await?;
        let catalog_mirror_root = mirror.write_out(&self.pages, reached.address).await?;
        let liveness_root = liveness.write_out(&self.pages, reached.address).await?;
        *self.catalog_tree.borrow_mut() = catalog;
        *self.catalog_mirror.borrow_mut() = mirror;
        self.segments.set_tree(liveness);
        self.count_pressure();

        if older.sequence.0 != 0 {
            for page in 0..older.blob_bytes.div_ceil(BLOCK) {
                self.pages.release(treering_format::units::PageIndex(older.blob_page.0 + page));
            }
        }
        self.pages.check_consistent()?;
        let (blob_page, blob_pages) = self.room_for_blob()?;
        let page_maps = self.pages.seal_window();
        let header = {
            let next = self.catalog.borrow().next;
            CheckpointHeader {
                store_id: self.superblock.current().store_id,
                sequence,
                fold: reached.address,
                catalog_root,
                liveness_root,
                next_segment: self.log.next_segment(),
                next_order: OrderNumber(reached.order.0 + 1),
                next_volume: VolumeId(next.volume),
                next_dot: DotId(next.dot),
                next_line: LineId(next.line),
                catalog_mirror_root,
                next_version: VersionId(next.version),
                next_snapshot: SnapshotId(next.snapshot),
                next_container: self.segments.next_container(),
            }
        };
        let blob = Checkpoint { header, slots: self.segments.freeze(sequence), page_maps }.encode();
        assert!(blob.len() as u64 <= blob_pages * BLOCK, "room for the blob was made before it was encoded");
        let blob_crc = crc32fast::hash(&blob);
        let blob_bytes = blob.len() as u64;
        let buffers = vec![WriteBuffer::Owned(Buffer::from(&blob[..]))];
        self.disk
            .write_bytes(blob_page.0 * BLOCK, buffers, Durability::Volatile)
            .await
            .map_err(|source| PageError::io(blob_page, "checkpoint", source))?;
        Ok(CheckpointRef {
            sequence,
            fold: reached.address,
            fold_sequence: reached.sequence,
            fold_chain: reached.chain,
            fold_order: reached.order,
            next: reached.next,
            blob_page,
            blob_bytes,
            blob_crc,
        })
    }

    /// Entries of the catalog that changed, and of volumes whose map has a new root.
    fn catalog_changes(&self, roots: &HashMap<LineId, Option<NodeRef>>) -> Vec<(u64, Option<Vec<u8>>)> {
        let parent = |line| self.versions.parent_of_head(line);
        let mut changed = self.catalog.borrow_mut().folded.take_changed(|line| roots.get(&line).copied(), parent);
        changed.extend(self.versions.take_changed());
        let mut changes: Vec<_> = changed.into_iter().map(|(key, value)| (key.encode(), value)).collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        changes
    }

    /// Sees to it that `pages` pages can be allocated.
    pub(crate) fn ensure_pages(&self, pages: u64) -> Result<(), PageError> {
        while self.pages.available() < pages {
            self.add_slot_of_pages("map")?;
        }
        Ok(())
    }

    /// A contiguous run of pages for the blob, as long as it will be at the most.
    fn room_for_blob(&self) -> Result<(treering_format::units::PageIndex, u64), PageError> {
        loop {
            let maps = self.pages.page_map_count() as u64;
            let blocks = self.disk.geometry().segment_blocks;
            let pages = Checkpoint::encoded_len(self.segments.slot_count(), maps, blocks).div_ceil(BLOCK);
            if let Some(first) = self.pages.allocate_run(pages) {
                return Ok((first, pages));
            }
            self.add_slot_of_pages("checkpoint")?;
        }
    }

    /// Makes more room for pages; what pins keep back is the last resort.
    fn add_slot_of_pages(&self, what: &'static str) -> Result<(), PageError> {
        match self.segments.reserve() {
            Some(slot) => {
                self.segments.use_for_pages(slot);
                self.pages.add_slot(slot);
                Ok(())
            }
            None if self.pins.break_all() => Ok(()),
            None => Err(PageError::no_space(what)),
        }
    }
}
