//! The fold: the map is the log, read in order.
//!
//! One round takes everything sealed at one moment, closes the overlay's layers behind it, waits until all of it is written
//! (the map never shows what the log does not hold), merges each line's layers into a copy of its map, publishes the copy and
//! only then drops the layer: a reader finds each block in one of the two at any moment.
//!
//! Cuts are applied in the order of the log, each when the lines that it names are merged up to it and no further.
//!
//! Nothing here is durable: that is the checkpoint's work, and recovery is this same fold from the last one.

use std::rc::Rc;

use treering_format::units::OrderNumber;

use crate::canary::{self, Canary};
use crate::error::Failure;
use crate::log::Frontier;
use crate::overlay::Layer;
use crate::pages::PageError;
use crate::store::Core;
use crate::turn::TurnGuard;

mod breaks;
mod cuts;
mod layer;
mod pending;

pub(crate) use breaks::Breaks;
pub(crate) use layer::change_of;
pub(crate) use pending::{Cut, PendingCuts};

/// How the fold stands.
pub(crate) struct Fold {
    /// Everything up to here is in the map.
    pub reached: Frontier,
    /// Bytes this process had sealed when the fold reached it.
    pub reached_bytes: u64,
    /// Catalog changes published and not folded yet.
    pub cuts: PendingCuts,
    /// Layers that the fold is past: maps show their content now, or nobody does.
    passed: Vec<Rc<Layer>>,
}

impl Fold {
    /// A store begins where its log was read from: nothing of that is sealed by this process.
    pub(crate) fn begin(reached: Frontier, cuts: PendingCuts) -> Fold {
        Fold { reached, reached_bytes: 0, cuts, passed: Vec::new() }
    }
}

/// Cuts applied without letting others run.
const CUTS_AT_ONCE: usize = 32;

impl Core {
    /// Folds everything published so far. Any error here is final for the store: the map could not follow the log.
    pub(crate) async fn fold_round(&self) -> Result<(), Rc<Failure>> {
        let _turn = self.fold_turn.take().await;
        self.fold_to_now().await?;
        self.sweep_next().await?;
        Ok(())
    }

    /// A slice of sweeping what was deleted. False: there is nothing to sweep. For callers that have the turn.
    pub(crate) async fn sweep_next(&self) -> Result<bool, Rc<Failure>> {
        if self.read_only {
            return Ok(false);
        }
        if self.versions.sweeps() > 0 && !self.room.admits_sweep() {
            self.count_pressure();
            if !self.room.admits_sweep() {
                self.pressure.ask_checkpoint();
                return Ok(false);
            }
        }
        let swept = self.sweep_slice().await.map_err(|error| self.map_failed(error))?;
        if swept {
            self.pressure.note_swept();
        }
        self.pressure.sweeps.set(self.versions.sweeps());
        Ok(swept)
    }

    /// Folds everything published so far, and gives the turn. It does so in a task of its own: a fold that its caller gave up half way
    /// would have released pages that a map still names, and taken a cut from its queue that was not applied.
    pub(crate) async fn folded(self: &Rc<Core>) -> Result<TurnGuard, Rc<Failure>> {
        let core = Rc::clone(self);
        let fold = async move {
            let turn = core.fold_turn.take_soon().await;
            core.fold_to_now().await.map(|_| turn)
        };
        self.disk.io().spawn(fold).to_its_end().await
    }

    /// The round itself, for callers that have the turn and are not given up.
    pub(crate) async fn fold_to_now(&self) -> Result<Frontier, Rc<Failure>> {
        self.health.check()?;
        self.pressure.fold.set(false);
        if !self.read_only {
            self.log.seal_now();
        }
        let (target, bytes) = (self.log.sealed(), self.log.sealed_bytes());
        // No waiting between the seal and here: a closed layer holds sealed pieces only.
        for line in self.lines.all() {
            line.overlay.borrow_mut().close_layer(target.order);
        }
        if !self.read_only && !canary::is(Canary::FoldAheadOfDurability) {
            self.log.wait_written(target).await?;
        }
        self.fold_up_to(target.order).await.map_err(|error| self.map_failed(error))?;
        {
            let mut fold = self.fold.borrow_mut();
            fold.reached = target;
            fold.reached_bytes = bytes;
        }
        self.pressure.folded_order.set(target.order.0);
        self.pressure.folded_bytes.set(bytes);
        self.count_pressure();
        self.health.progress().notify_all();
        Ok(target)
    }

    async fn fold_up_to(&self, order: OrderNumber) -> Result<(), PageError> {
        self.begin_slices();
        if canary::is(Canary::CutsAfterMerges) {
            for line in self.lines.all() {
                self.merge_up_to(&line, order).await?;
            }
        }
        for applied in 1.. {
            let cut = self.fold.borrow_mut().cuts.pop(order);
            let Some(cut) = cut else { break };
            self.apply_cut(&cut).await?;
            self.free_passed().await;
            self.pressure.pending_cuts.set(self.fold.borrow().cuts.maps());
            if applied % CUTS_AT_ONCE == 0 {
                self.disk.io().yield_now().await;
            }
        }
        for line in self.lines.all() {
            self.merge_up_to(&line, order).await?;
        }
        Ok(())
    }

    /// What is folded and in no checkpoint, and what is not folded: what the reserve is reckoned from.
    pub(crate) fn count_pressure(&self) {
        let lines = self.lines.all();
        let own = || lines.iter().filter(|line| !line.borrowed.get());
        let maps: usize = own().map(|line| line.map.borrow().dirty_nodes()).sum();
        let forked = own().filter(|line| self.versions.is_forked(line.id)).count();
        let (catalog, fold) = (self.catalog.borrow(), self.fold.borrow());
        let catalog_nodes = self.catalog_nodes as i64 + self.catalog_tree.borrow().grown();
        let pressure = &self.pressure;
        pressure.dirty_nodes.set(maps as u64);
        pressure.forked_heads.set(forked as u64);
        pressure.catalog_nodes.set(catalog_nodes.max(0) as u64);
        pressure.volumes.set(catalog.folded.volumes.len() as u64);
        pressure.changed_keys.set(catalog.folded.changed_keys() + self.versions.changed_keys());
        pressure.pending_cuts.set(fold.cuts.maps());
        pressure.pending_keys.set(fold.cuts.keys());
    }

    pub(crate) fn map_failed(&self, error: PageError) -> Rc<Failure> {
        self.health.fail("folding the log into the map", std::io::Error::other(error.to_string()))
    }
}
