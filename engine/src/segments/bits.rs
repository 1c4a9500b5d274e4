//! What the liveness tree holds of a segment: which blocks live, and in which containers they lie once the segment was moved.

use std::collections::BTreeSet;

use treering_format::container::SEGMENT_PIECES_MAX;
use treering_format::units::{ContainerId, LogAddress, SegmentId};

use super::{LiveBits, Segments, State};
use crate::map::Tree;
use crate::pages::{PageError, Pages};

/// First byte of a stored piece; those of live bits are lower.
const PIECE: u8 = 3;

/// Bits of a key below the segment's number.
const PART_BITS: u32 = 3;

/// A segment in memory.
#[derive(Clone)]
pub(super) struct Held {
    pub bits: LiveBits,
    pub pieces: Vec<Piece>,
    pub dirty: bool,
    /// Which parts the tree has, a bit for each.
    pub stored: u8,
}

/// Some blocks of a segment, in a container. The n-th of them lies in block `base + n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// 1 to 4.
    pub part: u8,
    pub container: ContainerId,
    pub base: u32,
    pub placed: LiveBits,
}

/// The key of a part of a segment: 0 its live bits, the others its pieces.
pub(super) fn key(segment: SegmentId, part: u8) -> u64 {
    segment.0 << PART_BITS | u64::from(part)
}

pub(super) fn segment_of(key: u64) -> SegmentId {
    SegmentId(key >> PART_BITS)
}

impl Held {
    pub fn empty(blocks: u32) -> Held {
        Held { bits: LiveBits::empty(blocks), pieces: Vec::new(), dirty: false, stored: 0 }
    }

    /// Takes in one entry of the tree.
    pub fn add(&mut self, key: u64, value: &[u8], blocks: u32) -> Result<(), PageError> {
        let part = (key & ((1 << PART_BITS) - 1)) as u8;
        let damaged = |what: String| PageError::value_damaged("liveness", key, what);
        self.stored |= 1 << part;
        match part {
            0 => self.bits = LiveBits::decode(value, blocks).map_err(damaged)?,
            1..=SEGMENT_PIECES_MAX => {
                let piece = Piece::decode(part, value, blocks).map_err(damaged)?;
                if self.pieces.iter().any(|other| !other.placed.and(&piece.placed).is_empty()) {
                    return Err(damaged("two pieces hold one block".into()));
                }
                self.pieces.push(piece);
            }
            _ => return Err(damaged(format!("there is no part {part}"))),
        }
        Ok(())
    }

    /// Live blocks that lie in no piece.
    pub fn unplaced(&self) -> LiveBits {
        self.pieces.iter().fold(self.bits.clone(), |left, piece| left.minus(&piece.placed))
    }

    pub fn piece(&self, part: u8) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.part == part)
    }

    pub fn piece_of(&self, block: u32) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.placed.get(block))
    }

    /// A part that is not used.
    pub fn free_part(&self) -> Option<u8> {
        (1..=SEGMENT_PIECES_MAX).find(|part| self.piece(*part).is_none())
    }
}

impl Piece {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![PIECE];
        bytes.extend_from_slice(&self.container.0.to_le_bytes());
        bytes.extend_from_slice(&self.base.to_le_bytes());
        bytes.extend_from_slice(&self.placed.encode());
        bytes
    }

    fn decode(part: u8, bytes: &[u8], blocks: u32) -> Result<Piece, String> {
        let [PIECE, rest @ ..] = bytes else { return Err("it is no piece".into()) };
        let (Some((container, rest)), true) = (rest.split_first_chunk::<8>(), rest.len() >= 12) else {
            return Err("it is too short for a piece".into());
        };
        let (base, placed) = rest.split_first_chunk::<4>().ok_or("it is too short for a piece")?;
        let (container, base) = (ContainerId(u64::from_le_bytes(*container)), u32::from_le_bytes(*base));
        let placed = LiveBits::decode(placed, blocks)?;
        if u64::from(base) + u64::from(placed.count()) > u64::from(blocks) {
            return Err(format!("{} blocks from block {base} on do not fit a container", placed.count()));
        }
        Ok(Piece { part, container, base, placed })
    }
}

/// A segment as the tree has it.
pub(super) async fn read(tree: &Tree, pages: &Pages, id: SegmentId, blocks: u32) -> Result<Held, PageError> {
    let mut held = Held::empty(blocks);
    for (key, value) in tree.range(pages, key(id, 0), key(SegmentId(id.0 + 1), 0)).await? {
        held.add(key, &value, blocks)?;
    }
    Ok(held)
}

impl Segments {
    /// Brings these segments into memory, for `set` and `clear`. The caller has the fold's turn: nothing is settled meanwhile.
    pub(crate) async fn load_bits(&self, pages: &Pages, ids: impl Iterator<Item = SegmentId>) -> Result<(), PageError> {
        for id in ids {
            if self.0.borrow().live.contains_key(&id) {
                continue;
            }
            let (tree, blocks) = (self.0.borrow().tree.clone(), self.0.borrow().segment_blocks);
            let held = read(&tree, pages, id, blocks).await?;
            self.0.borrow_mut().live.entry(id).or_insert(held);
        }
        Ok(())
    }

    /// As `load_bits`, of the segments that these runs of blocks lie in.
    pub(crate) async fn load_bits_of(
        &self,
        pages: &Pages,
        runs: impl Iterator<Item = &(LogAddress, u32)>,
    ) -> Result<(), PageError> {
        let touched: BTreeSet<SegmentId> = runs.map(|(address, _)| address.segment()).collect();
        self.load_bits(pages, touched.into_iter()).await
    }

    /// A block becomes live once and dead once. If not, map and bits contradict each other, by damage that kept its checksums
    /// or by our bug: the store must not go on from there.
    pub(super) fn change(&self, from: LogAddress, blocks: u32, live: bool) -> Result<(), PageError> {
        let mut state = self.0.borrow_mut();
        let (segment, segment_blocks) = (from.segment(), state.segment_blocks);
        let damaged = |what| Err(PageError::value_damaged("liveness", segment.0, what));
        if u64::from(from.block()) + u64::from(blocks) > u64::from(segment_blocks) {
            return damaged(format!("{blocks} blocks from {from} on do not fit a segment of {segment_blocks}"));
        }
        let State { live: held, by_segment, containers, counted_to, changes, .. } = &mut *state;
        *changes += 1;
        let entry = held.get_mut(&segment).expect("bits are loaded before they change");
        entry.dirty = true;
        for block in from.block()..from.block() + blocks {
            if entry.bits.put(block, live) == live {
                return damaged(format!("block {block} becomes {} twice", if live { "live" } else { "dead" }));
            }
            let piece = entry.piece_of(block);
            if piece.is_some() && live {
                return damaged(format!("block {block} becomes live after it was moved"));
            }
            if segment.0 >= *counted_to {
                continue;
            }
            let count = match piece {
                Some(piece) => containers.get_mut(&piece.container).map(|container| &mut container.live),
                None => by_segment.get_mut(&segment).map(|segment| &mut segment.live),
            };
            match count {
                Some(count) if live => *count += 1,
                Some(count) if *count > 0 => *count -= 1,
                _ => return damaged(format!("block {block} lies in no slot")),
            }
        }
        Ok(())
    }
}
