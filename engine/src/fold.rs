//! The fold: the map is the log, read in order.
//!
//! One round takes everything sealed at one moment, closes the overlay's layers behind it, waits until all of it is written
//! (the map never shows what the log does not hold), merges each line's layers into a copy of its map, publishes the copy and
//! only then drops the layer: a reader finds each block in one of the two at any moment. Bits of liveness are set before that for what the
//! copy shows now, and cleared behind it for what it shows no more. All of it is done in slices, with breaks between them: what compares
//! bits with maps, or frees what is dead, does so while nobody folds.
//!
//! Cuts are applied in the order of the log, each when the lines that it names are merged up to it and no further.
//!
//! A compressed extent is live until no piece of it is left; whether one is left is asked of the map itself, over the range
//! the extent once covered, so no count is kept that could go wrong.
//!
//! Nothing here is durable: that is the checkpoint's work, and recovery is this same fold from the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, OrderNumber};

use crate::canary::{self, Canary};
use crate::error::Failure;
use crate::line::Line;
use crate::log::Frontier;
use crate::map::{Content, Extent, ExtentMap};
use crate::overlay::{Layer, Piece, Place};
use crate::pages::PageError;
use crate::store::Core;
use crate::turn::TurnGuard;
use crate::versions::tree::{NodeId, VersionTree};

mod breaks;
mod cuts;
mod pending;

pub(crate) use breaks::Breaks;
pub(crate) use pending::{Cut, PendingCuts};

/// How the fold stands.
pub(crate) struct Fold {
    /// Everything up to here is in the map.
    pub reached: Frontier,
    /// Bytes this process had sealed when the fold reached it.
    pub reached_bytes: u64,
    /// Catalog changes published and not folded yet.
    pub cuts: PendingCuts,
}

/// Cuts applied without letting others run.
const CUTS_AT_ONCE: usize = 32;

/// Extents looked up in a map without letting others run.
const LOOKUPS_AT_ONCE: usize = 256;

/// Pieces of a layer handled without letting others run: some 200 us of work, whatever is done with them. One volume may have fifty
/// thousand in a round, and thousands of volumes one piece each: what is left over goes without a break.
const PIECES_AT_ONCE: usize = 1024;

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

    /// Merges a line's closed layers up to an operation, each by itself.
    async fn merge_up_to(&self, line: &Line, order: OrderNumber) -> Result<(), PageError> {
        loop {
            let oldest = line.overlay.borrow().oldest_closed(order);
            let Some(layer) = oldest else { return Ok(()) };
            self.merge_layer(line, layer).await?;
        }
    }

    async fn merge_layer(&self, line: &Line, layer: Rc<Layer>) -> Result<(), PageError> {
        let mut changes = Vec::with_capacity(layer.len());
        for piece in layer.pieces() {
            changes.push(change_of(piece));
            if changes.len() % PIECES_AT_ONCE == 0 {
                self.take_break().await;
            }
        }
        let node = NodeId::Head(line.id);
        let page_floor = self.versions.tree().page_floor(node);
        let mut map = line.map.borrow().clone();
        let mut displaced = Vec::new();
        let mut displace = |extent| displaced.push(extent);
        map.merge(&self.pages, &changes, page_floor, &mut displace, async || self.take_break().await).await?;
        let dead = self.dead_runs(node, &map, displaced).await?;
        self.set_born(changes).await?;
        *line.map.borrow_mut() = map;
        line.overlay.borrow_mut().drop_oldest();
        self.clear_dead(&dead).await?;
        self.pages.check_consistent()?;
        // Unless a snapshot or a fork that is not folded yet shows it, too.
        if let Some(mut layer) = Rc::into_inner(layer) {
            while layer.shed(PIECES_AT_ONCE) {
                self.take_break().await;
            }
        }
        Ok(())
    }

    /// Sets the bits of what the map shows from now on. Whoever compares bits with maps takes the turn first.
    async fn set_born(&self, mut changes: Vec<Extent>) -> Result<(), PageError> {
        let mut compressed = BTreeSet::new();
        while !changes.is_empty() {
            let part = changes.split_off(changes.len().saturating_sub(PIECES_AT_ONCE));
            let born = born_runs(&part, &mut compressed);
            self.segments.load_bits_of(&self.pages, born.iter()).await?;
            for (address, blocks) in born {
                let replayed = address.segment() < self.first_segment && canary::is(Canary::ReplayDoesNotSetBits);
                if !replayed {
                    self.segments.set(address, blocks)?;
                }
            }
            if part.len() == PIECES_AT_ONCE {
                self.take_break().await;
            }
        }
        Ok(())
    }

    async fn clear_dead(&self, dead: &[(LogAddress, u32)]) -> Result<(), PageError> {
        for part in dead.chunks(PIECES_AT_ONCE) {
            self.segments.load_bits_of(&self.pages, part.iter()).await?;
            for (address, blocks) in part {
                if !canary::is(Canary::OverlayLeak) {
                    self.segments.clear(*address, *blocks)?;
                }
            }
            if part.len() == PIECES_AT_ONCE {
                self.take_break().await;
            }
        }
        Ok(())
    }

    /// The runs of blocks that a head's map shows no more, now that these pieces were displaced from it, and that no version
    /// it goes on from shows.
    async fn dead_runs(
        &self,
        node: NodeId,
        map: &ExtentMap,
        displaced: Vec<Extent>,
    ) -> Result<Vec<(LogAddress, u32)>, PageError> {
        let mut dead = Vec::new();
        let mut compressed: BTreeMap<LogAddress, (u64, u64, u32)> = BTreeMap::new();
        let mut of_others = 0;
        for (number, extent) in displaced.into_iter().enumerate() {
            if number % PIECES_AT_ONCE == PIECES_AT_ONCE - 1 {
                self.take_break().await;
            }
            let Content::Data { address, encoding, offset, extent_blocks, stored_blocks, .. } = extent.content else {
                continue;
            };
            match encoding {
                Encoding::Raw => {
                    of_others += self.owned_runs(node, extent.block.0, address, extent.count as u32, &mut dead);
                }
                Encoding::Lz4 => {
                    let start = extent.block.0 - u64::from(offset);
                    let judged_by = if canary::is(Canary::KeyInsteadOfStart) { extent.block.0 } else { start };
                    if address > floor_of(&self.versions.tree(), node, judged_by) {
                        compressed.insert(address, (start, u64::from(extent_blocks), u32::from(stored_blocks)));
                    } else {
                        of_others += extent.count;
                    }
                }
            }
        }
        if of_others > 0 {
            self.versions.note_overwritten(node, of_others);
        }
        for (number, (address, (start, blocks, stored_blocks))) in compressed.into_iter().enumerate() {
            if number % LOOKUPS_AT_ONCE == LOOKUPS_AT_ONCE - 1 {
                self.take_break().await;
            }
            let left = map.lookup(&self.pages, BlockIndex(start), BlockIndex(start + blocks), usize::MAX).await?;
            let shown = |e: &Extent| matches!(&e.content, Content::Data { address: a, .. } if *a == address);
            if !left.iter().any(shown) {
                dead.push((address, stored_blocks));
            }
        }
        Ok(dead)
    }

    /// The parts of a raw run that are the node's to free. The floor is one but where the cursor of a sweep stands inside.
    /// Returns how many blocks are not.
    fn owned_runs(
        &self,
        node: NodeId,
        block: u64,
        address: LogAddress,
        count: u32,
        dead: &mut Vec<(LogAddress, u32)>,
    ) -> u64 {
        let tree = self.versions.tree();
        let floor = |i: u32| floor_of(&tree, node, block + u64::from(i));
        let floors = [floor(0), floor(count - 1)];
        if floors[0] == floors[1] && (address > floors[0]) == (address.next(count - 1) > floors[0]) {
            if address > floors[0] {
                dead.push((address, count));
                return 0;
            }
            return u64::from(count);
        }
        let before = dead.len();
        let owned = (0..count).filter(|i| address.next(*i) > floor(*i));
        dead.extend(owned.map(|i| (address.next(i), 1)));
        u64::from(count) - (dead.len() - before) as u64
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

/// Data that starts at block `start` with an address at or below it is not the node's to free.
fn floor_of(tree: &VersionTree, node: NodeId, start: u64) -> LogAddress {
    if canary::is(Canary::FreeShared) { LogAddress::NONE } else { tree.entry_floor(node, start) }
}

/// A piece of a closed layer as a change of the map.
pub(crate) fn change_of(piece: Piece) -> Extent {
    let content = match piece.place {
        Place::Arena { .. } => unreachable!("a closed layer is sealed"),
        Place::Blank { allocated: true, address } => Content::Zero { address },
        Place::Blank { allocated: false, address } => Content::Hole { address },
        Place::Log { extent, offset, .. } => match extent.encoding {
            Encoding::Raw => Content::Data {
                address: extent.address.next(offset),
                encoding: Encoding::Raw,
                offset: 0,
                extent_blocks: 0,
                stored_blocks: 0,
                checksums: extent.checksums[offset as usize..][..piece.count as usize].into(),
            },
            Encoding::Lz4 => Content::Data {
                address: extent.address,
                encoding: Encoding::Lz4,
                offset: offset as u8,
                extent_blocks: extent.blocks as u8,
                stored_blocks: extent.stored_blocks as u8,
                checksums: extent.checksums[..].into(),
            },
        },
    };
    Extent { block: BlockIndex(piece.block), count: piece.count, content }
}

/// The runs of blocks that the map shows once these changes are in it; a compressed extent once, however many pieces: those already
/// `counted` are left out.
fn born_runs(changes: &[Extent], counted: &mut BTreeSet<LogAddress>) -> Vec<(LogAddress, u32)> {
    let mut runs = Vec::new();
    for change in changes {
        if let Content::Data { address, encoding, stored_blocks, .. } = &change.content {
            match encoding {
                Encoding::Raw => runs.push((*address, change.count as u32)),
                Encoding::Lz4 if counted.insert(*address) => runs.push((*address, u32::from(*stored_blocks))),
                Encoding::Lz4 => {}
            }
        }
    }
    runs
}
