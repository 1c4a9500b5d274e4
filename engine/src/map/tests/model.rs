//! Random merges against a model that keeps each block by itself, and the canaries of its checks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treering_format::node::TreeKind;
use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LogAddress, SegmentId};

use super::store::TestStore;
use crate::map::{Content, Extent, ExtentMap};

/// Blocks that the model knows; holes may reach far beyond.
const BLOCKS: u64 = 30_000;

/// What one block shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Raw { address: LogAddress, checksum: u32 },
    Lz4 { address: LogAddress, index: u8, extent_blocks: u8, stored_blocks: u8, checksum: u32 },
    Hole(LogAddress),
    Zero(LogAddress),
}

#[derive(Clone, Debug)]
enum Step {
    Merge { start: u64, changes: Vec<Change> },
    Checkpoint,
    Reopen,
}

#[derive(Clone, Debug)]
struct Change {
    gap: u64,
    count: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Follows the address before it: neighbours may join.
    Raw,
    /// Leaves a gap before its address.
    RawElsewhere,
    Lz4 {
        before: u8,
        after: u8,
    },
    Hole,
    Zero,
    /// A hole over this and everything behind it.
    HoleToTheEnd,
}

/// What a run of the model gets wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    ForgetDisplaced(usize),
    RepeatDisplaced(usize),
    ForgetRelease(usize),
}

struct Model {
    cells: BTreeMap<u64, Cell>,
    next_address: LogAddress,
}

impl Model {
    /// Turns a step's changes into extents with addresses of their own.
    fn extents(&mut self, start: u64, changes: &[Change]) -> Vec<Extent> {
        let mut at = start;
        let mut extents = Vec::new();
        for change in changes {
            at += change.gap;
            let count = change.count.min(if matches!(change.kind, Kind::Lz4 { .. }) { 16 } else { 64 });
            let step = if change.kind == Kind::Raw { 0 } else { 1 };
            let address = self.next_address.next(step);
            let (count, content) = match change.kind {
                Kind::Raw | Kind::RawElsewhere => {
                    self.next_address = address.next(count as u32);
                    let checksums: Vec<u32> = (0..count).map(|i| checksum_of(address.next(i as u32))).collect();
                    (count, data(address, Encoding::Raw, 0, 0, 0, &checksums))
                }
                Kind::Lz4 { before, after } => {
                    let blocks = before + count as u8 + after;
                    let stored = blocks.div_ceil(2);
                    self.next_address = address.next(u32::from(stored));
                    (count, data(address, Encoding::Lz4, before, blocks, stored, &[checksum_of(address)]))
                }
                Kind::Hole => (change.count * 20, Content::Hole { address }),
                Kind::Zero => (change.count, Content::Zero { address }),
                Kind::HoleToTheEnd => ((1 << 40) - at, Content::Hole { address }),
            };
            if !matches!(content, Content::Data { .. }) {
                self.next_address = address.next(1);
            }
            if at + count > BLOCKS && change.kind != Kind::HoleToTheEnd {
                break;
            }
            extents.push(Extent { block: BlockIndex(at), count, content });
            at += count;
            if change.kind == Kind::HoleToTheEnd {
                break;
            }
        }
        extents
    }

    /// Applies the extents, and returns the data cells that are gone, in order.
    fn apply(&mut self, extents: &[Extent]) -> Vec<(u64, Cell)> {
        let mut lost = Vec::new();
        for (block, cell) in extents.iter().flat_map(cells_of) {
            if let Some(old @ (Cell::Raw { .. } | Cell::Lz4 { .. })) = self.cells.insert(block, cell) {
                lost.push((block, old));
            }
        }
        lost
    }
}

fn data(a: LogAddress, encoding: Encoding, offset: u8, blocks: u8, stored: u8, checksums: &[u32]) -> Content {
    let checksums = checksums.into();
    Content::Data { address: a, encoding, offset, extent_blocks: blocks, stored_blocks: stored, checksums }
}

fn checksum_of(address: LogAddress) -> u32 {
    (address.0 as u32).wrapping_mul(0x9e37_79b1)
}

/// The cells of an extent that the model knows.
fn cells_of(extent: &Extent) -> Vec<(u64, Cell)> {
    let cell = |block: u64| {
        let index = block - extent.block.0;
        match &extent.content {
            Content::Data { address, encoding: Encoding::Raw, checksums, .. } => {
                assert_eq!(checksums.len() as u64, extent.count);
                Cell::Raw { address: address.next(index as u32), checksum: checksums[index as usize] }
            }
            Content::Data { address, offset, extent_blocks, stored_blocks, checksums, .. } => Cell::Lz4 {
                address: *address,
                index: offset + index as u8,
                extent_blocks: *extent_blocks,
                stored_blocks: *stored_blocks,
                checksum: checksums[0],
            },
            Content::Hole { address } => Cell::Hole(*address),
            Content::Zero { address } => Cell::Zero(*address),
        }
    };
    (extent.block.0..extent.end().0.min(BLOCKS)).map(|block| (block, cell(block))).collect()
}

/// Data as it was, holes and zeros at least as new: neighbours that joined share the newer address.
fn same(model: &BTreeMap<u64, Cell>, found: &[Extent], newest: LogAddress, range: (u64, u64)) -> Result<(), String> {
    let found: BTreeMap<u64, Cell> = found.iter().flat_map(cells_of).collect();
    let expected: BTreeMap<u64, Cell> = model.range(range.0..range.1).map(|(b, c)| (*b, c.clone())).collect();
    if let Some(block) = (range.0..range.1).find(|block| match (expected.get(block), found.get(block)) {
        (Some(Cell::Hole(old)), Some(Cell::Hole(new))) => new < old || *new > newest,
        (Some(Cell::Zero(old)), Some(Cell::Zero(new))) => new < old || *new > newest,
        (expected, found) => expected != found,
    }) {
        return Err(format!("block {block}: found {:?}, expected {:?}", found.get(&block), expected.get(&block)));
    }
    Ok(())
}

/// Runs the steps and checks everything after each.
fn run(steps: &[Step], cache_bytes: u64, mutant: Mutant) -> Result<(), String> {
    let mut store = TestStore::new(cache_bytes);
    let mut model = Model { cells: BTreeMap::new(), next_address: LogAddress::new(SegmentId(1), 1) };
    let mut map = ExtentMap::empty(5);
    let mut earlier = (map.clone(), model.cells.clone());
    if let Mutant::ForgetRelease(which) = mutant {
        store.pages.forget_release(which);
    }
    let mut reported = 0;
    for step in steps {
        let root = match step {
            Step::Merge { start, changes } => {
                let extents = model.extents(*start, changes);
                let mut lost = model.apply(&extents);
                let mut displaced = Vec::new();
                let pages = store.pages.clone();
                let io = store.io.clone();
                let mut emit = |extent: Extent| {
                    reported += 1;
                    if mutant != Mutant::ForgetDisplaced(reported) {
                        displaced.extend(cells_of(&extent));
                    }
                    if mutant == Mutant::RepeatDisplaced(reported) {
                        displaced.extend(cells_of(&extent));
                    }
                };
                store
                    .run(map.merge(&pages, &extents, None, &mut emit, async || io.yield_now().await))
                    .map_err(|error| error.to_string())?;
                displaced.sort();
                lost.sort();
                if displaced != lost {
                    return Err(format!("displaced {} cells, the model lost {}", displaced.len(), lost.len()));
                }
                None
            }
            Step::Checkpoint => {
                let root = store.checkpoint(map.tree_mut());
                check(&mut store, &earlier.0, &earlier.1, model.next_address)?;
                earlier = (map.clone(), model.cells.clone());
                root
            }
            Step::Reopen => {
                let root = store.write_out(map.tree_mut());
                store.reopen();
                map = ExtentMap::open(5, root);
                earlier = (map.clone(), model.cells.clone());
                root
            }
        };
        check(&mut store, &map, &model.cells, model.next_address)?;
        store.check_pages(&[&map.tree()])?;
        store.check_nodes(TreeKind::Map, root)?;
    }
    let pages = store.pages.clone();
    store.run(map.release_all(&pages)).map_err(|error| error.to_string())?;
    store.check_pages(&[&map.tree()])
}

/// All blocks, in ranges of several sizes, by both ways of looking up.
fn check(
    store: &mut TestStore,
    map: &ExtentMap,
    model: &BTreeMap<u64, Cell>,
    newest: LogAddress,
) -> Result<(), String> {
    let pages = store.pages.clone();
    for (from, to) in [(0, BLOCKS), (0, 1), (9_999, 10_003), (BLOCKS / 2, BLOCKS / 2 + 700)] {
        let (first, end) = (BlockIndex(from), BlockIndex(to));
        let found = store.run(map.lookup(&pages, first, end, usize::MAX)).map_err(|error| error.to_string())?;
        if !found.iter().all(|extent| extent.block >= first && extent.end() <= end) {
            return Err(format!("a piece reaches outside blocks {from} to {to}"));
        }
        same(model, &found, newest, (from, to))?;
        let cached = map.lookup_cached(&pages, first, end, 3);
        if cached.is_some_and(|cached| cached[..] != found[..found.len().min(3)]) {
            return Err(format!("blocks {from} to {to}: the cached lookup differs"));
        }
    }
    Ok(())
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![
        4 => Just(Kind::Raw),
        4 => Just(Kind::RawElsewhere),
        2 => (0u8..8, 0u8..8).prop_map(|(before, after)| Kind::Lz4 { before, after }),
        1 => Just(Kind::Hole),
        1 => Just(Kind::Zero),
    ];
    let gap = prop_oneof![3 => Just(0u64), 3 => 0u64..8, 1 => 0u64..300];
    let count = prop_oneof![4 => 1u64..4, 1 => 1u64..=64];
    (gap, count, kind).prop_map(|(gap, count, kind)| Change { gap, count, kind })
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![1 => Just(0), 4 => 0..BLOCKS];
    let one = (gap_free(), start.clone()).prop_map(|(change, start)| Step::Merge { start, changes: vec![change] });
    let many = (start, proptest::collection::vec(change(), 1..1500))
        .prop_map(|(start, changes)| Step::Merge { start, changes });
    prop_oneof![6 => many, 2 => one, 2 => Just(Step::Checkpoint), 1 => Just(Step::Reopen)]
}

fn gap_free() -> impl Strategy<Value = Change> {
    let end = Just(Change { gap: 0, count: 1, kind: Kind::HoleToTheEnd });
    let wide = (1u64..500).prop_map(|count| Change { gap: 0, count, kind: Kind::Hole });
    prop_oneof![1 => end, 3 => wide]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_merged_map_says_what_each_block_was_last_told(
        steps in proptest::collection::vec(step(), 1..14),
        small_cache: bool,
    ) {
        run(&steps, if small_cache { 0 } else { 8 << 20 }, Mutant::None).map_err(TestCaseError::fail)?;
    }
}

/// A fixed history that displaces much and releases many pages.
fn history() -> Vec<Step> {
    let scattered = |kind, gap| vec![Change { gap, count: 2, kind }; 1200];
    vec![
        Step::Merge { start: 0, changes: scattered(Kind::RawElsewhere, 1) },
        Step::Checkpoint,
        Step::Merge { start: 1, changes: scattered(Kind::Lz4 { before: 1, after: 2 }, 3) },
        Step::Reopen,
        Step::Merge { start: 700, changes: vec![Change { gap: 0, count: 100, kind: Kind::Hole }] },
        Step::Checkpoint,
        Step::Merge { start: 0, changes: vec![Change { gap: 0, count: 1, kind: Kind::HoleToTheEnd }] },
        Step::Checkpoint,
    ]
}

#[test]
fn the_fixed_history_passes() {
    run(&history(), 0, Mutant::None).expect("nothing is wrong with it");
}

#[test]
fn canary_a_displaced_piece_that_is_not_reported_is_noticed() {
    for which in [1, 300, 900] {
        let found = run(&history(), 0, Mutant::ForgetDisplaced(which)).expect_err("the check must ring");
        assert!(found.contains("displaced"), "{found}");
    }
}

#[test]
fn canary_a_displaced_piece_that_is_reported_twice_is_noticed() {
    let found = run(&history(), 0, Mutant::RepeatDisplaced(17)).expect_err("the check must ring");
    assert!(found.contains("displaced"), "{found}");
}

#[test]
fn canary_a_page_that_is_not_released_is_noticed() {
    for which in [1, 5, 10] {
        let found = run(&history(), 0, Mutant::ForgetRelease(which)).expect_err("the check must ring");
        assert!(found.contains("leaked"), "{found}");
    }
}
