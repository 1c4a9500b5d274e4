//! A segment: one stretch of the log in one slot, with a header in its first block and, once sealed, a footer at its end.
//!
//! The header says which segment a slot holds now, for a slot is used again and again and its old blocks still carry valid
//! checksums. The footer repeats every record header of the segment, so that replay reads a few blocks instead of walking the
//! whole; it is a convenience: whatever it says, the records say too, and a segment whose footer is missing or bad is walked.

use crate::bytes::{Reader, Writer};
use crate::checksum::checksum;
use crate::error::{DecodeError, require};
use crate::record::Record;
use crate::units::*;

const HEADER: &str = "segment header";
const FOOTER: &str = "segment footer";
const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"TRSEGMNT");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"TRSEGEND");
const CRC_AT: usize = 8;

/// Block 0 of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentHeader {
    pub store_id: StoreId,
    pub segment: SegmentId,
    pub mount: Mount,
    pub slot: SlotIndex,
    /// The slot set aside for the segment after this one, if one was: the way on where no footer tells it.
    pub next_slot: Option<SlotIndex>,
    /// Of the first record in here.
    pub first_sequence: RecordSequence,
    pub previous_segment: SegmentId,
    /// The header checksum of the last record before this segment.
    pub previous_chain: u32,
    /// Set aside for encryption: zero.
    pub salt: [u8; 16],
    pub created_ns: u64,
}

/// The last block of a sealed segment, which tells where its body lies: all record headers with their descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentFooter {
    pub store_id: StoreId,
    pub segment: SegmentId,
    pub mount: Mount,
    /// The block in the segment where the body begins.
    pub body_block: u32,
    /// Filled in by `encode`.
    pub body_bytes: u32,
    /// Filled in by `encode`.
    pub body_crc: u32,
    pub record_count: u32,
    pub first_sequence: RecordSequence,
    pub last_sequence: RecordSequence,
    /// The header checksum of the last record.
    pub last_chain: u32,
    /// 0: not known when this was written.
    pub next_segment: SegmentId,
    /// Where that segment lies.
    pub next_slot: Option<SlotIndex>,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut w = Writer::with_capacity(BLOCK_BYTES);
        w.u64(HEADER_MAGIC);
        w.u32(0); // the checksum, below
        w.zeros(4);
        w.bytes(&self.store_id.0);
        w.u64(self.segment.0);
        w.u64(self.mount.0);
        w.u64(self.slot.0);
        w.u64(slot_plus_one(self.next_slot));
        w.u64(self.first_sequence.0);
        w.u64(self.previous_segment.0);
        w.u32(self.previous_chain);
        w.zeros(4);
        w.bytes(&self.salt);
        w.u64(self.created_ns);
        w.into_sealed_block(CRC_AT)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len(HEADER, bytes, BLOCK_BYTES)?;
        r.magic(HEADER_MAGIC)?;
        r.block_checksum(&bytes[..BLOCK_BYTES], CRC_AT)?;
        r.skip(4)?;
        let store_id = StoreId(r.array("store_id")?);
        let segment = segment_id(HEADER, r.u64("segment")?)?;
        let mount = Mount(r.u64("mount")?);
        let slot = SlotIndex(r.u64("slot")?);
        let next_slot = slot_of(r.u64("next_slot")?);
        let first_sequence = RecordSequence(r.u64("first_sequence")?);
        let previous_segment = SegmentId(r.u64("previous_segment")?);
        let previous_chain = r.u32("previous_chain")?;
        r.skip(4)?;
        let salt = r.array("salt")?;
        let created_ns = r.u64("created_ns")?;
        Ok(Self {
            store_id,
            segment,
            mount,
            slot,
            next_slot,
            first_sequence,
            previous_segment,
            previous_chain,
            salt,
            created_ns,
        })
    }
}

impl SegmentFooter {
    /// Blocks that a footer with a body of so many bytes takes.
    pub fn blocks(body_bytes: usize) -> u32 {
        (body_bytes.div_ceil(BLOCK_BYTES) + 1) as u32
    }

    /// Body and trailer block; to be written so that it ends with the segment. Fills in the body's length and checksum.
    pub fn encode(&mut self, body: &[u8]) -> Vec<u8> {
        self.body_bytes = u32::try_from(body.len()).expect("encode segment footer: a body larger than any segment");
        self.body_crc = checksum(body);
        self.check().unwrap_or_else(|error| panic!("encode segment footer that cannot be read back: {error}"));

        let mut w = Writer::with_capacity(BLOCK_BYTES);
        w.u64(FOOTER_MAGIC);
        w.u32(0); // the checksum, below
        w.zeros(4);
        w.bytes(&self.store_id.0);
        w.u64(self.segment.0);
        w.u64(self.mount.0);
        w.u64(self.first_sequence.0);
        w.u64(self.last_sequence.0);
        w.u64(self.next_segment.0);
        w.u64(slot_plus_one(self.next_slot));
        w.u32(self.body_block);
        w.u32(self.body_bytes);
        w.u32(self.body_crc);
        w.u32(self.record_count);
        w.u32(self.last_chain);
        let trailer = w.into_sealed_block(CRC_AT);

        let mut footer = Writer::with_capacity(body.len() + 2 * BLOCK_BYTES);
        footer.bytes(body);
        footer.align(BLOCK_BYTES);
        footer.bytes(&trailer);
        footer.into_bytes()
    }

    pub fn decode_trailer(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len(FOOTER, bytes, BLOCK_BYTES)?;
        r.magic(FOOTER_MAGIC)?;
        r.block_checksum(&bytes[..BLOCK_BYTES], CRC_AT)?;
        r.skip(4)?;
        let store_id = StoreId(r.array("store_id")?);
        let segment = segment_id(FOOTER, r.u64("segment")?)?;
        let mount = Mount(r.u64("mount")?);
        let first_sequence = RecordSequence(r.u64("first_sequence")?);
        let last_sequence = RecordSequence(r.u64("last_sequence")?);
        let next_segment = SegmentId(r.u64("next_segment")?);
        let next_slot = slot_of(r.u64("next_slot")?);
        let body_block = r.u32("body_block")?;
        let body_bytes = r.u32("body_bytes")?;
        let body_crc = r.u32("body_crc")?;
        let record_count = r.u32("record_count")?;
        let last_chain = r.u32("last_chain")?;
        let footer = Self {
            store_id,
            segment,
            mount,
            body_block,
            body_bytes,
            body_crc,
            record_count,
            first_sequence,
            last_sequence,
            last_chain,
            next_segment,
            next_slot,
        };
        footer.check()?;
        Ok(footer)
    }

    /// The body out of the blocks read for it, once its checksum holds.
    pub fn body<'a>(&self, blocks: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let body = Reader::new(FOOTER, blocks).slice("body", self.body_bytes as usize)?;
        let found = checksum(body);
        if found == self.body_crc {
            return Ok(body);
        }
        Err(DecodeError::Checksum { structure: FOOTER, field: "body", found, expected: self.body_crc })
    }

    /// The records of a body, each verified by its own checksum. Ends at the first that does not hold.
    pub fn iterate(body: &[u8]) -> impl Iterator<Item = Result<Record, DecodeError>> + '_ {
        let mut rest = body;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let record = Record::decode(rest);
            rest = match &record {
                Ok(record) => &rest[record.header.header_bytes as usize..],
                Err(_) => &[],
            };
            Some(record)
        })
    }

    /// The body lies between the segment's header and this trailer, which a segment of the largest size still holds.
    fn check(&self) -> Result<(), DecodeError> {
        let blocks = u64::from(self.body_bytes).div_ceil(BLOCK_BYTES as u64);
        let end = u64::from(self.body_block) + blocks;
        let inside = self.body_block >= 1 && end < u64::from(SEGMENT_BLOCKS_MAX);
        require(inside, FOOTER, "body_block", self.body_block, format_args!("room for {blocks} blocks and a trailer"))
    }
}

/// On disk a slot that may be absent is its index plus one, so that zeros mean none.
fn slot_plus_one(slot: Option<SlotIndex>) -> u64 {
    slot.map_or(0, |slot| slot.0 + 1)
}

fn slot_of(plus_one: u64) -> Option<SlotIndex> {
    plus_one.checked_sub(1).map(SlotIndex)
}

fn segment_id(structure: &'static str, id: u64) -> Result<SegmentId, DecodeError> {
    require((1..1 << 48).contains(&id), structure, "segment", id, "1 to 2^48 - 1")?;
    Ok(SegmentId(id))
}
