//! Clients: what they ask of a store, and the check of every answer at the moment it comes.
//!
//! A read is compared with the model as it was when the read began, and with what every piece published since then made of
//! it; so also reads that race with writes are checked, exactly. A flush owes what was answered before it was asked.

use std::rc::Rc;
use std::time::Duration;

use treering_engine::{CheckError, Store, Volume, VolumeError, Zeroing};
use treering_format::superblock::DATA_START;
use treering_io::Io;

use crate::content::{self, BLOCK};
use crate::model::{Block, VolumeKey, trim_pieces, write_pieces, zero_pieces};
use crate::random::Random;
use crate::scenario::{Scenario, Temper};
use crate::world::{Broken, World};

mod admin;
mod history;

pub struct Client {
    pub world: Rc<World>,
    pub io: Io,
    pub store: Store,
    pub scenario: Scenario,
    pub random: Random,
    /// Blocks under one order number.
    pub chunk_blocks: u64,
    /// Whether this one also changes the catalog: one client at a time does.
    pub admin: bool,
}

/// No operation may take longer on the virtual clock.
const PATIENCE: Duration = Duration::from_secs(120);

impl Client {
    pub async fn run(mut self, operations: u64) {
        for _ in 0..operations {
            if self.world.broken().is_some() {
                return;
            }
            self.world.coverage.borrow_mut().operations += 1;
            let io = self.io.clone();
            let world = Rc::clone(&self.world);
            match io.timeout(PATIENCE, self.step()).await {
                Some(Ok(())) => {}
                Some(Err(broken)) => world.breaks(broken),
                None => world.breaks(format!("an operation was not answered for {PATIENCE:?}")),
            }
        }
    }

    async fn step(&mut self) -> Result<(), Broken> {
        if self.admin && self.random.chance(self.scenario.admin_percent) {
            return self.administrate().await;
        }
        if self.random.chance(self.scenario.history_percent) {
            return if self.admin { self.make_history().await } else { self.read_history().await };
        }
        if self.scenario.history_percent > 0 && self.random.chance(10) {
            return self.read_history().await;
        }
        if self.random.chance(3) {
            return self.ask_store().await;
        }
        if self.admin && self.random.chance(self.scenario.grow_percent) {
            return self.grow().await;
        }
        if self.random.chance(5) {
            let pause = self.random.scale(1_000, 3_000_000_000);
            self.io.sleep(Duration::from_nanos(pause)).await;
            return Ok(());
        }
        let Some((key, volume)) = self.choose_volume()? else {
            return if self.admin { self.administrate().await } else { Ok(()) };
        };
        // A client that goes away in the middle: what it had published stays.
        let cancels = self.random.chance(2);
        let within = Duration::from_nanos(self.random.scale(1_000, 1_000_000));
        let io = self.io.clone();
        if cancels {
            let done = io.timeout(within, self.use_volume(key, &volume)).await;
            self.world.coverage.borrow_mut().cancelled += u64::from(done.is_none());
            return done.unwrap_or(Ok(()));
        }
        self.use_volume(key, &volume).await
    }

    async fn use_volume(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let (flush, zero) = (self.scenario.flush_percent, self.scenario.zero_percent);
        match self.random.below(100) {
            n if n < flush / 2 => self.flush(key, volume).await,
            n if n < flush / 2 + zero && self.random.chance(50) => self.trim(key, volume).await,
            n if n < flush / 2 + zero => self.zero(key, volume).await,
            n if n < 55 => self.write(key, volume).await,
            n if n < 85 => self.read(key, volume).await,
            n if n < 90 => self.stream(key, volume).await,
            n if n < 97 => self.status(key, volume).await,
            _ => {
                let (offset, len) = self.range(volume.size());
                let result = volume.prefetch(offset, len).await;
                self.excuse(result, key, offset, len, false).map(|_| ())
            }
        }
    }

    fn choose_volume(&mut self) -> Result<Option<(VolumeKey, Volume)>, Broken> {
        let (key, dot, name) = {
            let journal = self.world.journal.borrow();
            let volumes = &journal.now().volumes;
            if volumes.is_empty() {
                return Ok(None);
            }
            let chosen = self.random.below(volumes.len() as u64) as usize;
            let (key, volume) = volumes.iter().nth(chosen).expect("chosen among them");
            (*key, volume.dot.clone(), volume.name.clone())
        };
        match self.store.volume(&dot, &name) {
            Some(volume) => Ok(Some((key, volume))),
            // It may be shown once it is durable.
            None if !self.world.journal.borrow().is_announced(key) || self.world.crashed() => Ok(None),
            None => Err(format!("volume {dot}.{name} was made and the store does not know it")),
        }
    }

    fn range(&mut self, size: u64) -> (u64, u64) {
        let blocks = size / BLOCK;
        if blocks == 0 || self.random.chance(20) {
            let offset = self.random.below(size);
            let len = self.random.scale(1, size - offset).min(size - offset);
            return (offset, len);
        }
        let wide = self.scenario.sliced;
        let most = match wide {
            _ if self.scenario.long_writes => 80,
            true if self.random.chance(70) => 2,
            true => 16,
            false => 8,
        };
        let count = self.random.scale(1, most).min(blocks);
        // Some places are hot, so that rewrites and absorption happen.
        let span = if !wide && self.random.chance(50) { (blocks / 4).max(1) } else { blocks };
        let block = self.random.below(span).min(blocks - count);
        (block * BLOCK, count * BLOCK)
    }

    async fn write(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        let (offset, len) = self.range(volume.size());
        let fua = self.random.chance(self.scenario.flush_percent);
        let data = content::bytes(operation, len as usize, self.random.chance(50));
        self.world.note(|| format!("operation {operation}: write v{} {offset}+{len} fua {fua}", key.0));
        let pieces = write_pieces(key, offset, &data, self.chunk_blocks);
        let failed = self.store.status().failure.is_some();
        let (result, last) = self.world.observe(&self.store, operation, pieces, volume.write(offset, &data, fua)).await;
        if self.excuse(result, key, offset, len, true)?.is_some() {
            self.answered(failed, "a write")?;
            self.world.acknowledge(last);
            if fua {
                self.world.make_durable(last);
                self.world.coverage.borrow_mut().durable_writes += 1;
            }
        }
        Ok(())
    }

    /// Often long: one descriptor takes any length.
    fn blank_range(&mut self, size: u64) -> (u64, u64) {
        match self.random.below(4) {
            0 => (0, size),
            1 => {
                let offset = self.random.below(size);
                (offset, self.random.between(0, size - offset))
            }
            _ => self.range(size),
        }
    }

    /// A trim succeeds on a full store, too, and may leave the rest of what it was asked for undone there.
    async fn trim(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        let (offset, len) = self.blank_range(volume.size());
        let fua = self.random.chance(self.scenario.flush_percent);
        self.world.note(|| format!("operation {operation}: trim v{} {offset}+{len} fua {fua}", key.0));
        let pieces = trim_pieces(key, offset, len);
        let failed = self.store.status().failure.is_some();
        let (result, last, undone) =
            self.world.observe_some(&self.store, operation, pieces, volume.trim(offset, len, fua)).await;
        if self.excuse_trim(result, key, offset, len)?.is_some() {
            self.answered(failed && len > 0, "a trim")?;
            self.world.coverage.borrow_mut().trims_undone += u64::from(!undone.is_empty() && !self.world.crashed());
            self.world.acknowledge(last);
            if fua {
                self.world.make_durable(last);
            }
        }
        Ok(())
    }

    async fn zero(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        let (offset, len) = self.blank_range(volume.size());
        let fua = self.random.chance(self.scenario.flush_percent);
        let kind = if self.random.chance(50) { Zeroing::Hole } else { Zeroing::Allocated };
        self.world.note(|| format!("operation {operation}: zero v{} {offset}+{len} {kind:?} fua {fua}", key.0));
        let pieces = zero_pieces(key, offset, len, kind == Zeroing::Allocated);
        let failed = self.store.status().failure.is_some();
        let (result, last) =
            self.world.observe(&self.store, operation, pieces, volume.zero(offset, len, kind, fua)).await;
        if self.excuse(result, key, offset, len, true)?.is_some() {
            self.answered(failed && len > 0, "a zeroing")?;
            self.world.acknowledge(last);
            if fua {
                self.world.make_durable(last);
                self.world.coverage.borrow_mut().durable_writes += 1;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let owed = self.world.journal.borrow().acknowledged();
        let result = volume.flush().await;
        if self.excuse(result, key, 0, 0, true)?.is_some() {
            self.world.note(|| format!("flush answered for {}", owed.0));
            self.world.make_durable(owed);
            self.world.coverage.borrow_mut().flushes += 1;
        }
        Ok(())
    }

    async fn read(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let (offset, len) = self.range(volume.size());
        self.read_range(key, volume, offset, len).await
    }

    /// Pieces one behind the other, as a backup reads: the store reads ahead of it.
    async fn stream(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let piece = self.random.scale(1, 40) * BLOCK;
        let mut offset = self.random.below(volume.size()) / BLOCK * BLOCK;
        for _ in 0..self.random.scale(3, 24) {
            // The volume may shrink meanwhile.
            let len = piece.min(volume.size().saturating_sub(offset));
            if len == 0 || self.world.crashed() {
                break;
            }
            self.read_range(key, volume, offset, len).await?;
            offset += len;
        }
        let taken = self.store.status().reads_ahead;
        let mut coverage = self.world.coverage.borrow_mut();
        coverage.reads_ahead = coverage.reads_ahead.max(taken);
        Ok(())
    }

    async fn read_range(&mut self, key: VolumeKey, volume: &Volume, offset: u64, len: u64) -> Result<(), Broken> {
        let (from, before) = self.snapshot(key, offset, len);
        let result = volume.read(offset, len as usize).await;
        let Some(bytes) = self.excuse(result, key, offset, len, false)? else { return Ok(()) };
        if self.world.crashed() {
            return Ok(());
        }
        if bytes.len() as u64 != len {
            return Err(format!("a read of {len} bytes brought {}", bytes.len()));
        }
        let journal = self.world.journal.borrow();
        for (i, block) in before.iter().enumerate() {
            let number = offset / BLOCK + i as u64;
            let start = (number * BLOCK).max(offset);
            let end = ((number + 1) * BLOCK).min(offset + len);
            let found = &bytes[(start - offset) as usize..(end - offset) as usize];
            let within = (start - number * BLOCK) as usize..(end - number * BLOCK) as usize;
            if !journal.may_read(key, number, block, from, |b| b.bytes()[within.clone()] == *found) {
                let (due, found) = (block.describe(), content::describe(found));
                return Err(format!("read of v{} block {number}: {due} is due, found {found}", key.0));
            }
        }
        let mut coverage = self.world.coverage.borrow_mut();
        coverage.reads_verified += 1;
        coverage.blocks_verified += before.len() as u64;
        Ok(())
    }

    /// Block status must tell holes, allocated zeros and data as the model does.
    async fn status(&mut self, key: VolumeKey, volume: &Volume) -> Result<(), Broken> {
        let (offset, len) = self.range(volume.size());
        let (from, before) = self.snapshot(key, offset, len);
        let most = self.random.scale(1, 100) as usize;
        let result = volume.extents(offset, len, most).await;
        let Some(extents) = self.excuse(result, key, offset, len, false)? else { return Ok(()) };
        if self.world.crashed() {
            return Ok(());
        }
        let sum: u64 = extents.iter().map(|e| e.len).sum();
        if extents.is_empty() || extents.len() > most || sum > len || (most > len as usize && sum != len) {
            return Err(format!("status of {len} bytes in at most {most} extents: {extents:?}"));
        }
        let journal = self.world.journal.borrow();
        let mut at = offset;
        for extent in &extents {
            let fits = |block: &Block| match block {
                Block::Hole => extent.hole && extent.zero,
                Block::Zero => !extent.hole && extent.zero,
                Block::Data(_) => !extent.hole && !extent.zero,
            };
            for number in at / BLOCK..(at + extent.len).div_ceil(BLOCK) {
                let block = &before[(number - offset / BLOCK) as usize];
                if !journal.may_read(key, number, block, from, fits) {
                    return Err(format!(
                        "status of v{} block {number}: {extent:?}, but it is {}",
                        key.0,
                        block.describe()
                    ));
                }
            }
            at += extent.len;
        }
        self.world.coverage.borrow_mut().statuses_verified += 1;
        Ok(())
    }

    /// The blocks of a range as they are now.
    fn snapshot(&self, key: VolumeKey, offset: u64, len: u64) -> (crate::model::Position, Vec<Block>) {
        let journal = self.world.journal.borrow();
        let blocks = (offset / BLOCK) as usize..(offset + len).div_ceil(BLOCK) as usize;
        let volume = journal.now().volumes.get(&key);
        let hole = Block::Hole;
        let block = |n: usize| volume.and_then(|v| v.blocks.get(n)).unwrap_or(&hole).clone();
        (journal.position(), blocks.map(block).collect())
    }

    async fn ask_store(&mut self) -> Result<(), Broken> {
        if self.random.chance(25) {
            return self.check_store().await;
        }
        let owed = self.world.journal.borrow().acknowledged();
        let (what, result, durable) = match self.random.below(4) {
            0 => ("fold", self.store.fold().await, false),
            1 | 2 => ("checkpoint", self.store.checkpoint().await, true),
            _ => ("flush", self.store.flush().await, true),
        };
        self.world.note(|| format!("store {what}: {:?}", result.as_ref().map_err(|e| e.to_string())));
        match result {
            Ok(()) if durable => self.world.make_durable(owed),
            Ok(()) => {}
            Err(_) if self.world.temper != Temper::Sound => {}
            Err(failure) => return Err(format!("{what} failed: {failure}")),
        }
        if what == "fold" {
            self.world.coverage.borrow_mut().folds += 1;
        }
        Ok(())
    }

    /// A check finds the store sound while others write, fold and make checkpoints.
    async fn check_store(&mut self) -> Result<(), Broken> {
        let data = self.random.chance(50);
        let result = self.store.check(data, &mut |_| {}).await;
        self.world.note(|| format!("check: {:?}", result.as_ref().map_err(|e| e.to_string())));
        let report = match result {
            Ok(report) => report,
            Err(CheckError::SpaceNeeded) => {
                self.world.coverage.borrow_mut().checks_ended += 1;
                return Ok(());
            }
            Err(_) if self.world.temper != Temper::Sound => return Ok(()),
            Err(failure) => return Err(format!("an online check failed: {failure}")),
        };
        self.world.coverage.borrow_mut().online_checks += 1;
        match report.findings.first() {
            Some(finding) if !matches!(self.world.temper, Temper::BadReads | Temper::LyingWrites) => {
                Err(format!("an online check finds {} things wrong: {}", report.findings.len(), finding.what))
            }
            _ => Ok(()),
        }
    }

    /// A few segments more, and a rest that is none; or what there is already.
    async fn grow(&mut self) -> Result<(), Broken> {
        let space = self.store.space();
        let slots = space.slots.total + self.random.between(0, 3);
        let rest = if self.random.chance(50) { 0 } else { self.random.below(space.slot_bytes) };
        let asked = DATA_START + slots * space.slot_bytes + rest;
        self.world.note(|| format!("grow from {} to {slots} slots", space.slots.total));
        let result = self.store.grow(Some(asked), self.scenario.sparse).await;
        if self.world.crashed() {
            return Ok(());
        }
        match result {
            // A file that had become longer before a crash is taken in as it is.
            Ok(grown) if grown.to >= DATA_START + slots * space.slot_bytes => {
                self.world.coverage.borrow_mut().grown += u64::from(grown.to > grown.from);
                Ok(())
            }
            Ok(grown) => Err(format!("a store was to have {slots} slots: {grown:?}")),
            Err(_) if self.world.temper != Temper::Sound => Ok(()),
            Err(error) => Err(format!("growing: {error}")),
        }
    }

    /// A store that has failed acknowledges nothing.
    fn answered(&self, failed: bool, what: &str) -> Result<(), Broken> {
        if failed && !self.world.crashed() {
            Err(format!("{what} was acknowledged after the store had failed"))
        } else {
            Ok(())
        }
    }

    /// As `excuse`: a trim fails as a write does, but never for space.
    fn excuse_trim<T>(
        &self,
        result: Result<T, VolumeError>,
        key: VolumeKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<T>, Broken> {
        match result {
            Err(error @ VolumeError::NoSpace { .. }) => Err(format!("a trim of v{} at {offset}+{len}: {error}", key.0)),
            other => self.excuse(other, key, offset, len, true),
        }
    }

    /// Whether an error is one that this operation may meet now. None: it is.
    fn excuse<T>(
        &self,
        result: Result<T, VolumeError>,
        key: VolumeKey,
        offset: u64,
        len: u64,
        writes: bool,
    ) -> Result<Option<T>, Broken> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        self.world.note(|| format!("refused: {error}"));
        if self.world.crashed() {
            return Ok(None);
        }
        let journal = self.world.journal.borrow();
        let volume = journal.now().volumes.get(&key);
        let temper = self.world.temper;
        let excused = match &error {
            VolumeError::NoSpace { .. } => {
                self.world.coverage.borrow_mut().no_space += 1;
                writes
            }
            VolumeError::Removed => volume.is_none(),
            VolumeError::OutOfRange { .. } => volume.is_none_or(|v| offset + len > v.size),
            VolumeError::Failed(_) => temper != Temper::Sound && writes,
            VolumeError::Damaged { .. } => {
                self.world.coverage.borrow_mut().damaged_blocks += 1;
                matches!(temper, Temper::BadReads | Temper::LyingWrites)
            }
            VolumeError::ReadOnly | VolumeError::Frozen => false,
        };
        if excused { Ok(None) } else { Err(format!("v{} at {offset}+{len}: {error}", key.0)) }
    }
}
