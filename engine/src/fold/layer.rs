//! What a fold does with one closed layer of a line: merges it into a copy of the map, publishes the copy, and says what lives and what is dead.
//!
//! Bits of liveness are set before the copy is published for what it shows now, and cleared behind it for what it shows no more. All of
//! it is done in slices, with breaks between them: what compares bits with maps, or frees what is dead, does so while nobody folds.
//!
//! A compressed extent is live until no piece of it is left; whether one is left is asked of the map itself, over the range
//! the extent once covered, so no count is kept that could go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, OrderNumber};

use crate::canary::{self, Canary};
use crate::line::Line;
use crate::map::{Content, Extent, ExtentMap};
use crate::overlay::{Layer, Piece, Place};
use crate::pages::PageError;
use crate::store::Core;
use crate::versions::tree::{NodeId, VersionTree};

/// Extents looked up in a map without letting others run.
const LOOKUPS_AT_ONCE: usize = 256;

/// Pieces of a layer handled without letting others run: some 200 us of work, whatever is done with them. One volume may have fifty
/// thousand in a round, and thousands of volumes one piece each: what is left over goes without a break.
const PIECES_AT_ONCE: usize = 1024;

impl Core {
    /// Merges a line's closed layers up to an operation, each by itself.
    pub(super) async fn merge_up_to(&self, line: &Line, order: OrderNumber) -> Result<(), PageError> {
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
        self.fold.borrow_mut().passed.push(layer);
        self.free_passed().await;
        Ok(())
    }

    /// Gives back the memory of the layers that were passed. One that a snapshot or a fork still shows, which is not folded yet, is
    /// passed once more when that is.
    pub(super) async fn free_passed(&self) {
        loop {
            let passed = self.fold.borrow_mut().passed.pop();
            let Some(layer) = passed else { return };
            let Some(mut layer) = Rc::into_inner(layer) else { continue };
            while layer.shed(PIECES_AT_ONCE) {
                self.take_break().await;
            }
        }
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
