//! Every page of a tree, counted or released. Leaves are not read, their parents name them.

use futures_util::future::try_join_all;
use treering_format::units::PageIndex;

use crate::map::Tree;
use crate::map::walk::stored;
use crate::pages::{PageError, Pages};

impl Tree {
    /// Calls `visit` with each page that the tree holds, once, in no particular order.
    pub async fn pages_in_use(&self, pages: &Pages, visit: &mut dyn FnMut(PageIndex)) -> Result<(), PageError> {
        let mut open = Vec::new();
        self.root.iter().for_each(|root| stored(root, &mut open));
        open.iter().for_each(|reference| visit(reference.page));
        open.retain(|reference| reference.level > 0);
        while !open.is_empty() {
            let batch = open.split_off(0);
            let branches = try_join_all(batch.into_iter().map(|reference| pages.read(self.kind, reference))).await?;
            for branch in branches {
                for child in (0..branch.len()).map(|index| branch.child(index)) {
                    visit(child.page);
                    if child.level > 0 {
                        open.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    /// Releases every page. What the values refer to is the caller's business. If a page can't be read, none is released.
    pub async fn release_all(&mut self, pages: &Pages) -> Result<(), PageError> {
        let mut all = Vec::new();
        self.pages_in_use(pages, &mut |page| all.push(page)).await?;
        all.into_iter().for_each(|page| pages.release(page));
        self.root = None;
        self.dirty = 0;
        Ok(())
    }
}
