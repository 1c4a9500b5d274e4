//! Thinning: a hidden version gives back what no child shows any more.
//!
//! A deleted version with two or more children stays for what they share. What one of them overwrites, the others may still
//! show; what all of them have overwritten only the hidden version holds. Its map is never changed, so it says of itself that
//! some of what it shows may have been given back, and whoever frees its blocks later frees those that are still live. An
//! address is never used again, so that can't hit another's.
//!
//! How much it holds for nothing is estimated by what its children overwrote of it. Much of it starts a pass; little does when
//! space is short, and then a child that has gone does, too. A child that is itself deleted still counts as one that shows.

use std::collections::BTreeMap;

use treering_format::units::VersionId;

use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::pages::PageError;
use crate::store::Core;
use crate::versions::Versions;
use crate::versions::tree::NodeId;

/// When space is short, a pass begins for this fraction of what is tolerated else.
const SHORT_OF_SPACE: u64 = 64;

/// What is known of hidden versions since the store was opened.
#[derive(Default)]
pub(crate) struct Thinning {
    waste: BTreeMap<VersionId, Waste>,
    /// The version being thinned, and the block up to which it is.
    active: Option<(VersionId, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Waste {
    /// That children overwrote since the last pass; some of them more than once.
    blocks: u64,
    /// At the last pass.
    children: usize,
}

impl Versions {
    /// A merge into `node` displaced blocks that belong to what it goes on from.
    pub(crate) fn note_overwritten(&self, node: NodeId, blocks: u64) {
        let mut state = self.0.borrow_mut();
        let Some(parent) = state.tree.parent(node) else { return };
        if state.tree.is_hidden(parent) {
            state.thinning.waste.entry(parent).or_default().blocks += blocks;
        }
    }

    /// The version to be thinned, and from which block on.
    fn next_to_thin(&self, tolerated_blocks: u64, short: bool) -> Option<(VersionId, u64)> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let hidden = |id| state.tree.is_hidden(id);
        state.thinning.active = state.thinning.active.filter(|(id, _)| hidden(*id));
        if state.thinning.active.is_none() {
            state.thinning.waste.retain(|id, _| hidden(*id));
            let waste = &state.thinning.waste;
            let least = if short { tolerated_blocks / SHORT_OF_SPACE } else { tolerated_blocks }.max(1);
            let much = waste.iter().find(|(_, waste)| waste.blocks >= least).map(|(id, _)| *id);
            let lost_a_child = |id: &VersionId| {
                let children = state.tree.children(*id).count();
                hidden(*id) && waste.get(id).is_none_or(|waste| waste.children != children)
            };
            let any = || state.tree.frozen().map(|(id, _)| id).find(lost_a_child);
            state.thinning.active = much.or_else(|| short.then(any).flatten()).map(|id| (id, 0));
        }
        state.thinning.active
    }

    fn thinned_to(&self, id: VersionId, block: u64) {
        let mut state = self.0.borrow_mut();
        state.thinning.active = (block < u64::MAX).then_some((id, block));
        if block == u64::MAX {
            let children = state.tree.children(id).count();
            state.thinning.waste.insert(id, Waste { blocks: 0, children });
        }
    }
}

impl Core {
    /// A hidden version that is worth it, and the block up to which it is thinned already. None while anything is swept: then
    /// no parent's position is about to change.
    pub(crate) fn to_be_thinned(&self) -> Option<(VersionId, u64)> {
        if self.read_only || self.versions.tree().waiting() > 0 {
            return None;
        }
        let counts = self.segments.counts();
        let short = self.pressure.held.get() > 0 || counts.free < counts.total / 4;
        self.versions.next_to_thin(self.limits.hidden_waste_bytes / BLOCK, short)
    }

    /// Thins the next few leaves of a hidden version. The caller has the fold's turn.
    pub(crate) async fn thin_slice(&self) -> Result<(), PageError> {
        let Some((id, cursor)) = self.to_be_thinned() else { return Ok(()) };
        let unshown = self.unshown(NodeId::Frozen(id), cursor, self.limits.sweep_leaves).await?;
        let (dead, to) = unshown.unwrap_or_else(|| panic!("version {id} or one that goes on from it has no map"));
        self.segments.load_bits_of(&self.pages, dead.iter()).await?;
        // From here to the end nothing waits.
        if !dead.is_empty() && !canary::is(Canary::ThinnedNotFlagged) {
            self.versions.tree().set_thinned(id);
            self.versions.mark_changed(id);
        }
        for (address, blocks) in dead {
            self.segments.clear_if_set(address, blocks)?;
        }
        self.versions.thinned_to(id, to);
        Ok(())
    }

    /// Bytes that hidden versions hold and that nothing with a name shows, as folded: what thinning would give back. A map that
    /// cannot be read is for a check to report; what it shows is not counted.
    pub(crate) async fn held_by_branching(&self) -> Result<u64, PageError> {
        let mut blocks = 0;
        let hidden: Vec<VersionId> = {
            let tree = self.versions.tree();
            tree.frozen().map(|(id, _)| id).filter(|id| tree.is_hidden(*id)).collect()
        };
        for id in hidden {
            let mut from = 0;
            while from < u64::MAX {
                let _turn = self.fold_turn.take().await;
                if !self.versions.tree().is_hidden(id) {
                    break;
                }
                let unshown = self.unshown(NodeId::Frozen(id), from, self.limits.sweep_leaves).await;
                let Ok(Some((runs, to))) = unshown else { break };
                self.segments.load_bits_of(&self.pages, runs.iter()).await?;
                blocks += runs.iter().map(|(address, count)| self.segments.count_set(*address, *count)).sum::<u64>();
                from = to;
            }
        }
        Ok(blocks * BLOCK)
    }
}
