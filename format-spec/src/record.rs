//! A record: the unit of the log, sealed and checksummed as one, accepted whole or not at all.
//!
//! On disk a record is a header area (a [`RecordHeader`], its [`Descriptor`]s, zeros up to a block's end) and then payload
//! blocks. It starts on a block of its own and shares none, so that a torn write of it cannot harm an older record. The header
//! checksum covers header and descriptors; payload has its own checksums inside the data descriptors, so that a reader of one
//! block needs nothing else. Each header holds the checksum of the one before it: a valid record from an earlier life of the
//! place does not link, and the chain ends there.
//!
//! This file does not know which record ought to come next; replay does.

mod data;
mod descriptor;
mod history;
mod payload;

pub use data::{DATA_BLOCKS_MAX, DataDescriptor, Encoding};
pub use descriptor::{COMPRESSION_AUTO, COMPRESSION_LZ4, COMPRESSION_OFF, Descriptor};
pub use history::{ConfigureCut, DELETE_MAX, ForkCut, ResetCut, SNAPSHOT_VOLUMES_MAX, SnapshotCut, SnapshotDot};
pub use payload::Lz4Prefix;

use crate::bytes::{Reader, Writer};
use crate::checksum::checksum;
use crate::error::{DecodeError, require};
use crate::units::*;

/// The header without its descriptors.
pub const RECORD_HEADER_BYTES: usize = 128;

const STRUCTURE: &str = "record";
const MAGIC: u32 = u32::from_le_bytes(*b"TRec");
const CRC_AT: usize = 4;
/// The checksum covers everything after itself.
const COVERED_FROM: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordHeader {
    /// Checksum of header and descriptors, filled in by `encode`; the next record's `previous_chain`.
    pub header_crc: u32,
    pub store_tag: u64,
    pub mount: Mount,
    pub sequence: RecordSequence,
    /// Of the block that this header starts in.
    pub address: LogAddress,
    pub previous_chain: u32,
    /// The newest record that was known durable when this one was sealed.
    pub attested: RecordSequence,
    /// First and last operation inside. An empty record has `first_order` = `last_order` + 1.
    pub first_order: OrderNumber,
    pub last_order: OrderNumber,
    pub time_ns: u64,
    /// Header and descriptors without padding, filled in by `encode`.
    pub header_bytes: u32,
    /// Filled in by `encode`.
    pub descriptor_count: u32,
    pub payload_blocks: u32,
    /// None is defined; all are written zero and ignored.
    pub flags: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub header: RecordHeader,
    pub descriptors: Vec<Descriptor>,
}

impl RecordHeader {
    pub fn header_blocks(&self) -> u32 {
        self.header_bytes.div_ceil(BLOCK_BYTES as u32)
    }

    pub fn total_blocks(&self) -> u32 {
        self.header_blocks().saturating_add(self.payload_blocks)
    }

    pub fn last_address(&self) -> LogAddress {
        self.address.next(self.total_blocks().saturating_sub(1))
    }

    /// Where the payload block lies that a descriptor calls `payload`.
    pub fn payload_address(&self, payload: u32) -> LogAddress {
        self.address.next(self.header_blocks().saturating_add(payload))
    }

    fn encode(&self, w: &mut Writer) {
        w.u32(MAGIC);
        w.u32(self.header_crc);
        w.u64(self.store_tag);
        w.u64(self.mount.0);
        w.u64(self.sequence.0);
        w.u64(self.address.0);
        w.u64(self.attested.0);
        w.u64(self.first_order.0);
        w.u64(self.last_order.0);
        w.u64(self.time_ns);
        w.u32(self.previous_chain);
        w.u32(self.header_bytes);
        w.u32(self.descriptor_count);
        w.u32(self.payload_blocks);
        w.u32(self.flags);
        w.zeros_up_to(RECORD_HEADER_BYTES);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.magic_u32(MAGIC)?;
        let header_crc = r.u32("header_crc")?;
        let store_tag = r.u64("store_tag")?;
        let mount = Mount(r.u64("mount")?);
        let sequence = RecordSequence(r.u64("sequence")?);
        let address = LogAddress(r.u64("address")?);
        let attested = RecordSequence(r.u64("attested")?);
        let first_order = OrderNumber(r.u64("first_order")?);
        let last_order = OrderNumber(r.u64("last_order")?);
        let time_ns = r.u64("time_ns")?;
        let previous_chain = r.u32("previous_chain")?;
        let header_bytes = r.u32("header_bytes")?;
        let descriptor_count = r.u32("descriptor_count")?;
        let payload_blocks = r.u32("payload_blocks")?;
        let flags = r.u32("flags")?;
        r.seek(RECORD_HEADER_BYTES)?;
        let header = Self {
            header_crc,
            store_tag,
            mount,
            sequence,
            address,
            previous_chain,
            attested,
            first_order,
            last_order,
            time_ns,
            header_bytes,
            descriptor_count,
            payload_blocks,
            flags,
        };
        header.check()?;
        Ok(header)
    }

    /// What any header must satisfy before its lengths are believed: it was not yet checksummed when this is asked.
    fn check(&self) -> Result<(), DecodeError> {
        let bytes = self.header_bytes;
        let whole = bytes as usize >= RECORD_HEADER_BYTES && bytes.is_multiple_of(8);
        require(whole, STRUCTURE, "header_bytes", bytes, "a multiple of 8, at least 128")?;
        let most = (bytes - RECORD_HEADER_BYTES as u32) / 8;
        require(self.descriptor_count <= most, STRUCTURE, "descriptor_count", self.descriptor_count, most)?;
        let address = self.address;
        let placed = address.segment().0 > 0 && address.block() > 0;
        require(placed, STRUCTURE, "address", address, "behind the header of a segment")?;
        let room = SEGMENT_BLOCKS_MAX - address.block();
        require(self.header_blocks() <= room, STRUCTURE, "header_bytes", bytes, "what a segment can hold")?;
        let payload = self.payload_blocks;
        let fits = payload <= room - self.header_blocks();
        require(fits, STRUCTURE, "payload_blocks", payload, "what a segment can hold")?;
        let sequence = self.sequence;
        require(sequence.0 > 0, STRUCTURE, "sequence", sequence, "at least 1")?;
        require(self.attested < sequence, STRUCTURE, "attested", self.attested, "below the record's own sequence")?;
        let ordered = self.first_order.0 <= self.last_order.0.saturating_add(1);
        require(ordered, STRUCTURE, "first_order", self.first_order, "at most last_order + 1")
    }
}

impl Record {
    /// Header and descriptors without padding. Fills in the header's length, count and checksum.
    ///
    /// # Panics
    /// If the result could not be decoded again.
    pub fn encode(header: &mut RecordHeader, descriptors: &[Descriptor]) -> Vec<u8> {
        let len = RECORD_HEADER_BYTES + descriptors.iter().map(Descriptor::encoded_len).sum::<usize>();
        header.header_bytes = u32::try_from(len).expect("encode record: more descriptors than a segment can hold");
        header.descriptor_count = descriptors.len() as u32;
        header.check().unwrap_or_else(|error| panic!("encode record that cannot be read back: {error}"));

        let mut w = Writer::with_capacity(len);
        header.encode(&mut w);
        for descriptor in descriptors {
            descriptor.encode(&mut w, header.payload_blocks);
        }
        header.header_crc = checksum(&w.written()[COVERED_FROM..]);
        w.set_u32(CRC_AT, header.header_crc);
        w.into_bytes()
    }

    /// Whether a record might start in this block, and how long its header area would be. The checksum is not looked at.
    pub fn peek(block: &[u8]) -> Result<RecordHeader, DecodeError> {
        RecordHeader::decode(&mut Reader::of_len(STRUCTURE, block, RECORD_HEADER_BYTES)?)
    }

    /// A record from at least the `header_bytes` that [`peek`](Self::peek) tells; what follows them is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = Self::peek(bytes)?;
        let mut r = Reader::of_len(STRUCTURE, bytes, header.header_bytes as usize)?;
        let found = checksum(&r.rest()[COVERED_FROM..]);
        if found != header.header_crc {
            let expected = header.header_crc;
            return Err(DecodeError::Checksum {
                structure: STRUCTURE,
                field: "header and descriptors",
                found,
                expected,
            });
        }
        r.seek(RECORD_HEADER_BYTES)?;
        let descriptors = (0..header.descriptor_count)
            .map(|_| Descriptor::decode(&mut r, header.payload_blocks))
            .collect::<Result<_, _>>()?;
        let left = r.rest().len();
        require(left == 0, STRUCTURE, "header_bytes", header.header_bytes, format_args!("{left} bytes fewer"))?;
        Ok(Self { header, descriptors })
    }
}
