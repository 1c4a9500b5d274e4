//! Who goes on from whom, and what therefore belongs to whom.
//!
//! Heads and frozen versions are the nodes of one tree; every parent is a frozen version, and a parent's position lies below
//! its children's. What a node shows was either written after its parent's position, and then belongs to it alone or to it and
//! its descendants, or it is the parent's. All of the rule follows:
//!
//! - A head that overwrites a block frees it iff its address is above the *floor*: the position of the head's parent.
//! - A version without children that goes frees what lies above its floor.
//! - With one child, it frees of that what the child does not show; the child then goes on from the version's parent.
//! - With more, it turns *hidden*, and goes when one child is left.
//!
//! Versions go one at a time, in the order in which they were deleted, and each in slices of keys: what starts below the cursor
//! has been judged. So while V is being swept, for a block below the cursor V's child already goes on from V's parent, above it
//! still from V. Pages are not judged by slices: they are V's until its sweep ends.
//!
//! Nothing here reads a map or knows a bit; the fold and the sweep ask this tree and act.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use treering_format::units::{LineId, LogAddress, VersionId};

mod children;
#[cfg(test)]
mod tests;

use self::children::Children;
use crate::canary::{self, Canary};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum NodeId {
    Head(LineId),
    Frozen(VersionId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VersionLife {
    Visible,
    /// Deleted, and kept for the sake of two or more children. Thinned: some of what it alone showed was given back already.
    Hidden {
        thinned: bool,
    },
    /// Deleted, to be swept or being swept: what starts below the cursor was judged.
    Deleting {
        cursor: u64,
        thinned: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub parent: Option<VersionId>,
    /// The address of the cut: the version shows nothing newer, its children add nothing older.
    pub position: LogAddress,
    pub life: VersionLife,
    children: Children,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct VersionTree {
    frozen: BTreeMap<VersionId, Frozen>,
    /// Each head's parent.
    heads: BTreeMap<LineId, Option<VersionId>>,
    /// Deleted versions whose turn has not come.
    queue: VecDeque<VersionId>,
    /// The version that is being swept.
    active: Option<VersionId>,
}

/// What became of a version that was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deleted {
    Queued,
    Hidden,
}

/// The end of a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Swept {
    /// Goes on from the swept version's parent now.
    pub adopted: Option<NodeId>,
    /// The parent, if it was hidden and only one child is left: to be swept, too.
    pub queued: Option<VersionId>,
}

impl VersionTree {
    /// The tree as a checkpoint recorded it. An error says how the entries contradict each other.
    pub fn load(
        frozen: impl IntoIterator<Item = (VersionId, Option<VersionId>, LogAddress, VersionLife)>,
        heads: impl IntoIterator<Item = (LineId, Option<VersionId>)>,
    ) -> Result<VersionTree, String> {
        let mut tree = VersionTree::default();
        for (id, parent, position, life) in frozen {
            tree.frozen.insert(id, Frozen { parent, position, life, children: Children::None });
        }
        tree.heads.extend(heads);
        let of_frozen = tree.frozen.iter().map(|(id, f)| (NodeId::Frozen(*id), f.parent));
        let of_heads = tree.heads.iter().map(|(line, parent)| (NodeId::Head(*line), *parent));
        for (node, parent) in of_frozen.chain(of_heads).collect::<Vec<_>>() {
            let Some(parent) = parent else { continue };
            let Some(found) = tree.frozen.get_mut(&parent) else {
                return Err(format!("{node:?} goes on from version {parent}, which is not there"));
            };
            found.children.insert(node);
        }
        let deleting = |life| matches!(life, VersionLife::Deleting { .. });
        let mut queue: Vec<_> = tree.frozen.iter().filter(|(_, f)| deleting(f.life)).map(|(id, _)| *id).collect();
        queue.sort_by_key(|id| (tree.cursor(*id) == Some(0), *id));
        tree.queue = queue.into();
        match tree.check().into_iter().next() {
            Some(contradiction) => Err(contradiction),
            None => Ok(tree),
        }
    }

    pub fn new_head(&mut self, line: LineId, parent: Option<VersionId>) {
        assert!(!self.heads.contains_key(&line), "line {line} is a head already");
        if let Some(parent) = parent {
            let parent = self.frozen.get_mut(&parent).unwrap_or_else(|| panic!("a fork of version {parent}"));
            assert_eq!(parent.life, VersionLife::Visible, "a fork of a deleted version");
            parent.children.insert(NodeId::Head(line));
        }
        self.heads.insert(line, parent);
    }

    /// The head's map as of `position` is version `id` from now on; the head goes on from it.
    pub fn snapshot(&mut self, head: LineId, id: VersionId, position: LogAddress) {
        let node = NodeId::Head(head);
        let parent = self.parent(node);
        self.insert_frozen(id, parent, position, Children::One(node));
        self.replace_child(parent, node, Some(NodeId::Frozen(id)));
        self.heads.insert(head, Some(id));
    }

    /// The head itself becomes version `id`: its volume was removed or reset.
    pub fn freeze_head(&mut self, head: LineId, id: VersionId, position: LogAddress) {
        let node = NodeId::Head(head);
        let parent = self.parent(node);
        self.insert_frozen(id, parent, position, Children::None);
        self.replace_child(parent, node, Some(NodeId::Frozen(id)));
        self.heads.remove(&head);
    }

    fn insert_frozen(&mut self, id: VersionId, parent: Option<VersionId>, position: LogAddress, children: Children) {
        if let Some(parent) = parent {
            let floor = self.frozen[&parent].position;
            assert!(floor < position, "version {id} at {position} goes on from version {parent} at {floor}");
        }
        let before = self.frozen.insert(id, Frozen { parent, position, life: VersionLife::Visible, children });
        assert!(before.is_none(), "version {id} was there already");
    }

    fn replace_child(&mut self, parent: Option<VersionId>, old: NodeId, new: Option<NodeId>) {
        if let Some(parent) = parent {
            let children =
                &mut self.frozen.get_mut(&parent).expect("parents are kept while they have children").children;
            children.remove(old);
            new.into_iter().for_each(|new| children.insert(new));
        }
    }

    /// A visible version goes: hidden while two or more go on from it, else as soon as its turn comes.
    pub fn delete(&mut self, id: VersionId) -> Deleted {
        let version = self.frozen.get_mut(&id).unwrap_or_else(|| panic!("version {id} is deleted, and is not there"));
        assert_eq!(version.life, VersionLife::Visible, "version {id} is deleted twice");
        if version.children.len() >= 2 && !canary::is(Canary::NoHiding) {
            version.life = VersionLife::Hidden { thinned: false };
            return Deleted::Hidden;
        }
        self.enqueue(id, false);
        Deleted::Queued
    }

    fn enqueue(&mut self, id: VersionId, thinned: bool) {
        let version = self.frozen.get_mut(&id).expect("who is queued is there");
        version.life = VersionLife::Deleting { cursor: 0, thinned };
        self.queue.push_back(id);
    }

    /// The version that is being swept.
    pub fn active(&self) -> Option<VersionId> {
        self.active
    }

    /// Versions in deletion, the one that is being swept included.
    pub fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.active.is_some())
    }

    /// Begins with the next deleted version; None if there is none.
    pub fn begin_sweep(&mut self) -> Option<VersionId> {
        assert_eq!(self.active, None, "one version is swept at a time");
        self.active = self.queue.pop_front();
        self.active
    }

    /// Who goes on from a version that is to be swept: one or nobody.
    pub fn only_child(&self, id: VersionId) -> Option<NodeId> {
        let children = &self.frozen[&id].children;
        assert!(children.len() <= 1, "version {id} has {} children and is swept", children.len());
        children.iter().next()
    }

    pub fn is_hidden(&self, id: VersionId) -> bool {
        self.get(id).is_some_and(|version| matches!(version.life, VersionLife::Hidden { .. }))
    }

    pub fn children(&self, id: VersionId) -> impl Iterator<Item = NodeId> + '_ {
        self.frozen.get(&id).into_iter().flat_map(|version| version.children.iter())
    }

    /// What starts below `cursor` was judged.
    pub fn set_cursor(&mut self, id: VersionId, cursor: u64) {
        assert_eq!(self.active, Some(id), "only the version that is being swept has a cursor that moves");
        match &mut self.frozen.get_mut(&id).expect("the active version is there").life {
            VersionLife::Deleting { cursor: at, .. } if *at < cursor => *at = cursor,
            life => panic!("version {id} is {life:?}, and its cursor is set to {cursor}"),
        }
    }

    /// Some of a hidden version's entries may be dead from now on.
    pub fn set_thinned(&mut self, id: VersionId) {
        match &mut self.frozen.get_mut(&id).expect("a version that is thinned is there").life {
            VersionLife::Hidden { thinned } => *thinned = true,
            life => panic!("version {id} is {life:?}, and is thinned"),
        }
    }

    /// The active version is gone.
    pub fn finish_sweep(&mut self, id: VersionId) -> Swept {
        assert_eq!(self.active, Some(id), "the sweep that ends is the active one");
        let adopted = self.only_child(id);
        let version = self.frozen.remove(&id).expect("the active version is there");
        self.active = None;
        match adopted {
            Some(NodeId::Head(line)) => drop(self.heads.insert(line, version.parent)),
            Some(NodeId::Frozen(child)) => {
                self.frozen.get_mut(&child).expect("children are there").parent = version.parent
            }
            None => {}
        }
        self.replace_child(version.parent, NodeId::Frozen(id), adopted);
        let Some(parent) = version.parent else { return Swept { adopted, queued: None } };
        let left = &self.frozen[&parent];
        match left.life {
            VersionLife::Hidden { thinned } if left.children.len() < 2 => {
                self.enqueue(parent, thinned);
                Swept { adopted, queued: Some(parent) }
            }
            _ => Swept { adopted, queued: None },
        }
    }

    /// **The rule.** Data that starts at block `start` with an address at or below this is not the node's to free.
    pub fn entry_floor(&self, node: NodeId, start: u64) -> LogAddress {
        let early = canary::is(Canary::EarlyReparent);
        let mut parent = self.parent(node);
        while let Some(id) = parent {
            let version = &self.frozen[&id];
            match version.life {
                VersionLife::Deleting { cursor, .. } if start < cursor || early => parent = version.parent,
                _ => return version.position,
            }
        }
        LogAddress::NONE
    }

    /// Pages born at or below this are not the node's to release; None: all are. It never runs ahead of the end of a sweep.
    pub fn page_floor(&self, node: NodeId) -> Option<LogAddress> {
        let mut parent = self.parent(node)?;
        if canary::is(Canary::PageFreedWithSlice) && self.cursor(parent).is_some_and(|cursor| cursor > 0) {
            parent = self.frozen[&parent].parent?;
        }
        Some(self.frozen[&parent].position)
    }

    /// Whom the node goes on from.
    ///
    /// # Panics
    /// If the node is not in the tree.
    pub fn parent(&self, node: NodeId) -> Option<VersionId> {
        match node {
            NodeId::Head(line) => *self.heads.get(&line).unwrap_or_else(|| panic!("line {line} is not a head")),
            NodeId::Frozen(id) => self.frozen.get(&id).unwrap_or_else(|| panic!("version {id} is not there")).parent,
        }
    }

    /// The node's ancestors, nearest first. The model's diffs walk it.
    #[cfg(test)]
    pub fn path(&self, node: NodeId) -> impl Iterator<Item = VersionId> + '_ {
        std::iter::successors(self.parent(node), |id| self.frozen[id].parent)
    }

    pub fn get(&self, id: VersionId) -> Option<&Frozen> {
        self.frozen.get(&id)
    }

    pub fn frozen(&self) -> impl Iterator<Item = (VersionId, &Frozen)> {
        self.frozen.iter().map(|(id, version)| (*id, version))
    }

    pub fn heads(&self) -> impl Iterator<Item = (LineId, Option<VersionId>)> + '_ {
        self.heads.iter().map(|(line, parent)| (*line, *parent))
    }

    fn cursor(&self, id: VersionId) -> Option<u64> {
        match self.frozen.get(&id)?.life {
            VersionLife::Deleting { cursor, .. } => Some(cursor),
            VersionLife::Visible | VersionLife::Hidden { .. } => None,
        }
    }

    /// Everything that must hold of the tree and does not.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut swept = 0;
        for (id, version) in &self.frozen {
            let count = version.children.len();
            match version.life {
                VersionLife::Hidden { .. } if count < 2 => {
                    found.push(format!("version {id} is hidden, with {count} children"))
                }
                VersionLife::Deleting { .. } if count > 1 => {
                    found.push(format!("version {id} is being deleted, with {count} children"));
                }
                VersionLife::Deleting { cursor, .. } => swept += u32::from(cursor > 0),
                _ => {}
            }
            let children = version.children.iter().filter(|child| self.parent_of(*child) != Some(*id));
            found.extend(children.map(|child| format!("{child:?} is a child of version {id} and says otherwise")));
            if let Some(parent) = version.parent.and_then(|parent| self.frozen.get(&parent))
                && parent.position >= version.position
            {
                let (at, parent) = (version.position, parent.position);
                found.push(format!("version {id} at {at} goes on from a version at {parent}"));
            }
        }
        if swept > 1 {
            found.push(format!("{swept} versions are half swept"));
        }
        let nodes = self.frozen.keys().map(|id| NodeId::Frozen(*id)).chain(self.heads.keys().map(|l| NodeId::Head(*l)));
        for node in nodes {
            if let Some(parent) = self.parent_of(node)
                && !self.frozen.get(&parent).is_some_and(|parent| parent.children.contains(node))
            {
                found.push(format!("{node:?} goes on from version {parent}, which does not know it"));
            }
        }
        let waiting: BTreeSet<_> = self.queue.iter().chain(&self.active).copied().collect();
        let deleting: BTreeSet<_> = self.frozen.keys().copied().filter(|id| self.cursor(*id).is_some()).collect();
        if waiting != deleting || waiting.len() != self.queue.len() + usize::from(self.active.is_some()) {
            found.push(format!("versions {deleting:?} are being deleted, and {waiting:?} are queued"));
        }
        found
    }

    fn parent_of(&self, node: NodeId) -> Option<VersionId> {
        match node {
            NodeId::Head(line) => *self.heads.get(&line)?,
            NodeId::Frozen(id) => self.frozen.get(&id)?.parent,
        }
    }
}
