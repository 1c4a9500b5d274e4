//! The machine itself: it outlives its processes, and decides what a crash leaves behind.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::memory::Mapping;
use crate::runtime::{Runtime, SimulatedProcess};

use super::disk::{Disk, PendingSector};
use super::faults::{Faults, SimStats};
use super::process::{Process, SimProcess};
use super::random::Random;

/// One simulated machine: disks, shared memory, clock, seed. A clone is the same machine.
#[derive(Clone)]
pub struct Host {
    machine: Rc<Machine>,
}

pub(crate) struct Machine {
    pub(super) state: RefCell<State>,
    pub(super) faults: RefCell<Faults>,
}

pub(super) struct State {
    pub(super) random: Random,
    /// Nanoseconds since the machine was made.
    pub(super) now: u64,
    pub(super) boot_id: [u8; 16],
    pub(super) disks: Vec<Disk>,
    pub(super) paths: BTreeMap<PathBuf, usize>,
    pub(super) memories: BTreeMap<PathBuf, Rc<Mapping>>,
    pub(super) processes: BTreeMap<u64, Process>,
    pub(super) next_process: u64,
    pub(super) next_lock: u64,
    pub(super) events: u64,
    pub(super) crash_at_event: Option<u64>,
    pub(super) copies: u64,
    pub(super) crash_at_copy: Option<u64>,
    pub(super) stats: SimStats,
}

/// A run that takes longer than this on the virtual clock is taken for a hang, though timers keep it alive.
const RUN_LIMIT_NS: u64 = 24 * 3_600 * 1_000_000_000;

impl Host {
    pub fn new(seed: u64) -> Host {
        let mut random = Random::new(seed);
        let mut boot_id = [0; 16];
        random.fill(&mut boot_id);
        let state = State {
            random,
            now: 0,
            boot_id,
            disks: Vec::new(),
            paths: BTreeMap::new(),
            memories: BTreeMap::new(),
            processes: BTreeMap::new(),
            next_process: 1,
            next_lock: 1,
            events: 0,
            crash_at_event: None,
            copies: 0,
            crash_at_copy: None,
            stats: SimStats::default(),
        };
        Host { machine: Rc::new(Machine { state: RefCell::new(state), faults: RefCell::default() }) }
    }

    /// A new process. One that crashed before and was not settled by `process_crash` or `host_crash` is settled as a crash of
    /// the process.
    pub fn runtime(&self) -> Runtime {
        let mut state = self.state();
        state.settle_processes(Settle::Crashed);
        let number = state.next_process;
        state.next_process += 1;
        let crashed = Rc::new(Cell::new(false));
        state.processes.insert(number, Process::new(crashed.clone()));
        let process = SimProcess::new(self.machine.clone(), number, crashed.clone());
        Runtime::simulated(Box::new(process), SimulatedProcess { crashed, run_limit_ns: RUN_LIMIT_NS })
    }

    /// A file that exists already, of `len` bytes of unallocated zeros.
    pub fn add_disk(&self, path: &Path, len: u64) {
        let mut state = self.state();
        assert!(!state.paths.contains_key(path), "the simulated host has a disk {} already", path.display());
        state.add_disk(path, len);
    }

    /// What a process would read.
    pub fn disk_image(&self, path: &Path) -> Vec<u8> {
        self.state().disk(path).image()
    }

    /// Replaces the content, durably.
    pub fn set_disk_image(&self, path: &Path, image: Vec<u8>) {
        let mut state = self.state();
        if !state.paths.contains_key(path) {
            state.add_disk(path, 0);
        }
        state.disk(path).set_image(&image);
    }

    /// Inverts `len` bytes from `offset` on, durably: a disk that rots. Pending writes there are made durable first.
    pub fn damage(&self, path: &Path, offset: u64, len: usize) {
        let mut state = self.state();
        let disk = state.disk(path);
        let mut bytes = vec![0; len];
        let count = disk.read(offset, &mut bytes);
        bytes.truncate(count);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        let mark = disk.sync_mark();
        disk.sync(mark, || true);
        let number = disk.write(offset, &bytes, |_| true);
        disk.persist(number);
    }

    /// What may happen from now on.
    pub fn faults(&self) -> RefMut<'_, Faults> {
        self.machine.faults.borrow_mut()
    }

    /// The n-th disk event (submission or completion) from now stops the process. Its own effect may or may not happen.
    pub fn crash_after(&self, events: Option<u64>) {
        let mut state = self.state();
        state.crash_at_event = events.map(|events| state.events + events.max(1));
    }

    /// Disk events so far.
    pub fn events(&self) -> u64 {
        self.state().events
    }

    /// The n-th copy into shared memory from now is cut short somewhere, and stops the process.
    pub fn crash_after_copies(&self, copies: Option<u64>) {
        let mut state = self.state();
        state.crash_at_copy = copies.map(|copies| state.copies + copies.max(1));
    }

    /// Copies into shared memory so far.
    pub fn copies(&self) -> u64 {
        self.state().copies
    }

    /// The processes die where they are: sockets and locks go, writes in flight may or may not reach the cache (whole or in
    /// part), the cache and shared memory stay.
    pub fn process_crash(&self) {
        let mut state = self.state();
        state.stats.process_crashes += 1;
        state.settle_processes(Settle::All);
    }

    /// Also loses shared memory, and of every write that no completed sync covered keeps any subset of its sectors.
    pub fn host_crash(&self) {
        let (seed, manner) = {
            let mut state = self.state();
            (state.random.next(), Survival::draw(&mut state.random))
        };
        let mut random = Random::new(seed);
        let mut decided = None;
        self.host_crash_keeping(&mut |sector| manner.keeps(&mut random, &mut decided, sector));
    }

    /// A crash of the host where the caller decides what survives, asked in the order in which the writes took effect.
    pub fn host_crash_keeping(&self, choose: &mut dyn FnMut(&PendingSector<'_>) -> bool) {
        let mut state = self.state();
        state.adopt_writes_in_flight();
        let State { disks, stats, random, boot_id, memories, processes, .. } = &mut *state;
        for process in processes.values() {
            process.crashed.set(true);
        }
        processes.clear();
        memories.clear();
        for disk in disks {
            let (kept, lost) = disk.crash(choose);
            stats.sectors_kept += kept;
            stats.sectors_lost += lost;
        }
        random.fill(boot_id);
        stats.host_crashes += 1;
        state.disarm();
    }

    /// How many sectors the next host crash decides about (not counting writes in flight).
    pub fn pending_sectors(&self) -> usize {
        self.state().disks.iter().map(Disk::pending_sectors).sum()
    }

    /// Asks the running processes to end, as SIGTERM does.
    pub fn terminate(&self) {
        let mut state = self.state();
        let now = state.now;
        for process in state.processes.values_mut() {
            process.terminate(now);
        }
    }

    pub fn stats(&self) -> SimStats {
        self.state().stats
    }

    fn state(&self) -> RefMut<'_, State> {
        self.machine.state.borrow_mut()
    }
}

/// In what manner a host crash lets sectors survive. Pure chance per sector would hardly ever keep or lose everything.
enum Survival {
    Sectors(f64),
    Writes(f64),
    /// Writes in order, up to one that is torn.
    Prefix(f64),
}

impl Survival {
    fn draw(random: &mut Random) -> Survival {
        const OFTEN: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];
        let often = OFTEN[random.below(OFTEN.len() as u64) as usize];
        match random.below(3) {
            0 => Survival::Sectors(often),
            1 => Survival::Writes(often),
            _ => Survival::Prefix([0.02, 0.1, 0.3][random.below(3) as usize]),
        }
    }

    /// `decided` remembers the fate of the write (or of the prefix) from sector to sector.
    fn keeps(&self, random: &mut Random, decided: &mut Option<(u64, bool)>, sector: &PendingSector<'_>) -> bool {
        match *self {
            Survival::Sectors(often) => random.chance(often),
            Survival::Writes(often) => match *decided {
                Some((write, fate)) if write == sector.write => fate,
                _ => decided.insert((sector.write, random.chance(often))).1,
            },
            Survival::Prefix(end) => match *decided {
                Some((write, false)) if write == sector.write => random.chance(0.5),
                Some((_, false)) => false,
                Some((write, true)) if write == sector.write => true,
                _ => decided.insert((sector.write, !random.chance(end))).1,
            },
        }
    }
}

/// Which processes' loose ends are tied up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Settle {
    Crashed,
    All,
}

impl State {
    pub(super) fn add_disk(&mut self, path: &Path, len: u64) -> usize {
        let number = self.disks.len();
        self.disks.push(Disk::new(path, len));
        self.paths.insert(path.to_owned(), number);
        number
    }

    fn disk(&mut self, path: &Path) -> &mut Disk {
        let number = self.paths.get(path);
        let number = *number.unwrap_or_else(|| panic!("the simulated host has no disk {}", path.display()));
        &mut self.disks[number]
    }

    /// Counts a disk event; true if it is the one that stops the process.
    pub(super) fn disk_event(&mut self) -> bool {
        self.events += 1;
        self.crash_at_event == Some(self.events)
    }

    pub(super) fn disarm(&mut self) {
        self.crash_at_event = None;
        self.crash_at_copy = None;
    }

    /// Decides what becomes of dead processes' writes, and takes their locks.
    fn settle_processes(&mut self, which: Settle) {
        let chosen: Vec<u64> = self
            .processes
            .iter()
            .filter(|(_, process)| which == Settle::All || process.crashed.get())
            .map(|(number, _)| *number)
            .collect();
        for number in chosen {
            let process = self.processes.remove(&number).expect("chosen from the map");
            process.crashed.set(true);
            for write in process.writes_in_flight() {
                let bytes = write.bytes();
                let sectors = bytes.len().div_ceil(super::disk::SECTOR) as u64;
                // Nothing, all of it, or as far as it got.
                let arrived = match self.random.below(3) {
                    0 => continue,
                    1 => sectors,
                    _ => self.random.below(sectors + 1),
                };
                self.disks[write.disk].write(write.offset, &bytes, |sector| (sector as u64) < arrived);
            }
            for lock in process.locks {
                self.disks.iter_mut().for_each(|disk| disk.locks.retain(|held| held.holder != lock));
            }
        }
        self.disarm();
    }

    /// For a host crash: writes in flight are as undecided as all others.
    fn adopt_writes_in_flight(&mut self) {
        for process in self.processes.values() {
            for write in process.writes_in_flight() {
                let disk = &mut self.disks[write.disk];
                let number = disk.write(write.offset, &write.bytes(), |_| true);
                disk.mark_in_flight(number);
            }
        }
    }
}
