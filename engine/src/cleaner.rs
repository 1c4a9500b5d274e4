//! The cleaner: slots that are mostly dead give back their space. What lives in them is copied, as it is, into a container,
//! and the segment table says where it lies from then on. Maps and versions are not asked and not changed: the cost does not
//! depend on how many of them show a block.
//!
//! A job fills one container. It chooses victims, copies, and is installed in one step under the fold's turn once all its
//! writes have completed; before that nobody knows of it, and a crash leaves a slot that the table calls free. The emptied
//! slots come back by the rule of all slots, two checkpoints later. Nothing is copied that does not verify: such a victim
//! stays where it is for a while, and reads of it go on naming the damage.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use treering_format::superblock::{CONTAINERS, FORWARDS};
use treering_format::units::{RecordSequence, SlotIndex};

use crate::canary::{self, Canary};
use crate::error::Failure;
use crate::log::Keys;
use crate::pages::PageError;
use crate::segments::{Installed, Source};
use crate::store::Core;

mod copy;
mod pace;
mod plan;
mod victims;

use pace::{Marks, Pace};
use plan::Plan;
use victims::choose;

/// How often the cleaner looks around when nobody calls it, and how long it waits for credit.
const TICK: Duration = Duration::from_millis(200);
const CREDIT_TICK: Duration = Duration::from_millis(10);

/// How long it rests after a write or the table failed it.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How long a victim is left alone that could not be read or verified, and how long a look that found no gain holds good.
const SPARED_NS: u64 = 600 * 1_000_000_000;
const FRUITLESS_NS: u64 = 60 * 1_000_000_000;

/// How many are tried as the first victim of a job before there is said to be no gain.
const FIRSTS: usize = 8;

/// How long clients have written nothing when they count as quiet.
const QUIET_NS: u64 = 1_000_000_000;

/// Free slots above the reserve below which it keeps up with clients, at the least.
const BUSY_SLOTS: u64 = 2;

/// Slots that wait for a checkpoint before the cleaner asks for one: at least so many, or a part of all.
const WAITING_SLOTS: u64 = 4;
const WAITING_PART: u64 = 64;

/// What the cleaner remembers.
#[derive(Default)]
pub(crate) struct Cleaner {
    /// Victims that could not be read or verified, and when that was.
    spared: RefCell<HashMap<Source, u64>>,
    /// Where everything stood when a job would have brought nothing.
    fruitless: Cell<Option<Fruitless>>,
    pub(crate) figures: Cell<CleaningFigures>,
    /// When clients last wrote something, as far as the cleaner saw, and what was sealed by then.
    written: Cell<(u64, u64)>,
}

impl Cleaner {
    /// A read found its blocks in a container.
    pub(crate) fn count_read(&self) {
        let figures = self.figures.get();
        self.figures.set(CleaningFigures { reads: figures.reads + 1, ..figures });
    }
}

/// What the cleaner did since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleaningFigures {
    /// Containers filled.
    pub containers: u64,
    pub copied_bytes: u64,
    /// Containers that were emptied in turn.
    pub containers_again: u64,
    /// Containers that took a segment's blocks in part.
    pub split: u64,
    /// Reads from the disk that found their blocks in a container.
    pub reads: u64,
}

/// A look at all candidates that found no gain.
#[derive(Clone, Copy)]
struct Fruitless {
    at_ns: u64,
    fold: RecordSequence,
    changes: u64,
    urgent: bool,
}

/// How a look around ended.
enum Outcome {
    Worked,
    Nothing,
    Failed,
}

/// Why a job came to nothing.
#[derive(Debug)]
enum Stopped {
    /// It would bring no space.
    NoGain,
    /// There is no slot for it.
    NoSlot,
    /// A victim died meanwhile, or is spared from now on.
    Victim,
    /// The container could not be written; its slot is free again.
    Write(std::io::Error),
    Table(PageError),
    /// The store stopped.
    Store(Rc<Failure>),
}

impl From<Rc<Failure>> for Stopped {
    fn from(failure: Rc<Failure>) -> Stopped {
        Stopped::Store(failure)
    }
}

impl From<PageError> for Stopped {
    fn from(error: PageError) -> Stopped {
        Stopped::Table(error)
    }
}

impl Core {
    /// The background loop. It ends when the store fails.
    pub(crate) async fn keep_cleaning(&self) {
        loop {
            let wake = self.pressure.wake.notified();
            if self.health.check().is_err() {
                return;
            }
            let checkpoints = self.pressure.checkpoints.get();
            let outcome = match self.segments.count_some(&self.pages).await {
                Ok(true) => self.clean().await,
                Ok(false) => {
                    self.disk.io().yield_now().await;
                    Outcome::Worked
                }
                Err(error) => {
                    tracing::warn!("live blocks could not be counted: {error}");
                    Outcome::Failed
                }
            };
            let rest = match outcome {
                Outcome::Worked => continue,
                Outcome::Nothing => TICK,
                Outcome::Failed => AFTER_FAILURE,
            };
            if self.pressure.nothing_to_clean.replace(Some(checkpoints)) != Some(checkpoints) {
                self.health.progress().notify_all();
            }
            self.ask_for_emptied(true);
            match outcome {
                Outcome::Failed => self.disk.io().sleep(rest).await,
                _ => drop(self.disk.io().timeout(rest, wake).await),
            }
        }
    }

    /// One job, if it is worth it.
    async fn clean(&self) -> Outcome {
        let quiet = self.clients_are_quiet();
        let urgent = match self.clean_pace() {
            Pace::Rest => return Outcome::Nothing,
            Pace::Idle if !quiet => return Outcome::Nothing,
            pace => pace == Pace::Urgent,
        };
        self.pressure.nothing_to_clean.set(None);
        match self.clean_once(urgent).await {
            Ok(()) => {
                self.pressure.cleaned.set(self.pressure.cleaned.get() + 1);
                self.ask_for_emptied(false);
                Outcome::Worked
            }
            Err(Stopped::Victim) => Outcome::Worked,
            Err(Stopped::NoGain | Stopped::NoSlot) => Outcome::Nothing,
            Err(Stopped::Store(failure)) => {
                tracing::debug!("the cleaner stops: {failure}");
                Outcome::Failed
            }
            Err(Stopped::Write(error)) => {
                tracing::warn!("the cleaner could not write a container: {error}");
                Outcome::Failed
            }
            Err(Stopped::Table(error)) => {
                tracing::warn!("the cleaner could not read the segment table: {error}");
                Outcome::Failed
            }
        }
    }

    fn clients_are_quiet(&self) -> bool {
        let (now, sealed) = (self.disk.io().now(), self.log.sealed_bytes());
        let (since, before) = self.cleaner.written.get();
        if sealed != before {
            self.cleaner.written.set((now, sealed));
        }
        sealed == before && now.saturating_sub(since) >= QUIET_NS
    }

    /// Runs one job. Urgent: also for little gain.
    async fn clean_once(&self, urgent: bool) -> Result<(), Stopped> {
        let capacity = self.disk.geometry().segment_blocks - 2;
        let fold = self.fold.borrow().reached;
        let now = self.disk.io().now();
        let stands = Fruitless { at_ns: now, fold: fold.sequence, changes: self.segments.changes(), urgent };
        if self.cleaner.fruitless.get().is_some_and(|last| last.still(&stands)) {
            return Err(Stopped::NoGain);
        }
        if self.slots_to_fill() == 0 {
            return Err(Stopped::NoSlot);
        }
        let most = if urgent { plan::most_live(capacity) } else { capacity - capacity / 4 };
        let mut candidates = self.segments.candidates_to_clean(&fold, most);
        self.cleaner.spared.borrow_mut().retain(|_, since| now.saturating_sub(*since) < SPARED_NS);
        candidates.retain(|candidate| !self.cleaner.spared.borrow().contains_key(&candidate.source));
        let order = choose(&candidates, capacity, fold.next.segment());
        let Some(mut plan) = self.plan_that_gains(&order, capacity).await? else {
            self.cleaner.fruitless.set(Some(stands));
            return Err(Stopped::NoGain);
        };
        let marked = {
            let superblock = self.superblock.current();
            superblock.has_feature(CONTAINERS) && superblock.has_feature(FORWARDS)
        };
        if !marked {
            let commit = self.superblock.commit(&self.disk, |s| {
                s.add_feature(FORWARDS);
                s.add_feature(CONTAINERS);
            });
            let committed = commit.await;
            self.health.require("naming a feature in the superblock", committed)?;
        }
        // Planning took time: others may have taken slots meanwhile.
        if self.slots_to_fill() == 0 {
            return Err(Stopped::NoSlot);
        }
        let slot = self.segments.reserve().ok_or(Stopped::NoSlot)?;
        let container = self.segments.take_container_id();
        let segment_blocks = self.disk.geometry().segment_blocks;
        if canary::is(Canary::InstallBeforeWritten) {
            self.install(Installed { container, slot, moved: plan.moved(segment_blocks) }).await?;
            return self.copy(&mut plan, container, slot).await;
        }
        let mut reserved = Reserved { core: self, slot: Some(slot) };
        self.copy(&mut plan, container, slot).await?;
        reserved.slot = None;
        self.install(Installed { container, slot, moved: plan.moved(segment_blocks) }).await?;
        let mut figures = self.cleaner.figures.get();
        figures.containers += 1;
        figures.copied_bytes += plan.data_bytes();
        figures.containers_again += plan.containers();
        figures.split += u64::from(plan.splits());
        self.cleaner.figures.set(figures);
        Ok(())
    }

    /// The one that comes first may go together with no other, for its size or its pieces: then it is tried without it.
    async fn plan_that_gains(&self, order: &[Source], capacity: u32) -> Result<Option<Plan>, Stopped> {
        for first in 0..order.len().min(FIRSTS) {
            let plan = self.plan(&order[first..]).await?;
            if plan.gains(capacity) {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }

    async fn install(&self, installed: Installed) -> Result<(), Stopped> {
        let _turn = self.fold_turn.take().await;
        self.health.check()?;
        let ids: Vec<_> = installed.moved.iter().map(|moved| moved.segment).collect();
        let slot = installed.slot;
        let loaded = self.segments.load_bits(&self.pages, ids.into_iter()).await;
        if let Err(error) = loaded {
            self.segments.unreserve(slot);
            return Err(error.into());
        }
        let fold = self.fold.borrow().reached;
        self.segments.install(installed, &fold);
        Ok(())
    }

    /// What the cleaner takes comes back twice. So where servers that died took of what is kept for the next, somebody waits, and
    /// checkpoints bring nothing, it may have more.
    fn slots_to_fill(&self) -> u64 {
        let free = self.room.free(Keys::default());
        let fold = self.fold.borrow().reached;
        let waited_for = self.pressure.held.get() > 0 && free.usable < free.trim_reserve;
        let at_last = waited_for && self.segments.counts().freed == 0 && self.segments.emptied(&fold) == 0;
        if at_last { free.cleaning_slots_at_last } else { free.cleaning_slots }
    }

    /// How much space there is, and so how hard to work.
    fn clean_pace(&self) -> Pace {
        if self.pressure.held.get() > 0 {
            return Pace::Urgent;
        }
        pace::pace(self.segments.free_slots(), self.marks())
    }

    fn marks(&self) -> Marks {
        let reserve = self.room.free(Keys::default()).reserve_slots;
        let part = |percent: u32| self.segments.slot_count() * u64::from(percent) / 100;
        let busy = reserve + part(self.limits.clean_busy_percent).max(BUSY_SLOTS);
        Marks { reserve, busy, idle: busy.max(part(self.limits.clean_idle_percent)) }
    }

    /// Emptied slots come back with checkpoints only. One is due when there are many; or a few, if somebody waits for them and the
    /// cleaner has nothing else to do.
    fn ask_for_emptied(&self, idle: bool) {
        let counts = self.segments.counts();
        let fold = self.fold.borrow().reached;
        let emptied = self.segments.emptied(&fold);
        let held = self.pressure.held.get() > 0;
        let many = emptied + counts.freed >= WAITING_SLOTS.max(counts.total / WAITING_PART);
        if idle && held && emptied > 0 || many && counts.free < self.marks().busy {
            self.pressure.ask_checkpoint();
        }
    }
}

impl Fruitless {
    /// Whether a look now would find the same.
    fn still(&self, now: &Fruitless) -> bool {
        let same = (self.fold, self.changes, self.urgent) == (now.fold, now.changes, now.urgent);
        same && now.at_ns.saturating_sub(self.at_ns) < FRUITLESS_NS
    }
}

/// Gives the slot back of a job that did not come to its end.
struct Reserved<'a> {
    core: &'a Core,
    slot: Option<SlotIndex>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.core.segments.unreserve(slot);
        }
    }
}
