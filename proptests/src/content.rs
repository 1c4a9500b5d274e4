//! What clients write: bytes that tell who wrote them. Every 4 KiB begin with the number of the operation and the place in
//! its data, so that a wrong block says in the report where it came from. Half of the data compresses, half does not.

use crate::random::Random;

pub const BLOCK: u64 = 4096;

/// `len` bytes as operation `op` writes them.
pub fn bytes(op: u64, len: usize, noise: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(len.next_multiple_of(8));
    let mut random = Random::new(op);
    let mut word = 0u64;
    while out.len() < len {
        let within = out.len() % BLOCK as usize;
        word = match within {
            0 => op | STAMP,
            8 => (out.len() / BLOCK as usize) as u64,
            _ if noise => random.word(),
            _ if within.is_multiple_of(64) => op.wrapping_mul(0x9e37_79b9) ^ out.len() as u64,
            _ => word,
        };
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Marks the first word of a stamp.
const STAMP: u64 = 0x5452 << 48;

/// The operation that wrote a block and the block's place in its data; zeros if it holds zeros.
pub fn tag(block: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
    (word(0) & !STAMP, word(8))
}

/// What a block seems to hold, in words.
pub fn describe(bytes: &[u8]) -> String {
    let word = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")));
    match (word(0), word(8)) {
        _ if bytes.iter().all(|b| *b == 0) => "zeros".into(),
        (Some(op), Some(chunk)) if op >> 48 == STAMP >> 48 => format!("operation {}, its block {chunk}", op & !STAMP),
        _ => format!("bytes {:02x?}…", &bytes[..bytes.len().min(16)]),
    }
}
