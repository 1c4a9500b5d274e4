//! Whether an extent is stored compressed, and the bytes if so.
//!
//! Compression must pay at least one block and an eighth of the extent, or the extent stays raw: a raw block can be read and
//! freed alone, a compressed extent only whole. With `auto`, data that would not compress is soon left alone: after each
//! failure the number of extents skipped before the next attempt doubles, up to a limit; one success resets it.

use treering_format::record::Lz4Prefix;
use treering_format::units::BlockCount;
use treering_io::Buffer;

use crate::disk::BLOCK;

/// Longest run of extents that `auto` lets pass without an attempt.
const SKIP_MAX: u32 = 256;

const PREFIX: usize = Lz4Prefix::BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionMode {
    /// Try, and learn where it is of no use.
    #[default]
    Auto,
    /// Try each extent.
    Lz4,
    Off,
}

impl CompressionMode {
    pub(crate) fn from_format(value: u8) -> CompressionMode {
        match value {
            1 => CompressionMode::Lz4,
            2 => CompressionMode::Off,
            _ => CompressionMode::Auto,
        }
    }

    pub(crate) fn to_format(self) -> u8 {
        match self {
            CompressionMode::Auto => 0,
            CompressionMode::Lz4 => 1,
            CompressionMode::Off => 2,
        }
    }
}

/// The mode of one volume and what was learned about its data.
#[derive(Debug, Default)]
pub(crate) struct Compression {
    pub mode: CompressionMode,
    skip: u32,
    penalty: u32,
}

impl Compression {
    pub(crate) fn new(mode: CompressionMode) -> Compression {
        Compression { mode, skip: 0, penalty: 0 }
    }

    /// Whether the next extent is worth an attempt. Asked once for each extent.
    pub(crate) fn wants(&mut self, blocks: u64) -> bool {
        if blocks < 2 {
            return false;
        }
        match self.mode {
            CompressionMode::Off => false,
            CompressionMode::Lz4 => true,
            CompressionMode::Auto if self.skip > 0 => {
                self.skip -= 1;
                false
            }
            CompressionMode::Auto => true,
        }
    }

    /// The stored form, padded to whole blocks, if it pays.
    pub(crate) fn compress(&mut self, data: &[u8]) -> Option<Buffer> {
        let blocks = data.len() as u64 / BLOCK;
        let worth = (blocks - (blocks / 8).max(1)) * BLOCK;
        let mut out = Buffer::zeroed(PREFIX + lz4_flex::block::get_maximum_output_size(data.len()));
        let length =
            lz4_flex::block::compress_into(data, &mut out[PREFIX..]).ok().filter(|n| (PREFIX + n) as u64 <= worth);
        let Some(length) = length else {
            self.penalty = (self.penalty * 2).clamp(1, SKIP_MAX);
            self.skip = self.penalty;
            return None;
        };
        self.penalty = 0;
        let prefix = Lz4Prefix { compressed_bytes: length as u32, uncompressed_bytes: data.len() as u32 };
        out[..PREFIX].copy_from_slice(&prefix.encode());
        let padded = (PREFIX + length).next_multiple_of(BLOCK as usize);
        out[PREFIX + length..padded].fill(0);
        out.truncate(padded);
        Some(out)
    }
}

/// Expands a stored extent to exactly `blocks` blocks. The checksum was verified before, so an error here means the writer
/// was wrong or the checksum collided; either way it is damage, not a panic.
pub(crate) fn expand(stored: &[u8], blocks: BlockCount) -> Result<Buffer, String> {
    let count = u16::try_from(blocks.0).map_err(|_| format!("compressed extent of {blocks} blocks"))?;
    let (prefix, compressed) = Lz4Prefix::split(stored, count).map_err(|error| error.to_string())?;
    let expanded = prefix.uncompressed_bytes as usize;
    let mut out = Buffer::with_len(expanded);
    match lz4_flex::block::decompress_into(compressed, &mut out) {
        Ok(n) if n == expanded => Ok(out),
        Ok(n) => Err(format!("compressed extent expands to {n} bytes, {expanded} are due")),
        Err(error) => Err(format!("compressed extent: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_stored_smaller_and_comes_back() {
        let data = b"twelve bytes".iter().copied().cycle().take(16 * 4096).collect::<Vec<u8>>();
        let mut compression = Compression::new(CompressionMode::Auto);
        assert!(compression.wants(16));
        let stored = compression.compress(&data).expect("it pays");
        assert!(stored.len() <= 2 * 4096);
        assert_eq!(&expand(&stored, BlockCount(16)).expect("whole")[..], &data[..]);
    }

    #[test]
    fn noise_is_left_alone_after_a_few_attempts() {
        let mut x = 1u64;
        let mut noise = vec![0u8; 8 * 4096];
        for byte in &mut noise {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (x >> 33) as u8;
        }
        let mut compression = Compression::new(CompressionMode::Auto);
        let attempts = (0..1000).filter(|_| compression.wants(8) && compression.compress(&noise).is_none()).count();
        assert!(attempts < 20, "{attempts} attempts on noise");
    }
}
