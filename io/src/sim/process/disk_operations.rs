//! Disk operations of a simulated process: submission, effect, faults.

use crate::backend::Completion;
use crate::file::FileHandle;
use crate::gather::Captured;
use crate::operation::{Operations, Request, Token};
use crate::sim::disk::{BLOCK, SECTOR};
use crate::sim::faults::Faults;
use crate::sim::host::State;

use super::{Event, Process};

/// A disk operation between submission and completion.
pub(in crate::sim) struct DiskOperation {
    pub(in crate::sim) token: Token,
    pub(in crate::sim) disk: usize,
    pub(in crate::sim) offset: u64,
    pub(in crate::sim) action: Action,
}

pub(in crate::sim) enum Action {
    Read { len: usize },
    Write { data: Vec<Captured>, durable: bool },
    Sync { mark: u64 },
}

impl DiskOperation {
    fn of(token: Token, request: &Request, state: &State) -> DiskOperation {
        let (file, offset, action) = match request {
            Request::Read { file, offset, buffer, done } => {
                (file, offset + *done as u64, Action::Read { len: buffer.len() - done })
            }
            Request::Write { file, offset, data, durable } => {
                let action = Action::Write { data: data.capture(), durable: *durable };
                (file, offset + data.transferred() as u64, action)
            }
            Request::Sync { file } => (file, 0, Action::Sync { mark: 0 }),
            _ => unreachable!("only disk operations come here"),
        };
        let FileHandle::Sim(file) = file.handle() else { panic!("{file:?} is no file of this simulated host") };
        let disk = file.disk();
        let action = match action {
            Action::Sync { .. } => Action::Sync { mark: state.disks[disk].sync_mark() },
            other => other,
        };
        DiskOperation { token, disk, offset, action }
    }

    /// The bytes to write, as they are now.
    pub(in crate::sim) fn bytes(&self) -> Vec<u8> {
        let Action::Write { data, .. } = &self.action else { unreachable!("only writes carry bytes") };
        let mut bytes = Vec::with_capacity(data.iter().map(Captured::len).sum());
        data.iter().for_each(|piece| piece.append_to(&mut bytes));
        bytes
    }
}

impl Process {
    pub(in crate::sim) fn writes_in_flight(&self) -> impl Iterator<Item = &DiskOperation> {
        self.operations.values().filter(|operation| matches!(operation.action, Action::Write { .. }))
    }
}

impl State {
    pub(in crate::sim) fn process(&mut self, number: u64) -> &mut Process {
        self.processes.get_mut(&number).expect("a process that runs is known to its host")
    }

    pub(in crate::sim) fn start_disk_operation(
        &mut self,
        process: u64,
        token: Token,
        request: &Request,
        faults: &Faults,
    ) {
        let crashes = self.disk_event();
        if crashes {
            self.process(process).crashed.set(true);
            if self.random.chance(0.5) {
                return;
            }
        }
        let operation = DiskOperation::of(token, request, self);
        let moment = self.now + self.random.between(faults.latency_ns);
        let process = self.process(process);
        let number = process.next_event;
        process.operations.insert(number, operation);
        process.at(moment, Event::Disk(number));
    }

    pub(in crate::sim) fn complete_disk_operation(
        &mut self,
        process: u64,
        number: u64,
        operations: &mut Operations,
        faults: &Faults,
    ) -> Option<Completion> {
        if self.disk_event() {
            // It stays in flight: the host decides its fate with that of all others.
            self.process(process).crashed.set(true);
            return None;
        }
        let operation = self.process(process).operations.remove(&number)?;
        let token = operation.token;
        let result = match &operation.action {
            Action::Read { len } => self.read(&operation, *len, operations.request(token), faults),
            Action::Write { durable, .. } => self.write(&operation, *durable, faults),
            Action::Sync { mark } => self.sync(operation.disk, *mark, faults),
        };
        Some(Completion { token, result })
    }

    fn read(&mut self, operation: &DiskOperation, len: usize, request: &mut Request, faults: &Faults) -> i32 {
        self.stats.reads += 1;
        if self.strikes(faults.read_error) {
            return -libc::EIO;
        }
        let Request::Read { buffer, done, .. } = request else { unreachable!("a read completes a read") };
        let len = self.shortened(len, faults);
        let room = &mut buffer[*done..*done + len];
        let count = self.disks[operation.disk].read(operation.offset, room);
        if count > 0 && self.strikes(faults.bit_flip_on_read) {
            room[self.random.below(count as u64) as usize] ^= 1 << self.random.below(8);
        }
        self.stats.bytes_read += count as u64;
        count as i32
    }

    fn write(&mut self, operation: &DiskOperation, durable: bool, faults: &Faults) -> i32 {
        self.stats.writes += 1;
        let mut bytes = operation.bytes();
        if faults.disk_full && !self.disks[operation.disk].is_allocated(operation.offset, bytes.len()) {
            return -libc::ENOSPC;
        }
        let whole = bytes.len();
        bytes.truncate(self.shortened(whole, faults));
        let fails = self.strikes(faults.write_error);
        let torn = fails || self.strikes(faults.torn_write);
        let count = bytes.len();
        if !fails && self.strikes(faults.lost_write) {
            return count as i32;
        }
        if count > 0 && self.strikes(faults.bit_flip_on_write) {
            bytes[self.random.below(count as u64) as usize] ^= 1 << self.random.below(8);
        }
        let offset = if self.strikes(faults.misdirected_write) {
            self.elsewhere(operation.disk, operation.offset, count)
        } else {
            operation.offset
        };
        let random = &mut self.random;
        let disk = &mut self.disks[operation.disk];
        let number = disk.write(offset, &bytes, |_| !torn || random.chance(0.5));
        if durable && !faults.lying_sync && !fails {
            disk.persist(number);
        }
        self.stats.bytes_written += count as u64;
        if fails { -libc::EIO } else { count as i32 }
    }

    fn sync(&mut self, disk: usize, mark: u64, faults: &Faults) -> i32 {
        self.stats.syncs += 1;
        if self.strikes(faults.sync_error) {
            let random = &mut self.random;
            self.disks[disk].sync(mark, || random.chance(0.5));
            return -libc::EIO;
        }
        if !faults.lying_sync {
            self.disks[disk].sync(mark, || true);
        }
        0
    }

    fn strikes(&mut self, probability: f64) -> bool {
        let strikes = self.random.chance(probability);
        self.stats.faults += u64::from(strikes);
        strikes
    }

    /// A transfer that may stop early, after whole sectors.
    fn shortened(&mut self, len: usize, faults: &Faults) -> usize {
        if len > SECTOR && self.random.chance(faults.short_transfer) {
            (1 + self.random.below(((len - 1) / SECTOR) as u64) as usize) * SECTOR
        } else {
            len
        }
    }

    /// Another place on the same disk: a near one, as wrong by a block or a bit of the address.
    fn elsewhere(&mut self, disk: usize, offset: u64, len: usize) -> u64 {
        let blocks = (self.disks[disk].len.saturating_sub(len as u64) / BLOCK as u64).max(1);
        let block = offset / BLOCK as u64;
        let wrong = match self.random.below(3) {
            0 => block + 1,
            1 => block ^ (1 << self.random.below(12)),
            _ => self.random.below(blocks),
        };
        wrong % blocks * BLOCK as u64 + offset % BLOCK as u64
    }
}
