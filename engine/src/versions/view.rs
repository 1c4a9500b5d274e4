//! What a reader of a volume looks into: the head of a line, or a version.
//!
//! A version is pending from its cut until the fold reaches it: it shows the layers that were closed then, above the map as it was
//! then. Folded, it has a map of its own. A view goes from one to the other in one step, and readers that hold it need not know.

use std::cell::RefCell;
use std::rc::Rc;

use crate::line::Line;
use crate::map::ExtentMap;
use crate::overlay::{Layer, Piece, lookup_in};

/// Content that does not change: layers, oldest first, above a map.
#[derive(Clone)]
pub(crate) struct Look {
    /// Empty once folded.
    pub layers: Vec<Rc<Layer>>,
    pub map: ExtentMap,
}

/// A version as its readers hold it.
pub(crate) struct FrozenView(RefCell<Look>);

#[derive(Clone)]
pub(crate) enum Source {
    Head(Rc<Line>),
    Frozen(Rc<FrozenView>),
}

impl FrozenView {
    pub(crate) fn new(look: Look) -> Rc<FrozenView> {
        Rc::new(FrozenView(RefCell::new(look)))
    }

    pub(crate) fn folded(map: ExtentMap) -> Rc<FrozenView> {
        FrozenView::new(Look { layers: Vec::new(), map })
    }

    /// The fold has reached the cut: `map` shows all of it. Returns the layers that showed it until now.
    pub(crate) fn fold(&self, map: ExtentMap) -> Vec<Rc<Layer>> {
        std::mem::replace(&mut *self.0.borrow_mut(), Look { layers: Vec::new(), map }).layers
    }

    pub(crate) fn look(&self) -> Look {
        self.0.borrow().clone()
    }
}

impl Source {
    /// Its volume was removed: what it shows may be written over once those who were reading when it went have ended.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(self, Source::Head(line) if line.removed.get())
    }

    /// In one step: what lies above the map, the gaps in it, and the map for the gaps. The fold publishes a root before it
    /// drops a layer, so no block can be missed between the two.
    pub(crate) fn look(&self, from: u64, to: u64) -> (Vec<Piece>, Vec<(u64, u64)>, ExtentMap) {
        match self {
            Source::Head(line) => {
                let (pieces, gaps) = line.overlay.borrow().lookup(from, to);
                (pieces, gaps, line.map.borrow().clone())
            }
            Source::Frozen(view) => {
                let look = view.0.borrow();
                let (pieces, gaps) = lookup_in(look.layers.iter().rev().map(|layer| &**layer), from, to);
                (pieces, gaps, look.map.clone())
            }
        }
    }
}
