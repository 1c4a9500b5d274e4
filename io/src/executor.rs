//! The tasks of one thread, and the queue of those that are ready.
//!
//! Tasks run in the order in which they became ready (first in, first out), which makes a simulated run repeat. The queue is
//! plain memory of its thread: a wake from that thread costs no lock. A wake from another thread (a worker of the posix back
//! end, a program's own thread) goes through a locked side queue and rings the back end's doorbell.
//!
//! Every live task is registered, so that `stop` can drop all futures without running them again: the end of a runtime, and
//! of a simulated process that crashed. It does not decide when to enter the kernel; `runtime` does.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use crate::os;

/// A spawned task. Awaiting it gives the task's output; dropping it cancels the task.
#[must_use = "dropping a task cancels it; call detach() to let it run"]
pub struct Task<T>(async_task::Task<T>);

impl<T> Task<T> {
    /// Lets the task run on by itself.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Cancels it and waits until what it held is dropped.
    pub async fn cancel(self) {
        self.0.cancel().await;
    }

    /// Waits for it as for the task itself; who stops waiting lets it run on to its end.
    pub fn to_its_end(self) -> ToItsEnd<T> {
        ToItsEnd(Some(self))
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Waits for a task without holding its life: see [`Task::to_its_end`].
#[must_use = "it waits only when it is awaited"]
pub struct ToItsEnd<T>(Option<Task<T>>);

impl<T> Future for ToItsEnd<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.0.as_mut().expect("it is there until the drop")).poll(context)
    }
}

impl<T> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

pub(crate) struct Executor {
    queue: Arc<ReadyQueue>,
    live: Rc<LiveTasks>,
    stopped: Cell<bool>,
}

impl Executor {
    pub(crate) fn new(doorbell: Option<Arc<OwnedFd>>) -> Executor {
        let queue = ReadyQueue {
            owner: thread_number(),
            local: UnsafeCell::new(VecDeque::new()),
            remote: Mutex::new(Vec::new()),
            remote_waiting: AtomicBool::new(false),
            doorbell,
        };
        Executor { queue: Arc::new(queue), live: Rc::default(), stopped: Cell::new(false) }
    }

    pub(crate) fn queue(&self) -> &Arc<ReadyQueue> {
        &self.queue
    }

    pub(crate) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let registration = Registration { live: self.live.clone(), place: self.live.reserve() };
        let place = registration.place;
        let future = async move {
            let _registration = registration;
            future.await
        };
        let queue = self.queue.clone();
        let (runnable, task) = async_task::spawn_local(future, move |runnable| queue.push(runnable));
        if self.stopped.get() {
            drop(runnable);
        } else {
            self.live.fill(place, runnable.waker());
            runnable.schedule();
        }
        Task(task)
    }

    /// Runs one ready task; false if there is none.
    pub(crate) fn run_one(&self) -> bool {
        match self.queue.pop() {
            Some(runnable) => {
                runnable.run();
                true
            }
            None => false,
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.queue.has_ready()
    }

    /// Drops every task's future without running any of them again.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        for waker in self.live.take() {
            waker.wake();
        }
        while let Some(runnable) = self.queue.pop() {
            drop(runnable);
        }
    }
}

/// Wakers of all live tasks; a place is reused once its task's future is gone.
#[derive(Default)]
struct LiveTasks {
    places: RefCell<(Vec<Option<Waker>>, Vec<usize>)>,
}

impl LiveTasks {
    fn reserve(&self) -> usize {
        let (places, free) = &mut *self.places.borrow_mut();
        free.pop().unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        })
    }

    fn fill(&self, place: usize, waker: Waker) {
        self.places.borrow_mut().0[place] = Some(waker);
    }

    fn release(&self, place: usize) {
        let waker = {
            let (places, free) = &mut *self.places.borrow_mut();
            free.push(place);
            places[place].take()
        };
        drop(waker);
    }

    fn take(&self) -> Vec<Waker> {
        self.places.borrow_mut().0.iter_mut().filter_map(Option::take).collect()
    }
}

/// Lives inside the task's future and goes with it.
struct Registration {
    live: Rc<LiveTasks>,
    place: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.live.release(self.place);
    }
}

pub(crate) struct ReadyQueue {
    owner: u64,
    local: UnsafeCell<VecDeque<Runnable>>,
    remote: Mutex<Vec<Runnable>>,
    remote_waiting: AtomicBool,
    doorbell: Option<Arc<OwnedFd>>,
}

// SAFETY: `local` is touched only by the thread whose number is `owner` (checked in `push`; `pop` and `has_ready` are called
// by the runtime, which never leaves that thread, and check it too). Thread numbers are never reused. All else is Sync.
unsafe impl Sync for ReadyQueue {}
// SAFETY: dropping the queue elsewhere drops Runnables there; those of `spawn_local` panic rather than drop a foreign future,
// and `Executor::stop` has emptied the queue on its own thread before.
unsafe impl Send for ReadyQueue {}

impl ReadyQueue {
    fn push(&self, runnable: Runnable) {
        if thread_number() == self.owner {
            // SAFETY: only the owner thread reaches this line, and no reference into `local` outlives a call of this type.
            unsafe { (*self.local.get()).push_back(runnable) }
        } else {
            self.remote.lock().unwrap_or_else(PoisonError::into_inner).push(runnable);
            self.remote_waiting.store(true, Ordering::Release);
            self.ring_from_elsewhere();
        }
    }

    /// Ends the runtime's wait in the kernel, if this is another thread.
    pub(crate) fn ring_from_elsewhere(&self) {
        if thread_number() != self.owner
            && let Some(doorbell) = &self.doorbell
        {
            os::ring(doorbell);
        }
    }

    fn pop(&self) -> Option<Runnable> {
        assert_eq!(thread_number(), self.owner, "a runtime stays on its thread");
        // SAFETY: this is the owner thread, and no reference into `local` is alive while this one is.
        let local = unsafe { &mut *self.local.get() };
        if self.remote_waiting.load(Ordering::Relaxed) && self.remote_waiting.swap(false, Ordering::Acquire) {
            local.extend(self.remote.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        }
        local.pop_front()
    }

    fn has_ready(&self) -> bool {
        assert_eq!(thread_number(), self.owner, "a runtime stays on its thread");
        // SAFETY: as in `pop`.
        let local = unsafe { &*self.local.get() };
        !local.is_empty() || self.remote_waiting.load(Ordering::Relaxed)
    }
}

/// A number for this thread, never given to another one.
pub(crate) fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}
