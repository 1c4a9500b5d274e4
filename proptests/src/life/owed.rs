//! What an opened store owes, and the comparison with it: after a clean close, after each kind of crash, opened for reading,
//! or on a disk that has lied.

use std::path::Path;

use treering_engine::{OpenOptions, RecoveryReport, Store, StoreError};
use treering_io::Io;

use super::{End, Run, STORE, Since, newest_superblock};
use crate::model::Position;
use crate::recovered;
use crate::scenario::Temper;
use crate::world::Broken;

impl Run {
    pub(super) fn was_damaged(&self) -> bool {
        self.world.host.stats().faults > 0
    }

    /// What opening brought back must be one position of the order, at or above what is owed.
    pub(super) async fn recovered(&mut self, store: &Store, report: &RecoveryReport) -> Result<(), Broken> {
        self.world.coverage.borrow_mut().recovery(report);
        let floor = self.floor();
        let found = recovered::read_all(store).await?;
        let settled = self.world.journal.borrow_mut().settle(&found, floor, self.cuts_may_be_lost())?;
        self.world.note(|| {
            format!("position {} of {}, at least {} was owed", settled.position.0, settled.published.0, floor.0)
        });
        {
            let mut coverage = self.world.coverage.borrow_mut();
            coverage.pieces_doubtful += (settled.published.0 - floor.0) as u64;
            coverage.pieces_lost += (settled.published.0 - settled.position.0) as u64;
        }
        let now = store.incarnation();
        if let Some(before) = self.since.incarnation {
            let must_change = self.since.host_crashed && !self.since.closed && !self.since.closing;
            let may_change = self.since.host_crashed;
            if must_change && before == now || !may_change && before != now {
                let change = if before == now { "did not change" } else { "changed" };
                return Err(format!(
                    "the incarnation {change}; host crashed: {}, closed cleanly: {}",
                    self.since.host_crashed, self.since.closed
                ));
            }
        }
        if self.since.closed && report.cut.is_some() {
            return Err(format!("a cleanly closed store was cut: {report:?}"));
        }
        self.since = Since { incarnation: Some(now), ..Since::default() };
        Ok(())
    }

    pub(super) fn floor(&self) -> Position {
        let journal = self.world.journal.borrow();
        match (self.since.closed, self.since.host_crashed) {
            (true, _) => journal.position(),
            (false, true) => journal.durable(),
            (false, false) => journal.acknowledged(),
        }
    }

    /// A verb that was not answered when the process died, host alive, may be missing from the middle of what is published
    /// again: the arena holds data, not verbs.
    pub(super) fn cuts_may_be_lost(&self) -> bool {
        !self.since.closed && self.since.process_crashed
    }

    /// Opens for reading: it must show a position of the order, too, and leave no trace.
    pub(super) async fn look(&mut self, io: &Io, options: &OpenOptions) -> Result<Option<End>, Broken> {
        let before = self.world.host.stats().writes;
        match Store::open(io, Path::new(STORE), options).await {
            Ok((store, _)) if self.was_damaged() => drop(store),
            Ok((store, _)) => {
                let found = recovered::read_all(&store).await?;
                self.world
                    .journal
                    .borrow()
                    .find(&found, self.floor(), self.cuts_may_be_lost())
                    .map_err(|e| format!("opened for reading: {e}"))?;
                store.close().await.map_err(|e| e.to_string())?;
                self.world.coverage.borrow_mut().read_only_opens += 1;
            }
            Err(StoreError::NeedsRecovery) if !self.since.closed && !self.since.host_crashed => {}
            Err(error) => return self.refused(error).map(Some),
        }
        if self.world.host.stats().writes != before {
            return Err("opening for reading wrote to the disk".into());
        }
        Ok(None)
    }

    /// The store was not opened.
    pub(super) fn refused(&self, error: StoreError) -> Result<End, Broken> {
        self.world.note(|| format!("not opened: {error}"));
        self.world.note(|| match newest_superblock(&self.world.host.disk_image(Path::new(STORE))) {
            Some(superblock) => format!("{superblock:#?}"),
            None => "there is no superblock".into(),
        });
        if self.world.crashed() {
            return Ok(End::Refused);
        }
        if self.scenario.temper == Temper::LyingWrites && self.was_damaged() {
            self.world.coverage.borrow_mut().refused_opens += 1;
            return Ok(End::Over);
        }
        // A store that is full to the last slot has no place for the log of another mount.
        Err(format!("opening the store: {error}"))
    }

    /// The disk has lied: what can be read must be what was written there once; the rest must be reported.
    pub(super) async fn doubt(&mut self, store: &Store, served: &std::cell::Cell<bool>) -> Result<End, Broken> {
        for (volume, number, read) in recovered::read_each(store, u64::MAX).await {
            match read {
                Ok(bytes) if !self.world.journal.borrow().ever_held(&volume, number, &bytes) => {
                    let found = crate::content::describe(&bytes);
                    return Err(format!("{volume} block {number} reads as {found}, which it never was"));
                }
                Ok(_) => self.world.coverage.borrow_mut().blocks_verified += 1,
                Err(_) => self.world.coverage.borrow_mut().damaged_blocks += 1,
            }
        }
        if let Ok(report) = store.check(true, &mut |_| {}).await {
            let mut coverage = self.world.coverage.borrow_mut();
            coverage.checks += 1;
            coverage.findings += report.findings.len() as u64;
        }
        served.set(true);
        Ok(End::Over)
    }

    pub(super) async fn check(&self, store: &Store) -> Result<(), Broken> {
        let report = match store.check(true, &mut |_| {}).await {
            Ok(report) => report,
            Err(_) if self.scenario.temper != Temper::Sound => return Ok(()),
            Err(failure) => return Err(format!("check failed: {failure}")),
        };
        self.world.coverage.borrow_mut().checks += 1;
        // It asserts that its parts add up.
        match store.usage().await {
            Err(error) if self.scenario.temper == Temper::Sound => return Err(format!("usage: {error}")),
            _ => {}
        }
        if report.findings.is_empty() {
            return Ok(());
        }
        if matches!(self.scenario.temper, Temper::BadReads | Temper::LyingWrites) {
            self.world.coverage.borrow_mut().findings += report.findings.len() as u64;
            return Ok(());
        }
        let findings: Vec<String> = report.findings.iter().take(6).map(|f| format!("    {}", f.what)).collect();
        Err(format!("check finds {} things wrong:\n{}", report.findings.len(), findings.join("\n")))
    }
}
