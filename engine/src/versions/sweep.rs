//! The sweep: a deleted version gives back what nothing else shows, a few leaves at a time.
//!
//! What it shows and its parent does not is its own: newer than the parent's position. Of that, what its one child shows goes
//! over to the child; the rest dies. A slice looks at the leaves that were born since the parent and that the child does not
//! share, up to a block, and judges everything that starts between the cursor and that block. All of it is read first; then
//! bits and cursor change in one step, under the fold's turn. So a merge between two slices sees each block judged or not, and
//! asks the tree, by the same start, whether it goes on from the swept version or already from that one's parent.
//!
//! Why nothing is judged twice or never: a leaf from before the parent holds nothing newer; a leaf that the child shares holds
//! nothing that the child lacks; a compressed extent that starts in the slice has its pieces there or within its length behind
//! it, and the child is asked over all of that; and the parent can't go meanwhile, for one version is swept at a time.
//!
//! Pages go at the end, all of them with the version, before the next checkpoint can be: the turn is held, but not the thread. A crash repeats the slices since the last checkpoint, which
//! has bits, pages and cursor as of one moment.

use treering_format::units::{BlockIndex, LogAddress, VersionId};

use super::tree::{NodeId, VersionLife};
use crate::canary::{self, Canary};
use crate::limits::COMPRESSED_EXTENT_BLOCKS;
use crate::map::{Extent, ExtentMap};
use crate::pages::PageError;
use crate::store::Core;

mod dead;
pub(crate) mod pace;
mod thin;
mod unshown;

pub(crate) use dead::{asked_of_child, dead_of};
pub(crate) use thin::Thinning;

/// Pages released without letting others run.
const PAGES_AT_ONCE: usize = 512;

/// The version whose turn it is, as of one moment.
struct Swept {
    id: VersionId,
    map: ExtentMap,
    child: Option<ExtentMap>,
    /// The position of its parent.
    floor: Option<LogAddress>,
    cursor: u64,
    thinned: bool,
}

impl Core {
    /// Sweeps the next few leaves of the version whose turn it is. False: nothing is deleted. The caller has the fold's turn.
    pub(crate) async fn sweep_slice(&self) -> Result<bool, PageError> {
        let Some(swept) = self.to_be_swept() else { return Ok(false) };
        let leaves = self.limits.sweep_leaves;
        let (extents, to) = self.own_slice(&swept.map, swept.floor, swept.child.as_ref(), swept.cursor, leaves).await?;
        let range = (swept.cursor, to);
        let theirs = match &swept.child {
            Some(child) if !canary::is(Canary::IgnoreChild) => {
                self.shown_at(child, &asked_of_child(&extents, range)).await?
            }
            _ => Vec::new(),
        };
        let dead = dead_of(&extents, &theirs, range, |_| swept.floor.unwrap_or(LogAddress::NONE));
        self.segments.load_bits_of(&self.pages, dead.iter()).await?;
        // From here to the cursor nothing waits: it and the bits change as one.
        for (address, blocks) in dead {
            match swept.thinned {
                true => drop(self.segments.clear_if_set(address, blocks)?),
                false => self.segments.clear(address, blocks)?,
            }
        }
        self.versions.tree().set_cursor(swept.id, to);
        self.versions.mark_changed(swept.id);
        if to == u64::MAX {
            self.end_sweep(&swept).await?;
        }
        Ok(true)
    }

    fn to_be_swept(&self) -> Option<Swept> {
        let (id, child, floor, life) = {
            let mut tree = self.versions.tree();
            let id = tree.active().or_else(|| tree.begin_sweep())?;
            let life = tree.get(id).expect("the active version is there").life;
            let floor = tree.page_floor(NodeId::Frozen(id)).filter(|_| !canary::is(Canary::IgnoreParent));
            (id, tree.only_child(id), floor, life)
        };
        let VersionLife::Deleting { cursor, thinned } = life else { panic!("version {id} is swept and is {life:?}") };
        let map = |node| self.versions.map(node, &self.lines).unwrap_or_else(|| panic!("{node:?} has no map"));
        let mut child = child.map(map);
        if canary::is(Canary::SweptChild) {
            child = stale::child_of(self, id, cursor, child);
        }
        Some(Swept { id, map: map(NodeId::Frozen(id)), child, floor, cursor, thinned })
    }

    /// What a map shows from block `from` on, in so many leaves, that is newer than `floor` and that the child's map does not share
    /// with it, and where the next slice begins. What starts behind the slice may be among them.
    pub(super) async fn own_slice(
        &self,
        map: &ExtentMap,
        floor: Option<LogAddress>,
        child: Option<&ExtentMap>,
        from: u64,
        leaves: usize,
    ) -> Result<(Vec<Extent>, u64), PageError> {
        let born = map.born_after(&self.pages, floor, child, (from, u64::MAX), leaves).await?;
        let (mut extents, to) = (born.extents, born.next);
        if to < u64::MAX {
            // Pieces of compressed extents that start before.
            let tail = (to, to + COMPRESSED_EXTENT_BLOCKS - 1);
            extents.extend(map.born_after(&self.pages, floor, child, tail, usize::MAX).await?.extents);
        }
        Ok((extents, to))
    }

    pub(super) async fn shown_at(&self, map: &ExtentMap, ranges: &[(u64, u64)]) -> Result<Vec<Extent>, PageError> {
        let mut shown = Vec::new();
        for (from, to) in ranges {
            shown.extend(map.lookup(&self.pages, BlockIndex(*from), BlockIndex(*to), usize::MAX).await?);
        }
        Ok(shown)
    }

    /// Everything was judged: the pages that only the version held go, and the version with them.
    async fn end_sweep(&self, swept: &Swept) -> Result<(), PageError> {
        let child = swept.child.as_ref().map(ExtentMap::tree);
        let gone = swept.map.tree().pages_only_here(&self.pages, child.as_ref(), swept.floor).await?;
        for some in gone.chunks(PAGES_AT_ONCE) {
            some.iter().for_each(|page| self.pages.release(*page));
            self.pages.let_others_run().await;
        }
        let end = self.versions.tree().finish_sweep(swept.id);
        self.versions.remove(swept.id);
        if let Some(NodeId::Frozen(adopted)) = end.adopted {
            self.versions.mark_changed(adopted);
        }
        if let Some(queued) = end.queued {
            self.versions.mark_changed(queued);
        }
        self.pages.check_consistent()
    }
}

/// What must never happen: a sweep compares with the child as it was when the sweep began.
mod stale {
    use std::cell::RefCell;

    use treering_format::units::VersionId;

    use crate::map::ExtentMap;
    use crate::store::Core;

    /// The address of a store, the version that is being swept there, and its child then.
    type Then = (usize, VersionId, Option<ExtentMap>);

    thread_local! {
        static THEN: RefCell<Option<Then>> = const { RefCell::new(None) };
    }

    pub fn child_of(core: &Core, id: VersionId, cursor: u64, now: Option<ExtentMap>) -> Option<ExtentMap> {
        let store = std::ptr::from_ref(core).addr();
        THEN.with_borrow_mut(|then| match then {
            Some((of, version, child)) if cursor > 0 && (*of, *version) == (store, id) => child.clone(),
            _ => then.insert((store, id, now)).2.clone(),
        })
    }
}
