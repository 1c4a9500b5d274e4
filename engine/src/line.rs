//! A line: the path a volume's head lives on. It owns the overlay of unmerged writes and the published root of the map.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use treering_format::units::LineId;
use treering_io::Notify;

use crate::compress::Compression;
use crate::map::ExtentMap;
use crate::overlay::Overlay;
use crate::versions::Look;

pub(crate) struct Line {
    pub id: LineId,
    pub overlay: RefCell<Overlay>,
    /// The newest root the fold has published. Readers clone it and go on with it, whatever the fold does.
    pub map: RefCell<ExtentMap>,
    pub compression: RefCell<Compression>,
    pub removed: Cell<bool>,
    /// Forked from a version, and the fold has not reached the fork: map and base layers are the source's, not its own.
    pub borrowed: Cell<bool>,
    merges: RefCell<Vec<Merge>>,
    merge_done: Notify,
}

/// A small write that is reading the blocks it will complete.
struct Merge {
    from: u64,
    to: u64,
    disturbed: bool,
}

impl Line {
    pub(crate) fn new(id: LineId, map: ExtentMap, compression: Compression) -> Rc<Line> {
        Line::begin(id, Overlay::new(), map, compression, false)
    }

    /// It begins with what a version shows.
    pub(crate) fn fork(id: LineId, source: Look, compression: Compression) -> Rc<Line> {
        Line::begin(id, Overlay::over(source.layers), source.map, compression, true)
    }

    fn begin(id: LineId, overlay: Overlay, map: ExtentMap, compression: Compression, borrowed: bool) -> Rc<Line> {
        Rc::new(Line {
            id,
            overlay: RefCell::new(overlay),
            map: RefCell::new(map),
            compression: RefCell::new(compression),
            removed: Cell::new(false),
            borrowed: Cell::new(borrowed),
            merges: RefCell::default(),
            merge_done: Notify::new(),
        })
    }

    /// Notes that blocks `[from, to)` were published: a read-merge of any of them must read again.
    pub(crate) fn disturb(&self, from: u64, to: u64) {
        for merge in self.merges.borrow_mut().iter_mut() {
            merge.disturbed |= merge.from < to && from < merge.to;
        }
    }

    /// Waits until no other read-merge covers the blocks, then takes them.
    pub(crate) async fn begin_merge(self: &Rc<Line>, from: u64, to: u64) -> MergeGuard {
        loop {
            let done = self.merge_done.notified();
            let busy = self.merges.borrow().iter().any(|m| m.from < to && from < m.to);
            if !busy {
                self.merges.borrow_mut().push(Merge { from, to, disturbed: false });
                return MergeGuard { line: Rc::clone(self), from };
            }
            done.await;
        }
    }
}

/// Blocks held by one read-merge. A write of whole blocks does not wait for it: it disturbs it.
pub(crate) struct MergeGuard {
    line: Rc<Line>,
    from: u64,
}

impl MergeGuard {
    /// Whether the blocks changed since the last call: what was read is stale.
    pub(crate) fn take_disturbed(&self) -> bool {
        let mut merges = self.line.merges.borrow_mut();
        let own = merges.iter_mut().find(|m| m.from == self.from).expect("the guard's own entry");
        std::mem::take(&mut own.disturbed)
    }
}

impl Drop for MergeGuard {
    fn drop(&mut self) {
        self.line.merges.borrow_mut().retain(|m| m.from != self.from);
        self.line.merge_done.notify_all();
    }
}

/// All lines of a store by id.
#[derive(Clone, Default)]
pub(crate) struct Lines(Rc<RefCell<HashMap<LineId, Rc<Line>>>>);

impl Lines {
    pub(crate) fn get(&self, id: LineId) -> Option<Rc<Line>> {
        self.0.borrow().get(&id).cloned()
    }

    pub(crate) fn insert(&self, line: Rc<Line>) {
        self.0.borrow_mut().insert(line.id, line);
    }

    pub(crate) fn remove(&self, id: LineId) -> Option<Rc<Line>> {
        self.0.borrow_mut().remove(&id)
    }

    /// In order of id, so that a run is repeatable.
    pub(crate) fn all(&self) -> Vec<Rc<Line>> {
        let mut lines: Vec<_> = self.0.borrow().values().cloned().collect();
        lines.sort_unstable_by_key(|l| l.id);
        lines
    }
}
