//! The fold: the map is the log, read in order.
//!
//! One round takes everything sealed at one moment, closes the overlay's layers behind it, waits until all of it is written
//! (the map never shows what the log does not hold), merges each line's layer into a copy of its map, publishes the copy and
//! only then drops the layer: a reader finds each block in one of the two at any moment. Liveness changes in the same step as
//! the root: bits are set for what the map shows now, cleared for what it shows no more.
//!
//! A compressed extent is live until no piece of it is left; whether one is left is asked of the map itself, over the range
//! the extent once covered, so no count is kept that could go wrong.
//!
//! Nothing here is durable: that is the checkpoint's work, and recovery is this same fold from the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treering_format::record::{Descriptor, Encoding};
use treering_format::units::{BlockIndex, LogAddress, SegmentId};

use crate::canary::{self, Canary};
use crate::error::Failure;
use crate::line::Line;
use crate::log::Frontier;
use crate::map::{Content, Extent, ExtentMap};
use crate::overlay::{Layer, Place};
use crate::pages::PageError;
use crate::store::Core;

/// Blocks cleared at once when a volume goes: bounds what one merge holds in memory.
const CLEAR_STEP_BLOCKS: u64 = 1 << 16;

/// How the fold stands.
pub(crate) struct Fold {
    /// Everything up to here is in the map.
    pub reached: Frontier,
    /// Bytes this process had sealed when the fold reached it.
    pub reached_bytes: u64,
    /// Catalog changes published and not folded yet.
    pub cuts: Vec<Descriptor>,
}

impl Core {
    /// Folds everything published so far. Any error here is final for the store: the map could not follow the log.
    pub(crate) async fn fold_round(&self) -> Result<Frontier, Rc<Failure>> {
        let _turn = self.fold_turn.take().await;
        self.fold_to_now().await
    }

    /// The round itself, for callers that have the turn.
    pub(crate) async fn fold_to_now(&self) -> Result<Frontier, Rc<Failure>> {
        self.health.check()?;
        self.pressure.fold.set(false);
        if !self.read_only {
            self.log.seal_now();
        }
        let (target, bytes) = (self.log.sealed(), self.log.sealed_bytes());
        // No waiting between the seal and here: a closed layer holds sealed pieces only.
        let lines = self.lines.all();
        let closed: Vec<Rc<Line>> =
            lines.into_iter().filter(|l| l.overlay.borrow_mut().close_layer() || l.removed.get()).collect();
        let cuts = std::mem::take(&mut self.fold.borrow_mut().cuts);
        if !self.read_only && !canary::is(Canary::FoldAheadOfDurability) {
            self.log.wait_written(target).await?;
        }
        for line in &closed {
            if !line.removed.get() {
                let merged = self.merge_line(line).await;
                merged.map_err(|error| self.map_failed(error))?;
            }
        }
        for cut in &cuts {
            let removed = self.catalog.borrow_mut().fold(cut);
            if let Some(id) = removed
                && let Some(line) = self.lines.remove(id)
            {
                self.clear_line(&line).await.map_err(|error| self.map_failed(error))?;
            }
        }
        {
            let mut fold = self.fold.borrow_mut();
            fold.reached = target;
            fold.reached_bytes = bytes;
        }
        self.pressure.folded_order.set(target.order.0);
        self.count_dirty();
        self.health.progress().notify_all();
        Ok(target)
    }

    /// Merges the oldest closed layer of a line.
    async fn merge_line(&self, line: &Line) -> Result<(), PageError> {
        let changes = match line.overlay.borrow().oldest_closed() {
            Some(layer) => changes_of(layer),
            None => return Ok(()),
        };
        let mut map = line.map.borrow().clone();
        let mut displaced = Vec::new();
        map.merge(&self.pages, self.disk.io(), &changes, None, &mut |extent| displaced.push(extent)).await?;
        let dead = self.dead_runs(&map, displaced).await?;
        let born = born_runs(&changes);
        let touched: BTreeSet<SegmentId> = born.iter().chain(&dead).map(|(address, _)| address.segment()).collect();
        self.segments.load_bits(&self.pages, touched.into_iter()).await?;
        // From here to the end nothing waits: bits, root and overlay change as one.
        for (address, blocks) in born {
            let replayed = address.segment() < self.first_segment && canary::is(Canary::ReplayDoesNotSetBits);
            if !replayed {
                self.segments.set(address, blocks)?;
            }
        }
        for (address, blocks) in dead {
            if !canary::is(Canary::OverlayLeak) {
                self.segments.clear(address, blocks)?;
            }
        }
        *line.map.borrow_mut() = map;
        line.overlay.borrow_mut().drop_oldest();
        self.pages.check_consistent()
    }

    /// Releases everything that a removed volume's map showed, in steps.
    async fn clear_line(&self, line: &Line) -> Result<(), PageError> {
        let mut map = line.map.borrow().clone();
        let mut from = 0;
        loop {
            let next = map.lookup(&self.pages, BlockIndex(from), BlockIndex(u64::MAX), 1).await?;
            let Some(first) = next.first() else { break };
            let begin = first.block.0;
            let end = begin.saturating_add(first.count.max(CLEAR_STEP_BLOCKS));
            let hole = Extent {
                block: BlockIndex(begin),
                count: end - begin,
                content: Content::Hole { address: self.fold.borrow().reached.address },
            };
            let mut displaced = Vec::new();
            map.merge(&self.pages, self.disk.io(), &[hole], None, &mut |extent| displaced.push(extent)).await?;
            let dead = self.dead_runs(&map, displaced).await?;
            let touched: BTreeSet<SegmentId> = dead.iter().map(|(address, _)| address.segment()).collect();
            self.segments.load_bits(&self.pages, touched.into_iter()).await?;
            for (address, blocks) in dead {
                self.segments.clear(address, blocks)?;
            }
            from = end;
        }
        map.release_all(&self.pages).await?;
        self.pages.check_consistent()
    }

    /// The runs of blocks that no piece of the map shows any more, now that these pieces were displaced from it.
    async fn dead_runs(&self, map: &ExtentMap, displaced: Vec<Extent>) -> Result<Vec<(LogAddress, u32)>, PageError> {
        let mut dead = Vec::new();
        let mut compressed: BTreeMap<LogAddress, (u64, u64, u32)> = BTreeMap::new();
        for extent in displaced {
            let Content::Data { address, encoding, offset, extent_blocks, stored_blocks, .. } = extent.content else {
                continue;
            };
            match encoding {
                Encoding::Raw => dead.push((address, extent.count as u32)),
                Encoding::Lz4 => {
                    let start = extent.block.0 - u64::from(offset);
                    compressed.insert(address, (start, u64::from(extent_blocks), u32::from(stored_blocks)));
                }
            }
        }
        for (address, (start, blocks, stored_blocks)) in compressed {
            let left = map.lookup(&self.pages, BlockIndex(start), BlockIndex(start + blocks), usize::MAX).await?;
            let shown = |e: &Extent| matches!(&e.content, Content::Data { address: a, .. } if *a == address);
            if !left.iter().any(shown) {
                dead.push((address, stored_blocks));
            }
        }
        Ok(dead)
    }

    fn count_dirty(&self) {
        let maps: usize = self.lines.all().iter().map(|l| l.map.borrow().dirty_nodes()).sum();
        self.pressure.dirty_nodes.set(maps as u64);
    }

    pub(crate) fn map_failed(&self, error: PageError) -> Rc<Failure> {
        self.health.fail("folding the log into the map", std::io::Error::other(error.to_string()))
    }
}

/// A layer as changes of the map.
fn changes_of(layer: &Layer) -> Vec<Extent> {
    let change = |piece: crate::overlay::Piece| {
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
    };
    layer.pieces().map(change).collect()
}

/// The runs of blocks that the map shows once these changes are in it; a compressed extent once, however many pieces.
fn born_runs(changes: &[Extent]) -> Vec<(LogAddress, u32)> {
    let mut runs = Vec::new();
    let mut compressed = BTreeSet::new();
    for change in changes {
        if let Content::Data { address, encoding, stored_blocks, .. } = &change.content {
            match encoding {
                Encoding::Raw => runs.push((*address, change.count as u32)),
                Encoding::Lz4 if compressed.insert(*address) => runs.push((*address, u32::from(*stored_blocks))),
                Encoding::Lz4 => {}
            }
        }
    }
    runs
}
