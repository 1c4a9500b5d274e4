//! Copies that go past the processor's caches.
//!
//! What a large write brings is next read by the disk, seldom by us. Written the ordinary way, each of its lines would first be
//! fetched into the caches, only to be replaced whole, and would drive out something of use there. Non-temporal stores do neither
//! (AMD64 Architecture Programmer's Manual, volume 1, "Non-Temporal Moves"; Intel SDM, volume 1, "Caching of Temporal vs.
//! Non-Temporal Data"). Elsewhere than on x86-64 the copy is an ordinary one.

use std::ptr::NonNull;

/// Bytes from which a copy goes past the caches: a smaller write is more likely to be read soon.
const STREAMED: usize = 32 << 10;

/// Copies `len` bytes. Every later store of this thread comes after them, as after an ordinary copy.
///
/// # Safety
/// `from` and `to` are valid for `len` bytes, which do not overlap, and no Rust reference to the bytes at `to` exists.
pub(super) unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    // SAFETY: passed on to the caller.
    let streamed = if len >= STREAMED { unsafe { stream(from, to, len) } } else { 0 };
    // SAFETY: `streamed` ≤ `len`: what is left of ranges that the caller vouches for.
    unsafe { to.add(streamed).copy_from_nonoverlapping(from.add(streamed), len - streamed) }
}

/// Copies whole lines for as long as there are any, and says how many bytes that were.
///
/// # Safety
/// As for [`copy`].
#[cfg(target_arch = "x86_64")]
unsafe fn stream(from: NonNull<u8>, to: NonNull<u8>, len: usize) -> usize {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;
    const PART: usize = size_of::<__m128i>();

    if !to.addr().get().is_multiple_of(LINE) {
        return 0;
    }
    let lines = len / LINE * LINE;
    for line in (0..lines).step_by(LINE) {
        // SAFETY: `line + LINE` ≤ `len`, so all of it lies in both ranges. Loads may be at any address; a store's is a multiple of
        // its size, since `to` and `line` are multiples of a line. SSE2 is part of x86-64.
        unsafe {
            let load = |part| _mm_loadu_si128(from.add(line + part * PART).as_ptr().cast());
            let parts = [load(0), load(1), load(2), load(3)];
            for (i, part) in parts.into_iter().enumerate() {
                _mm_stream_si128(to.add(line + i * PART).as_ptr().cast(), part);
            }
        }
    }
    // SAFETY: no operands; SSE is part of x86-64. These stores keep no order by themselves: an entry of the arena must not come
    // before the payload that it names, and Rust wants the fence before the bytes are touched in any other way.
    unsafe { _mm_sfence() };
    lines
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream(_: NonNull<u8>, _: NonNull<u8>, _: usize) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around a line and around the limit, in and out of line with each other: what was asked for is copied, and nothing else.
    #[test]
    fn a_copy_has_all_bytes_and_touches_no_other() {
        let from: Vec<u8> = (0..STREAMED + 256).map(|i| (i * 7 + i / 256) as u8).collect();
        for len in [0, 1, 63, 64, 4096, STREAMED - 1, STREAMED, STREAMED + 1, STREAMED + 63, STREAMED + 64] {
            for (skip_from, skip_to) in [(0, 0), (1, 0), (0, 16), (3, 5), (0, 64)] {
                let mut room = vec![0xEEu8; STREAMED + 512];
                let start = room.as_ptr().align_offset(64) + skip_to;
                let to = NonNull::from(&mut room[start..start + len]).cast();
                // SAFETY: two live buffers of at least `len` bytes from there; `room` is not used in between.
                unsafe { copy(NonNull::from(&from[skip_from..skip_from + len]).cast(), to, len) };
                assert_eq!(
                    room[start..start + len],
                    from[skip_from..skip_from + len],
                    "{len} bytes, {skip_from} to {skip_to}"
                );
                assert!(
                    room[..start].iter().chain(&room[start + len..]).all(|&b| b == 0xEE),
                    "{len} bytes: no other is touched"
                );
            }
        }
    }
}
