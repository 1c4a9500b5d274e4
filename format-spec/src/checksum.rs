//! The one checksum of the format: CRC-32 (IEEE), for headers, payload blocks, pages and blobs alike.

/// The checksum of `bytes` as the format stores it.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The checksum of `block` as if the four bytes at `at` were zero: for structures that hold their own checksum.
pub(crate) fn checksum_without(block: &[u8], at: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..at]);
    hasher.update(&[0; 4]);
    hasher.update(&block[at + 4..]);
    hasher.finalize()
}
