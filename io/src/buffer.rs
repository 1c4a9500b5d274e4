//! Memory that the kernel may read from and write into.
//!
//! A `Buffer` is heap memory aligned to 4096 bytes, so that direct I/O accepts it. It must be initialised at all times: memory
//! is zeroed when it comes from the allocator and is only ever overwritten with bytes, so a recycled buffer holds old bytes,
//! never undefined ones. Dropped buffers go to a small pool of the dropping thread, by power-of-two size class; the pool is
//! bounded, so it cannot grow into a leak. Behind it, the smallest come from slabs (`blocks`), the others from the allocator.
//! It does not account for who holds how much: budgets belong to the engine.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::blocks::{self, BLOCK_BYTES};

/// Alignment of every buffer, and the smallest capacity.
pub const BUFFER_ALIGNMENT: usize = 4096;

pub struct Buffer {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Buffer {
        let mut buffer = Buffer::with_len(len);
        buffer.fill(0);
        buffer
    }

    /// A buffer of `len` bytes whose content is unspecified (but initialised). With debug assertions it is always 0xA5, so
    /// that code which reads what it did not write is found, and the same in every run.
    pub fn with_len(len: usize) -> Buffer {
        let mut buffer = Buffer::recycled(len).unwrap_or_else(|| Buffer::allocated(len));
        if cfg!(debug_assertions) {
            buffer.fill(0xA5);
        }
        buffer
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Sets the length; bytes that come into view are unspecified.
    pub fn resize(&mut self, len: usize) {
        assert!(len <= self.capacity, "buffer resize: {len} bytes exceed its capacity of {}", self.capacity);
        self.len = len;
    }

    fn recycled(len: usize) -> Option<Buffer> {
        let capacity = capacity_for(len);
        let memory = POOL.try_with(|pool| pool.borrow_mut().take(capacity)).ok().flatten()?;
        Some(Buffer { memory, capacity, len })
    }

    fn allocated(len: usize) -> Buffer {
        let capacity = capacity_for(len);
        let layout = layout(capacity);
        if capacity == BLOCK_BYTES {
            let memory = blocks::take().unwrap_or_else(|| handle_alloc_error(layout));
            return Buffer { memory, capacity, len };
        }
        // SAFETY: the layout has a size of at least 4096 bytes, never zero. `alloc_zeroed` initialises all of it.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Buffer { memory, capacity, len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let kept = POOL.try_with(|pool| pool.borrow_mut().put(self.memory, self.capacity)).unwrap_or(false);
        if !kept {
            // SAFETY: `memory` came from `allocated` with this capacity, and this is its only owner.
            unsafe { free(self.memory, self.capacity) }
        }
    }
}

// SAFETY: a Buffer is the only owner of plain bytes; nothing about it is tied to a thread (the pool it returns to is that of
// the thread that drops it).
unsafe impl Send for Buffer {}
// SAFETY: shared references give out `&[u8]` only; there is no interior mutability.
unsafe impl Sync for Buffer {}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `memory` is valid for `capacity` ≥ `len` initialised bytes and owned by self. While the kernel writes into
        // it, the Buffer itself lies inside its operation's slot, where nobody calls this.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::recycled(bytes.len()).unwrap_or_else(|| Buffer::allocated(bytes.len()));
        buffer.copy_from_slice(bytes);
        buffer
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

const SMALLEST_CLASS: u32 = BUFFER_ALIGNMENT.trailing_zeros();
/// 4 MiB: larger buffers are rare and go back to the allocator at once.
const LARGEST_CLASS: u32 = 22;
/// What one thread's pool may hold.
const POOL_BYTES: usize = 32 << 20;

fn capacity_for(len: usize) -> usize {
    let rounded = len.max(BUFFER_ALIGNMENT);
    if rounded > 1 << LARGEST_CLASS { rounded.next_multiple_of(BUFFER_ALIGNMENT) } else { rounded.next_power_of_two() }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BUFFER_ALIGNMENT).expect("a capacity that was allocated has a layout")
}

/// # Safety
/// `memory` came from `Buffer::allocated` with this capacity, and nobody uses it any more.
unsafe fn free(memory: NonNull<u8>, capacity: usize) {
    if capacity == BLOCK_BYTES {
        // SAFETY: of this capacity, `allocated` took it from the slabs.
        unsafe { blocks::give_back(memory) }
    } else {
        // SAFETY: of any other capacity, `allocated` took it from the allocator with this layout.
        unsafe { dealloc(memory.as_ptr(), layout(capacity)) }
    }
}

fn class_of(capacity: usize) -> Option<usize> {
    let class = capacity.trailing_zeros();
    (capacity.is_power_of_two() && class <= LARGEST_CLASS).then(|| (class - SMALLEST_CLASS) as usize)
}

struct Pool {
    classes: [Vec<NonNull<u8>>; (LARGEST_CLASS - SMALLEST_CLASS + 1) as usize],
    bytes: usize,
}

impl Pool {
    fn take(&mut self, capacity: usize) -> Option<NonNull<u8>> {
        let memory = self.classes[class_of(capacity)?].pop()?;
        self.bytes -= capacity;
        Some(memory)
    }

    fn put(&mut self, memory: NonNull<u8>, capacity: usize) -> bool {
        match class_of(capacity) {
            Some(class) if self.makes_room(class, capacity) => {
                self.classes[class].push(memory);
                self.bytes += capacity;
                true
            }
            _ => false,
        }
    }

    /// Lets go of what the fullest class holds, when that is another: what was of use yesterday must not keep out what is today.
    fn makes_room(&mut self, class: usize, capacity: usize) -> bool {
        while self.bytes + capacity > POOL_BYTES {
            let held = |class: &usize| self.classes[*class].len() << (class + SMALLEST_CLASS as usize);
            let fullest = (0..self.classes.len()).max_by_key(held).expect("there are classes");
            if fullest == class {
                return false;
            }
            let Some(memory) = self.classes[fullest].pop() else { return false };
            let capacity = BUFFER_ALIGNMENT << fullest;
            self.bytes -= capacity;
            // SAFETY: the pool was the only owner, and the class names the capacity.
            unsafe { free(memory, capacity) }
        }
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (class, memories) in self.classes.iter_mut().enumerate() {
            for memory in memories.drain(..) {
                // SAFETY: the pool is the only owner of what `put` gave it, and the class names the capacity it had.
                unsafe { free(memory, BUFFER_ALIGNMENT << class) }
            }
        }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { classes: [const { Vec::new() }; 11], bytes: 0 }) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_aligned_and_zeroed_even_when_recycled() {
        for len in [0, 1, 4096, 5000, 12288, 1 << 20, 5 << 20] {
            let mut first = Buffer::zeroed(len);
            assert_eq!(first.as_ptr() as usize % BUFFER_ALIGNMENT, 0);
            first.fill(7);
            drop(first);
            let second = Buffer::zeroed(len);
            assert_eq!(second.len(), len);
            assert!(second.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn resize_keeps_the_bytes_that_stay_in_view() {
        let mut buffer = Buffer::from(&b"treering"[..]);
        buffer.truncate(4);
        buffer.resize(8);
        assert_eq!(&buffer[..], b"treering");
    }

    #[test]
    fn what_is_dropped_now_replaces_what_was_of_use_before() {
        drop((0..POOL_BYTES / 8192).map(|_| Buffer::with_len(8192)).collect::<Vec<_>>());
        let many: Vec<Buffer> = (0..4).map(|_| Buffer::with_len(1 << 20)).collect();
        let places: Vec<*const u8> = many.iter().map(|buffer| buffer.as_ptr()).collect();
        drop(many);
        let again: Vec<Buffer> = (0..4).map(|_| Buffer::with_len(1 << 20)).collect();
        assert!(again.iter().all(|buffer| places.contains(&buffer.as_ptr())), "they came from the pool");
    }

    #[test]
    fn pool_is_bounded() {
        let many: Vec<Buffer> = (0..64).map(|_| Buffer::with_len(1 << 20)).collect();
        drop(many);
        POOL.with(|pool| assert!(pool.borrow().bytes <= POOL_BYTES));
    }
}
