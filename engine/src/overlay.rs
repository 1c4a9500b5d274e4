//! The overlay of one line: writes that were published and that the fold has not merged into the map yet.
//!
//! It keeps two things true: a read that asks the overlay first and the map second sees the newest published content of each
//! block; and the newest layer holds at most one piece for each block, so that a rewrite absorbs what it replaces *only
//! inside the same layer*. Layers are closed by the fold and by each cut that freezes the line; a closed layer is sealed and never
//! changes again, so the version that was frozen may share it. What is absorbed never reaches the map, and liveness is set by the fold when it
//! inserts into the map: an absorbed piece leaves nothing behind that could leak.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use treering_format::record::Encoding;
use treering_format::units::{LogAddress, OrderNumber};

#[cfg(test)]
mod tests;

/// Memory that one piece costs, with its share of tree node and extent: for accounting, on the safe side.
pub(crate) const PIECE_BYTES: u64 = 192;

/// What a sealed record holds for a run of blocks, shared by all pieces that still show part of it.
#[derive(Debug)]
pub(crate) struct SealedExtent {
    /// Of the first payload block.
    pub address: LogAddress,
    pub encoding: Encoding,
    /// Logical blocks.
    pub blocks: u32,
    pub stored_blocks: u32,
    /// Raw: one for each block; compressed: one over all stored blocks.
    pub checksums: Box<[u32]>,
}

/// Where the content of a piece is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the arena only: published, not sealed.
    Arena { position: u64 },
    /// In the log (the write may be under way), and in the arena as long as `position` stays resident there.
    Log { extent: Rc<SealedExtent>, offset: u32, position: u64 },
    /// Zeros: a hole, or zeros that count as allocated. The address is NONE until sealed.
    Blank { allocated: bool, address: LogAddress },
}

/// Arena position of a piece that never was in the arena (it came from a replay).
pub(crate) const NOT_IN_ARENA: u64 = u64::MAX;

impl Place {
    fn advance(&self, blocks: u64) -> Place {
        match self {
            Place::Arena { position } => Place::Arena { position: position + blocks },
            Place::Log { extent, offset, position } => Place::Log {
                extent: Rc::clone(extent),
                offset: offset + blocks as u32,
                position: if *position == NOT_IN_ARENA { NOT_IN_ARENA } else { position + blocks },
            },
            Place::Blank { .. } => self.clone(),
        }
    }

    pub(crate) fn is_unsealed(&self) -> bool {
        match self {
            Place::Arena { .. } => true,
            Place::Log { .. } => false,
            Place::Blank { address, .. } => *address == LogAddress::NONE,
        }
    }
}

/// A run of blocks of one line with one place.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub block: u64,
    pub count: u64,
    pub place: Place,
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        self.block + self.count
    }

    pub(crate) fn clip(&self, from: u64, to: u64) -> Piece {
        let block = self.block.max(from);
        let end = self.end().min(to);
        Piece { block, count: end - block, place: self.place.advance(block - self.block) }
    }
}

/// Pieces in block order, never overlapping.
#[derive(Default, Debug)]
pub(crate) struct Layer {
    pieces: BTreeMap<u64, (u64, Place)>,
}

impl Layer {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Frees the memory of so many pieces, and says whether any are left.
    pub(crate) fn shed(&mut self, pieces: usize) -> bool {
        (0..pieces).for_each(|_| drop(self.pieces.pop_first()));
        !self.pieces.is_empty()
    }

    /// Puts a piece over whatever the layer holds there.
    pub(crate) fn insert(&mut self, piece: Piece) {
        assert!(piece.count > 0, "a piece has blocks");
        if let Some((count, place)) = self.pieces.get_mut(&piece.block)
            && *count == piece.count
        {
            *place = piece.place;
            return;
        }
        self.clear(piece.block, piece.end());
        self.pieces.insert(piece.block, (piece.count, piece.place));
    }

    fn clear(&mut self, from: u64, to: u64) {
        let mut keep_right = None;
        if let Some((&block, (count, place))) = self.pieces.range_mut(..from).next_back() {
            let end = block + *count;
            if end > from {
                if end > to {
                    keep_right = Some((end - to, place.advance(to - block)));
                }
                *count = from - block;
            }
        }
        while keep_right.is_none() {
            let Some((&block, &(count, _))) = self.pieces.range(from..to).next() else { break };
            let (_, place) = self.pieces.remove(&block).expect("just seen");
            if block + count > to {
                keep_right = Some((block + count - to, place.advance(to - block)));
            }
        }
        if let Some(right) = keep_right {
            self.pieces.insert(to, right);
        }
    }

    /// Pieces that touch `[from, to)`, clipped to it, in block order.
    pub(crate) fn overlapping(&self, from: u64, to: u64) -> impl Iterator<Item = Piece> + '_ {
        let left = self.pieces.range(..from).next_back().filter(move |(block, (count, _))| **block + count > from);
        left.into_iter()
            .chain(self.pieces.range(from..to))
            .map(move |(&block, (count, place))| Piece { block, count: *count, place: place.clone() }.clip(from, to))
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.pieces.iter().map(|(&block, (count, place))| Piece { block, count: *count, place: place.clone() })
    }
}

/// The layers of one line: what it shows above its map.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Of a fork whose source is not folded yet: what it shows below all of its own. Oldest first.
    base: Vec<Rc<Layer>>,
    /// Oldest first. Frozen versions that are not folded yet share them.
    closed: VecDeque<Closed>,
    /// Takes new writes.
    active: Layer,
}

/// A layer that takes no more writes.
#[derive(Debug)]
struct Closed {
    /// The operation that it was closed behind: everything in it is at or below.
    upto: OrderNumber,
    layer: Rc<Layer>,
}

impl Overlay {
    pub(crate) fn new() -> Overlay {
        Overlay::default()
    }

    /// Of a fork: it begins with what its source shows above the source's map.
    pub(crate) fn over(base: Vec<Rc<Layer>>) -> Overlay {
        Overlay { base, ..Overlay::default() }
    }

    pub(crate) fn active(&mut self) -> &mut Layer {
        &mut self.active
    }

    /// Closes the active layer behind operation `upto`. Every piece in it must be sealed: a closed layer is merged, and shared
    /// with versions, without another look.
    pub(crate) fn close_layer(&mut self, upto: OrderNumber) {
        if self.active.is_empty() {
            return;
        }
        // Not asked in a build that people use: a cut must not take as long as the layer has pieces.
        debug_assert!(self.active.pieces().all(|p| !p.place.is_unsealed()), "a layer closes behind the seal");
        assert!(self.closed.back().is_none_or(|before| before.upto < upto), "layers close in order");
        self.closed.push_back(Closed { upto, layer: Rc::new(std::mem::take(&mut self.active)) });
    }

    /// The oldest closed layer, if nothing in it is newer than `upto`.
    pub(crate) fn oldest_closed(&self, upto: OrderNumber) -> Option<Rc<Layer>> {
        self.closed.front().filter(|closed| closed.upto <= upto).map(|closed| Rc::clone(&closed.layer))
    }

    /// Forgets the oldest closed layer: the map shows its content now.
    pub(crate) fn drop_oldest(&mut self) {
        assert!(self.closed.pop_front().is_some(), "only a closed layer may go");
    }

    /// Forgets everything, and returns it: the volume was removed, and what was never merged was never live.
    pub(crate) fn drop_all(&mut self) -> Vec<Rc<Layer>> {
        let Overlay { base, closed, active } = std::mem::take(self);
        base.into_iter().chain(closed.into_iter().map(|closed| closed.layer)).chain([Rc::new(active)]).collect()
    }

    /// Forgets the source's layers, and returns them: the map shows their content now.
    pub(crate) fn drop_base(&mut self) -> Vec<Rc<Layer>> {
        std::mem::take(&mut self.base)
    }

    /// What is shown above the map, oldest first, for a version that is frozen here.
    pub(crate) fn frozen(&self) -> Vec<Rc<Layer>> {
        assert!(self.active.is_empty(), "a version is frozen behind closed layers");
        self.base.iter().chain(self.closed.iter().map(|closed| &closed.layer)).cloned().collect()
    }

    /// The newest content of `[from, to)`: found pieces and the gaps between them, both in block order.
    pub(crate) fn lookup(&self, from: u64, to: u64) -> (Vec<Piece>, Vec<(u64, u64)>) {
        let closed = self.closed.iter().rev().map(|closed| &*closed.layer);
        let base = self.base.iter().rev().map(|layer| &**layer);
        lookup_in(std::iter::once(&self.active).chain(closed).chain(base), from, to)
    }
}

/// The newest content of `[from, to)` in these layers: found pieces and the gaps between them, both in block order.
pub(crate) fn lookup_in<'a>(
    newest_first: impl Iterator<Item = &'a Layer>,
    from: u64,
    to: u64,
) -> (Vec<Piece>, Vec<(u64, u64)>) {
    let mut found = Vec::new();
    let mut gaps = vec![(from, to)];
    for layer in newest_first.filter(|layer| !layer.is_empty()) {
        if gaps.is_empty() {
            break;
        }
        let mut rest = Vec::new();
        for (from, to) in gaps {
            let mut at = from;
            for piece in layer.overlapping(from, to) {
                if piece.block > at {
                    rest.push((at, piece.block));
                }
                at = piece.end();
                found.push(piece);
            }
            if at < to {
                rest.push((at, to));
            }
        }
        gaps = rest;
    }
    found.sort_unstable_by_key(|p| p.block);
    (found, gaps)
}
