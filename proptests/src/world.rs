//! What the parts of one run share: the host, the journal, the counters, and whether the process they run in still lives.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;

use treering_engine::Store;
use treering_io::sim::Host;

use crate::coverage::Coverage;
use crate::model::{Journal, Piece, Position};
use crate::scenario::Temper;

/// A promise that was broken, in words.
pub type Broken = String;

pub struct World {
    pub host: Host,
    pub temper: Temper,
    pub journal: RefCell<Journal>,
    pub coverage: RefCell<Coverage>,
    pub trace: bool,
    /// Number of the next operation; unique in a run.
    next_operation: Cell<u64>,
    /// Disk event, and copy into shared memory, that stop the process that runs now.
    crash_at: Cell<(Option<u64>, Option<u64>)>,
    /// The first broken promise.
    broken: RefCell<Option<Broken>>,
}

impl World {
    pub fn new(host: Host, temper: Temper, trace: bool) -> World {
        World {
            host,
            temper,
            journal: RefCell::default(),
            coverage: RefCell::default(),
            trace,
            next_operation: Cell::new(1),
            crash_at: Cell::new((None, None)),
            broken: RefCell::default(),
        }
    }

    pub fn crash_after(&self, events: Option<u64>, copies: Option<u64>) {
        self.host.crash_after(events);
        self.host.crash_after_copies(copies);
        let at = (events.map(|n| self.host.events() + n.max(1)), copies.map(|n| self.host.copies() + n.max(1)));
        self.crash_at.set(at);
    }

    /// The process has stopped, though the task that asks runs on to its next wait: nothing it does counts any more.
    pub fn crashed(&self) -> bool {
        let (event, copy) = self.crash_at.get();
        event.is_some_and(|n| self.host.events() >= n) || copy.is_some_and(|n| self.host.copies() >= n)
    }

    pub fn new_operation(&self) -> u64 {
        self.next_operation.replace(self.next_operation.get() + 1)
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("  {:>8} {}", self.host.events(), what());
        }
    }

    pub fn breaks(&self, what: Broken) {
        self.note(|| format!("BROKEN: {what}"));
        self.broken.borrow_mut().get_or_insert(what);
    }

    pub fn broken(&self) -> Option<Broken> {
        self.broken.borrow().clone()
    }

    /// Runs an operation and writes down each of its pieces at the moment the engine publishes it: a store is one thread, so
    /// whatever is published while the operation is polled is the operation's. Gives the position behind its last piece.
    pub async fn observe<T, E>(
        &self,
        store: &Store,
        operation: u64,
        pieces: Vec<Piece>,
        future: impl Future<Output = Result<T, E>>,
    ) -> (Result<T, E>, Position) {
        let (result, mut last, rest) = self.observe_some(store, operation, pieces, future).await;
        if result.is_ok() && !self.crashed() {
            // The answer says that they happened, whatever the order numbers say.
            for piece in rest {
                self.coverage.borrow_mut().surprises += 1;
                last = self.publish(operation, piece);
            }
            self.note(|| format!("operation {operation} answered"));
        }
        (result, last)
    }

    /// As `observe`, for an operation that may leave its last pieces undone. Gives those, too.
    pub async fn observe_some<T, E>(
        &self,
        store: &Store,
        operation: u64,
        pieces: Vec<Piece>,
        future: impl Future<Output = Result<T, E>>,
    ) -> (Result<T, E>, Position, Vec<Piece>) {
        let mut future = pin!(future);
        let mut pieces = pieces.into_iter();
        let mut last = Position(0);
        let result = std::future::poll_fn(|context| {
            let before = store.status().log.published;
            let poll = future.as_mut().poll(context);
            let published = (store.status().log.published - before) as usize;
            let placed =
                pieces.by_ref().take(published).map(|piece| self.publish(operation, piece)).collect::<Vec<_>>();
            if placed.len() < published && !self.crashed() {
                self.coverage.borrow_mut().surprises += 1;
            }
            last = placed.last().copied().unwrap_or(last);
            poll
        });
        let result = result.await;
        (result, last, pieces.collect())
    }

    fn publish(&self, operation: u64, piece: Piece) -> Position {
        self.coverage.borrow_mut().piece(&piece);
        self.note(|| {
            let place = self.journal.borrow().position().0 + 1;
            format!("operation {operation} publishes {place}: {}", piece.describe())
        });
        self.journal.borrow_mut().publish(operation, piece)
    }

    /// An operation was answered; what it published must survive the process from now on.
    pub fn acknowledge(&self, up_to: Position) {
        if !self.crashed() {
            self.journal.borrow_mut().acknowledge(up_to);
        }
    }

    /// Everything up to here was said to be durable.
    pub fn make_durable(&self, up_to: Position) {
        if !self.crashed() {
            self.journal.borrow_mut().make_durable(up_to);
        }
    }
}
