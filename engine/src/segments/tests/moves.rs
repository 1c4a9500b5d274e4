//! Moving against a plain map: wherever the table says a live block lies, there its content is.

use super::*;

const FIRST: LogAddress = LogAddress::NONE;

#[derive(Clone, Debug)]
enum Step {
    Fill(BTreeSet<u32>),
    /// Kills every n-th live block.
    Kill(usize),
    /// Moves what fits of some candidates; the last of them perhaps in part.
    Move(Vec<usize>, u32),
    Checkpoint,
    /// Forgets what is in memory and counts anew, as an open does.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::collection::btree_set(1..BLOCKS, 1..40).prop_map(Step::Fill),
        3 => (1usize..5).prop_map(Step::Kill),
        4 => (proptest::collection::vec(0usize..8, 1..5), 1..BLOCKS - 2).prop_map(|(which, room)| Step::Move(which, room)),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn a_live_block_is_found_wherever_it_was_moved(steps in steps()) {
        let host = Host::new(1);
        host.add_disk(Path::new("/disk"), 8 << 20);
        let mut runtime = host.runtime();
        let io = runtime.io();
        let outcome = runtime.run_sim(async move { history(&io, steps).await });
        outcome.expect("nothing crashes")?;
    }
}

/// What the slots hold: the address of each block's content, by slot and block.
type Disk = BTreeMap<(SlotIndex, u32), LogAddress>;

async fn history(io: &treering_io::Io, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let options = FileOptions { create_new: false, write: true, lock: false, direct: Direct::Auto };
    let file = io.open_file(Path::new("/disk"), &options).expect("a disk");
    let pages = Pages::new(io.clone(), file, 1 << 20, BLOCKS, 1 << 20);
    let free = Slot { state: SlotState::Free, written: false };
    let tree = Tree::empty(TreeKind::Liveness, 0);
    let mut table = Segments::load(BLOCKS, vec![free; SLOTS as usize], tree, RecordSequence(0), ContainerId(1));
    let mut disk = Disk::new();
    let mut live: BTreeSet<LogAddress> = BTreeSet::new();
    let (mut next, mut checkpoint) = (1u64, 0u64);
    for step in steps {
        let at = LogAddress::new(SegmentId(next), 1);
        let fold = Frontier { sequence: RecordSequence(next), order: OrderNumber(0), address: at, chain: 0, next: at };
        match step {
            Step::Fill(blocks) => {
                let Some(slot) = table.reserve() else { continue };
                let id = SegmentId(next);
                next += 1;
                table.open(id, slot);
                table.load_bits(&pages, std::iter::once(id)).await.expect("in memory");
                for block in 1..BLOCKS {
                    disk.insert((slot, block), LogAddress::new(id, block));
                }
                for block in blocks {
                    table.set(LogAddress::new(id, block), 1).expect("it was dead");
                    live.insert(LogAddress::new(id, block));
                }
                table.close(id, RecordSequence(id.0));
            }
            Step::Kill(n) => {
                for address in live.iter().copied().step_by(n).collect::<Vec<_>>() {
                    table.load_bits(&pages, std::iter::once(address.segment())).await.expect("no damage");
                    table.clear(address, 1).expect("it was live");
                    live.remove(&address);
                }
            }
            Step::Move(which, room) => {
                let candidates = table.candidates_to_clean(&fold, BLOCKS);
                let Some(slot) = table.reserve().filter(|_| !candidates.is_empty()) else { continue };
                let (mut base, mut moved, mut chosen) = (1, Vec::new(), BTreeSet::new());
                for n in which {
                    let source = candidates[n % candidates.len()].source;
                    if !chosen.insert(source) {
                        continue;
                    }
                    for part in table.survivors(&pages, source).await.expect("no damage") {
                        let left = room.saturating_sub(base - 1);
                        let all = part.blocks.count();
                        let take = if part.may_split { all.min(left) } else { all };
                        if take == 0 || take > left {
                            continue;
                        }
                        let mut placed = LiveBits::empty(BLOCKS);
                        for (n, block) in part.blocks.blocks().take(take as usize).enumerate() {
                            placed.put(block, true);
                            disk.insert((slot, base + n as u32), LogAddress::new(part.segment, block));
                        }
                        let (segment, from_part, to_part) = (part.segment, part.from_part, part.to_part);
                        moved.push(Moved { segment, from_part, to_part, base, placed });
                        base += take;
                    }
                }
                table.load_bits(&pages, moved.iter().map(|m| m.segment)).await.expect("no damage");
                table.install(Installed { container: table.take_container_id(), slot, moved }, &fold);
            }
            Step::Checkpoint => {
                checkpoint += 1;
                table.settle(&pages, &fold, CheckpointSequence(checkpoint)).await.expect("no page is damaged");
                table.checkpoint_durable(CheckpointSequence(checkpoint), false);
            }
            Step::Reopen => {
                checkpoint += 1;
                table.settle(&pages, &fold, CheckpointSequence(checkpoint)).await.expect("no page is damaged");
                let slots = table.freeze(CheckpointSequence(checkpoint));
                let next = table.next_container();
                table = Segments::load(BLOCKS, slots, table.tree(), fold.sequence, next);
                while !table.count_some(&pages).await.expect("no page is damaged") {}
            }
        }
        for address in &live {
            let found = match table.place(&pages, *address, 1).await.expect("no page is damaged") {
                Place::Slot(slot) => disk.get(&(slot, address.block())).copied(),
                Place::Moved(spots) => {
                    prop_assert_eq!(spots.len(), 1);
                    disk.get(&(spots[0].slot, spots[0].block)).copied()
                }
                Place::Nowhere => None,
            };
            prop_assert_eq!(found.unwrap_or(FIRST), *address);
        }
        let (kept, wrong) = table.frozen().read(&pages, &mut PageSet::default()).await;
        prop_assert!(wrong.is_empty());
        prop_assert_eq!(kept.contradictions(), Vec::<String>::new());
        prop_assert!(live.iter().all(|address| kept.holds(*address, 1)));
        let kept: BTreeSet<LogAddress> = kept
            .live
            .into_iter()
            .flat_map(|(id, bits)| bits.blocks().map(|b| LogAddress::new(id, b)).collect::<Vec<_>>())
            .collect();
        prop_assert_eq!(&kept, &live);
    }
    Ok(())
}
