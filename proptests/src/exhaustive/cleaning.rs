//! Steps of a trace that make the cleaner work, and the older checkpoint that its slots wait for.

use std::time::Duration;

use treering_engine::Store;
use treering_io::Io;

use super::traces::Step;
use crate::content::BLOCK;
use crate::life::newest_superblock;
use crate::world::World;

/// Room for what is copied beside what is emptied.
pub(super) const SLOTS: u64 = 16;

/// Sectors of which each is lost or kept alone at a crash point: a container has many, and only a checkpoint looks at them.
pub(super) const ALONE: usize = 12;

/// Blocks that churn writes over.
const CHURNED: u64 = 5;

/// Clients count as quiet after a second; then the cleaner looks around a few times a second.
const PATIENCE: u32 = 200;
const LOOK: Duration = Duration::from_millis(50);

/// Performs a step that is for the cleaner; false: it is another kind of step.
pub(super) async fn perform(world: &World, io: &Io, store: &Store, step: Step) -> bool {
    match step {
        Step::Churn { writes } => {
            for _ in 0..writes {
                let write = Step::Write { offset: 0, len: CHURNED * BLOCK, fua: true };
                Box::pin(super::perform(world, io, store, write)).await;
            }
        }
        Step::Clean => {
            let filled = || store.status().cleaning.containers;
            let (before, mut looks) = (filled(), 0);
            while filled() == before {
                assert!(looks < PATIENCE, "nothing is cleaned: {:?}", store.space());
                looks += 1;
                io.sleep(LOOK).await;
            }
        }
        _ => return false,
    }
    true
}

/// The disk with its newest checkpoint unreadable, as by a bad sector; None if there is no older one.
pub(super) fn without_newest(disk: &[u8]) -> Option<Vec<u8>> {
    let [newest, older] = newest_superblock(disk)?.checkpoints;
    if older.is_absent() {
        return None;
    }
    let mut disk = disk.to_vec();
    disk[(newest.blob_page.0 * BLOCK) as usize] ^= 0xff;
    Some(disk)
}
