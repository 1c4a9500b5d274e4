//! A process of the simulated machine: its operations in flight, its schedule of events, and the back end over them.
//!
//! An operation takes effect at its completion, at a moment drawn from the seed: a read sees the disk as it is then, a write
//! from shared memory takes the bytes as they are then. A crash leaves the operations that had not completed in place, until
//! the host decides their fate.

mod disk_operations;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::backend::{Address, Backend, Completion, Turn, Wait};
use crate::file::{File, FileOptions};
use crate::memory::SharedMemory;
use crate::operation::{Operations, Request, Token};
use crate::socket::{Listener, SocketHandle};

use super::host::{Machine, State};
use super::network::{Network, SocketEvent};

use disk_operations::DiskOperation;

pub(super) struct Process {
    pub(super) crashed: Rc<Cell<bool>>,
    /// Disk operations in flight, in the order of submission.
    operations: BTreeMap<u64, DiskOperation>,
    schedule: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(super) network: Network,
    terminated: bool,
    awaits_termination: Vec<Token>,
    pub(super) locks: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Event {
    Disk(u64),
    Socket(SocketEvent),
    /// A result that was clear at once.
    Result(Completion),
}

impl Process {
    pub(super) fn new(crashed: Rc<Cell<bool>>) -> Process {
        Process {
            crashed,
            operations: BTreeMap::new(),
            schedule: BTreeMap::new(),
            next_event: 0,
            network: Network::default(),
            terminated: false,
            awaits_termination: Vec::new(),
            locks: Vec::new(),
        }
    }

    fn at(&mut self, moment: u64, event: Event) {
        self.schedule.insert((moment, self.next_event), event);
        self.next_event += 1;
    }

    pub(super) fn terminate(&mut self, now: u64) {
        self.terminated = true;
        for token in std::mem::take(&mut self.awaits_termination) {
            self.at(now, Event::Result(Completion { token, result: 0 }));
        }
    }

    /// Sockets whose state has changed get an event each.
    fn schedule_sockets(&mut self, now: u64, mut latency: impl FnMut() -> u64) {
        while let Some(event) = self.network.take_due() {
            self.at(now + latency(), Event::Socket(event));
        }
    }
}

/// The back end of one process.
pub(super) struct SimProcess {
    machine: Rc<Machine>,
    number: u64,
    crashed: Rc<Cell<bool>>,
}

impl SimProcess {
    pub(super) fn new(machine: Rc<Machine>, number: u64, crashed: Rc<Cell<bool>>) -> SimProcess {
        SimProcess { machine, number, crashed }
    }

    /// Runs `act` on the state, then schedules what it set off between sockets.
    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let state = &mut *self.machine.state.borrow_mut();
        let result = act(state);
        let latency = self.machine.faults.borrow().socket_latency_ns;
        if let Some(process) = state.processes.get_mut(&self.number) {
            process.schedule_sockets(state.now, || state.random.between(latency));
        }
        result
    }

    fn perform(&self, event: Event, operations: &mut Operations) -> Option<Completion> {
        let faults = *self.machine.faults.borrow();
        self.with_state(|state| match event {
            Event::Result(completion) => Some(completion),
            Event::Disk(number) => state.complete_disk_operation(self.number, number, operations, &faults),
            Event::Socket(event) => {
                let process = state.processes.get_mut(&self.number)?;
                process.network.perform(event, operations, &mut state.random)
            }
        })
    }

    /// The next event up to `limit`; moves the clock to it.
    fn next_event(&self, limit: u64) -> Option<Event> {
        let state = &mut *self.machine.state.borrow_mut();
        let process = state.processes.get_mut(&self.number)?;
        let entry = process.schedule.first_entry().filter(|entry| entry.key().0 <= limit)?;
        state.now = state.now.max(entry.key().0);
        Some(entry.remove())
    }
}

/// How far the clock moves while tasks are ready all the time: computing takes time, too.
const BUSY_TURN_NS: u64 = 1_000;

impl Backend for SimProcess {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn now(&self) -> u64 {
        self.machine.state.borrow().now
    }

    fn wall_clock(&self) -> u64 {
        // Some day in 2026.
        1_780_000_000_000_000_000 + self.now()
    }

    fn fill_random(&self, into: &mut [u8]) {
        self.machine.state.borrow_mut().random.fill(into);
    }

    fn boot_id(&self) -> [u8; 16] {
        self.machine.state.borrow().boot_id
    }

    fn start(&mut self, token: Token, request: &mut Request) {
        if self.crashed.get() {
            return;
        }
        let faults = *self.machine.faults.borrow();
        self.with_state(|state| match request {
            Request::Read { .. } | Request::Write { .. } | Request::Sync { .. } => {
                state.start_disk_operation(self.number, token, request, &faults);
            }
            Request::Terminated => {
                let now = state.now;
                let process = state.process(self.number);
                match process.terminated {
                    true => process.at(now, Event::Result(Completion { token, result: 0 })),
                    false => process.awaits_termination.push(token),
                }
            }
            _ => state.process(self.number).network.start(token, request),
        });
    }

    fn cancel(&mut self, token: Token) {
        if self.crashed.get() {
            return;
        }
        self.with_state(|state| {
            let now = state.now;
            let process = state.process(self.number);
            let waited = process.awaits_termination.len();
            process.awaits_termination.retain(|waiting| *waiting != token);
            if process.awaits_termination.len() < waited || process.network.cancel(token) {
                process.at(now, Event::Result(Completion { token, result: -libc::ECANCELED }));
            }
        });
    }

    fn turn(&mut self, wait: Wait, operations: &mut Operations, completions: &mut Vec<Completion>) -> Turn {
        let limit = match wait {
            Wait::No => self.now() + BUSY_TURN_NS,
            Wait::Until(deadline) => deadline.unwrap_or(u64::MAX),
        };
        // Sockets that a task has shut down or dropped since the last turn.
        self.with_state(|_| ());
        let mut limit_now = limit;
        let mut found = false;
        while let Some(event) = self.next_event(limit_now) {
            found = true;
            completions.extend(self.perform(event, operations));
            if self.crashed.get() {
                completions.clear();
                return Turn::Crashed;
            }
            // Only what happens at the same instant is delivered together.
            limit_now = self.now();
        }
        if self.crashed.get() {
            return Turn::Crashed;
        }
        if !found {
            if limit == u64::MAX {
                return Turn::Idle;
            }
            let mut state = self.machine.state.borrow_mut();
            state.now = state.now.max(limit);
        }
        Turn::Done
    }

    fn open_file(&self, path: &Path, options: &FileOptions) -> io::Result<File> {
        self.machine.open_file(self.number, path, options)
    }

    fn open_shared_memory(&self, path: &Path, len: u64) -> io::Result<SharedMemory> {
        self.machine.open_shared_memory(self.number, path, len)
    }

    fn existing_shared_memory(&self, path: &Path) -> io::Result<Option<SharedMemory>> {
        Ok(self.machine.existing_shared_memory(self.number, path))
    }

    fn remove_shared_memory(&self, path: &Path) -> io::Result<()> {
        if !self.crashed.get() {
            self.machine.state.borrow_mut().memories.remove(path);
        }
        Ok(())
    }

    fn listen(&self, address: &Address, _mode: u32) -> io::Result<Listener> {
        self.machine.listen(self.number, address)
    }

    fn socket_for(&self, _address: &Address) -> io::Result<SocketHandle> {
        self.machine.new_socket(self.number)
    }
}

impl Drop for SimProcess {
    fn drop(&mut self) {
        // A process that crashed stays until the host has decided what becomes of its writes.
        if !self.crashed.get() {
            self.machine.state.borrow_mut().processes.remove(&self.number);
        }
    }
}
