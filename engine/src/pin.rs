//! Pins: somebody looks at the store as it was for longer than a read takes.
//!
//! While a pin is held, pages and slots that are freed are kept back, whatever checkpoints become durable: what the pin's
//! holder finds in old maps is still there. The last pin that goes lets go of all of it. A checkpoint doesn't know of pins, so
//! a crash forgets them, and what they kept back is free.
//!
//! Nobody is held up for a pin's sake: when writers wait for space that pins keep back, the pins break, and their holders have
//! to give up.

use std::cell::Cell;
use std::rc::Rc;

use crate::canary::{self, Canary};
use crate::pages::Pages;
use crate::segments::Segments;

#[derive(Clone)]
pub(crate) struct Pins(Rc<Inner>);

struct Inner {
    pages: Pages,
    segments: Segments,
    /// Pins that hold.
    holding: Cell<u64>,
    /// Grows when pins break.
    broken: Cell<u64>,
}

pub(crate) struct Pin {
    pins: Pins,
    /// `Inner::broken` when it began.
    began: u64,
}

impl Pins {
    pub(crate) fn new(pages: Pages, segments: Segments) -> Pins {
        Pins(Rc::new(Inner { pages, segments, holding: Cell::new(0), broken: Cell::new(0) }))
    }

    pub(crate) fn pin(&self) -> Pin {
        self.0.holding.set(self.0.holding.get() + 1);
        Pin { pins: self.clone(), began: self.0.broken.get() }
    }

    /// Whether what is freed must be kept back.
    pub(crate) fn hold(&self) -> bool {
        self.0.holding.get() > 0 && !canary::is(Canary::PinForgotten)
    }

    /// Somebody needs what is kept back. False if nothing is.
    pub(crate) fn break_all(&self) -> bool {
        self.0.holding.set(0);
        self.0.broken.set(self.0.broken.get() + 1);
        self.let_go()
    }

    fn let_go(&self) -> bool {
        let (pages, slots) = (self.0.pages.let_go(), self.0.segments.let_go());
        pages + slots > 0
    }
}

impl Pin {
    /// Whether what was pinned may be gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.pins.0.broken.get() != self.began
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.is_broken() {
            return;
        }
        let holding = &self.pins.0.holding;
        holding.set(holding.get() - 1);
        if holding.get() == 0 {
            self.pins.let_go();
        }
    }
}
