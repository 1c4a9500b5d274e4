//! One run: a store is made, lives, dies, and is opened again, several times; each time it must hold what it owes.
//!
//! What is owed after which death: a clean close owes everything; a crash of the process owes everything acknowledged; a crash
//! of the host owes everything that was said to be durable. In each case what is found must be one position of the order, the
//! same for all volumes. Once a store has been opened and read, what it showed is durable.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use treering_engine::{CreateOptions, OpenOptions, Store};
use treering_format::superblock::{COPIES_PER_REGION, DATA_START, REGION_STARTS, Superblock};
use treering_format::units::{CheckpointSequence, Incarnation};
use treering_io::Io;
use treering_io::sim::{Faults, Host, Stopped};

use crate::clients::Client;
use crate::content::BLOCK;
use crate::coverage::Coverage;
use crate::model::publish_blocks;
use crate::random::Random;
use crate::scenario::{Scenario, Temper};
use crate::world::{Broken, World};

mod emptied;
mod owed;

pub const STORE: &str = "/store";
const ARENAS: &str = "/arenas";

/// How to run one seed.
#[derive(Clone, Debug, Default)]
pub struct How {
    pub operations: Option<u64>,
    pub temper: Option<Temper>,
    /// Every seed makes history, and much of it.
    pub history: bool,
    /// Every seed overwrites here and there, so that slots are cleaned.
    pub ageing: bool,
    pub trace: bool,
    /// The disk acknowledges syncs and does nothing: every such run should fail.
    pub lying_sync: bool,
    /// Count the descriptors in the disk's final image.
    pub sample_image: bool,
}

/// What happened since the store was last opened and read.
#[derive(Default)]
struct Since {
    host_crashed: bool,
    process_crashed: bool,
    closed: bool,
    /// A close was begun: it may have come to its end without an answer.
    closing: bool,
    /// The checkpoint that was made unreadable.
    rotten: Option<CheckpointSequence>,
    incarnation: Option<Incarnation>,
}

pub struct Run {
    world: Rc<World>,
    scenario: Scenario,
    random: Random,
    since: Since,
    how: How,
}

/// How a process ended by itself.
enum End {
    Closed,
    /// It just stops, with everything in flight.
    Left,
    /// The store could not be opened; with the faults of this run that may be.
    Refused,
    /// Nothing more can be learned from this store.
    Over,
}

pub fn run(seed: u64, how: &How) -> (Result<(), Broken>, Coverage) {
    let mut random = Random::new(seed);
    let scenario = match how.temper {
        Some(temper) => Scenario::with(temper, &mut random, how.operations),
        None => Scenario::draw(&mut random, how.operations),
    };
    let scenario = if how.history { scenario.historic() } else { scenario };
    let scenario = if how.ageing { scenario.ageing(&mut random) } else { scenario };
    let host = Host::new(seed);
    let world = Rc::new(World::new(host, scenario.temper, how.trace));
    world.note(|| format!("{scenario:?}"));
    let mut run = Run { world: Rc::clone(&world), scenario, random, since: Since::default(), how: how.clone() };
    let result = run.all();
    let mut coverage = world.coverage.borrow().clone();
    let stats = world.host.stats();
    coverage.seeds = 1;
    coverage.faults = stats.faults;
    coverage.host_crashes = stats.host_crashes;
    coverage.process_crashes = stats.process_crashes;
    coverage.disk_events = world.host.events();
    if how.sample_image {
        coverage.image(&world.host.disk_image(Path::new(STORE)));
    }
    (result, coverage)
}

/// A store that lived twice and was left behind, by a crash or a close: its disk, and a world that knows all it ever held.
pub fn left_behind(seed: u64) -> Result<(Rc<World>, Vec<u8>), Broken> {
    left_behind_as(seed, |drawn| {
        let history_percent = drawn.history_percent.max(10);
        Scenario { segment_blocks: 64, slots: 12, volume_blocks: 24, history_percent, ..drawn }
    })
}

/// As `left_behind`, with a scenario of another shape.
pub fn left_behind_as(seed: u64, shape: impl FnOnce(Scenario) -> Scenario) -> Result<(Rc<World>, Vec<u8>), Broken> {
    let mut random = Random::new(seed);
    let drawn = Scenario::with(Temper::Sound, &mut random, Some(120));
    let scenario = Scenario { lives: 3, ..shape(drawn) };
    let world = Rc::new(World::new(Host::new(seed), scenario.temper, false));
    world.journal.borrow_mut().keep_history();
    let mut run = Run { world: Rc::clone(&world), scenario, random, since: Since::default(), how: How::default() };
    run.create()?;
    run.process(None, false)?;
    run.process(None, false)?;
    let disk = world.host.disk_image(Path::new(STORE));
    Ok((world, disk))
}

impl Run {
    fn all(&mut self) -> Result<(), Broken> {
        if self.scenario.temper == Temper::LyingWrites {
            self.world.journal.borrow_mut().keep_history();
        }
        self.create()?;
        let mut lives = 0;
        let mut attempts = 0;
        while lives < self.scenario.lives {
            attempts += 1;
            // The last life is opened and read only: it tells what the one before left.
            let last = lives + 1 == self.scenario.lives;
            let crash = match attempts {
                _ if last && attempts > 1 => None,
                1..=4 if self.random.chance(35) => Some(self.random.scale(1, 80)),
                1..=6 if self.random.chance(70) => Some(self.random.scale(20, 4_000)),
                _ => None,
            };
            let served = self.process(crash, last)?;
            match served {
                None => return Ok(()),
                Some(true) => {
                    lives += 1;
                    attempts = 0;
                }
                Some(false) if attempts > 12 => return Err("the store could not be opened in 12 attempts".into()),
                Some(false) => {}
            }
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), Broken> {
        let mut runtime = self.world.host.runtime();
        let io = runtime.io();
        let options = CreateOptions {
            size: Some(DATA_START + self.scenario.slots * u64::from(self.scenario.segment_blocks) * BLOCK),
            sparse: self.scenario.sparse,
            segment_blocks: self.scenario.segment_blocks,
        };
        let made = runtime.run_sim(async { Store::create(&io, Path::new(STORE), &options).await });
        match made {
            Ok(Ok(_)) => {
                self.since.closed = true;
                Ok(())
            }
            Ok(Err(error)) => Err(format!("creating the store: {error}")),
            Err(stopped) => Err(format!("creating the store: {stopped}")),
        }
    }

    /// One process, from open to its end. Gives whether it served, and None when the run is over.
    fn process(&mut self, crash: Option<u64>, last: bool) -> Result<Option<bool>, Broken> {
        let in_memory = crash.is_some() && self.random.chance(15);
        *self.world.host.faults() = Faults::default();
        let served = Rc::new(std::cell::Cell::new(false));
        let mut runtime = self.world.host.runtime();
        let io = runtime.io();
        match crash {
            Some(n) if in_memory => self.world.crash_after(None, Some(n)),
            events => self.world.crash_after(events, None),
        }
        let result = {
            let served = Rc::clone(&served);
            runtime.run_sim(self.live(io, served, last))
        };
        self.world.coverage.borrow_mut().virtual_seconds = runtime.io().now() / 1_000_000_000;
        if let Some(broken) = self.world.broken() {
            return Err(broken);
        }
        let end = match result {
            Ok(Ok(end)) => end,
            Ok(Err(broken)) => return Err(broken),
            Err(Stopped::Crashed) => {
                let mut coverage = self.world.coverage.borrow_mut();
                coverage.crashes_in_recovery += u64::from(!served.get());
                coverage.torn_shared_memory += u64::from(in_memory);
                End::Left
            }
            Err(Stopped::Deadlock) => return Err("the process waits for something that will never happen".into()),
        };
        self.world.crash_after(None, None);
        *self.world.host.faults() = Faults::default();
        match end {
            End::Over => return Ok(None),
            End::Closed => {
                drop(runtime);
                self.since.closed = true;
                self.world.coverage.borrow_mut().clean_closes += 1;
                if self.random.chance(50) {
                    self.world.note(|| "the host crashes after the close".into());
                    self.world.host.host_crash();
                    self.since.host_crashed = true;
                }
            }
            End::Left | End::Refused => {
                // After a failed sync the kernel may have dropped what it could not write: only the next boot tells.
                let host = self.scenario.temper == Temper::FailingSyncs || self.random.chance(60);
                self.world.note(|| format!("the {} crashes", if host { "host" } else { "process" }));
                if host {
                    self.world.host.host_crash();
                    self.since.host_crashed = true;
                } else {
                    self.world.host.process_crash();
                    self.since.process_crashed = true;
                }
                drop(runtime);
            }
        }
        if self.scenario.temper == Temper::Sound && self.random.chance(10) {
            self.rot();
        }
        Ok(Some(served.get()))
    }

    /// The newest checkpoint becomes unreadable, as by a bad sector: the older one and the log above it hold everything, too.
    fn rot(&mut self) {
        let Some(superblock) = newest_superblock(&self.world.host.disk_image(Path::new(STORE))) else { return };
        let [newest, older] = superblock.checkpoints;
        if older.is_absent() || self.since.rotten == Some(newest.sequence) {
            return;
        }
        self.since.rotten = Some(newest.sequence);
        self.world.note(|| format!("checkpoint {} rots", newest.sequence));
        self.world.host.damage(Path::new(STORE), newest.blob_page.0 * BLOCK, 512);
    }

    async fn live(&mut self, io: Io, served: Rc<std::cell::Cell<bool>>, last: bool) -> Result<End, Broken> {
        let limits = self.scenario.limits(&mut self.random);
        let chunk_blocks = publish_blocks(self.scenario.segment_blocks);
        let mut options = OpenOptions { limits, arena_dir: Some(ARENAS.into()), ..OpenOptions::default() };
        if self.random.chance(10) {
            options.read_only = true;
            if let Some(end) = self.look(&io, &options).await? {
                return Ok(end);
            }
            options.read_only = false;
        }
        let opening = Store::open(&io, Path::new(STORE), &options);
        let opened = io.timeout(Duration::from_secs(120), opening).await;
        let (store, report) = match opened.ok_or("opening the store does not end")? {
            Ok(opened) => opened,
            Err(error) => return self.refused(error),
        };
        self.world.note(|| format!("opened: {report:?}"));
        // A close that was not answered may have come to its end all the same.
        self.since.closed |= report.clean;
        if self.scenario.temper == Temper::LyingWrites && !served.get() && self.was_damaged() {
            return self.doubt(&store, &served).await;
        }
        self.recovered(&store, &report).await?;
        served.set(true);
        if self.random.chance(60) {
            self.check(&store).await?;
        }
        if last {
            return Ok(End::Over);
        }
        *self.world.host.faults() = self.scenario.faults(&mut self.random);
        self.world.host.faults().lying_sync = self.how.lying_sync;
        self.work(&io, &store, chunk_blocks).await;
        if let Some(broken) = self.world.broken() {
            return Err(broken);
        }
        self.finish(store).await
    }

    async fn work(&mut self, io: &Io, store: &Store, chunk_blocks: u64) {
        let share = self.scenario.operations / self.scenario.clients as u64 + 1;
        let clients = (0..self.scenario.clients).map(|i| Client {
            world: Rc::clone(&self.world),
            io: io.clone(),
            store: store.clone(),
            scenario: self.scenario.clone(),
            random: self.random.fork(),
            chunk_blocks,
            admin: i == 0,
        });
        let mut tasks = Vec::new();
        for mut client in clients.collect::<Vec<_>>() {
            if client.admin && self.world.journal.borrow().now().volumes.is_empty() {
                self.make_something(&mut client).await;
            }
            tasks.push(io.spawn(client.run(share)));
        }
        for task in tasks {
            task.await;
        }
    }

    async fn make_something(&self, client: &mut Client) {
        if let Err(broken) = client.create_dot().await {
            self.world.breaks(broken);
        }
    }

    async fn finish(&mut self, store: Store) -> Result<End, Broken> {
        let status = store.status();
        self.world.coverage.borrow_mut().checkpoints += status.checkpoints;
        self.world.coverage.borrow_mut().cleaning(&status.cleaning);
        if let Some(failure) = status.failure {
            if self.scenario.temper == Temper::Sound {
                return Err(format!("the store stopped: {failure}"));
            }
            self.world.coverage.borrow_mut().fail_stops += 1;
            return Ok(End::Left);
        }
        if self.random.chance(50) {
            self.check(&store).await?;
        }
        if self.scenario.temper == Temper::Sound && self.random.chance(20) {
            self.empty(&store).await?;
        }
        if self.random.chance(60) {
            return Ok(End::Left);
        }
        self.since.closing = true;
        match store.close().await {
            Ok(()) => Ok(End::Closed),
            Err(_) if self.scenario.temper != Temper::Sound => Ok(End::Left),
            Err(failure) => Err(format!("closing: {failure}")),
        }
    }
}

/// What recovery starts from, for a reader of a trace.
pub fn newest_superblock(image: &[u8]) -> Option<Superblock> {
    let blocks = image.chunks_exact(BLOCK as usize).take((REGION_STARTS[1] + COPIES_PER_REGION) as usize);
    blocks.filter_map(|block| Superblock::decode(block).ok()).max_by_key(|s| s.generation)
}
