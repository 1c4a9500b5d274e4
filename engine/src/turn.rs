//! A turn: what only one task may do at a time, waiting for its turn in between. Single-threaded, so nothing spins or blocks.

use std::cell::Cell;
use std::rc::Rc;

use treering_io::Notify;

#[derive(Clone, Default)]
pub(crate) struct Turn(Rc<State>);

#[derive(Default)]
struct State {
    taken: Cell<bool>,
    freed: Notify,
    /// Those who want it soon.
    impatient: Cell<u64>,
}

/// Ends the turn when dropped.
pub(crate) struct TurnGuard(Turn);

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn::default()
    }

    pub(crate) async fn take(&self) -> TurnGuard {
        loop {
            let freed = self.0.freed.notified();
            if !self.0.taken.replace(true) {
                return TurnGuard(self.clone());
            }
            freed.await;
        }
    }

    /// As `take`, for somebody who waits for the result: whoever has the turn is to hurry.
    pub(crate) async fn take_soon(&self) -> TurnGuard {
        let _waiting = Impatient::new(&self.0);
        self.take().await
    }

    pub(crate) fn is_wanted_soon(&self) -> bool {
        self.0.impatient.get() > 0
    }
}

struct Impatient<'a>(&'a State);

impl<'a> Impatient<'a> {
    fn new(state: &'a State) -> Impatient<'a> {
        state.impatient.set(state.impatient.get() + 1);
        Impatient(state)
    }
}

impl Drop for Impatient<'_> {
    fn drop(&mut self) {
        self.0.impatient.set(self.0.impatient.get() - 1);
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let state = &*self.0.0;
        state.taken.set(false);
        state.freed.notify_all();
    }
}
