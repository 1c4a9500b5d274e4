//! A container: what the cleaner moved out of other slots, in one slot, with a directory that says what each block is.
//!
//! Survivors keep their bytes, their checksums and the address they were written at. Where a block lies now is said by the
//! pieces in the liveness tree; the directory says the same about the container by itself, for the next cleaning, for naming
//! damage, and for a repair that has lost the tree. A container is written once, whole, before anything refers to it.

use crate::bytes::{Reader, Writer};
use crate::checksum::checksum;
use crate::error::{DecodeError, require};
use crate::record::{DATA_BLOCKS_MAX, Encoding};
use crate::units::*;

/// Pieces of one container, at most.
pub const CONTAINER_PIECES_MAX: usize = 1024;

/// Pieces of one segment, at most: their numbers are 1 to this.
pub const SEGMENT_PIECES_MAX: u8 = 4;

const STRUCTURE: &str = "container";
const MAGIC: u64 = u64::from_le_bytes(*b"TRCONTNR");
const CRC_AT: usize = 8;
const PIECE_BYTES: usize = 40;
const SURVIVOR_BYTES: usize = 24;

/// Block 0 of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerHeader {
    pub store_id: StoreId,
    pub container: ContainerId,
    pub slot: SlotIndex,
    /// 1: survivors of the log; one more with each later move, up to 255.
    pub generation: u8,
    /// Survivors lie in blocks 1 to this.
    pub data_blocks: u32,
    /// Filled in by `encode`, like all of the directory: its first block.
    pub directory_block: u32,
    pub directory_bytes: u32,
    pub directory_crc: u32,
    pub piece_count: u16,
    /// Set aside for encryption: zero.
    pub salt: [u8; 16],
    pub created_ns: u64,
}

/// The survivors of one segment, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPiece {
    pub segment: SegmentId,
    /// 1 to 4, as in the liveness tree.
    pub part: u8,
    /// The block of the container where the first survivor lies; the others follow without a gap.
    pub base: u32,
    /// Set aside for encryption: of the segment that wrote it, zero.
    pub salt: [u8; 16],
    /// In order of their block in the segment.
    pub survivors: Vec<Survivor>,
}

/// A run of stored blocks: neighbours of one raw extent, or a compressed extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// The block of the segment that the run was written at.
    pub first: u32,
    /// Stored blocks.
    pub count: u16,
    pub encoding: Encoding,
    /// Blocks of the volume; as many as `count` when raw.
    pub extent_blocks: u16,
    pub line: LineId,
    /// The first block of the volume.
    pub block: BlockIndex,
    /// Raw: one for each block. Lz4: one.
    pub checksums: Vec<u32>,
}

impl ContainerHeader {
    /// Block 0 and the directory, whole blocks of it, to be written right behind the survivors.
    ///
    /// # Panics
    /// If the result could not be decoded again.
    pub fn encode(&mut self, pieces: &[ContainerPiece]) -> ([u8; BLOCK_BYTES], Vec<u8>) {
        let mut d = Writer::with_capacity(BLOCK_BYTES);
        pieces.iter().for_each(|piece| piece.encode(&mut d));
        self.directory_block = 1 + self.data_blocks;
        self.directory_bytes = d.len() as u32;
        self.directory_crc = checksum(d.written());
        self.piece_count = u16::try_from(pieces.len()).expect("encode container: pieces");
        self.check().unwrap_or_else(|error| panic!("encode container that cannot be read back: {error}"));
        for piece in pieces {
            piece.check(self).unwrap_or_else(|error| panic!("encode container that cannot be read back: {error}"));
        }
        d.align(BLOCK_BYTES);

        let mut w = Writer::with_capacity(BLOCK_BYTES);
        w.u64(MAGIC);
        w.u32(0); // the checksum, below
        w.zeros(4);
        w.bytes(&self.store_id.0);
        w.u64(self.container.0);
        w.u64(self.slot.0);
        w.u8(self.generation);
        w.zeros(7);
        w.u32(self.data_blocks);
        w.u32(self.directory_block);
        w.u32(self.directory_bytes);
        w.u32(self.directory_crc);
        w.u16(self.piece_count);
        w.zeros(6);
        w.bytes(&self.salt);
        w.u64(self.created_ns);
        (w.into_sealed_block(CRC_AT), d.into_bytes())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::of_len(STRUCTURE, bytes, BLOCK_BYTES)?;
        r.magic(MAGIC)?;
        r.block_checksum(&bytes[..BLOCK_BYTES], CRC_AT)?;
        r.skip(4)?;
        let store_id = StoreId(r.array("store_id")?);
        let container = ContainerId(r.u64("container")?);
        let slot = SlotIndex(r.u64("slot")?);
        let generation = r.u8("generation")?;
        r.skip(7)?;
        let data_blocks = r.u32("data_blocks")?;
        let directory_block = r.u32("directory_block")?;
        let directory_bytes = r.u32("directory_bytes")?;
        let directory_crc = r.u32("directory_crc")?;
        let piece_count = r.u16("piece_count")?;
        r.skip(6)?;
        let salt = r.array("salt")?;
        let created_ns = r.u64("created_ns")?;
        let header = Self {
            store_id,
            container,
            slot,
            generation,
            data_blocks,
            directory_block,
            directory_bytes,
            directory_crc,
            piece_count,
            salt,
            created_ns,
        };
        header.check()?;
        Ok(header)
    }

    pub fn directory_blocks(&self) -> u32 {
        self.directory_bytes.div_ceil(BLOCK_BYTES as u32)
    }

    /// The pieces out of the blocks read for the directory.
    pub fn directory(&self, blocks: &[u8]) -> Result<Vec<ContainerPiece>, DecodeError> {
        let bytes = Reader::new(STRUCTURE, blocks).slice("directory", self.directory_bytes as usize)?;
        let found = checksum(bytes);
        if found != self.directory_crc {
            let expected = self.directory_crc;
            return Err(DecodeError::Checksum { structure: STRUCTURE, field: "directory", found, expected });
        }
        let mut r = Reader::new(STRUCTURE, bytes);
        let mut pieces = Vec::new();
        for _ in 0..self.piece_count {
            let piece = ContainerPiece::decode(&mut r)?;
            piece.check(self)?;
            pieces.push(piece);
        }
        require(r.rest().is_empty(), STRUCTURE, "directory_bytes", self.directory_bytes, "as long as its pieces")?;
        Ok(pieces)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let (data, bytes) = (self.data_blocks, self.directory_bytes);
        require(self.container.0 > 0, STRUCTURE, "container", self.container, "at least 1")?;
        require((1..SEGMENT_BLOCKS_MAX).contains(&data), STRUCTURE, "data_blocks", data, "what a slot can hold")?;
        require(self.directory_block == 1 + data, STRUCTURE, "directory_block", self.directory_block, 1 + data)?;
        let room = u64::from(SEGMENT_BLOCKS_MAX - self.directory_block) * BLOCK_BYTES as u64;
        require(u64::from(bytes) <= room, STRUCTURE, "directory_bytes", bytes, "what a slot can hold")?;
        let pieces = usize::from(self.piece_count);
        let holds = (1..=CONTAINER_PIECES_MAX).contains(&pieces) && pieces * PIECE_BYTES <= bytes as usize;
        require(holds, STRUCTURE, "piece_count", pieces, "1 to 1024, all in the directory")
    }
}

impl ContainerPiece {
    /// Bytes in the directory.
    pub fn encoded_len(survivors: &[Survivor]) -> usize {
        PIECE_BYTES + survivors.iter().map(Survivor::encoded_len).sum::<usize>()
    }

    /// Stored blocks of all survivors.
    pub fn blocks(&self) -> u32 {
        self.survivors.iter().map(|survivor| u32::from(survivor.count)).sum()
    }

    fn encode(&self, w: &mut Writer) {
        w.u64(self.segment.0);
        w.u8(self.part);
        w.zeros(3);
        w.u32(self.base);
        w.u32(u32::try_from(self.survivors.len()).expect("encode container: survivors"));
        w.zeros(4);
        w.bytes(&self.salt);
        for survivor in &self.survivors {
            w.u32(survivor.first);
            w.u16(survivor.count);
            w.u8(match survivor.encoding {
                Encoding::Raw => 0,
                Encoding::Lz4 => 1,
            });
            w.u8(survivor.extent_blocks as u8);
            w.u64(survivor.line.0);
            w.u64(survivor.block.0);
            survivor.checksums.iter().for_each(|checksum| w.u32(*checksum));
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let segment = SegmentId(r.u64("segment")?);
        let part = r.u8("part")?;
        r.skip(3)?;
        let base = r.u32("base")?;
        let runs = r.u32("survivors")?;
        r.skip(4)?;
        let salt = r.array("salt")?;
        let fits = u64::from(runs) * SURVIVOR_BYTES as u64 <= r.rest().len() as u64;
        require(fits, STRUCTURE, "survivors", runs, "what the directory has room for")?;
        let survivors = (0..runs).map(|_| Survivor::decode(r)).collect::<Result<_, _>>()?;
        Ok(Self { segment, part, base, salt, survivors })
    }

    fn check(&self, header: &ContainerHeader) -> Result<(), DecodeError> {
        let segment = self.segment;
        require((1..1 << 48).contains(&segment.0), STRUCTURE, "segment", segment, "1 to 2^48 - 1")?;
        require((1..=SEGMENT_PIECES_MAX).contains(&self.part), STRUCTURE, "part", self.part, "1 to 4")?;
        let mut next = 1;
        for survivor in &self.survivors {
            survivor.check()?;
            let first = survivor.first;
            let end = u64::from(first) + u64::from(survivor.count);
            let placed = first >= next && end <= u64::from(SEGMENT_BLOCKS_MAX);
            require(placed, STRUCTURE, "first", first, "behind the survivor before it, in a segment")?;
            next = end as u32;
        }
        let end = u64::from(self.base) + u64::from(self.blocks());
        let inside = self.base >= 1 && !self.survivors.is_empty() && end <= u64::from(1 + header.data_blocks);
        require(inside, STRUCTURE, "base", self.base, "room for its survivors")
    }
}

impl Survivor {
    pub fn encoded_len(&self) -> usize {
        SURVIVOR_BYTES + 4 * self.checksums.len()
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let first = r.u32("first")?;
        let count = r.u16("count")?;
        let (encoding, checksum_count) = match r.u8("encoding")? {
            0 => (Encoding::Raw, count.min(DATA_BLOCKS_MAX)),
            1 => (Encoding::Lz4, 1),
            kind => return Err(DecodeError::invalid(STRUCTURE, "encoding", kind, "0 (raw) or 1 (lz4)")),
        };
        let extent_blocks = u16::from(r.u8("extent_blocks")?);
        let line = LineId(r.u64("line")?);
        let block = BlockIndex(r.u64("block")?);
        let checksums = (0..checksum_count).map(|_| r.u32("checksums")).collect::<Result<_, _>>()?;
        Ok(Self { first, count, encoding, extent_blocks, line, block, checksums })
    }

    fn check(&self) -> Result<(), DecodeError> {
        let (count, blocks) = (self.count, self.extent_blocks);
        let (fits, checksums) = match self.encoding {
            Encoding::Raw => (count == blocks, usize::from(count)),
            Encoding::Lz4 => (count <= blocks, 1),
        };
        let holds = fits && count > 0 && blocks <= DATA_BLOCKS_MAX && self.checksums.len() == checksums;
        let found = format_args!("{count} of {blocks} blocks, {} checksums", self.checksums.len());
        require(holds, STRUCTURE, "survivor", found, "counts that agree")
    }
}
