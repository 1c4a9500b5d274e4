//! Shared memory: a file in memory whose content outlives the process that wrote it.
//!
//! A dead server's successor maps the same file and finds what was acknowledged. Because the kernel reads such memory while we
//! may be writing other parts of it, and another process may have written anything into it, nothing here ever hands out a
//! Rust reference into the mapping: bytes are copied in and copied out. `publish_fence` keeps the order "payload, then the
//! entry that names it" for a reader after a crash of the process. Nothing here survives a crash of the host.
//!
//! In the simulator the mapping is heap memory owned by the simulated host; a process that has crashed can no longer change it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::while_doing;

use huge_pages::HUGE_PAGE;

mod huge_pages;
mod streaming;

#[derive(Clone)]
pub struct SharedMemory {
    mapping: Rc<Mapping>,
    guard: Option<Rc<dyn CopyGuard>>,
}

/// What a simulated process asks before it changes shared memory: how many of `len` bytes still get there.
pub(crate) trait CopyGuard {
    fn allowed(&self, len: usize) -> usize;
}

impl SharedMemory {
    pub(crate) fn simulated(mapping: Rc<Mapping>, guard: Rc<dyn CopyGuard>) -> SharedMemory {
        SharedMemory { mapping, guard: Some(guard) }
    }

    pub fn len(&self) -> u64 {
        self.mapping.len as u64
    }

    pub fn is_empty(&self) -> bool {
        self.mapping.len == 0
    }

    pub fn copy_in(&self, offset: u64, data: &[u8]) {
        let place = self.mapping.place(offset, data.len() as u64);
        let len = self.guard.as_ref().map_or(data.len(), |guard| guard.allowed(data.len()));
        // SAFETY: `place` is valid for `data.len()` ≥ `len` bytes of a live mapping (checked above). No Rust reference into
        // the mapping exists, ever, so it cannot overlap `data`. The kernel may read these bytes for a write in flight; it
        // then stores old or new bytes, which the checksums above us tell apart.
        unsafe { streaming::copy(NonNull::from(data).cast(), place, len) }
    }

    pub fn copy_out(&self, offset: u64, into: &mut [u8]) {
        let place = self.mapping.place(offset, into.len() as u64);
        // SAFETY: as in `copy_in`, the other way; any byte is a valid u8.
        unsafe { place.copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
    }

    pub fn slice(&self, offset: u64, len: u64) -> SharedSlice {
        let place = self.mapping.place(offset, len);
        SharedSlice { mapping: self.mapping.clone(), place, len: len as usize }
    }

    /// Everything copied in before must be in memory before anything copied in after.
    pub fn publish_fence(&self) {
        fence(Ordering::Release);
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({} bytes)", self.mapping.len)
    }
}

/// A part of shared memory to be written to disk. It keeps the mapping alive while the kernel reads it.
#[derive(Clone)]
pub struct SharedSlice {
    mapping: Rc<Mapping>,
    place: NonNull<u8>,
    len: usize,
}

impl SharedSlice {
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.place.as_ptr()
    }

    /// The bytes as they are now.
    pub(crate) fn copy_out(&self, from: usize, into: &mut [u8]) {
        assert!(from + into.len() <= self.len, "copy of {} bytes at {from} leaves a slice of {}", into.len(), self.len);
        // SAFETY: `place..place+len` lies inside the mapping, which `self.mapping` keeps alive; the range was just checked.
        unsafe { self.place.add(from).copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
    }
}

impl fmt::Debug for SharedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSlice({} bytes of {})", self.len, self.mapping.len)
    }
}

/// The memory itself, given back when its last handle goes.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    kind: MappingKind,
}

enum MappingKind {
    /// The range of addresses in which the file is mapped.
    File {
        range: NonNull<u8>,
        reserved: usize,
    },
    Heap(Layout),
}

impl Mapping {
    /// Zeroed memory of the simulated host.
    pub(crate) fn on_heap(len: u64) -> Mapping {
        let layout = Layout::from_size_align((len as usize).max(1), 4096).expect("a simulated arena fits in memory");
        // SAFETY: the layout's size is at least one.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Mapping { start, len: len as usize, kind: MappingKind::Heap(layout) }
    }

    /// Maps it where a huge page may begin: at a place in a larger range of addresses.
    fn of_file(file: &fs::File, len: u64) -> io::Result<Mapping> {
        let len = len as usize;
        let reserved = len.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        let nothing = ProtFlags::empty();
        // SAFETY: a fresh range at an address of the kernel's choice, so it overlaps nothing of ours. Nothing can be accessed there.
        let range = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                reserved,
                nothing,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let range = NonNull::new(range.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the next place for a huge page is less than HUGE_PAGE away, so it and `len` bytes from there lie in the range.
        let start = unsafe { range.add(range.as_ptr().align_offset(HUGE_PAGE)) };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces a part of the range that nobody has used yet. The file is fully allocated before anybody gets the mapping,
        // and nobody shortens it (a file of another length is replaced, not cut), so access cannot fault.
        // If it fails, its part of the range may be anybody's by then: the addresses are left unused.
        unsafe {
            rustix::mm::mmap(start.as_ptr().cast(), len, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)?;
        }
        Ok(Mapping { start, len, kind: MappingKind::File { range, reserved } })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    fn place(&self, offset: u64, len: u64) -> NonNull<u8> {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len as u64),
            "shared memory access of {len} bytes at {offset} leaves a mapping of {} bytes",
            self.len
        );
        // SAFETY: `offset` ≤ `self.len`, so the result stays inside (or one past) the mapping.
        unsafe { self.start.add(offset as usize) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match self.kind {
            MappingKind::File { range, reserved } => {
                // SAFETY: range and length are those of our own mmap, and the file is mapped inside; all slices hold an Rc to self, so
                // none is left, and the kernel reads it only for operations whose slot holds such a slice.
                let unmapped = unsafe { rustix::mm::munmap(range.as_ptr().cast(), reserved) };
                debug_assert!(unmapped.is_ok(), "unmapping our own mapping failed: {unmapped:?}");
            }
            // SAFETY: allocated with this layout in `on_heap`; last owner.
            MappingKind::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
        }
    }
}

/// Opens or creates a file of `len` bytes in shared memory; one of another length is replaced by a new one of zeros.
pub(crate) fn open(path: &Path, len: u64) -> io::Result<SharedMemory> {
    if len == 0 {
        return Err(while_doing(
            "shared memory",
            path,
            io::Error::new(io::ErrorKind::InvalidInput, "a length of zero"),
        ));
    }
    match existing(path)? {
        Some(memory) if memory.len() == len => return Ok(memory),
        Some(_) => remove(path)?,
        None => {}
    }
    let create = || -> io::Result<SharedMemory> {
        let unfinished = unfinished(path);
        remove(&unfinished)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = fs::File::from(rustix::fs::open(&unfinished, flags, Mode::RUSR | Mode::WUSR)?);
        let finish = || -> io::Result<Mapping> {
            rustix::fs::ftruncate(&file, len)?;
            let mapping = Mapping::of_file(&file, len)?;
            huge_pages::fill(&file, mapping.start, mapping.len);
            retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len))?;
            fs::rename(&unfinished, path)?;
            Ok(mapping)
        };
        let mapping = finish().inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        Ok(SharedMemory { mapping: Rc::new(mapping), guard: None })
    };
    create().map_err(|error| while_doing("creation of shared memory", path, error))
}

/// What a file is called until all of it is in memory: touching what is not there would end the process if no memory were left.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

pub(crate) fn existing(path: &Path) -> io::Result<Option<SharedMemory>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || -> io::Result<Option<SharedMemory>> {
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => fs::File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = file.metadata()?.len();
        if len == 0 {
            // Its creator died between creating and sizing it: it holds nothing.
            fs::remove_file(path)?;
            return Ok(None);
        }
        Ok(Some(SharedMemory { mapping: Rc::new(Mapping::of_file(&file, len)?), guard: None }))
    };
    open().map_err(|error| while_doing("opening of shared memory", path, error))
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(while_doing("removal of shared memory", path, error))
        }
        _ => Ok(()),
    }
}
