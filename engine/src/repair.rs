//! Repair of a store that nobody serves: what metadata lost is taken from where it is said a second time.
//!
//! The lowest rung that suffices: the catalog from its second tree, or the other way round; the liveness of segments from the
//! maps; parts of maps from the log, which says of each write to which line and block it went; a log that is damaged above
//! the checkpoint is cut there; and where no checkpoint can be read, what it would have said is put together from pages and slots
//! (`store/salvage.rs`). First everything is found out, and the report says it; then, unless it is only asked for, it is
//! written, at the checkpoint that the store stands on, and the log above it is folded as ever.
//!
//! What takes the place of a lost page is new, and belongs to its version alone; nothing else of any map changes, so that what
//! versions share they go on sharing. Where a map shows what no slot holds, that is lost, and a hole takes its place.

mod apply;
mod catalogs;
mod heirs;
mod homeless;
mod rebuild;
mod scan;
mod survey;

use std::path::Path;

use treering_io::Io;

use crate::error::StoreError;
use crate::scrub::Damaged;
use crate::store::{OpenOptions, Store};

/// What a repair found out and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was done, or would be.
    pub actions: Vec<String>,
    /// Acknowledged data that is gone.
    pub lost: Vec<Damaged>,
    /// What is only a guess: the newest that is known, though something may have hidden it.
    pub doubtful: Vec<Damaged>,
}

impl Store {
    /// Repairs the metadata of a store that nobody has open; with `dry_run` nothing is written.
    pub async fn repair(
        io: &Io,
        path: &Path,
        options: &OpenOptions,
        dry_run: bool,
    ) -> Result<RepairReport, StoreError> {
        let options = OpenOptions { read_only: dry_run, ..options.clone() };
        let begun = crate::store::begin(io, path, &options, true).await?;
        let mut report = RepairReport::default();
        if let Some(damage) = &begun.report.damage {
            report.actions.push(format!("the log is cut: {}", damage.record));
            let lost = |what: &String| Damaged { name: "the log".into(), bytes: None, what: what.clone() };
            report.lost.extend(damage.ranges.iter().map(lost));
            if damage.ranges.is_empty() {
                let what = "what was written after that record; no whole record behind it tells what it was";
                report.lost.push(Damaged { name: "the log".into(), bytes: None, what: what.into() });
            }
        }
        if let Some(why) = &begun.report.older_checkpoint {
            report.actions.push(format!("the older checkpoint is used: {why}"));
        }
        if let Some(salvage) = &begun.salvage {
            report.actions.push(salvage.action.clone());
            if let Some(what) = &salvage.doubt {
                let doubt = |name| Damaged { name, bytes: None, what: what.clone() };
                report.doubtful.extend(heirs::names(&begun.core).into_iter().map(doubt));
            }
        }
        let plan = survey::survey(&begun.core, begun.salvage.as_ref(), &mut report).await?;
        if dry_run {
            return Ok(report);
        }
        apply::apply(&begun.core, plan).await?;
        let (store, _) = crate::store::go_on(begun, io, path, &options).await?;
        store.checkpoint().await?;
        store.checkpoint().await?;
        store.close().await?;
        Ok(report)
    }
}
