//! What a record will hold: the batch's ranges, as the overlay shows them, cut into extents.
//!
//! Runs are contiguous in the volume; an extent is at most as long as its checksums may be, and shorter where compression
//! pays. Payload is gathered from where it lies in the arena; only compressed data is copied.

use std::collections::VecDeque;
use std::rc::Rc;

use treering_format::record::{DataDescriptor, Descriptor, Encoding};
use treering_format::units::{BlockIndex, LogAddress, SegmentId};
use treering_io::{Buffer, WriteBuffer};

use crate::disk::BLOCK;
use crate::limits::{COMPRESSED_EXTENT_BLOCKS, EXTENT_BLOCKS};
use crate::line::Line;
use crate::log::{Batch, Log, State};
use crate::overlay::{Piece, Place, SealedExtent};

/// One descriptor to be, with what the overlay must learn once it has an address.
pub(super) struct Extent {
    line: Rc<Line>,
    block: u64,
    blocks: u64,
    content: Content,
}

enum Content {
    Data { encoding: Encoding, stored_blocks: u64, checksums: Vec<u32>, parts: Vec<Part>, payload: u32 },
    Blank { allocated: bool },
}

/// A run of the extent that is contiguous in the arena.
struct Part {
    block: u64,
    count: u64,
    position: u64,
}

impl Log {
    /// Collects what the overlay shows of the batch, as extents in order of line and block, with their payload.
    pub(super) fn gather(&self, state: &mut State, mut batch: Batch, payload: &mut Vec<WriteBuffer>) -> Vec<Extent> {
        batch.touched.sort_unstable();
        let mut extents: Vec<Extent> = Vec::new();
        let mut payload_blocks = 0u64;
        let mut ranges = batch.touched.into_iter().peekable();
        while let Some((line_id, from, count)) = ranges.next() {
            let mut to = from + count;
            while let Some(&(next_line, next_from, next_count)) = ranges.peek()
                && next_line == line_id
                && next_from <= to
            {
                to = to.max(next_from + next_count);
                ranges.next();
            }
            let Some(line) = self.shared.lines.get(line_id) else { continue };
            let pieces: Vec<Piece> = {
                let mut overlay = line.overlay.borrow_mut();
                overlay.active().overlapping(from, to).filter(|p| p.place.is_unsealed()).collect()
            };
            self.split_into_extents(state, &line, pieces, &mut extents, payload, &mut payload_blocks);
        }
        extents
    }

    fn split_into_extents(
        &self,
        state: &mut State,
        line: &Rc<Line>,
        pieces: Vec<Piece>,
        extents: &mut Vec<Extent>,
        payload: &mut Vec<WriteBuffer>,
        payload_blocks: &mut u64,
    ) {
        let mut run: Vec<Part> = Vec::new();
        let mut end = 0;
        for piece in pieces {
            match piece.place {
                Place::Arena { position } => {
                    if !run.is_empty() && piece.block != end {
                        self.emit(state, line, std::mem::take(&mut run), extents, payload, payload_blocks);
                    }
                    end = piece.end();
                    run.push(Part { block: piece.block, count: piece.count, position });
                }
                Place::Blank { allocated, .. } => {
                    self.emit(state, line, std::mem::take(&mut run), extents, payload, payload_blocks);
                    extents.push(Extent {
                        line: Rc::clone(line),
                        block: piece.block,
                        blocks: piece.count,
                        content: Content::Blank { allocated },
                    });
                }
                Place::Log { .. } => unreachable!("only unsealed pieces are gathered"),
            }
        }
        self.emit(state, line, run, extents, payload, payload_blocks);
    }

    /// Cuts a contiguous run into extents, compressed where it pays.
    fn emit(
        &self,
        state: &mut State,
        line: &Rc<Line>,
        run: Vec<Part>,
        extents: &mut Vec<Extent>,
        payload: &mut Vec<WriteBuffer>,
        payload_blocks: &mut u64,
    ) {
        let mut rest = run.into_iter().collect::<VecDeque<_>>();
        while !rest.is_empty() {
            let mut compression = line.compression.borrow_mut();
            let available = rest.iter().map(|p| p.count).sum::<u64>();
            let attempt = compression.wants(available.min(COMPRESSED_EXTENT_BLOCKS));
            let compressed = if attempt {
                let parts = take_parts(&mut rest, COMPRESSED_EXTENT_BLOCKS);
                let blocks = parts.iter().map(|p| p.count).sum::<u64>();
                let mut data = Buffer::with_len((blocks * BLOCK) as usize);
                let mut at = 0;
                for part in &parts {
                    let bytes = (part.count * BLOCK) as usize;
                    state.arena.copy_out(part.position, &mut data[at..at + bytes]);
                    at += bytes;
                }
                Some((compression.compress(&data), parts))
            } else {
                None
            };
            drop(compression);
            let (encoding, parts, checksums, buffers) = match compressed {
                Some((Some(stored), parts)) => {
                    let sum = crc32fast::hash(&stored);
                    (Encoding::Lz4, parts, vec![sum], vec![WriteBuffer::Owned(stored)])
                }
                other => {
                    let parts = match other {
                        Some((_, parts)) => parts,
                        None => take_parts(&mut rest, EXTENT_BLOCKS),
                    };
                    let mut sums = Vec::new();
                    let mut buffers = Vec::new();
                    for part in &parts {
                        sums.extend_from_slice(state.arena.checksums(part.position, part.count));
                        buffers.push(WriteBuffer::Shared(state.arena.slice(part.position, part.count)));
                    }
                    (Encoding::Raw, parts, sums, buffers)
                }
            };
            let stored_blocks = buffers.iter().map(|b| buffer_bytes(b) / BLOCK).sum::<u64>();
            let block = parts[0].block;
            let blocks = parts.iter().map(|p| p.count).sum();
            let content = Content::Data { encoding, stored_blocks, checksums, parts, payload: *payload_blocks as u32 };
            extents.push(Extent { line: Rc::clone(line), block, blocks, content });
            payload.extend(buffers);
            *payload_blocks += stored_blocks;
        }
    }
}

impl Extent {
    pub(super) fn descriptor(&self) -> Descriptor {
        let (line, block) = (self.line.id, BlockIndex(self.block));
        match &self.content {
            Content::Data { encoding, stored_blocks, checksums, payload, .. } => Descriptor::Data(DataDescriptor {
                line,
                block,
                count: self.blocks as u16,
                encoding: *encoding,
                stored_blocks: *stored_blocks as u16,
                payload: *payload,
                checksums: checksums.clone(),
            }),
            Content::Blank { allocated: true } => Descriptor::Zero { line, block, count: self.blocks },
            Content::Blank { allocated: false } => Descriptor::Hole { line, block, count: self.blocks },
        }
    }

    /// Tells the overlay where the extent lies in the log.
    pub(super) fn name_in_overlay(self, segment: SegmentId, first_payload: u32, record: LogAddress) {
        let mut overlay = self.line.overlay.borrow_mut();
        let layer = overlay.active();
        match self.content {
            Content::Blank { allocated } => layer.insert(Piece {
                block: self.block,
                count: self.blocks,
                place: Place::Blank { allocated, address: record },
            }),
            Content::Data { encoding, stored_blocks, checksums, parts, payload } => {
                let extent = Rc::new(SealedExtent {
                    address: LogAddress::new(segment, first_payload + payload),
                    encoding,
                    blocks: self.blocks as u32,
                    stored_blocks: stored_blocks as u32,
                    checksums: checksums.into_boxed_slice(),
                });
                for part in parts {
                    let place = Place::Log {
                        extent: Rc::clone(&extent),
                        offset: (part.block - self.block) as u32,
                        position: part.position,
                    };
                    layer.insert(Piece { block: part.block, count: part.count, place });
                }
            }
        }
    }
}

/// Takes parts of at most `most` blocks together from the front.
fn take_parts(rest: &mut VecDeque<Part>, most: u64) -> Vec<Part> {
    let mut taken = Vec::new();
    let mut blocks = 0;
    while blocks < most
        && let Some(mut part) = rest.pop_front()
    {
        let fits = part.count.min(most - blocks);
        if fits < part.count {
            let (block, position) = (part.block + fits, part.position + fits);
            rest.push_front(Part { block, count: part.count - fits, position });
            part.count = fits;
        }
        blocks += fits;
        taken.push(part);
    }
    taken
}

pub(super) fn buffer_bytes(buffer: &WriteBuffer) -> u64 {
    match buffer {
        WriteBuffer::Owned(b) => b.len() as u64,
        WriteBuffer::Counted(b) => b.len() as u64,
        WriteBuffer::Shared(s) => s.len(),
    }
}
