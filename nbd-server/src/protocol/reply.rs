//! Replies as bytes.
//!
//! A session with structured replies gets them where the protocol demands them (READ, BLOCK_STATUS) and for errors, which
//! then carry words; plain success of the other commands stays the 16-byte simple reply. The data of a READ goes in one
//! chunk that is also the last: all of it was read and verified before the first byte is sent, so no error can follow, and
//! DF holds by itself.

use super::option::clip;
use super::{Refusal, wire};
use crate::export::Extent;

pub const SIMPLE_LEN: usize = 16;
pub const CHUNK_LEN: usize = 20;
/// The bytes before the data of a structured READ: a chunk header and the data's offset.
pub const DATA_CHUNK_LEN: usize = CHUNK_LEN + 8;

/// Success without data.
pub fn done(cookie: u64) -> [u8; SIMPLE_LEN] {
    simple(0, cookie)
}

/// What precedes the data of a READ in a session without structured replies.
pub fn simple_data(cookie: u64) -> [u8; SIMPLE_LEN] {
    simple(0, cookie)
}

/// What precedes the `len` bytes of data of a READ in a session with structured replies.
pub fn data_chunk(cookie: u64, offset: u64, len: u32) -> [u8; DATA_CHUNK_LEN] {
    let mut bytes = [0; DATA_CHUNK_LEN];
    bytes[..CHUNK_LEN].copy_from_slice(&chunk(wire::CHUNK_OFFSET_DATA, cookie, len + 8));
    bytes[CHUNK_LEN..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// The answer to a structured READ of no bytes: a data chunk may not be empty.
pub fn no_data(cookie: u64) -> [u8; CHUNK_LEN] {
    chunk(wire::CHUNK_NONE, cookie, 0)
}

/// An error, with its words and place if the session can carry them.
pub fn error(cookie: u64, structured: bool, refusal: &Refusal) -> Vec<u8> {
    let errno = refusal.errno as u32;
    if !structured {
        return simple(errno, cookie).to_vec();
    }
    let text = clip(&refusal.text);
    let tail = if refusal.offset.is_some() { 8 } else { 0 };
    let kind = if refusal.offset.is_some() { wire::CHUNK_ERROR_OFFSET } else { wire::CHUNK_ERROR };
    let len = 6 + text.len() + tail;
    let mut bytes = Vec::with_capacity(CHUNK_LEN + len);
    bytes.extend_from_slice(&chunk(kind, cookie, len as u32));
    bytes.extend_from_slice(&errno.to_be_bytes());
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    if let Some(offset) = refusal.offset {
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    bytes
}

/// The answer to BLOCK_STATUS of `len` bytes. Extents beyond that are cut off; there must be at least one.
pub fn block_status(cookie: u64, len: u32, extents: &[Extent]) -> Vec<u8> {
    let mut descriptors = Vec::with_capacity(4 + extents.len() * 8);
    descriptors.extend_from_slice(&wire::BASE_ALLOCATION_ID.to_be_bytes());
    let mut left = u64::from(len);
    for extent in extents {
        let here = extent.len.min(left);
        if here == 0 {
            break;
        }
        left -= here;
        let hole = if extent.hole { wire::STATE_HOLE } else { 0 };
        let zero = if extent.zero { wire::STATE_ZERO } else { 0 };
        descriptors.extend_from_slice(&(here as u32).to_be_bytes()); // ≤ `len`, which is a u32
        descriptors.extend_from_slice(&(hole | zero).to_be_bytes());
    }
    let mut bytes = Vec::with_capacity(CHUNK_LEN + descriptors.len());
    bytes.extend_from_slice(&chunk(wire::CHUNK_BLOCK_STATUS, cookie, descriptors.len() as u32));
    bytes.extend_from_slice(&descriptors);
    bytes
}

fn simple(errno: u32, cookie: u64) -> [u8; SIMPLE_LEN] {
    let mut bytes = [0; SIMPLE_LEN];
    bytes[..4].copy_from_slice(&wire::SIMPLE_REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&errno.to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// Every chunk we send is the last of its reply.
fn chunk(kind: u16, cookie: u64, len: u32) -> [u8; CHUNK_LEN] {
    let mut bytes = [0; CHUNK_LEN];
    bytes[..4].copy_from_slice(&wire::STRUCTURED_REPLY_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&wire::REPLY_FLAG_DONE.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..].copy_from_slice(&len.to_be_bytes());
    bytes
}
