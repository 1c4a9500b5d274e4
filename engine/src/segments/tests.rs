//! The segment table against sets: slots are in one state at a time, and come back only by the two-checkpoint rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use treering_format::units::OrderNumber;
use treering_io::sim::Host;
use treering_io::{Direct, FileOptions};

use super::*;
use crate::log::Frontier;
use crate::map::TreeKind;
use crate::pages::{PageSet, Pages};

mod moves;

const SLOTS: u64 = 12;
const BLOCKS: u32 = 64;

#[derive(Clone, Debug)]
enum Step {
    /// Opens a segment, makes some of its blocks live, closes it.
    Fill(BTreeSet<u32>),
    /// Kills blocks of the n-th segment that has any.
    Kill(usize),
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => proptest::collection::btree_set(1..BLOCKS, 0..6).prop_map(Step::Fill),
        3 => (0usize..8).prop_map(Step::Kill),
        2 => Just(Step::Checkpoint),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_slot_is_used_again_only_when_no_retained_checkpoint_needs_it(steps in steps()) {
        let host = Host::new(1);
        host.add_disk(Path::new("/disk"), 8 << 20);
        let mut runtime = host.runtime();
        let io = runtime.io();
        let outcome = runtime.run_sim(async move { history(&io, steps).await });
        outcome.expect("nothing crashes")?;
    }
}

async fn history(io: &treering_io::Io, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let options = FileOptions { create_new: false, write: true, lock: false, direct: Direct::Auto };
    let file = io.open_file(Path::new("/disk"), &options).expect("a disk");
    let pages = Pages::new(io.clone(), file, 1 << 20, BLOCKS, 1 << 20);
    let free = Slot { state: SlotState::Free, written: false };
    let tree = Tree::empty(TreeKind::Liveness, 0);
    let table = Segments::load(BLOCKS, vec![free; SLOTS as usize], tree, RecordSequence(0), ContainerId(1));
    let mut live: BTreeMap<SegmentId, (SlotIndex, BTreeSet<u32>)> = BTreeMap::new();
    // Slots whose segment died, with the checkpoint that freed them and the segment.
    let mut freed: BTreeMap<SlotIndex, (u64, SegmentId)> = BTreeMap::new();
    let (mut next, mut checkpoint) = (1, 0);
    for step in steps {
        match step {
            Step::Fill(blocks) => {
                let Some(slot) = table.reserve() else {
                    prop_assert_eq!(live.len() + freed.len(), SLOTS as usize, "a slot is lost");
                    continue;
                };
                prop_assert!(!live.values().any(|(used, _)| *used == slot), "{slot} is in use");
                prop_assert!(!freed.contains_key(&slot), "{slot} waits for its second checkpoint");
                let id = SegmentId(next);
                next += 1;
                table.open(id, slot);
                table.load_bits(&pages, std::iter::once(id)).await.expect("in memory");
                for block in &blocks {
                    table.set(LogAddress::new(id, *block), 1).expect("it was dead");
                }
                table.close(id, RecordSequence(id.0));
                prop_assert_eq!(table.locate(id), Some(slot));
                live.insert(id, (slot, blocks));
            }
            Step::Kill(n) => {
                let holders = live.iter_mut().filter(|(_, (_, blocks))| !blocks.is_empty()).collect::<Vec<_>>();
                let count = holders.len();
                if let Some((id, (_, blocks))) = holders.into_iter().nth(n % count.max(1)) {
                    table.load_bits(&pages, std::iter::once(*id)).await.expect("in memory or in the tree");
                    for block in std::mem::take(blocks) {
                        table.clear(LogAddress::new(*id, block), 1).expect("it was live");
                        prop_assert!(table.clear(LogAddress::new(*id, block), 1).is_err(), "a block dies once");
                    }
                }
            }
            Step::Checkpoint => {
                checkpoint += 1;
                let at = LogAddress::new(SegmentId(next), 1);
                let fold =
                    Frontier { sequence: RecordSequence(next), order: OrderNumber(0), address: at, chain: 0, next: at };
                table.settle(&pages, &fold, CheckpointSequence(checkpoint)).await.expect("no page is damaged");
                for (id, (slot, _)) in live.extract_if(.., |_, (_, blocks)| blocks.is_empty()) {
                    freed.insert(slot, (checkpoint, id));
                }
                // A read may still be on its way to it.
                for (slot, (_, id)) in freed.iter().filter(|(_, (since, _))| *since == checkpoint) {
                    let place = table.place_now(LogAddress::new(*id, 1), 1);
                    prop_assert!(matches!(place, Some(Place::Slot(found)) if found == *slot));
                }
                table.checkpoint_durable(CheckpointSequence(checkpoint), false);
                for (_, id) in freed.values() {
                    let place = table.place(&pages, LogAddress::new(*id, 1), 1).await.expect("no page is damaged");
                    prop_assert!(matches!(place, Place::Nowhere));
                }
                freed.retain(|_, (since, _)| *since == checkpoint);
            }
        }
        prop_assert_eq!(table.free_slots(), SLOTS - (live.len() + freed.len()) as u64);
        let shown: BTreeMap<SegmentId, BTreeSet<u32>> =
            live.iter().filter(|(_, (_, b))| !b.is_empty()).map(|(id, (_, b))| (*id, b.clone())).collect();
        let (kept, wrong) = table.frozen().read(&pages, &mut PageSet::default()).await;
        assert!(wrong.is_empty(), "no page is damaged");
        let kept = kept.live;
        let kept: BTreeMap<_, BTreeSet<u32>> =
            kept.into_iter().map(|(id, bits)| (id, bits.blocks().collect())).collect();
        prop_assert_eq!(kept, shown);
    }
    Ok(())
}
