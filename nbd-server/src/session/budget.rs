//! The memory that requests of all connections may hold together.
//!
//! A request takes its share before its payload is received or its data read, and gives it back when its reply has left.
//! Past the limit, requests wait; their connection reads nothing meanwhile, so the pressure reaches the client.
//!
//! Small requests must not queue behind 32 MiB ones, nor keep those out for ever. So a large request leaves a reserve
//! untouched; and while a large one waits, small ones have that reserve to themselves and nothing more. Large ones go in
//! the order they came.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use treering_io::Notify;

use crate::protocol::wire::MAXIMUM_PAYLOAD;

/// Requests up to here count as small.
const SMALL: u64 = 128 << 10;

/// Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    inner: Rc<Inner>,
}

struct Inner {
    limit: u64,
    reserve: u64,
    small: Cell<u64>,
    large: Cell<u64>,
    waiting_small: Cell<usize>,
    queue: RefCell<VecDeque<u64>>,
    next_ticket: Cell<u64>,
    released: Notify,
    /// Rung when somebody begins to wait.
    contended: Notify,
}

/// A share of the budget, given back on drop.
pub struct Permit {
    budget: Budget,
    small: u64,
    large: u64,
}

impl Budget {
    /// The least limit under which the largest request can pass beside the reserve.
    pub const MINIMUM: u64 = MAXIMUM_PAYLOAD as u64 / 3 * 4;

    pub fn new(limit: u64) -> Budget {
        assert!(limit >= Budget::MINIMUM, "request budget of {limit} bytes: at least {} needed", Budget::MINIMUM);
        let inner = Inner {
            limit,
            reserve: limit / 8,
            small: Cell::new(0),
            large: Cell::new(0),
            waiting_small: Cell::new(0),
            queue: RefCell::default(),
            next_ticket: Cell::new(0),
            released: Notify::new(),
            contended: Notify::new(),
        };
        Budget { inner: Rc::new(inner) }
    }

    pub fn used(&self) -> u64 {
        self.inner.small.get() + self.inner.large.get()
    }

    /// Somebody waits for memory.
    pub fn is_contended(&self) -> bool {
        self.inner.waiting_small.get() > 0 || !self.inner.queue.borrow().is_empty()
    }

    pub async fn contended(&self) {
        while !self.is_contended() {
            self.inner.contended.notified().await;
        }
    }

    pub fn nothing(&self) -> Permit {
        Permit { budget: self.clone(), small: 0, large: 0 }
    }

    /// A share of `bytes`, if nobody must wait for it.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let inner = &self.inner;
        let (small, large) = (inner.small.get(), inner.large.get());
        if small + large + bytes > inner.limit && bytes > 0 {
            return None;
        }
        let queued = !inner.queue.borrow().is_empty();
        if bytes <= SMALL {
            if queued && small + bytes > inner.reserve {
                return None;
            }
            inner.small.set(small + bytes);
            return Some(Permit { budget: self.clone(), small: bytes, large: 0 });
        }
        if queued { None } else { self.take_large(bytes) }
    }

    pub async fn acquire(&self, bytes: u64) -> Permit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        if bytes <= SMALL { self.wait_small(bytes).await } else { self.wait_large(bytes).await }
    }

    async fn wait_small(&self, bytes: u64) -> Permit {
        let _waiting = WaitingSmall::new(self);
        loop {
            let released = self.inner.released.notified();
            if let Some(permit) = self.try_acquire(bytes) {
                return permit;
            }
            released.await;
        }
    }

    async fn wait_large(&self, bytes: u64) -> Permit {
        let ticket = Ticket::new(self);
        loop {
            let released = self.inner.released.notified();
            let first = self.inner.queue.borrow().front() == Some(&ticket.number);
            if first && let Some(permit) = self.take_large(bytes) {
                return permit;
            }
            released.await;
        }
    }

    fn take_large(&self, bytes: u64) -> Option<Permit> {
        let inner = &self.inner;
        let large = inner.large.get() + bytes;
        if large > inner.limit - inner.reserve || inner.small.get() + large > inner.limit {
            return None;
        }
        inner.large.set(large);
        Some(Permit { budget: self.clone(), small: 0, large: bytes })
    }
}

impl Permit {
    /// Joins another share to this one, so that both are given back together.
    pub fn absorb(&mut self, mut other: Permit) {
        self.small += std::mem::take(&mut other.small);
        self.large += std::mem::take(&mut other.large);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.small + self.large == 0 {
            return;
        }
        let inner = &self.budget.inner;
        inner.small.set(inner.small.get() - self.small);
        inner.large.set(inner.large.get() - self.large);
        if self.budget.is_contended() {
            inner.released.notify_all();
        }
    }
}

struct WaitingSmall<'a>(&'a Budget);

impl WaitingSmall<'_> {
    fn new(budget: &Budget) -> WaitingSmall<'_> {
        budget.inner.waiting_small.set(budget.inner.waiting_small.get() + 1);
        budget.inner.contended.notify_all();
        WaitingSmall(budget)
    }
}

impl Drop for WaitingSmall<'_> {
    fn drop(&mut self) {
        self.0.inner.waiting_small.set(self.0.inner.waiting_small.get() - 1);
    }
}

/// A place in the queue of large requests, left when the request got its share or was given up.
struct Ticket<'a> {
    budget: &'a Budget,
    number: u64,
}

impl Ticket<'_> {
    fn new(budget: &Budget) -> Ticket<'_> {
        let inner = &budget.inner;
        let number = inner.next_ticket.get();
        inner.next_ticket.set(number + 1);
        inner.queue.borrow_mut().push_back(number);
        inner.contended.notify_all();
        Ticket { budget, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        inner.queue.borrow_mut().retain(|&number| number != self.number);
        inner.released.notify_all();
    }
}
