//! A turn: what only one task may do at a time, waiting for its turn in between. Single-threaded, so nothing spins or blocks.

use std::cell::Cell;
use std::rc::Rc;

use treering_io::Notify;

#[derive(Clone)]
pub(crate) struct Turn(Rc<(Cell<bool>, Notify)>);

/// Ends the turn when dropped.
pub(crate) struct TurnGuard(Turn);

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn(Rc::new((Cell::new(false), Notify::new())))
    }

    pub(crate) async fn take(&self) -> TurnGuard {
        loop {
            let freed = self.0.1.notified();
            if !self.0.0.replace(true) {
                return TurnGuard(self.clone());
            }
            freed.await;
        }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let (busy, freed) = &*self.0.0;
        busy.set(false);
        freed.notify_all();
    }
}
