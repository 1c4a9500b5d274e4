//! Background work of an open store: folding, checkpoints, sweeps and cleaning when they are due, records that grow old, slots
//! zero-written and arena touched ahead, the attestation of what is durable, and the removal of what has expired. Each loop ends
//! when the store fails; all end when the last handle goes.

use std::rc::Rc;
use std::time::Duration;

use treering_io::Task;

use crate::map::NODE_MEMORY_BYTES;
use crate::store::{Core, Store};
use crate::versions::pace::{self, Pace};

/// How often the loops look for work that nobody announced.
const TICK: Duration = Duration::from_millis(200);

/// How often expiry is looked at.
const EXPIRY_TICK: Duration = Duration::from_secs(1);

pub(crate) fn start(core: &Rc<Core>) -> Vec<Task<()>> {
    let io = core.disk.io();
    let (fold, age, ahead, attest) = (Rc::clone(core), Rc::clone(core), Rc::clone(core), Rc::clone(core));
    let clean = Rc::clone(core);
    let log = core.log.clone();
    vec![
        io.spawn(async move { log.touch_ahead().await }),
        io.spawn(async move { fold.keep_folding().await }),
        io.spawn(async move { clean.keep_cleaning().await }),
        io.spawn(async move { age.log.keep_moving().await }),
        io.spawn(async move { ahead.keep_zeroed_ahead().await }),
        io.spawn(async move { attest.keep_attesting().await }),
    ]
}

/// Once everything that was acknowledged is published again: what expires is published, too, and would take its order numbers.
pub(crate) fn start_expiring(core: &Rc<Core>) -> Task<()> {
    let store = Store { core: Rc::clone(core), background: Rc::default() };
    core.disk.io().spawn(async move { keep_expiring(store).await })
}

/// Removes snapshots and dots when their time is over.
async fn keep_expiring(store: Store) {
    loop {
        store.core.disk.io().sleep(EXPIRY_TICK).await;
        if store.core.health.check().is_err() {
            return;
        }
        // What is in use or cannot be removed now is looked at again.
        if let Err(error) = store.remove_expired().await {
            tracing::debug!("removing what has expired: {error}");
        }
    }
}

impl Core {
    async fn keep_folding(&self) {
        let mut pace = Pace::default();
        let mut stored_for_held = (0, 0);
        let mut moved = (self.log.published(), self.disk.io().now());
        loop {
            let wake = self.pressure.wake.notified();
            if self.health.check().is_err() {
                return;
            }
            let (published, now) = (self.log.published(), self.disk.io().now());
            if moved.0 != published {
                moved = (published, now);
            }
            // Writers wait for space, and nobody else does anything: what was deleted or trimmed before is all there is to come.
            let stuck = self.pressure.held.get() > 0 && now - moved.1 >= TICK.as_nanos() as u64;
            let sealed = self.log.sealed_bytes();
            let dirty = self.pressure.dirty_nodes.get() * NODE_MEMORY_BYTES;
            let checkpoint = self.pressure.checkpoint.get()
                || sealed - self.checkpoint_bytes.get() >= self.limits.checkpoint_log_bytes
                || dirty >= self.limits.dirty_node_bytes
                || self.pressure.held.get() > 0 && self.segments.counts().freed > 0
                || stuck && self.checkpoint_may_help(&mut stored_for_held);
            let fold = {
                let fold = self.fold.borrow();
                self.pressure.fold.get()
                    || sealed - fold.reached_bytes >= self.limits.fold_log_bytes
                    || stuck && self.pressure.folded_order.get() < published.0
                    || fold.cuts.release_is_due(self.disk.io().now(), self.limits.release_age_ns)
            };
            // Errors stop the store; the next look at its health ends this loop. Who waits for the turn has it before the next round.
            if checkpoint {
                let _ = self.write_checkpoint().await;
                self.disk.io().yield_now().await;
            } else if fold {
                let _ = self.fold_round().await;
                self.disk.io().yield_now().await;
            } else if self.versions.tree().waiting() > 0 || self.to_be_thinned().is_some() {
                match pace.wait(self.log.published().0, self.disk.io().now()).filter(|_| self.pressure.held.get() == 0)
                {
                    Some(rest) => drop(self.disk.io().timeout(rest.min(TICK), wake).await),
                    None => self.sweep(&mut pace).await,
                }
            } else {
                self.disk.io().timeout(TICK, wake).await;
            }
        }
    }

    /// Whether everything is folded and swept, and the last checkpoint that was written for those who wait does not know of it.
    fn checkpoint_may_help(&self, stored: &mut (u64, u64)) -> bool {
        let now = (self.pressure.folded_order.get(), self.pressure.swept.get());
        let done = self.versions.sweeps() == 0 && now.0 == self.log.published().0;
        done && std::mem::replace(stored, now) != now
    }

    /// One slice of a sweep, or else of thinning. Each fold and each checkpoint takes a slice, too.
    async fn sweep(&self, pace: &mut Pace) {
        let io = self.disk.io();
        let began = {
            let _turn = self.fold_turn.take().await;
            let began = io.now();
            if let Ok(false) = self.sweep_next().await {
                let _ = self.thin_slice().await.map_err(|error| self.map_failed(error));
            }
            began
        };
        let (now, counts) = (io.now(), self.segments.counts());
        let rest = pace::rest(self.limits.sweep_rest, counts.free, counts.total);
        pace.slice_ended(Duration::from_nanos(now.saturating_sub(began)), rest, now);
        io.yield_now().await;
    }

    /// Records attest what was durable before them. When no record comes any more, the superblock does, so that damage of
    /// acknowledged data is told from a torn tail in an idle store too; and when a sync made much durable that no record attests
    /// yet, so that a recovery need not verify it.
    async fn keep_attesting(&self) {
        let mut last = self.log.sealed();
        loop {
            let rings = self.log.long_sync().notified();
            let long_sync = || self.log.long_synced() > self.superblock.current().attested_sequence;
            if !long_sync() {
                self.disk.io().timeout(2 * TICK, rings).await;
            }
            if self.health.check().is_err() {
                return;
            }
            let (sealed, durable) = (self.log.sealed(), self.log.durable());
            let idle = sealed == last;
            last = sealed;
            if (idle || long_sync()) && durable.sequence > self.superblock.current().attested_sequence {
                let commit = self.superblock.commit(&self.disk, |s| {
                    s.attested_sequence = durable.sequence;
                    s.attested_order = durable.order;
                });
                let committed = commit.await;
                let _ = self.health.require("attesting the log in the superblock", committed);
            }
        }
    }
}
