//! What a version holds as its own and none of those that go on from it shows: what its deletion would free, and what a hidden
//! one may give back.

use treering_format::units::LogAddress;

use super::{asked_of_child, dead_of};
use crate::map::ExtentMap;
use crate::pages::PageError;
use crate::store::Core;
use crate::versions::tree::NodeId;

/// Runs of stored blocks.
type Runs = Vec<(LogAddress, u32)>;

impl Core {
    /// Looks at the next few leaves from block `from` on: runs of blocks in the order of their addresses, and where to go on. None if
    /// the node or one that goes on from it is gone. The caller has the fold's turn or counts as a reader.
    pub(in crate::versions) async fn unshown(
        &self,
        node: NodeId,
        from: u64,
        leaves: usize,
    ) -> Result<Option<(Runs, u64)>, PageError> {
        let (floor, children): (_, Vec<NodeId>) = {
            let tree = self.versions.tree();
            let children = match node {
                NodeId::Head(_) => Vec::new(),
                NodeId::Frozen(id) => tree.children(id).collect(),
            };
            (tree.page_floor(node), children)
        };
        let Some(map) = self.versions.map(node, &self.lines) else { return Ok(None) };
        let maps = children.into_iter().map(|child| self.versions.map(child, &self.lines));
        let Some(children) = maps.collect::<Option<Vec<ExtentMap>>>() else { return Ok(None) };

        let root = map.stored_root();
        if root.is_none() || children.iter().any(|child| child.stored_root() == root) {
            return Ok(Some((Runs::new(), u64::MAX)));
        }
        let (extents, to) = self.own_slice(&map, floor, children.first(), from, leaves).await?;
        let (range, floor) = ((from, to), |_| floor.unwrap_or(LogAddress::NONE));
        let mut runs = dead_of(&extents, &[], range, floor);
        runs.sort_unstable();
        for child in &children {
            if runs.is_empty() {
                break;
            }
            let theirs = self.shown_at(child, &asked_of_child(&extents, range)).await?;
            let mut without = dead_of(&extents, &theirs, range, floor);
            without.sort_unstable();
            runs = both(&runs, &without);
        }
        Ok(Some((runs, to)))
    }
}

/// The blocks that are in both lists of runs, which are sorted.
fn both(left: &[(LogAddress, u32)], right: &[(LogAddress, u32)]) -> Vec<(LogAddress, u32)> {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some((a, a_blocks)), Some((b, b_blocks))) = (left.get(i), right.get(j)) {
        let (a_end, b_end) = (a.0 + u64::from(*a_blocks), b.0 + u64::from(*b_blocks));
        let (from, to) = (a.0.max(b.0), a_end.min(b_end));
        if from < to {
            found.push((LogAddress(from), (to - from) as u32));
        }
        if a_end <= b_end { i += 1 } else { j += 1 }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_holds_what_is_in_each_of_two_lists() {
        let runs = |list: &[(u64, u32)]| list.iter().map(|(at, blocks)| (LogAddress(*at), *blocks)).collect::<Vec<_>>();
        let (left, right) = (runs(&[(10, 5), (20, 10), (40, 1)]), runs(&[(5, 2), (12, 10), (25, 1), (28, 20)]));
        assert_eq!(both(&left, &right), runs(&[(12, 3), (20, 2), (25, 1), (28, 2), (40, 1)]));
        assert_eq!(both(&right, &left), both(&left, &right));
        assert_eq!(both(&left, &[]), []);
    }
}
