//! Memory of the smallest buffers, 4096 bytes each: carved out of slabs of 256 KiB.
//!
//! The data cache holds a hundred thousand of them, each aligned to its size. Asked of the allocator one by one, they cost it a
//! search and a remainder, and the kernel a page fault each: a quarter of the processor time of a server whose cache fills. A
//! slab is one mapping that the kernel fills at once. (Slabs of one huge page were tried: on a virtual machine whose
//! host has to find the memory they cost twice as much as they saved.) Slabs are never unmapped: what was given back waits
//! for the next taker, of any thread, so memory is bounded by the most blocks that were ever in use at once, and a few that were
//! made ahead.
//!
//! A thread that watches its ring for a disk's answer makes small slabs meanwhile (`make_some_ahead`): where the host has to find the
//! memory, a block costs as much as the rest of a read, and that time is nobody's.

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

pub(crate) const BLOCK_BYTES: usize = 4096;
const SLAB_BYTES: usize = 256 << 10;

/// A slab made while something else is waited for: some ten microseconds of work.
const SMALL_SLAB_BYTES: usize = 32 << 10;

/// Free blocks beyond which none are made ahead.
const AHEAD: usize = 128;

/// A block nobody uses. Its bytes are initialised.
struct Free(NonNull<u8>);

// SAFETY: plain memory that nobody else refers to, tied to no thread.
unsafe impl Send for Free {}

static FREE: Mutex<Vec<Free>> = Mutex::new(Vec::new());

/// A block of initialised memory, of unspecified content, which is the caller's alone; None if the kernel has no memory.
pub(crate) fn take() -> Option<NonNull<u8>> {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if free.is_empty() {
        carve(SLAB_BYTES, &mut free)?;
    }
    free.pop().map(|block| block.0)
}

/// Makes a few blocks if few are free; false: nothing was done.
pub(crate) fn make_some_ahead() -> bool {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    free.len() < AHEAD && carve(SMALL_SLAB_BYTES, &mut free).is_some()
}

/// Takes back what `take` gave.
///
/// # Safety
/// `memory` came from `take`, and the caller uses it no more.
pub(crate) unsafe fn give_back(memory: NonNull<u8>) {
    FREE.lock().unwrap_or_else(PoisonError::into_inner).push(Free(memory));
}

fn carve(bytes: usize, free: &mut Vec<Free>) -> Option<()> {
    // SAFETY: a new private mapping at an address of the kernel's choice; it overlaps nothing. The kernel zeroes it.
    let slab = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::POPULATE,
        )
    };
    let slab = NonNull::new(slab.ok()?.cast::<u8>())?;
    for offset in (0..bytes).step_by(BLOCK_BYTES).rev() {
        // SAFETY: `offset` is less than the mapping's length.
        free.push(Free(unsafe { slab.add(offset) }));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_distinct_aligned_and_come_back() {
        let mut blocks: Vec<_> = (0..1500).map(|_| take().expect("memory")).collect();
        blocks.sort();
        blocks.dedup();
        assert_eq!(blocks.len(), 1500);
        assert!(blocks.iter().all(|block| (block.as_ptr() as usize).is_multiple_of(BLOCK_BYTES)));
        for block in blocks {
            // SAFETY: each was taken above, once, and is not used again.
            unsafe { give_back(block) };
        }
    }
}
