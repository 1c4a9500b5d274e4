//! The memory that requests of all connections may hold together.
//!
//! A request takes its share before its payload is received or its data read, and gives it back when its reply has left.
//! Past the limit, requests wait; their connection reads nothing meanwhile, so the pressure reaches the client.
//!
//! Small requests must not queue behind 32 MiB ones, nor keep those out for ever. So a large request leaves a reserve
//! untouched; and while a large one waits, small ones have that reserve to themselves and nothing more. Large ones go in
//! the order they came.
//!
//! Writes may wait long, for a full store holds them until space comes back. So all of them together hold three quarters at the
//! most, and wait for that share before they wait with the others: reads go on beside held writes. Of that share, large ones
//! have five eighths of the whole; and while there are large ones, small ones have the last eighth to themselves.

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
    /// Of these, what writes hold.
    small_writes: Cell<u64>,
    large_writes: Cell<u64>,
    waiting_small: Cell<usize>,
    queue: RefCell<VecDeque<u64>>,
    /// Large writes that wait for their share, in the order they came.
    write_queue: RefCell<VecDeque<u64>>,
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
    small_writes: u64,
    large_writes: u64,
}

impl Budget {
    /// The least limit under which the largest write can pass: five eighths of it hold one.
    pub const MINIMUM: u64 = (MAXIMUM_PAYLOAD as u64).div_ceil(5) * 8;

    pub fn new(limit: u64) -> Budget {
        assert!(limit >= Budget::MINIMUM, "request budget of {limit} bytes: at least {} needed", Budget::MINIMUM);
        let inner = Inner {
            limit,
            reserve: limit / 8,
            small: Cell::new(0),
            large: Cell::new(0),
            small_writes: Cell::new(0),
            large_writes: Cell::new(0),
            waiting_small: Cell::new(0),
            queue: RefCell::default(),
            write_queue: RefCell::default(),
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
        let queued = |queue: &RefCell<VecDeque<u64>>| !queue.borrow().is_empty();
        self.inner.waiting_small.get() > 0 || queued(&self.inner.queue) || queued(&self.inner.write_queue)
    }

    pub async fn contended(&self) {
        while !self.is_contended() {
            self.inner.contended.notified().await;
        }
    }

    pub fn nothing(&self) -> Permit {
        self.permit(0, 0)
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
            return Some(self.permit(bytes, 0));
        }
        if queued { None } else { self.take_large(bytes) }
    }

    /// As `try_acquire`, for the payload of a write.
    pub fn try_acquire_to_write(&self, bytes: u64) -> Option<Permit> {
        if bytes > SMALL && !self.inner.write_queue.borrow().is_empty() {
            return None;
        }
        let mut share = self.take_write_share(bytes)?;
        share.absorb(self.try_acquire(bytes)?);
        Some(share)
    }

    pub async fn acquire_to_write(&self, bytes: u64) -> Permit {
        let mut share = self.wait_for_write_share(bytes).await;
        share.absorb(self.acquire(bytes).await);
        share
    }

    async fn wait_for_write_share(&self, bytes: u64) -> Permit {
        let small = (bytes <= SMALL).then(|| WaitingSmall::new(self));
        let ticket = (bytes > SMALL).then(|| Ticket::new(self, |inner| &inner.write_queue));
        loop {
            let released = self.inner.released.notified();
            let first = |ticket: &Ticket| self.inner.write_queue.borrow().front() == Some(&ticket.number);
            if (small.is_some() || ticket.as_ref().is_some_and(first))
                && let Some(share) = self.take_write_share(bytes)
            {
                return share;
            }
            released.await;
        }
    }

    fn take_write_share(&self, bytes: u64) -> Option<Permit> {
        let inner = &self.inner;
        let (small, large) = (inner.small_writes.get(), inner.large_writes.get());
        let (eighth, most) = (inner.limit / 8, inner.limit / 4 * 3);
        let mut share = self.permit(0, 0);
        if bytes <= SMALL {
            let alone = large == 0 && inner.write_queue.borrow().is_empty();
            if small + bytes > if alone { most } else { eighth } {
                return None;
            }
            inner.small_writes.set(small + bytes);
            share.small_writes = bytes;
        } else {
            if large + bytes > 5 * eighth || small + large + bytes > most {
                return None;
            }
            inner.large_writes.set(large + bytes);
            share.large_writes = bytes;
        }
        Some(share)
    }

    fn permit(&self, small: u64, large: u64) -> Permit {
        Permit { budget: self.clone(), small, large, small_writes: 0, large_writes: 0 }
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
        let ticket = Ticket::new(self, |inner| &inner.queue);
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
        Some(self.permit(0, bytes))
    }
}

impl Permit {
    /// Joins another share to this one, so that both are given back together.
    pub fn absorb(&mut self, mut other: Permit) {
        self.small += std::mem::take(&mut other.small);
        self.large += std::mem::take(&mut other.large);
        self.small_writes += std::mem::take(&mut other.small_writes);
        self.large_writes += std::mem::take(&mut other.large_writes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.small + self.large + self.small_writes + self.large_writes == 0 {
            return;
        }
        let inner = &self.budget.inner;
        inner.small.set(inner.small.get() - self.small);
        inner.large.set(inner.large.get() - self.large);
        inner.small_writes.set(inner.small_writes.get() - self.small_writes);
        inner.large_writes.set(inner.large_writes.get() - self.large_writes);
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

/// A place in a queue, left when the request got its share or was given up.
struct Ticket<'a> {
    budget: &'a Budget,
    queue: fn(&Inner) -> &RefCell<VecDeque<u64>>,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn new(budget: &'a Budget, queue: fn(&Inner) -> &RefCell<VecDeque<u64>>) -> Ticket<'a> {
        let inner = &budget.inner;
        let number = inner.next_ticket.get();
        inner.next_ticket.set(number + 1);
        queue(inner).borrow_mut().push_back(number);
        inner.contended.notify_all();
        Ticket { budget, queue, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        (self.queue)(inner).borrow_mut().retain(|&number| number != self.number);
        inner.released.notify_all();
    }
}
