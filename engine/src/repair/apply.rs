//! Writes what the survey found out.

use treering_format::units::PageIndex;

use super::survey::Plan;
use crate::canary::{self, Canary};
use crate::disk::BLOCK;
use crate::error::StoreError;
use crate::map::{ExtentMap, Tree, TreeKind};
use crate::pages::{PageError, PageSet};
use crate::store::Core;
use crate::versions::tree::NodeId;

/// The store stands on its checkpoint: nothing was folded since.
pub(super) async fn apply(core: &Core, plan: Plan) -> Result<(), StoreError> {
    let newest = core.newest.get();
    let mut used = plan.pages;
    used.join(&(0..newest.blob_bytes.div_ceil(BLOCK)).map(|page| PageIndex(newest.blob_page.0 + page)).collect());
    // Nothing that a tree refers to may be given out.
    core.pages.claim(&used);
    for repair in &plan.maps {
        let Some(mut map) = core.versions.map(repair.node, &core.lines) else { continue };
        map.replace(&core.pages, &repair.lost_pages, &repair.ranges, &repair.extents).await?;
        core.ensure_pages(map.dirty_nodes() as u64)?;
        // A version's pages are not younger than its cut, for whoever is forked from it takes younger ones for its own. A
        // head's are born behind every cut of the checkpoint, and before every later one.
        let birth = match repair.node {
            NodeId::Head(_) => newest.next,
            NodeId::Frozen(_) if canary::is(Canary::RepairBornLate) => newest.next,
            NodeId::Frozen(id) => core.versions.tree().get(id).map_or(newest.next, |version| version.position),
        };
        map.write_out(&core.pages, birth).await?;
        put(core, repair.node, map);
    }
    if plan.mirror_lost {
        let first = core.catalog_tree.borrow().clone();
        let all = first.scan(&core.pages, 0, usize::MAX).await?;
        let all: Vec<_> = all.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let mut mirror = Tree::empty(TreeKind::Catalog, 0);
        mirror.apply(&core.pages, &all).await?;
        *core.catalog_mirror.borrow_mut() = mirror;
    }
    if let Some(live) = plan.live {
        core.segments.correct(live, &plan.table, plan.table_lost);
    }
    core.pages.release_all_but(&reachable(core).await?);
    Ok(())
}

fn put(core: &Core, node: NodeId, map: ExtentMap) {
    match node {
        NodeId::Head(line) => {
            if let Some(line) = core.lines.get(line) {
                *line.map.borrow_mut() = map;
            }
        }
        NodeId::Frozen(id) => core.versions.put_map(id, map),
    }
}

/// Pages that anything refers to now.
async fn reachable(core: &Core) -> Result<PageSet, PageError> {
    let newest = core.newest.get();
    let mut pages: PageSet =
        (0..newest.blob_bytes.div_ceil(BLOCK)).map(|page| PageIndex(newest.blob_page.0 + page)).collect();
    let mut trees: Vec<Tree> = core.roots().iter().map(|root| root.map.tree()).collect();
    trees.extend([core.catalog_tree.borrow().clone(), core.catalog_mirror.borrow().clone(), core.segments.tree()]);
    for tree in trees {
        let mut leaves = tree.leaves(false);
        // Leaves are named by their parents, and need not be read.
        let mut enter = |reference: &treering_format::node::NodeRef| {
            pages.insert(reference.page);
            reference.level > 0
        };
        while !leaves.next(&core.pages, &mut enter).await.is_empty() {}
    }
    Ok(pages)
}
