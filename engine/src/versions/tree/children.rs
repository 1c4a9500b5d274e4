//! The children of a version. Nearly all have one, so one costs no memory of its own.

use std::collections::BTreeSet;

use super::NodeId;

#[derive(Clone, Debug)]
pub(super) enum Children {
    None,
    One(NodeId),
    Many(BTreeSet<NodeId>),
}

impl Children {
    /// # Panics
    /// If the child is there already.
    pub(super) fn insert(&mut self, child: NodeId) {
        let new = match self {
            Children::None => {
                *self = Children::One(child);
                true
            }
            Children::One(only) => {
                let new = *only != child;
                *self = Children::Many(BTreeSet::from([*only, child]));
                new
            }
            Children::Many(many) => many.insert(child),
        };
        assert!(new, "{child:?} is a child twice");
    }

    /// # Panics
    /// If the child is not there.
    pub(super) fn remove(&mut self, child: NodeId) {
        let was_there = match self {
            Children::None => false,
            Children::One(only) => {
                let found = *only == child;
                *self = Children::None;
                found
            }
            Children::Many(many) => {
                let found = many.remove(&child);
                if let (1, Some(last)) = (many.len(), many.first().copied()) {
                    *self = Children::One(last);
                }
                found
            }
        };
        assert!(was_there, "{child:?} is taken away and was no child");
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Children::None => 0,
            Children::One(_) => 1,
            Children::Many(many) => many.len(),
        }
    }

    pub(super) fn contains(&self, child: NodeId) -> bool {
        match self {
            Children::None => false,
            Children::One(only) => *only == child,
            Children::Many(many) => many.contains(&child),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        let (one, many) = match self {
            Children::None => (None, None),
            Children::One(only) => (Some(*only), None),
            Children::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}
