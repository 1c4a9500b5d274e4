//! Everything is deleted: then nothing may be left, be it a block, a page or a name.

use std::path::Path;

use treering_engine::{CatalogError, SnapshotRef, Store};

use super::{Run, STORE, newest_superblock};
use crate::content::BLOCK;
use crate::model::{Change, Piece, Position};
use crate::world::Broken;

/// Rounds in which the sweeps of a small store have ended.
const ROUNDS_MAX: usize = 10_000;

impl Run {
    pub(super) async fn empty(&self, store: &Store) -> Result<(), Broken> {
        let dots: Vec<String> = self.world.journal.borrow().now().dots.iter().cloned().collect();
        for dot in dots {
            self.unprotect(store, &dot).await?;
            let piece = Piece::Change(Change::RemoveDot { name: dot.clone() });
            self.verb(store, piece, store.remove_dot(&dot)).await?;
        }
        // Freed slots and pages come back two checkpoints later.
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("{what} of an emptied store: {e}");
        let mut rounds = 0;
        loop {
            store.checkpoint().await.map_err(|e| failed("a checkpoint", &e))?;
            if store.status().sweeps == 0 {
                break;
            }
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!(
                    "{} versions are still to be swept, after {rounds} checkpoints",
                    store.status().sweeps
                ));
            }
        }
        for _ in 0..3 {
            store.checkpoint().await.map_err(|e| failed("a checkpoint", &e))?;
        }
        let report = store.check(true, &mut |_| {}).await.map_err(|e| failed("check", &e))?;
        if let Some(finding) = report.findings.first() {
            return Err(failed("check", &finding.what));
        }
        if report.extents + report.live_blocks > 0 {
            return Err(format!(
                "everything was deleted, and {} extents with {} live blocks are left",
                report.extents, report.live_blocks
            ));
        }
        let (pages, due) = (store.space().page_bytes_used / BLOCK, self.blob_pages());
        if pages != due {
            return Err(format!(
                "everything was deleted, and {pages} pages are in use; the checkpoint's blob has {due}"
            ));
        }
        self.world.coverage.borrow_mut().emptied += 1;
        Ok(())
    }

    /// All that a store without trees needs.
    fn blob_pages(&self) -> u64 {
        let superblock = newest_superblock(&self.world.host.disk_image(Path::new(STORE))).expect("the store is open");
        superblock.checkpoints[0].blob_bytes.div_ceil(BLOCK)
    }

    async fn unprotect(&self, store: &Store, dot: &str) -> Result<(), Broken> {
        let snapshots = self.world.journal.borrow().now().snapshots.clone();
        let protected = snapshots.iter().filter(|((of, _), snapshot)| of == dot && snapshot.protected);
        for ((_, name), _) in protected {
            let piece = Piece::Change(Change::Protect { dot: dot.into(), name: name.clone(), protected: false });
            let at = SnapshotRef::Name(name.clone());
            let verb = async { store.configure_snapshot(dot, &at, Some(false), None).await.map(drop) };
            self.verb(store, piece, verb).await?;
        }
        Ok(())
    }

    async fn verb(
        &self,
        store: &Store,
        piece: Piece,
        verb: impl Future<Output = Result<(), CatalogError>>,
    ) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        let what = piece.describe();
        let (result, last): (_, Position) = self.world.observe(store, operation, vec![piece], verb).await;
        result.map_err(|error| format!("emptying a store, {what}: {error}"))?;
        self.world.make_durable(last);
        Ok(())
    }
}
