//! Port of the executable model of ownership (`version_tree_model.py`), with what it leaves out: compressed extents, pages,
//! sweeps in slices between merges, hidden versions that are thinned, the fold that comes later, and crashes.
//!
//! After every step, by recomputation: a block is freed once, and never while something shows it; what is neither shown nor
//! owed to a hidden version is free; pages likewise, exactly; a version shows what its volume showed when it was cut; the
//! difference to any ancestor needs only that ancestor's position. Each wrong rule must be noticed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use treering_format::units::{LineId, LogAddress, VersionId};

use super::toy::{BLOCKS, Cell, Cells, Op, Toy, Wrong, data_of};
use crate::versions::tree::{NodeId, VersionLife};

const CASES: u32 = 2000;
const HEADS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Write {
        head: usize,
        block: u64,
        blocks: u64,
        kind: Kind,
    },
    /// Of the heads whose bit is set.
    Snapshot {
        heads: u8,
    },
    Fork {
        version: usize,
    },
    Reset {
        head: usize,
        version: usize,
    },
    RemoveHead {
        head: usize,
    },
    Delete {
        version: usize,
    },
    Fold,
    Sweep {
        blocks: u64,
    },
    Thin {
        version: usize,
    },
    Checkpoint,
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Raw,
    Lz4,
    Hole,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..64;
    let kind = prop_oneof![3 => Just(Kind::Raw), 3 => Just(Kind::Lz4), 1 => Just(Kind::Hole)];
    let write = (which.clone(), 0..BLOCKS, 1u64..5, kind).prop_map(|(head, block, blocks, kind)| Step::Write {
        head,
        block,
        blocks,
        kind,
    });
    prop_oneof![
        18 => write,
        7 => any::<u8>().prop_map(|heads| Step::Snapshot { heads }),
        3 => which.clone().prop_map(|version| Step::Fork { version }),
        2 => (which.clone(), which.clone()).prop_map(|(head, version)| Step::Reset { head, version }),
        1 => which.clone().prop_map(|head| Step::RemoveHead { head }),
        5 => which.clone().prop_map(|version| Step::Delete { version }),
        6 => Just(Step::Fold),
        9 => (1u64..6).prop_map(|blocks| Step::Sweep { blocks }),
        2 => which.prop_map(|version| Step::Thin { version }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

/// What was published, as clients know it.
struct Model {
    toy: Toy,
    position: u64,
    next: u64,
    heads: BTreeMap<LineId, Cells>,
    /// Visible versions.
    versions: BTreeMap<VersionId, Cells>,
}

impl Model {
    fn new(wrong: Wrong) -> Model {
        let (heads, versions) = (BTreeMap::new(), BTreeMap::new());
        Model { toy: Toy::new(wrong), position: 0, next: 0, heads, versions }
    }

    fn next_position(&mut self) -> LogAddress {
        self.position += 1;
        LogAddress(self.position)
    }

    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn publish(&mut self, op: Op) {
        self.toy.publish(LogAddress(self.position), op);
    }

    fn head(&mut self, which: usize) -> LineId {
        if self.heads.is_empty() {
            self.next_position();
            self.begin_head(None);
        }
        *self.heads.keys().nth(which % self.heads.len()).expect("some")
    }

    fn version(&self, which: usize) -> Option<VersionId> {
        self.versions.keys().nth(which % self.versions.len().max(1)).copied()
    }

    fn begin_head(&mut self, from: Option<VersionId>) {
        let line = LineId(self.next_id());
        self.heads.insert(line, from.map(|from| self.versions[&from].clone()).unwrap_or_default());
        self.publish(Op::NewHead { line, from });
    }

    fn freeze(&mut self, line: LineId, ends: bool) -> VersionId {
        let id = VersionId(self.next_id());
        let cells = if ends { self.heads.remove(&line) } else { self.heads.get(&line).cloned() };
        self.versions.insert(id, cells.expect("a head"));
        self.publish(Op::Freeze { line, id, ends });
        id
    }

    fn delete(&mut self, id: VersionId) {
        self.versions.remove(&id);
        self.publish(Op::Delete { id });
    }

    fn write(&mut self, line: LineId, block: u64, blocks: u64, kind: Kind) {
        let end = (block + blocks).min(BLOCKS);
        let first = self.next_position();
        let cells: Vec<(u64, Cell)> = match kind {
            Kind::Raw => {
                let cell = |at: u64| (at, Cell::Raw(first.next((at - block) as u32)));
                let cells = (block..end).map(cell).collect();
                self.position += end - block - 1;
                cells
            }
            Kind::Lz4 => {
                let cell = Cell::Lz4 { address: first, start: block, blocks: end - block };
                (block..end).map(|at| (at, cell)).collect()
            }
            Kind::Hole => (block..end).map(|at| (at, Cell::Hole(first))).collect(),
        };
        self.heads.get_mut(&line).expect("a head").extend(cells.iter().copied());
        self.publish(Op::Write { line, cells });
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Write { head, block, blocks, kind } => {
                let line = self.head(head);
                self.write(line, block, blocks, kind);
            }
            Step::Snapshot { heads } => {
                self.next_position();
                let lines: Vec<LineId> = self.heads.keys().copied().collect();
                for (_, line) in lines.into_iter().enumerate().filter(|(i, _)| heads >> (i % 8) & 1 == 1) {
                    self.freeze(line, false);
                }
            }
            Step::Fork { version } => {
                if let Some(from) = self.version(version).filter(|_| self.heads.len() < HEADS) {
                    self.next_position();
                    self.begin_head(Some(from));
                }
            }
            Step::Reset { head, version } => {
                let line = self.head(head);
                if let Some(from) = self.version(version) {
                    self.next_position();
                    self.freeze(line, true);
                    self.begin_head(Some(from));
                }
            }
            Step::RemoveHead { head } => {
                let line = self.head(head);
                self.next_position();
                let id = self.freeze(line, true);
                self.delete(id);
            }
            Step::Delete { version } => {
                if let Some(id) = self.version(version) {
                    self.next_position();
                    self.delete(id);
                }
            }
            Step::Fold => self.toy.fold()?,
            Step::Sweep { blocks } => drop(self.toy.sweep(blocks)?),
            Step::Thin { version } => {
                let hidden = |life| matches!(life, VersionLife::Hidden { .. });
                let tree = &self.toy.folded.tree;
                let ids: Vec<VersionId> = tree.frozen().filter(|(_, v)| hidden(v.life)).map(|(id, _)| id).collect();
                if !ids.is_empty() {
                    self.toy.thin(ids[version % ids.len()])?;
                }
            }
            Step::Checkpoint => self.toy.checkpoint(LogAddress(self.position))?,
            Step::Crash => {
                self.toy.crash()?;
                self.contents()?;
            }
        }
        if matches!(step, Step::Fold | Step::Checkpoint) {
            self.contents()?;
        }
        self.ownership()?;
        self.differences()
    }

    /// With everything folded, each head and each version shows what was published of it.
    fn contents(&self) -> Result<(), String> {
        let heads = self.heads.iter().map(|(line, cells)| (NodeId::Head(*line), cells));
        let versions = self.versions.iter().map(|(id, cells)| (NodeId::Frozen(*id), cells));
        for (node, cells) in heads.chain(versions) {
            let found = self.toy.folded.maps.get(&node).map(|map| &map.cells);
            if found != Some(cells) {
                return Err(format!("{node:?} shows {found:?}, not {cells:?}"));
            }
        }
        Ok(())
    }

    /// Bits and pages as they follow from the maps.
    fn ownership(&self) -> Result<(), String> {
        let folded = &self.toy.folded;
        if let Some(what) = folded.tree.check().into_iter().next() {
            return Err(what);
        }
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        for (node, map) in &folded.maps {
            let (thinned, cursor) = match node {
                NodeId::Head(_) => (false, 0),
                NodeId::Frozen(id) => match folded.tree.get(*id).ok_or("a map of no version")?.life {
                    VersionLife::Visible => (false, 0),
                    VersionLife::Hidden { thinned } => (thinned, 0),
                    VersionLife::Deleting { cursor, thinned } => (thinned, cursor),
                },
            };
            let shown = data_of(&map.cells).filter(|(_, start)| *start >= cursor).map(|(address, _)| address);
            (if thinned { &mut may } else { &mut must }).extend(shown);
        }
        if let Some(lost) = must.difference(&folded.live).next() {
            return Err(format!("{lost} is shown and free"));
        }
        if let Some(leak) = folded.live.difference(&must).find(|address| !may.contains(address)) {
            return Err(format!("{leak} is live and nothing shows it"));
        }
        let pages: BTreeSet<u64> = folded.maps.values().flat_map(|map| map.page_set()).collect();
        if pages != folded.pages {
            return Err(format!("pages {:?} are used, the maps hold {pages:?}", folded.pages));
        }
        Ok(())
    }

    /// What changed since an ancestor is what has an address above its position.
    fn differences(&self) -> Result<(), String> {
        let folded = &self.toy.folded;
        for (node, map) in &folded.maps {
            for ancestor in folded.tree.path(*node) {
                let since = folded.tree.get(ancestor).ok_or("an ancestor that is not there")?.position;
                let mut base = folded.maps[&NodeId::Frozen(ancestor)].cells.clone();
                let newer = map.cells.iter().filter(|(_, cell)| cell.address() > since);
                let left_out = |cell: &Cell| self.toy.wrong == Wrong::HoleWithoutBirth && matches!(cell, Cell::Hole(_));
                base.extend(newer.filter(|(_, cell)| !left_out(cell)).map(|(block, cell)| (*block, *cell)));
                if base != map.cells {
                    return Err(format!("the difference of {node:?} to version {ancestor} is not all of it"));
                }
            }
        }
        Ok(())
    }

    /// Everything goes; nothing must be left.
    fn end(&mut self) -> Result<(), String> {
        while !self.heads.is_empty() {
            self.step(&Step::RemoveHead { head: 0 })?;
        }
        while !self.versions.is_empty() {
            self.step(&Step::Delete { version: 0 })?;
        }
        self.toy.fold()?;
        while self.toy.sweep(BLOCKS)? {
            self.ownership()?;
        }
        let folded = &self.toy.folded;
        match (folded.maps.len(), folded.live.len(), folded.pages.len()) {
            (0, 0, 0) => Ok(()),
            left => Err(format!("maps, blocks and pages are left: {left:?}")),
        }
    }
}

fn run(wrong: Wrong, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Model::new(wrong);
    let all = steps.iter().try_for_each(|step| model.step(step)).and_then(|()| model.end());
    all.map_err(TestCaseError::fail)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 20..160)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn a_block_is_freed_once_when_nothing_shows_it_any_more(steps in steps()) {
        run(Wrong::Nothing, &steps)?;
    }
}

#[test]
fn canary_every_wrong_rule_is_noticed() {
    for wrong in [
        Wrong::FreeShared,
        Wrong::IgnoreParent,
        Wrong::IgnoreChild,
        Wrong::NoHiding,
        Wrong::HoleWithoutBirth,
        Wrong::EarlyReparent,
        Wrong::SweptChild,
        Wrong::KeyInsteadOfStart,
        Wrong::PageFloorByCursor,
        Wrong::ThinnedNotFlagged,
        Wrong::ThinnedByOneChild,
        Wrong::CutsAfterMerges,
        Wrong::PagesForgotten,
    ] {
        let config = Config { cases: CASES, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let found = runner.run(&steps(), |steps| run(wrong, &steps));
        assert!(found.is_err(), "{wrong:?} was not noticed in {CASES} histories");
    }
}
