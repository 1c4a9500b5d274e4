//! Check: everything the store keeps beside the maps, recomputed from the maps and compared.
//!
//! The roots are the truth. From them follow which blocks are live, which pages are used, which slots hold what; a difference
//! is either space that leaks or, far worse, space that is free while something still shows it. Damaged pages are named with
//! what hangs below them, and the walk goes on elsewhere. With `data`, every stored block is read and its checksum verified.
//!
//! The store goes on meanwhile. All roots are taken at one moment (`frozen`), and a pin keeps back what is freed after it, so
//! that what is compared belongs together; writers that would have to wait for the space end the check.

mod frozen;
mod ownership;
mod shown;
mod space;

use crate::error::CheckError;
use crate::pages::PageSet;
use crate::store::Store;

pub(crate) use frozen::Root;
use ownership::Ownership;
pub(crate) use ownership::{stored_run, unreadable};
pub(crate) use shown::Shown;

/// One thing that is not as it should be, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether data is lost or in danger; else only space is.
    pub damage: bool,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub volumes: u64,
    pub snapshots: u64,
    /// What volumes were at past cuts: members of snapshots, and what is kept or waits to be given back.
    pub versions: u64,
    pub extents: u64,
    pub live_blocks: u64,
    pub pages: u64,
    pub data_bytes_verified: u64,
    pub findings: Vec<Finding>,
}

impl Store {
    /// Folds what is published, then recomputes everything from the roots of that moment. `progress` is told the bytes of
    /// volumes looked at.
    pub async fn check(&self, data: bool, progress: &mut dyn FnMut(u64)) -> Result<CheckReport, CheckError> {
        let core = &self.core;
        let frozen = core.freeze_for_check().await?;
        let segment_blocks = core.disk.geometry().segment_blocks;
        let mut check = Ownership {
            core,
            report: CheckReport { snapshots: frozen.snapshots, ..CheckReport::default() },
            must: Shown::new(segment_blocks),
            may: Shown::new(segment_blocks),
            pages: PageSet::default(),
            counted: PageSet::default(),
            unreadable: PageSet::default(),
        };
        frozen.contradictions.into_iter().for_each(|what| check.find(true, what));
        let mut own = PageSet::default();
        let (table, wrong) = frozen.segments.read(&core.pages, &mut own).await;
        for error in &wrong {
            check.find(true, format!("the liveness of segments cannot be read: {error}"));
        }
        for root in &frozen.roots {
            check.root(root, &table, data, &frozen.pin, progress).await?;
        }
        check.report.versions = frozen.roots.len() as u64 - check.report.volumes;
        check.name_unreadable(&frozen.roots).await;
        if wrong.is_empty() {
            table.contradictions().into_iter().for_each(|what| check.find(true, what));
            check.liveness(&table);
        }
        check.take_pages(&own, "the segment table");
        check.catalogs(&frozen.catalogs).await;
        check.pages(&frozen.used, &frozen.newest);
        if frozen.pin.is_broken() {
            return Err(CheckError::SpaceNeeded);
        }
        Ok(check.report)
    }
}
