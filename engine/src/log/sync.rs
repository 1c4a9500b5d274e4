//! Sync: group commit over all volumes.
//!
//! One leader at a time seals what is published, waits until every record write up to there has completed, syncs, and answers
//! all who wait; those who came meanwhile ride the next round, which may wait a moment for others (`crowd`). A sync never overlaps a
//! write it should cover: the kernel promises durability only for writes that completed before the sync was submitted.
//!
//! When every record before is durable and nothing is in flight, the record is written with RWF_DSYNC instead: one operation
//! in place of two. Such a write makes only itself durable, so it is used in no other case.

use std::time::Duration;

use treering_format::units::OrderNumber;
use treering_io::Durability;

use super::crowd::Flusher;
use super::{Frontier, Log, Persisted};
use crate::canary::{self, Canary};

/// A sync of so many times what the store syncs by itself was slow, or writers were fast: the superblock attests it at once, or
/// a recovery now would verify all that it covers.
const LONG_SYNC: u64 = 4;

/// Blocks of the arena touched at once: some 50 us of work.
const TOUCHED_BLOCKS: u64 = 64;

impl Log {
    /// As `persist`, for a client, which may soon come again.
    pub(crate) async fn persist_for(&self, flusher: &Flusher, order: OrderNumber) -> Persisted {
        {
            let mut state = self.shared.state.borrow_mut();
            if state.durable.order < order {
                state.crowd.comes(flusher, order);
                self.shared.came.notify_all();
            }
        }
        self.persist(order).await
    }

    /// Waits until every operation up to `order` is durable.
    pub(crate) async fn persist(&self, order: OrderNumber) -> Persisted {
        loop {
            let progress = self.shared.health.progress().notified();
            self.shared.health.check()?;
            {
                let mut state = self.shared.state.borrow_mut();
                if state.durable.order >= order {
                    return Ok(());
                }
                state.wanted = state.wanted.max(order);
                if !state.syncing {
                    state.syncing = true;
                    let log = self.clone();
                    self.shared.disk.io().spawn(async move { log.lead().await }).detach();
                }
            }
            progress.await;
        }
    }

    /// Seals what is published, without waiting.
    pub(crate) fn seal_now(&self) {
        self.seal(None);
    }

    /// Waits until every write of the log up to this record has completed (not synced).
    pub(crate) async fn wait_written(&self, target: Frontier) -> Persisted {
        let all_written = || {
            let state = self.shared.state.borrow();
            state.written >= target && state.writes.iter().all(|w| w.reaches > target)
        };
        self.shared.health.until(all_written).await
    }

    async fn lead(&self) {
        loop {
            self.wait_for_crowd().await;
            if self.round().await.is_err() {
                return;
            }
            let mut state = self.shared.state.borrow_mut();
            if state.durable.order >= state.wanted {
                state.syncing = false;
                return;
            }
        }
    }

    async fn wait_for_crowd(&self) {
        let Some(patience) = self.shared.state.borrow_mut().crowd.patience() else { return };
        let together = async {
            loop {
                let came = self.shared.came.notified();
                if self.shared.state.borrow().crowd.is_together() {
                    return;
                }
                came.await;
            }
        };
        // In vain or not.
        let _ = self.shared.disk.io().timeout(Duration::from_nanos(patience), together).await;
        self.shared.state.borrow_mut().crowd.waited();
    }

    /// Makes durable what is published now.
    async fn round(&self) -> Persisted {
        let alone = {
            let state = self.shared.state.borrow();
            let earlier_durable = state.durable == state.written || canary::is(Canary::DurableWriteTrustsEarlier);
            state.writes.is_empty() && earlier_durable && state.sealed == state.written
        };
        let mut writes = self.seal_record(None);
        let single = alone && writes.len() == 1;
        let target = self.sealed();
        let bytes = {
            let mut state = self.shared.state.borrow_mut();
            state.syncs += 1;
            state.crowd.departs(target.order);
            state.sealed_bytes
        };
        let began = self.shared.disk.io().now();
        if single && !canary::is(Canary::FlushWithoutSync) {
            self.submit(writes.remove(0), Durability::Durable);
            self.wait_written(target).await?;
        } else {
            for write in writes {
                self.submit(write, Durability::Volatile);
            }
            self.wait_written(target).await?;
            let skip = canary::is(Canary::FlushWithoutSync);
            let result = if skip { Ok(()) } else { self.shared.disk.sync().await };
            self.shared.health.check()?;
            self.shared.health.require("syncing the log", result)?;
            let mut state = self.shared.state.borrow_mut();
            state.durable = state.durable.max(target);
        }
        {
            let mut state = self.shared.state.borrow_mut();
            let at_once = bytes - std::mem::replace(&mut state.synced_bytes, bytes);
            state.synced_ns = self.shared.disk.io().now();
            let took = state.synced_ns - began;
            state.crowd.arrives(took);
            if at_once >= LONG_SYNC * self.shared.limits.unsynced_bytes {
                state.long_synced = state.durable.sequence;
                self.shared.long_sync.notify_all();
            }
        }
        self.shared.health.progress().notify_all();
        Ok(())
    }

    /// Touches the arena's memory ahead of the writers, a little at a time.
    pub(crate) async fn touch_ahead(&self) {
        while self.shared.state.borrow_mut().arena.touch_ahead(TOUCHED_BLOCKS) {
            self.shared.disk.io().sleep(Duration::from_millis(1)).await;
        }
    }

    /// Seals a batch that has waited for `record_age`, and syncs by itself when much was written since the last sync.
    /// Runs until the store closes.
    pub(crate) async fn keep_moving(&self) {
        let limits = self.shared.limits.clone();
        loop {
            self.shared.disk.io().sleep(Duration::from_nanos(limits.record_age_ns / 4)).await;
            if self.shared.health.check().is_err() {
                return;
            }
            let (old, unsynced, published) = {
                let state = self.shared.state.borrow();
                let now = self.shared.disk.io().now();
                let old = !state.batch.touched.is_empty() && now - state.batch.begun_ns >= limits.record_age_ns;
                let published = OrderNumber(state.next_order.0 - 1);
                (old, state.sealed_bytes - state.synced_bytes >= limits.unsynced_bytes, published)
            };
            if unsynced {
                let _ = self.persist(published).await;
            } else if old {
                self.seal(None);
            }
        }
    }
}
