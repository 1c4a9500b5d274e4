//! The pieces of an operation, in the order in which the engine publishes them: whole blocks up to an eighth of a segment
//! at a time, partial blocks one by one, a blank range at once.

use std::rc::Rc;

use super::{Change, Piece, VolumeKey};
use crate::content::BLOCK;

/// Blocks that the engine publishes under one order number at the most.
pub fn publish_blocks(segment_blocks: u32) -> u64 {
    u64::from(segment_blocks / 8).min(256)
}

pub fn write_pieces(volume: VolumeKey, offset: u64, data: &[u8], chunk_blocks: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let end = offset + data.len() as u64;
    let mut at = offset;
    while at < end {
        let rest = &data[(at - offset) as usize..];
        let within = at % BLOCK;
        if within != 0 || end - at < BLOCK {
            let bytes = (BLOCK - within).min(end - at);
            pieces.push(Piece::Merge { volume, offset: at, bytes: Rc::from(&rest[..bytes as usize]) });
            at += bytes;
        } else {
            let bytes = ((end - at) / BLOCK * BLOCK).min(chunk_blocks * BLOCK);
            let blocks = rest[..bytes as usize].chunks(BLOCK as usize).map(Rc::from).collect();
            pieces.push(Piece::Data { volume, block: at / BLOCK, blocks });
            at += bytes;
        }
    }
    pieces
}

pub fn zero_pieces(volume: VolumeKey, offset: u64, len: u64, allocated: bool) -> Vec<Piece> {
    let merge =
        |from: u64, to: u64| Piece::Merge { volume, offset: from, bytes: Rc::from(vec![0; (to - from) as usize]) };
    let end = offset + len;
    let (first, last) = (offset.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
    if len == 0 {
        return Vec::new();
    }
    if first > last {
        return vec![merge(offset, end)];
    }
    let mut pieces = Vec::new();
    if offset < first {
        pieces.push(merge(offset, first));
    }
    if first < last {
        pieces.push(Piece::Blank { volume, block: first / BLOCK, count: (last - first) / BLOCK, allocated });
    }
    if last < end {
        pieces.push(merge(last, end));
    }
    pieces
}

/// Those of zeroing, whole blocks first.
pub fn trim_pieces(volume: VolumeKey, offset: u64, len: u64) -> Vec<Piece> {
    let mut pieces = zero_pieces(volume, offset, len, false);
    pieces.sort_by_key(|piece| !matches!(piece, Piece::Blank { .. }));
    pieces
}

pub fn resize_pieces(volume: VolumeKey, from: u64, size: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if size < from {
        let keep = size.next_multiple_of(BLOCK);
        if keep > size {
            pieces.extend(zero_pieces(volume, size, keep.min(from) - size, false));
        }
        let (block, end) = (keep / BLOCK, from.div_ceil(BLOCK));
        if block < end {
            pieces.push(Piece::Blank { volume, block, count: end - block, allocated: false });
        }
    }
    pieces.push(Piece::Change(Change::Resize { volume, size }));
    pieces
}
