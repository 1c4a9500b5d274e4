//! Sleeping tasks, ordered by the moment they want to be woken.
//!
//! The timers of a runtime are one ordered map; the back end waits no longer than the earliest of them. Two timers of the same
//! moment fire in the order they were set, so that a simulated run repeats. A dropped sleep removes its timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::runtime::Core;

#[derive(Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<(u64, u64), Waker>,
    next: u64,
}

impl Timers {
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.waiting.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Takes the wakers of all timers due at `now`.
    pub(crate) fn due(&mut self, now: u64, wakers: &mut Vec<Waker>) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            wakers.push(entry.remove());
        }
    }

    /// Adds a timer and names it.
    pub(crate) fn set(&mut self, deadline: u64, waker: &Waker) -> u64 {
        self.next += 1;
        self.waiting.insert((deadline, self.next), waker.clone());
        self.next
    }

    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

/// Ready once the clock has reached `deadline`.
pub(crate) struct Sleep {
    core: Rc<Core>,
    deadline: u64,
    timer: Option<u64>,
}

impl Sleep {
    pub(crate) fn until(core: Rc<Core>, deadline: u64) -> Sleep {
        Sleep { core, deadline, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.now() >= self.deadline {
            return Poll::Ready(());
        }
        let core = self.core.clone();
        let mut timers = core.timers.borrow_mut();
        match self.timer {
            Some(timer) => {
                timers.waiting.insert((self.deadline, timer), context.waker().clone());
            }
            None => self.timer = Some(timers.set(self.deadline, context.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            let waker = self.core.timers.borrow_mut().waiting.remove(&(self.deadline, timer));
            drop(waker);
        }
    }
}
