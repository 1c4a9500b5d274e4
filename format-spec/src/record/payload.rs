//! The eight bytes before compressed data: how long it is, and how long it becomes.
//!
//! Stored blocks are a multiple of 4 KiB, compressed data is not; without its exact length the padding would be taken for
//! input. The length it becomes bounds what a reader allocates before the decompressor has looked at a single byte.

use crate::bytes::{Reader, Writer};
use crate::error::DecodeError;
use crate::error::require;
use crate::units::BLOCK_BYTES;

const STRUCTURE: &str = "compressed payload";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lz4Prefix {
    pub compressed_bytes: u32,
    pub uncompressed_bytes: u32,
}

impl Lz4Prefix {
    pub const BYTES: usize = 8;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut w = Writer::with_capacity(Self::BYTES);
        w.u32(self.compressed_bytes);
        w.u32(self.uncompressed_bytes);
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(w.written());
        bytes
    }

    /// The prefix, and the compressed data behind it, of an extent of `count` logical blocks.
    pub fn split(stored: &[u8], count: u16) -> Result<(Self, &[u8]), DecodeError> {
        let mut r = Reader::new(STRUCTURE, stored);
        let prefix =
            Self { compressed_bytes: r.u32("compressed_bytes")?, uncompressed_bytes: r.u32("uncompressed_bytes")? };
        let logical = u32::from(count) * BLOCK_BYTES as u32;
        let found = prefix.uncompressed_bytes;
        require(found == logical, STRUCTURE, "uncompressed_bytes", found, logical)?;
        Ok((prefix, r.slice("compressed data", prefix.compressed_bytes as usize)?))
    }
}
