//! Files and shared memory as a simulated process holds them.
//!
//! Each keeps to what its process may do: a file's lock goes with its last handle or with the process; a process that has
//! crashed changes shared memory no more, although the task that crashed it runs on to its next wait.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::error::while_doing;
use crate::file::{Direct, File, FileOptions};
use crate::memory::{CopyGuard, Mapping, SharedMemory};

use super::disk::Lock;
use super::host::Machine;

pub(crate) struct SimFile {
    machine: Rc<Machine>,
    process: u64,
    disk: usize,
    lock: Option<u64>,
}

impl SimFile {
    pub(super) fn disk(&self) -> usize {
        self.disk
    }

    pub(crate) fn len(&self) -> u64 {
        self.machine.state.borrow().disks[self.disk].len
    }

    pub(crate) fn has_its_space(&self) -> bool {
        let disk = &self.machine.state.borrow().disks[self.disk];
        disk.allocated >= disk.len
    }

    /// A change of size is durable at once, as on a file system with a journal that is synced with the file.
    pub(crate) fn allocate(&self, len: u64, sparse: bool) -> io::Result<()> {
        let mut state = self.machine.state.borrow_mut();
        if state.processes.get(&self.process).is_none_or(|process| process.crashed.get()) {
            return Ok(());
        }
        let disk = &mut state.disks[self.disk];
        if self.machine.faults.borrow().disk_full && (len > disk.len || (!sparse && len > disk.allocated)) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        disk.len = disk.len.max(len);
        if !sparse {
            disk.allocated = disk.allocated.max(len);
        }
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let Some(lock) = self.lock else { return };
        let state = &mut *self.machine.state.borrow_mut();
        // The kernel frees a dead process's locks only when the host settles it; requests in flight hold on to them until then.
        if let Some(process) = state.processes.get_mut(&self.process)
            && !process.crashed.get()
        {
            process.locks.retain(|held| *held != lock);
            state.disks[self.disk].locks.retain(|held| held.holder != lock);
        }
    }
}

/// Lets a process change shared memory until it has crashed.
struct ProcessGuard {
    machine: Rc<Machine>,
    crashed: Rc<Cell<bool>>,
}

impl CopyGuard for ProcessGuard {
    fn allowed(&self, len: usize) -> usize {
        if self.crashed.get() {
            return 0;
        }
        let mut state = self.machine.state.borrow_mut();
        state.copies += 1;
        if state.crash_at_copy != Some(state.copies) {
            return len;
        }
        self.crashed.set(true);
        state.random.below(len as u64 + 1) as usize
    }
}

impl Machine {
    pub(super) fn open_file(self: &Rc<Self>, process: u64, path: &Path, options: &FileOptions) -> io::Result<File> {
        let fail = |kind: io::ErrorKind| Err(while_doing("opening of", path, kind.into()));
        let state = &mut *self.state.borrow_mut();
        let disk = match (state.paths.get(path).copied(), options.create_new) {
            (Some(_), true) => return fail(io::ErrorKind::AlreadyExists),
            (Some(disk), false) => disk,
            (None, true) => state.add_disk(path, 0),
            (None, false) => return fail(io::ErrorKind::NotFound),
        };
        let mut lock = None;
        if options.lock {
            let held = &mut state.disks[disk].locks;
            if held.iter().any(|lock| lock.exclusive || options.write) {
                return fail(io::ErrorKind::WouldBlock);
            }
            let holder = state.next_lock;
            state.next_lock += 1;
            held.push(Lock { holder, exclusive: options.write });
            state.process(process).locks.push(holder);
            lock = Some(holder);
        }
        let file = SimFile { machine: self.clone(), process, disk, lock };
        Ok(File::simulated(file, path, options.direct == Direct::Auto))
    }

    pub(super) fn open_shared_memory(self: &Rc<Self>, process: u64, path: &Path, len: u64) -> io::Result<SharedMemory> {
        if len == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a length of zero");
            return Err(while_doing("shared memory", path, error));
        }
        let mut state = self.state.borrow_mut();
        let mapping = match state.memories.get(path) {
            Some(mapping) if mapping.len() == len => mapping.clone(),
            _ => {
                let mapping = Rc::new(Mapping::on_heap(len));
                state.memories.insert(path.to_owned(), mapping.clone());
                mapping
            }
        };
        let crashed = state.process(process).crashed.clone();
        Ok(SharedMemory::simulated(mapping, Rc::new(ProcessGuard { machine: self.clone(), crashed })))
    }

    pub(super) fn existing_shared_memory(self: &Rc<Self>, process: u64, path: &Path) -> Option<SharedMemory> {
        let mut state = self.state.borrow_mut();
        let mapping = state.memories.get(path)?.clone();
        let crashed = state.process(process).crashed.clone();
        Some(SharedMemory::simulated(mapping, Rc::new(ProcessGuard { machine: self.clone(), crashed })))
    }
}
