//! Trees that share pages: a version and what went on from it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use treering_format::units::{BlockIndex, LogAddress, PageIndex};

use super::merging::raw;
use super::store::TestStore;
use crate::map::{Content, Extent, ExtentMap};

/// One layer: pieces of few blocks from `start` on, or a hole.
#[derive(Clone, Debug)]
struct Batch {
    start: u64,
    pieces: u64,
    gap: u64,
    hole: bool,
}

impl Batch {
    fn extents(&self, address: &mut u64) -> Vec<Extent> {
        if self.hole {
            let content = Content::Hole { address: LogAddress(1 << 16) };
            return vec![Extent { block: BlockIndex(self.start), count: self.pieces * 20, content }];
        }
        let extent = |index| {
            *address += 3;
            raw(self.start + index * (2 + self.gap), *address, &[index as u32, 7])
        };
        (0..self.pieces).map(extent).collect()
    }
}

fn batch() -> impl Strategy<Value = Batch> {
    let pieces = prop_oneof![3 => 1u64..4, 1 => 1u64..1500];
    (0u64..6000, pieces, 0u64..4, proptest::bool::weighted(0.25)).prop_map(|(start, pieces, gap, hole)| Batch {
        start,
        pieces,
        gap,
        hole,
    })
}

fn merge(store: &mut TestStore, map: &mut ExtentMap, changes: &[Extent], floor: Option<LogAddress>) {
    let (pages, io) = (store.pages.clone(), store.io.clone());
    store
        .run(map.merge(&pages, changes, floor, &mut |_| {}, async || io.yield_now().await))
        .expect("the disk is sound");
}

fn freeze(store: &mut TestStore, map: &mut ExtentMap) -> (ExtentMap, LogAddress) {
    store.write_out(map.tree_mut());
    (map.clone(), store.last_birth())
}

fn pages_of(store: &mut TestStore, map: &ExtentMap) -> BTreeSet<PageIndex> {
    let mut all = BTreeSet::new();
    let pages = store.pages.clone();
    store.run(map.tree().pages_in_use(&pages, &mut |page| all.extend([page]))).expect("the disk is sound");
    all
}

/// The versions of one line: each is what the head was after its batches.
fn versions(store: &mut TestStore, history: &[Vec<Batch>]) -> Vec<(ExtentMap, LogAddress)> {
    let mut head = ExtentMap::empty(1);
    let mut versions: Vec<(ExtentMap, LogAddress)> = Vec::new();
    let mut address = 0;
    for batches in history {
        let floor = versions.last().map(|(_, position)| *position);
        for batch in batches {
            merge(store, &mut head, &batch.extents(&mut address), floor);
        }
        let frozen = freeze(store, &mut head);
        versions.push(frozen);
    }
    versions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_page_is_released_by_the_version_that_made_it_and_no_other(
        history in proptest::collection::vec(proptest::collection::vec(batch(), 0..4), 1..6),
    ) {
        let mut store = TestStore::new(1 << 20);
        let versions = versions(&mut store, &history);
        let mut reachable = BTreeSet::new();
        for (map, _) in &versions {
            reachable.extend(pages_of(&mut store, map));
        }
        let used: BTreeSet<_> = store.pages.used().iter().collect();
        prop_assert_eq!(used, reachable);
    }

    #[test]
    fn every_shared_page_is_found_by_its_low_key(
        history in proptest::collection::vec(proptest::collection::vec(batch(), 0..4), 2..6),
    ) {
        let mut store = TestStore::new(1 << 20);
        let versions = versions(&mut store, &history);
        let pages = store.pages.clone();
        for (index, (map, _)) in versions.iter().enumerate() {
            let here = pages_of(&mut store, map);
            let parent = index.checked_sub(1).map(|before| &versions[before]);
            let floor = parent.map(|(_, position)| *position);
            let above = parent.map(|(map, _)| pages_of(&mut store, map)).unwrap_or_default();
            for (later, _) in &versions[index + 1..] {
                let there = pages_of(&mut store, later);
                let found = store.run(map.tree().pages_only_here(&pages, Some(&later.tree), None)).expect("sound");
                let found: BTreeSet<_> = found.into_iter().collect();
                prop_assert_eq!(&found, &here.difference(&there).copied().collect::<BTreeSet<_>>());
                let found = store.run(map.tree().pages_only_here(&pages, Some(&later.tree), floor)).expect("sound");
                let found: BTreeSet<_> = found.into_iter().collect();
                let own: BTreeSet<_> = here.difference(&there).filter(|page| !above.contains(page)).copied().collect();
                prop_assert_eq!(found, own);
            }
        }
    }

    #[test]
    fn everything_new_is_in_a_leaf_born_since_that_nobody_else_shows(
        history in proptest::collection::vec(proptest::collection::vec(batch(), 0..4), 2..6),
        leaves in 1usize..5,
    ) {
        let mut store = TestStore::new(1 << 20);
        let versions = versions(&mut store, &history);
        for (index, (map, _)) in versions.iter().enumerate() {
            let here = blocks_of(&mut store, map);
            let parent = index.checked_sub(1).map(|before| &versions[before]);
            let floor = parent.map(|(_, position)| *position);
            let above = parent.map(|(map, _)| blocks_of(&mut store, map)).unwrap_or_default();
            for other in [None].into_iter().chain(versions[index + 1..].iter().map(|(later, _)| Some(later))) {
                let there = other.map(|other| blocks_of(&mut store, other)).unwrap_or_default();
                let mut found = BTreeMap::new();
                let mut from = 0;
                while from < u64::MAX {
                    let pages = store.pages.clone();
                    let born = map.born_after(&pages, floor, other, (from, u64::MAX), leaves);
                    let born = store.run(born).expect("sound");
                    let blocks = born.extents.iter().flat_map(data_blocks);
                    prop_assert!(blocks.clone().all(|(block, _)| (from..born.next).contains(&block)));
                    found.extend(blocks);
                    prop_assert!(born.next > from);
                    from = born.next;
                }
                prop_assert!(found.iter().all(|(block, address)| here.get(block) == Some(address)));
                let new = here.iter().filter(|(block, address)| {
                    above.get(block) != Some(*address) && there.get(block) != Some(*address)
                });
                for (block, address) in new {
                    prop_assert_eq!(found.get(block), Some(address), "block {}", block);
                }
            }
        }
    }
}

fn blocks_of(store: &mut TestStore, map: &ExtentMap) -> BTreeMap<u64, LogAddress> {
    let pages = store.pages.clone();
    let all = store.run(map.lookup(&pages, BlockIndex(0), BlockIndex(u64::MAX), usize::MAX)).expect("sound");
    all.iter().flat_map(data_blocks).collect()
}

fn data_blocks(extent: &Extent) -> Vec<(u64, LogAddress)> {
    let Content::Data { address, .. } = extent.content else { return Vec::new() };
    (0..extent.count).map(|index| (extent.block.0 + index, address.next(index as u32))).collect()
}

#[test]
fn what_is_new_in_a_large_map_is_found_without_reading_it() {
    let mut store = TestStore::new(1 << 20);
    let mut head = ExtentMap::empty(1);
    let all: Vec<_> = (0..20_000u64).map(|index| raw(3 * index, 3 * index, &[1])).collect();
    merge(&mut store, &mut head, &all, None);
    let (_, floor) = freeze(&mut store, &mut head);
    merge(&mut store, &mut head, &[raw(30_000, 90_000, &[2])], Some(floor));
    let (version, _) = freeze(&mut store, &mut head);
    let pages = store.pages.clone();
    let born = version.born_after(&pages, Some(floor), None, (0, u64::MAX), 1);
    let born = store.run(born).expect("sound");
    assert_eq!(born.next, u64::MAX);
    assert!(born.extents.len() < 200, "{} extents", born.extents.len());
    let own = store.run(version.tree().pages_only_here(&pages, None, Some(floor))).expect("sound");
    let root = version.tree().root.expect("not empty");
    assert_eq!(own.len(), usize::from(root.level()) + 1, "one path");
}
