//! Seal: one record out of everything published since the last one.
//!
//! The batch says which ranges were touched; what the record holds is what the overlay *shows* of them. So a block rewritten
//! inside the batch is in the record once, with its newest content, and the order of descriptors inside a record does not
//! matter: no two overlap. Runs are sorted by line and block, neighbours are merged, each extent is compressed if that pays,
//! and only then do addresses exist: pieces of the overlay learn theirs here. All of it happens without waiting.
//!
//! A record that does not fit the open segment closes it (footer) and opens the next one. Sizes are bounded by
//! `Limits::record_blocks`, so a record always fits a fresh segment.

use std::rc::Rc;

use treering_format::record::{DataDescriptor, Descriptor, Encoding, RECORD_HEADER_BYTES, Record, RecordHeader};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::units::{BlockIndex, LogAddress, OrderNumber, RecordSequence, SegmentId};
use treering_io::{Buffer, Durability, WriteBuffer};

use super::{Batch, Frontier, Log, LogWrite, OpenSegment, State, store_tag};
use crate::disk::BLOCK;
use crate::limits::{COMPRESSED_EXTENT_BLOCKS, EXTENT_BLOCKS};
use crate::line::Line;
use crate::overlay::{Piece, Place, SealedExtent};

/// A write that has its place in the log and was not submitted yet.
pub(super) struct Unsubmitted {
    offset: u64,
    buffers: Vec<WriteBuffer>,
    reaches: Frontier,
    arena: u64,
}

/// One descriptor to be, with what the overlay must learn once it has an address.
struct Extent {
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
    /// Seals the batch, and the cut behind it if there is one, and submits the write.
    pub(super) fn seal(&self, cut: Option<Descriptor>) {
        for write in self.seal_record(cut) {
            self.submit(write, Durability::Volatile);
        }
    }

    /// Seals without submitting: writes come back in the order in which they must be submitted.
    pub(super) fn seal_record(&self, cut: Option<Descriptor>) -> Vec<Unsubmitted> {
        let mut state = self.shared.state.borrow_mut();
        let state = &mut *state;
        let batch = std::mem::take(&mut state.batch);
        if batch.touched.is_empty() && cut.is_none() {
            return Vec::new();
        }
        let mut payload = Vec::new();
        let extents = self.gather(state, batch, &mut payload);
        let mut descriptors: Vec<Descriptor> = extents.iter().map(Extent::descriptor).collect();
        descriptors.extend(cut);

        let payload_blocks = payload.iter().map(|b| buffer_bytes(b) / BLOCK).sum::<u64>() as u32;
        let mut header = RecordHeader {
            header_crc: 0,
            store_tag: store_tag(&self.shared.identity.store),
            mount: self.shared.identity.mount,
            sequence: RecordSequence(state.sealed.sequence.0 + 1),
            address: LogAddress::NONE,
            previous_chain: state.sealed.chain,
            attested: state.durable.sequence,
            first_order: OrderNumber(state.sealed.order.0 + 1),
            last_order: OrderNumber(state.next_order.0 - 1),
            time_ns: self.shared.disk.io().wall_clock(),
            header_bytes: (RECORD_HEADER_BYTES + descriptors.iter().map(Descriptor::encoded_len).sum::<usize>()) as u32,
            descriptor_count: descriptors.len() as u32,
            payload_blocks,
            flags: 0,
        };
        let mut writes = Vec::new();
        let header_blocks = header.header_bytes.div_ceil(BLOCK as u32);
        let total = header_blocks + payload_blocks;
        let Some(prefix) = self.make_room(state, total, header.header_bytes, &mut writes) else {
            return writes;
        };
        let open = state.open.as_mut().expect("room was made in an open segment");
        header.address = LogAddress::new(open.id, open.next_block);
        let encoded = Record::encode(&mut header, &descriptors);
        let first_payload = open.next_block + header_blocks;
        for extent in extents {
            extent.name_in_overlay(open.id, first_payload, header.address);
        }

        let start_block = if prefix.is_some() { 0 } else { open.next_block };
        let mut buffers: Vec<WriteBuffer> = prefix.into_iter().collect();
        buffers.push(WriteBuffer::Owned(padded(&encoded)));
        buffers.extend(payload);
        open.footer.extend_from_slice(&encoded);
        open.records += 1;
        open.next_block += total;
        let (id, slot, next_block) = (open.id, open.slot, open.next_block);
        state.sealed = Frontier {
            sequence: header.sequence,
            order: header.last_order,
            address: LogAddress::new(id, next_block - 1),
            chain: header.header_crc,
            next: LogAddress::new(id, next_block),
        };
        state.sealed_bytes += u64::from(total) * BLOCK;
        state.records += 1;
        writes.push(Unsubmitted {
            offset: self.shared.disk.geometry().offset(slot, start_block),
            buffers,
            reaches: state.sealed,
            arena: state.arena.head(),
        });
        writes
    }

    /// Submits one write; when it and all before it are done, the frontier of written records moves.
    pub(super) fn submit(&self, write: Unsubmitted, durability: Durability) {
        let number = {
            let mut state = self.shared.state.borrow_mut();
            let number = state.next_write;
            state.next_write += 1;
            state.writes.push_back(LogWrite { number, done: false, reaches: write.reaches, arena: write.arena });
            number
        };
        let log = self.clone();
        let disk = self.shared.disk.clone();
        let pending = disk.io().write_at(disk.file(), write.offset, write.buffers, durability);
        disk.io()
            .spawn(async move {
                let result = pending.await;
                let doing = || format!("writing record {} of the log", write.reaches.sequence);
                if log.shared.health.check().is_ok() && log.shared.health.require(doing(), result).is_ok() {
                    log.complete(number, durability);
                }
            })
            .detach();
    }

    fn complete(&self, number: u64, durability: Durability) {
        {
            let mut state = self.shared.state.borrow_mut();
            let state = &mut *state;
            let write = state.writes.iter_mut().find(|w| w.number == number).expect("a submitted write is listed");
            write.done = true;
            // Only the sync leader submits a durable write, and only when all before it was durable already. What was
            // submitted after it and completed before it is written, and no more than that.
            if durability == Durability::Durable {
                state.durable = state.durable.max(write.reaches);
            }
            while let Some(first) = state.writes.front()
                && first.done
            {
                state.written = first.reaches;
                state.arena.release(first.arena, first.reaches.order);
                state.writes.pop_front();
            }
        }
        self.seal_if_due();
        self.shared.health.progress().notify_all();
    }

    /// Collects what the overlay shows of the batch, as extents in order of line and block, with their payload.
    fn gather(&self, state: &mut State, mut batch: Batch, payload: &mut Vec<WriteBuffer>) -> Vec<Extent> {
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
        let mut rest = run.into_iter().collect::<std::collections::VecDeque<_>>();
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

    /// Sees to it that a record of `total` blocks fits the open segment. Returns the segment header to write in front of the
    /// record when a segment was just opened; None when the store has no slot left, which admission must have prevented.
    fn make_room(
        &self,
        state: &mut State,
        total: u32,
        header_bytes: u32,
        writes: &mut Vec<Unsubmitted>,
    ) -> Option<Option<WriteBuffer>> {
        let segment_blocks = self.shared.disk.geometry().segment_blocks;
        if let Some(open) = &state.open {
            let footer = SegmentFooter::blocks(open.footer.len() + header_bytes as usize);
            if open.next_block + total + footer <= segment_blocks {
                return Some(None);
            }
            self.close_segment(state, writes);
        }
        let footer = SegmentFooter::blocks(header_bytes as usize);
        assert!(1 + total + footer <= segment_blocks, "a record of {total} blocks fits a fresh segment");
        let Some(slot) = state.successor.take().or_else(|| self.shared.segments.reserve()) else {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            self.shared.health.fail("opening a segment: no free slot although space was reserved", full);
            return None;
        };
        let id = state.next_segment;
        state.next_segment = SegmentId(id.0 + 1);
        self.shared.segments.open(id, slot);
        state.successor = self.shared.segments.reserve();
        let header = SegmentHeader {
            store_id: self.shared.identity.store,
            segment: id,
            mount: self.shared.identity.mount,
            slot,
            next_slot: state.successor,
            first_sequence: RecordSequence(state.sealed.sequence.0 + 1),
            previous_segment: state.previous_segment,
            previous_chain: state.sealed.chain,
            created_ns: self.shared.disk.io().wall_clock(),
            ..SegmentHeader::default()
        };
        state.open = Some(OpenSegment {
            id,
            slot,
            next_block: 1,
            first_sequence: header.first_sequence,
            records: 0,
            footer: Vec::new(),
        });
        Some(Some(WriteBuffer::Owned(Buffer::from(&header.encode()[..]))))
    }

    /// Writes the footer: all record headers of the segment, and where the log goes on.
    fn close_segment(&self, state: &mut State, writes: &mut Vec<Unsubmitted>) {
        let Some(open) = state.open.take() else { return };
        if state.successor.is_none() {
            state.successor = self.shared.segments.reserve();
        }
        let geometry = self.shared.disk.geometry();
        let block = geometry.segment_blocks - SegmentFooter::blocks(open.footer.len());
        let mut footer = SegmentFooter {
            store_id: self.shared.identity.store,
            segment: open.id,
            mount: self.shared.identity.mount,
            first_sequence: open.first_sequence,
            last_sequence: state.sealed.sequence,
            last_chain: state.sealed.chain,
            record_count: open.records,
            next_segment: state.next_segment,
            next_slot: state.successor,
            body_block: block,
            ..SegmentFooter::default()
        };
        let bytes = footer.encode(&open.footer);
        writes.push(Unsubmitted {
            offset: geometry.offset(open.slot, block),
            buffers: vec![WriteBuffer::Owned(Buffer::from(&bytes[..]))],
            reaches: state.sealed,
            arena: 0,
        });
        self.shared.segments.close(open.id, state.sealed.sequence);
        state.previous_segment = open.id;
    }
}

impl Extent {
    fn descriptor(&self) -> Descriptor {
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
    fn name_in_overlay(self, segment: SegmentId, first_payload: u32, record: LogAddress) {
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
fn take_parts(rest: &mut std::collections::VecDeque<Part>, most: u64) -> Vec<Part> {
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

fn buffer_bytes(buffer: &WriteBuffer) -> u64 {
    match buffer {
        WriteBuffer::Owned(b) => b.len() as u64,
        WriteBuffer::Counted(b) => b.len() as u64,
        WriteBuffer::Shared(s) => s.len(),
    }
}

fn padded(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::zeroed(bytes.len().next_multiple_of(BLOCK as usize));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer
}
