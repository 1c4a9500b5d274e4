//! A file or block device that holds a store.
//!
//! A `File` handle is cheap to clone; operations in flight hold one, so the descriptor and its lock stay until the last of them
//! has ended, also when the program has dropped its handles. Opened `direct`, the page cache is bypassed where the file system
//! allows it. A failed sync is remembered for ever: the kernel marks pages clean after a failed write-back, so a second
//! `fdatasync` that succeeds proves nothing.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::error::while_doing;
use crate::sim::SimFile;

#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// The file must not exist.
    pub create_new: bool,
    pub write: bool,
    /// Take a lock without waiting (exclusive for writing, else shared); `WouldBlock` if another holds it.
    pub lock: bool,
    pub direct: Direct,
}

/// Whether to bypass the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// If the file system can.
    #[default]
    Auto,
    Never,
}

/// Bytes of what `st_blocks` counts.
const STAT_BLOCK: i64 = 512;

#[derive(Clone)]
pub struct File(Rc<FileState>);

struct FileState {
    handle: FileHandle,
    path: PathBuf,
    direct: bool,
    block_device: bool,
    writes_through: bool,
    /// The error number of the first sync that failed.
    failed_sync: Cell<Option<i32>>,
}

pub(crate) enum FileHandle {
    Os(OwnedFd),
    Sim(SimFile),
}

impl File {
    pub(crate) fn simulated(file: SimFile, path: &Path, direct: bool) -> File {
        File::new(FileHandle::Sim(file), path, direct, false, true)
    }

    fn new(handle: FileHandle, path: &Path, direct: bool, block_device: bool, writes_through: bool) -> File {
        let failed_sync = Cell::new(None);
        File(Rc::new(FileState { handle, path: path.to_owned(), direct, block_device, writes_through, failed_sync }))
    }

    pub(crate) fn open(path: &Path, options: &FileOptions) -> io::Result<File> {
        let open = || -> io::Result<File> {
            let (descriptor, direct) = open_descriptor(path, options)?;
            if options.lock {
                let exclusive = FlockOperation::NonBlockingLockExclusive;
                let lock = if options.write { exclusive } else { FlockOperation::NonBlockingLockShared };
                rustix::fs::flock(&descriptor, lock)?;
            }
            let status = rustix::fs::fstat(&descriptor)?;
            let kind = rustix::fs::FileType::from_raw_mode(status.st_mode);
            let block_device = kind == rustix::fs::FileType::BlockDevice;
            let device = if block_device { status.st_rdev } else { status.st_dev };
            let writes_through = direct && device_writes_through(device);
            Ok(File::new(FileHandle::Os(descriptor), path, direct, block_device, writes_through))
        };
        open().map_err(|error| while_doing("opening of", path, error))
    }

    /// The same as it would be on a device that takes durable writes.
    #[cfg(test)]
    pub(crate) fn on_device_that_writes_through(self) -> File {
        let state = Rc::try_unwrap(self.0).unwrap_or_else(|file| panic!("{} has another handle", file.path.display()));
        File(Rc::new(FileState { writes_through: true, ..state }))
    }

    pub fn len(&self) -> io::Result<u64> {
        match &self.0.handle {
            FileHandle::Os(descriptor) if self.0.block_device => Ok(rustix::fs::seek(descriptor, SeekFrom::End(0))?),
            FileHandle::Os(descriptor) => Ok(rustix::fs::fstat(descriptor)?.st_size as u64),
            FileHandle::Sim(file) => Ok(file.len()),
        }
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Grows the file to `len` bytes; unless `sparse`, with its space allocated. Never shrinks it.
    pub fn allocate(&self, len: u64, sparse: bool) -> io::Result<()> {
        let allocate = || -> io::Result<()> {
            match &self.0.handle {
                FileHandle::Sim(file) => file.allocate(len, sparse),
                FileHandle::Os(_) if self.0.block_device => match self.len()? {
                    size if size >= len => Ok(()),
                    size => Err(io::Error::other(format!("the device has {size} bytes only"))),
                },
                FileHandle::Os(descriptor) if sparse => {
                    if self.len()? < len {
                        rustix::fs::ftruncate(descriptor, len)?;
                    }
                    Ok(())
                }
                FileHandle::Os(descriptor) => Ok(rustix::fs::fallocate(descriptor, FallocateFlags::empty(), 0, len)?),
            }
        };
        allocate().map_err(|error| while_doing(&format!("allocation of {len} bytes for"), self.path(), error))
    }

    /// Whether there is space set aside for every byte of a file. A device cannot say: false.
    pub fn has_its_space(&self) -> io::Result<bool> {
        match &self.0.handle {
            FileHandle::Sim(file) => Ok(file.has_its_space()),
            FileHandle::Os(_) if self.0.block_device => Ok(false),
            FileHandle::Os(descriptor) => {
                let status = rustix::fs::fstat(descriptor)?;
                Ok(status.st_blocks * STAT_BLOCK >= status.st_size)
            }
        }
    }

    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    pub fn is_block_device(&self) -> bool {
        self.0.block_device
    }

    /// Whether a durable write is one operation of the device. Elsewhere it is a write and then a sync.
    pub(crate) fn writes_through(&self) -> bool {
        self.0.writes_through
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn handle(&self) -> &FileHandle {
        &self.0.handle
    }

    /// The descriptor of a file of the operating system.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.0.handle {
            FileHandle::Os(descriptor) => descriptor.as_fd(),
            FileHandle::Sim(_) => {
                panic!("{self:?} belongs to a simulated host, not to this runtime")
            }
        }
    }

    pub(crate) fn remember_failed_sync(&self, error: &io::Error) {
        if self.0.failed_sync.get().is_none() {
            self.0.failed_sync.set(Some(error.raw_os_error().unwrap_or(libc::EIO)));
        }
    }

    /// The error that every sync and durable write answers from now on, if one has failed before.
    pub(crate) fn failed_sync(&self) -> Option<io::Error> {
        self.0.failed_sync.get().map(|number| {
            let first = io::Error::from_raw_os_error(number);
            while_doing("sync after a failed sync of", self.path(), first)
        })
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.0.path.display())
    }
}

/// Whether the device takes writes with forced unit access. Without it the kernel turns RWF_DSYNC into a write and a flush,
/// and finishes those in a kernel worker that waits long for a busy processor.
fn device_writes_through(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition's queue is its disk's.
    ["queue/fua", "../queue/fua"]
        .iter()
        .find_map(|attribute| fs::read_to_string(device.join(attribute)).ok())
        .is_some_and(|text| text.trim() == "1")
}

fn open_descriptor(path: &Path, options: &FileOptions) -> io::Result<(OwnedFd, bool)> {
    let mut flags = OFlags::CLOEXEC | if options.write { OFlags::RDWR } else { OFlags::RDONLY };
    if options.create_new {
        flags |= OFlags::CREATE | OFlags::EXCL;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    if options.direct == Direct::Never {
        return Ok((rustix::fs::open(path, flags, mode)?, false));
    }
    match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
        Ok(descriptor) => Ok((descriptor, true)),
        Err(Errno::INVAL) => {
            // A file system without direct I/O may have created the file before it refused.
            if options.create_new {
                let _ = fs::remove_file(path);
            }
            Ok((rustix::fs::open(path, flags, mode)?, false))
        }
        Err(error) => Err(error.into()),
    }
}
