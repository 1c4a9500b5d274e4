//! The tree of versions: who descends from whom, what is being deleted, and the one rule that says whose a block is.
//!
//! Pure: no maps, no I/O. Every parent is frozen; a head is a leaf, found by its line. A block that node N shows is N's own,
//! and dead when N shows it no more, if its address lies above the *floor* of N: the position of N's parent. At or below it the
//! parent may still show the block, and what becomes of it is decided when the parent goes.
//!
//! A version in deletion is swept from its first block to its last, one version at a time. Behind the cursor its child's parent
//! is already its own parent; ahead of it the version still counts. That is all that `entry_floor` knows beyond the rule:
//! re-parented earlier, a block would be freed by the child's next write and again by the sweep. Pages go at the sweep's end,
//! all at once, so their floor does not follow the cursor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use treering_format::units::{LineId, LogAddress, VersionId};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum NodeId {
    Head(LineId),
    Frozen(VersionId),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeId::Head(line) => write!(f, "the head of line {line}"),
            NodeId::Frozen(version) => write!(f, "version {version}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VersionLife {
    Visible,
    /// Deleted, but more than one child still leans on it. `thinned`: some blocks it shows may be free already.
    Hidden {
        thinned: bool,
    },
    /// Being swept, or waiting for it: blocks below the cursor are done.
    Deleting {
        cursor: u64,
        thinned: bool,
    },
}

#[derive(Clone, Debug)]
struct Frozen {
    parent: Option<VersionId>,
    position: LogAddress,
    life: VersionLife,
    children: Children,
}

/// One child is the rule, so it costs no set.
#[derive(Clone, Debug, Default)]
enum Children {
    #[default]
    None,
    One(NodeId),
    Many(BTreeSet<NodeId>),
}

/// A version as a catalog tells it.
pub(crate) type Told = (VersionId, Option<VersionId>, LogAddress, VersionLife);

/// What a deletion has led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It waits to be swept.
    Sweep,
    /// More than one child leans on it: it stays, hidden, until one is left.
    Hide,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct VersionTree {
    frozen: BTreeMap<VersionId, Frozen>,
    heads: BTreeMap<LineId, Option<VersionId>>,
    /// In deletion and not begun, in order.
    queue: VecDeque<VersionId>,
    active: Option<VersionId>,
}

impl VersionTree {
    /// The tree as a catalog tells it. The error says what cannot be.
    pub(crate) fn load(versions: Vec<Told>, heads: Vec<(LineId, Option<VersionId>)>) -> Result<VersionTree, String> {
        let mut tree = VersionTree::default();
        for (id, parent, position, life) in versions {
            if tree.frozen.insert(id, Frozen { parent, position, life, children: Children::None }).is_some() {
                return Err(format!("version {id} is told twice"));
            }
        }
        for (line, parent) in heads {
            if tree.heads.insert(line, parent).is_some() {
                return Err(format!("the head of line {line} is told twice"));
            }
        }
        let parents: Vec<(NodeId, VersionId)> = tree.nodes().filter_map(|n| Some((n, tree.parent(n)?))).collect();
        for (node, parent) in parents {
            let Some(frozen) = tree.frozen.get_mut(&parent) else {
                return Err(format!("{node} descends from version {parent}, which does not exist"));
            };
            frozen.children.add(node);
        }
        let mut deleting: Vec<(bool, VersionId)> = Vec::new();
        for (id, frozen) in &tree.frozen {
            if let VersionLife::Deleting { cursor, .. } = frozen.life {
                deleting.push((cursor == 0, *id));
            }
        }
        // The one that was being swept goes on first.
        deleting.sort_unstable();
        tree.queue = deleting.into_iter().map(|(_, id)| id).collect();
        match tree.check().into_iter().next() {
            Some(wrong) => Err(wrong),
            None => Ok(tree),
        }
    }

    pub(crate) fn new_head(&mut self, line: LineId, parent: Option<VersionId>) {
        let old = self.heads.insert(line, parent);
        assert!(old.is_none(), "line {line} has a head already");
        if let Some(parent) = parent {
            let source = self.get_mut(parent);
            assert_eq!(source.life, VersionLife::Visible, "only a visible version is forked");
            source.children.add(NodeId::Head(line));
        }
    }

    /// What the head shows at `position` is version `id` from now on; the head goes on as its child.
    pub(crate) fn snapshot(&mut self, line: LineId, id: VersionId, position: LogAddress) {
        let parent = *self.heads.get(&line).expect("a head that is cut exists");
        self.insert(id, parent, position, NodeId::Head(line));
        self.get_mut(id).children.add(NodeId::Head(line));
        self.heads.insert(line, Some(id));
    }

    /// The head itself is version `id` from now on: nothing will be written to it any more.
    pub(crate) fn freeze_head(&mut self, line: LineId, id: VersionId, position: LogAddress) {
        let parent = self.heads.remove(&line).expect("a head that is frozen exists");
        self.insert(id, parent, position, NodeId::Head(line));
    }

    /// Puts a version where `was` hung.
    fn insert(&mut self, id: VersionId, parent: Option<VersionId>, position: LogAddress, was: NodeId) {
        let frozen = Frozen { parent, position, life: VersionLife::Visible, children: Children::None };
        let old = self.frozen.insert(id, frozen);
        assert!(old.is_none(), "version {id} exists already");
        if let Some(parent) = parent {
            let above = self.get_mut(parent);
            assert!(above.position < position, "version {id} at {position} is not later than its parent {parent}");
            above.children.remove(was);
            above.children.add(NodeId::Frozen(id));
        }
    }

    pub(crate) fn delete(&mut self, id: VersionId) -> Next {
        let version = self.get_mut(id);
        assert_eq!(version.life, VersionLife::Visible, "version {id} is deleted once");
        if version.children.count() >= 2 {
            version.life = VersionLife::Hidden { thinned: false };
            return Next::Hide;
        }
        version.life = VersionLife::Deleting { cursor: 0, thinned: false };
        self.queue.push_back(id);
        Next::Sweep
    }

    /// The version to sweep now: the one that was begun, or the next in order.
    pub(crate) fn begin_sweep(&mut self) -> Option<VersionId> {
        if self.active.is_none() {
            self.active = self.queue.pop_front();
        }
        self.active
    }

    pub(crate) fn set_cursor(&mut self, id: VersionId, to: u64) {
        assert_eq!(self.active, Some(id), "only the version being swept has a cursor");
        let VersionLife::Deleting { cursor, .. } = &mut self.get_mut(id).life else {
            panic!("version {id} is swept and not in deletion");
        };
        assert!(*cursor <= to, "the cursor of version {id} goes back from {cursor} to {to}");
        *cursor = to;
    }

    /// Some blocks that version `id` shows may be free from now on.
    pub(crate) fn set_thinned(&mut self, id: VersionId) {
        let VersionLife::Hidden { thinned } = &mut self.get_mut(id).life else {
            panic!("only a hidden version is thinned, and version {id} is none");
        };
        *thinned = true;
    }

    /// The sweep has reached the end: the version is gone, and its child hangs from its parent. Gives the child, and the
    /// parent if it was hidden and is now to be swept itself.
    pub(crate) fn finish_sweep(&mut self, id: VersionId) -> (Option<NodeId>, Option<VersionId>) {
        assert_eq!(self.active, Some(id), "only the version being swept ends");
        self.active = None;
        let gone = self.frozen.remove(&id).expect("the version being swept exists");
        let child = gone.children.only();
        match child {
            Some(NodeId::Head(line)) => *self.heads.get_mut(&line).expect("a child exists") = gone.parent,
            Some(NodeId::Frozen(version)) => self.get_mut(version).parent = gone.parent,
            None => {}
        }
        let Some(parent) = gone.parent else { return (child, None) };
        let above = self.get_mut(parent);
        above.children.remove(NodeId::Frozen(id));
        if let Some(child) = child {
            above.children.add(child);
        }
        if let VersionLife::Hidden { thinned } = above.life
            && above.children.count() < 2
        {
            above.life = VersionLife::Deleting { cursor: 0, thinned };
            self.queue.push_back(parent);
            return (child, Some(parent));
        }
        (child, None)
    }

    /// THE RULE. A block at address a, which `node` shows and whose extent starts at block `start`, is the node's own iff
    /// a is above this. An extent is judged by its start, wherever the piece that is looked at lies.
    pub(crate) fn entry_floor(&self, node: NodeId, start: u64) -> LogAddress {
        let mut parent = self.parent(node);
        while let Some(id) = parent {
            let version = self.get(id);
            match version.life {
                VersionLife::Deleting { cursor, .. } if start < cursor => parent = version.parent,
                _ => return version.position,
            }
        }
        LogAddress::NONE
    }

    /// Pages of the node's map born at or below this are an ancestor's. NONE without a parent, whatever their birth.
    pub(crate) fn page_floor(&self, node: NodeId) -> Option<LogAddress> {
        self.parent(node).map(|parent| self.position(parent))
    }

    /// # Panics
    /// If there is no such node.
    pub(crate) fn parent(&self, node: NodeId) -> Option<VersionId> {
        match node {
            NodeId::Head(line) => *self.heads.get(&line).expect("a head that is asked for exists"),
            NodeId::Frozen(id) => self.get(id).parent,
        }
    }

    pub(crate) fn position(&self, id: VersionId) -> LogAddress {
        self.get(id).position
    }

    pub(crate) fn life(&self, id: VersionId) -> VersionLife {
        self.get(id).life
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        match node {
            NodeId::Head(line) => self.heads.contains_key(&line),
            NodeId::Frozen(id) => self.frozen.contains_key(&id),
        }
    }

    pub(crate) fn children(&self, id: VersionId) -> Vec<NodeId> {
        match &self.get(id).children {
            Children::None => Vec::new(),
            Children::One(child) => vec![*child],
            Children::Many(children) => children.iter().copied().collect(),
        }
    }

    /// The child of a version in deletion, which has one at most.
    pub(crate) fn only_child(&self, id: VersionId) -> Option<NodeId> {
        self.get(id).children.only()
    }

    /// Versions from the node's parent up to the root.
    pub(crate) fn path(&self, node: NodeId) -> impl Iterator<Item = VersionId> {
        std::iter::successors(self.parent(node), |id| self.get(*id).parent)
    }

    /// Every head and every version.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let heads = self.heads.keys().map(|line| NodeId::Head(*line));
        heads.chain(self.frozen.keys().map(|id| NodeId::Frozen(*id)))
    }

    /// Versions in deletion, the one being swept included.
    pub(crate) fn sweeps_pending(&self) -> usize {
        self.queue.len() + usize::from(self.active.is_some())
    }

    /// What is wrong with the tree; empty if nothing is.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut begun = 0;
        for (id, version) in &self.frozen {
            if let Some(parent) = version.parent {
                match self.frozen.get(&parent) {
                    None => wrong.push(format!("version {id} descends from version {parent}, which does not exist")),
                    // This also rules out a circle.
                    Some(above) if above.position >= version.position => wrong.push(format!(
                        "version {id} at {} is not later than its parent {parent} at {}",
                        version.position, above.position
                    )),
                    Some(_) => {}
                }
            }
            match (version.life, version.children.count()) {
                (VersionLife::Hidden { .. }, 0 | 1) => {
                    wrong.push(format!("version {id} is hidden with fewer than two children"));
                }
                (VersionLife::Deleting { .. }, count) if count > 1 => {
                    wrong.push(format!("version {id} is in deletion with {count} children"));
                }
                (VersionLife::Deleting { cursor, .. }, _) => {
                    begun += u64::from(cursor > 0);
                    if self.active != Some(*id) && !self.queue.contains(id) {
                        wrong.push(format!("version {id} is in deletion and waits for no sweep"));
                    }
                }
                _ => {}
            }
        }
        if begun > 1 {
            wrong.push(format!("{begun} sweeps have begun; one at a time may"));
        }
        for (line, parent) in &self.heads {
            if let Some(parent) = parent.filter(|parent| !self.frozen.contains_key(parent)) {
                wrong.push(format!("the head of line {line} descends from version {parent}, which does not exist"));
            }
        }
        wrong
    }

    fn get(&self, id: VersionId) -> &Frozen {
        self.frozen.get(&id).expect("a version that is asked for exists")
    }

    fn get_mut(&mut self, id: VersionId) -> &mut Frozen {
        self.frozen.get_mut(&id).expect("a version that is asked for exists")
    }
}

impl Children {
    fn count(&self) -> usize {
        match self {
            Children::None => 0,
            Children::One(_) => 1,
            Children::Many(children) => children.len(),
        }
    }

    fn only(&self) -> Option<NodeId> {
        match self {
            Children::None => None,
            Children::One(child) => Some(*child),
            Children::Many(children) => panic!("a version in deletion has {} children", children.len()),
        }
    }

    fn add(&mut self, child: NodeId) {
        *self = match std::mem::take(self) {
            Children::None => Children::One(child),
            Children::One(other) => {
                assert_ne!(other, child, "a child is added once");
                Children::Many(BTreeSet::from([other, child]))
            }
            Children::Many(mut children) => {
                assert!(children.insert(child), "a child is added once");
                Children::Many(children)
            }
        }
    }

    fn remove(&mut self, child: NodeId) {
        let removed = match self {
            Children::None => false,
            Children::One(only) if *only == child => {
                *self = Children::None;
                true
            }
            Children::One(_) => false,
            Children::Many(children) => children.remove(&child),
        };
        assert!(removed, "{child} is not a child here");
        if let Children::Many(children) = self
            && let (1, Some(last)) = (children.len(), children.first())
        {
            *self = Children::One(*last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: LineId = LineId(1);
    const FORK: LineId = LineId(2);

    fn at(n: u64) -> LogAddress {
        LogAddress(n << 16)
    }

    fn frozen(n: u64) -> NodeId {
        NodeId::Frozen(VersionId(n))
    }

    /// V1 – V2 – head, and a fork of V1.
    fn branched() -> VersionTree {
        let mut tree = VersionTree::default();
        tree.new_head(LINE, None);
        tree.snapshot(LINE, VersionId(1), at(1));
        tree.snapshot(LINE, VersionId(2), at(2));
        tree.new_head(FORK, Some(VersionId(1)));
        tree
    }

    #[test]
    fn a_floor_is_the_position_of_the_parent() {
        let tree = branched();
        assert_eq!(tree.entry_floor(NodeId::Head(LINE), 0), at(2));
        assert_eq!(tree.entry_floor(NodeId::Head(FORK), 0), at(1));
        assert_eq!(tree.entry_floor(frozen(1), 0), LogAddress::NONE);
        assert_eq!(tree.page_floor(frozen(1)), None);
        assert_eq!(tree.check(), Vec::<String>::new());
    }

    #[test]
    fn behind_the_cursor_the_child_has_the_parent_s_parent() {
        let mut tree = branched();
        assert_eq!(tree.delete(VersionId(2)), Next::Sweep);
        assert_eq!(tree.begin_sweep(), Some(VersionId(2)));
        tree.set_cursor(VersionId(2), 10);
        assert_eq!(tree.entry_floor(NodeId::Head(LINE), 9), at(1));
        assert_eq!(tree.entry_floor(NodeId::Head(LINE), 10), at(2));
        assert_eq!(tree.page_floor(NodeId::Head(LINE)), Some(at(2)), "pages wait for the end");
        assert_eq!(tree.finish_sweep(VersionId(2)), (Some(NodeId::Head(LINE)), None));
        assert_eq!(tree.page_floor(NodeId::Head(LINE)), Some(at(1)));
        assert_eq!(tree.children(VersionId(1)), [NodeId::Head(LINE), NodeId::Head(FORK)]);
    }

    #[test]
    fn a_branching_point_hides_until_one_child_is_left() {
        let mut tree = branched();
        assert_eq!(tree.delete(VersionId(1)), Next::Hide);
        assert_eq!(tree.begin_sweep(), None);
        tree.set_thinned(VersionId(1));
        tree.freeze_head(FORK, VersionId(3), at(3));
        assert_eq!(tree.delete(VersionId(3)), Next::Sweep);
        assert_eq!(tree.begin_sweep(), Some(VersionId(3)));
        assert_eq!(tree.finish_sweep(VersionId(3)), (None, Some(VersionId(1))));
        assert_eq!(tree.life(VersionId(1)), VersionLife::Deleting { cursor: 0, thinned: true });
        assert_eq!(tree.begin_sweep(), Some(VersionId(1)));
        assert_eq!(tree.finish_sweep(VersionId(1)), (Some(frozen(2)), None));
        assert_eq!(tree.path(NodeId::Head(LINE)).collect::<Vec<_>>(), [VersionId(2)]);
        assert_eq!(tree.sweeps_pending(), 0);
        assert_eq!(tree.check(), Vec::<String>::new());
    }

    #[test]
    fn a_sweep_that_had_begun_goes_on_first_after_a_load() {
        let deleting = |cursor| VersionLife::Deleting { cursor, thinned: false };
        let versions =
            vec![(VersionId(1), None, at(1), deleting(0)), (VersionId(2), Some(VersionId(1)), at(2), deleting(7))];
        let mut tree = VersionTree::load(versions, vec![(LINE, Some(VersionId(2)))]).expect("a sound tree");
        assert_eq!(tree.begin_sweep(), Some(VersionId(2)));
        assert_eq!(tree.sweeps_pending(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let visible = VersionLife::Visible;
        let hidden = VersionLife::Hidden { thinned: false };
        let begun = VersionLife::Deleting { cursor: 1, thinned: false };
        let one = |parent, position, life| vec![(VersionId(1), parent, position, life)];
        for (versions, heads, says) in [
            (one(Some(VersionId(9)), at(1), visible), vec![], "which does not exist"),
            (one(None, at(1), visible), vec![(LINE, Some(VersionId(5)))], "which does not exist"),
            (one(None, at(1), hidden), vec![(LINE, Some(VersionId(1)))], "fewer than two children"),
            (one(Some(VersionId(1)), at(1), visible), vec![], "not later than its parent"),
            ([one(None, at(1), begun), vec![(VersionId(2), None, at(2), begun)]].concat(), vec![], "one at a time"),
            (one(None, at(1), begun), vec![(LINE, Some(VersionId(1))), (FORK, Some(VersionId(1)))], "with 2 children"),
        ] {
            let error = VersionTree::load(versions, heads).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
