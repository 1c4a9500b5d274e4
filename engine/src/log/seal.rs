//! Seal: one record out of everything published since the last one.
//!
//! The batch says which ranges were touched; what the record holds is what the overlay *shows* of them. So a block rewritten
//! inside the batch is in the record once, with its newest content, and the order of descriptors inside a record does not
//! matter: no two overlap. Runs are sorted by line and block, neighbours are merged, each extent is compressed if that pays,
//! and only then do addresses exist: pieces of the overlay learn theirs here. All of it happens without waiting.
//!
//! A record that does not fit the open segment closes it (footer) and opens the next one. Sizes are bounded by
//! `Limits::record_blocks`, so a record always fits a fresh segment.

use std::ops::Range;

use treering_format::record::{Descriptor, RECORD_HEADER_BYTES, Record, RecordHeader};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::units::{LogAddress, OrderNumber, RecordSequence, SegmentId};
use treering_io::{Buffer, Durability, WriteBuffer};

use super::{Frontier, Log, LogWrite, OpenSegment, State};
use crate::disk::BLOCK;

mod extents;

use extents::{Extent, buffer_bytes};

/// A write that has its place in the log and was not submitted yet.
pub(super) struct Unsubmitted {
    offset: u64,
    buffers: Vec<WriteBuffer>,
    reaches: Frontier,
    arena: u64,
}

impl Unsubmitted {
    /// Of the file.
    fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.buffers.iter().map(buffer_bytes).sum::<u64>()
    }
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
            store_tag: self.shared.identity.store.tag(),
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
        let bytes = write.bytes();
        let io = self.shared.disk.io();
        if self.is_ahead(&bytes) {
            let log = self.clone();
            io.spawn(async move {
                log.ahead_ended(&bytes).await;
                if log.shared.health.check().is_ok() {
                    log.write_out(number, write, durability).await;
                }
            })
            .detach();
        } else {
            io.spawn(self.write_out(number, write, durability)).detach();
        }
    }

    /// The write is submitted before this returns, and noted when what is returned ends.
    fn write_out(&self, number: u64, write: Unsubmitted, durability: Durability) -> impl Future<Output = ()> + 'static {
        let log = self.clone();
        let disk = &self.shared.disk;
        let pending = disk.io().write_at(disk.file(), write.offset, write.buffers, durability);
        async move {
            let result = pending.await;
            let doing = || format!("writing record {} of the log", write.reaches.sequence);
            if log.shared.health.check().is_ok() && log.shared.health.require(doing(), result).is_ok() {
                log.complete(number, durability);
            }
        }
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
        state.ahead.move_on();
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
        state.ahead.leave(open.slot, geometry.offset(open.slot, 0) + geometry.slot_bytes());
        self.shared.segments.close(open.id, state.sealed.sequence);
        state.previous_segment = open.id;
    }
}

fn padded(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::zeroed(bytes.len().next_multiple_of(BLOCK as usize));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer
}
