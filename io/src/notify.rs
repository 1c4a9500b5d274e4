//! A bell for tasks of one thread: "something changed, look again".
//!
//! A waiter must never miss a bell rung after `notified()` was called, even if it was not polled yet. So the bell counts its
//! rings: a waiter remembers the count at its creation and is ready once the count has moved. Wakers are woken in the order
//! in which waiters were first polled. The bell does not say what changed, nor how often.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Default)]
pub struct Notify {
    bell: Rc<Bell>,
}

#[derive(Default)]
struct Bell {
    rings: Cell<u64>,
    next_waiter: Cell<u64>,
    waiters: RefCell<BTreeMap<u64, Waker>>,
}

impl Notify {
    pub fn new() -> Notify {
        Notify::default()
    }

    pub fn notify_all(&self) {
        self.bell.rings.set(self.bell.rings.get() + 1);
        let waiters = self.bell.waiters.take();
        for waker in waiters.into_values() {
            waker.wake();
        }
    }

    pub fn notified(&self) -> Notified {
        Notified { bell: self.bell.clone(), seen: self.bell.rings.get(), waiter: None }
    }
}

/// Ready once the bell has rung after this was made.
pub struct Notified {
    bell: Rc<Bell>,
    seen: u64,
    waiter: Option<u64>,
}

impl Future for Notified {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.rings.get() != self.seen {
            return Poll::Ready(());
        }
        let waiter = match self.waiter {
            Some(waiter) => waiter,
            None => {
                let waiter = self.bell.next_waiter.get();
                self.bell.next_waiter.set(waiter + 1);
                self.waiter = Some(waiter);
                waiter
            }
        };
        self.bell.waiters.borrow_mut().insert(waiter, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            let waker = self.bell.waiters.borrow_mut().remove(&waiter);
            drop(waker);
        }
    }
}
