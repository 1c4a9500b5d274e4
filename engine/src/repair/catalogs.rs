//! The two trees of the catalog, each the other's copy.

use super::RepairReport;
use crate::map::Visited;
use crate::pages::PageSet;
use crate::store::Core;

/// Reads both; the first one was read already, or replaced by the second. Says whether the second is lost.
pub(super) async fn catalogs(core: &Core, pages: &mut PageSet, report: &mut RepairReport) -> bool {
    let (first, mirror) = (core.catalog_tree.borrow().clone(), core.catalog_mirror.borrow().clone());
    if first.dirty_nodes() > 0 {
        report.actions.push("the catalog is written anew from its second tree".into());
    }
    let mut said = [Some(Vec::new()), Some(Vec::new())];
    for (tree, said) in [first, mirror].iter().zip(&mut said) {
        let mut leaves = tree.leaves(true);
        loop {
            let batch = leaves.next(&core.pages, &mut |reference| pages.insert(reference.page)).await;
            if batch.is_empty() {
                break;
            }
            for visited in batch {
                match visited {
                    Visited::Leaf { page, .. } => {
                        let entries = (0..page.len()).map(|index| (page.key(index), page.value(index).to_vec()));
                        said.iter_mut().for_each(|said| said.extend(entries.clone()));
                    }
                    Visited::Unreadable { .. } => *said = None,
                }
            }
        }
    }
    let lost = said[1].is_none() || said[0].is_some() && said[0] != said[1];
    if lost {
        report.actions.push("the second tree of the catalog is written anew from the first".into());
    }
    lost
}
