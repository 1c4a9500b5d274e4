//! One runtime per thread: it runs tasks until none is ready, then enters the kernel once for everything they asked for.
//!
//! It must enter the back end at a bounded tick even while tasks stay ready, or one busy task would keep all others from their
//! completions. And it must not let memory go that the kernel may still use: at its end it drops all tasks, cancels what could
//! wait for ever, and waits until nothing is in flight. The same loop drives the simulator, so what is tested there is what runs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::backend::{Backend, Completion, Turn, Wait};
use crate::executor::{Executor, ReadyQueue};
use crate::handle::Io;
use crate::operation::{Abandoned, Operations, Outcome, Request, Token};
use crate::os;
use crate::sim::Stopped;
use crate::timers::Timers;

/// Which back end a runtime uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring, or posix with a stated reason where io_uring is forbidden.
    #[default]
    Auto,
    Uring,
    Posix,
}

pub struct Runtime {
    core: Rc<Core>,
    fallback_reason: Option<String>,
}

impl Runtime {
    pub fn new(choice: BackendChoice) -> io::Result<Runtime> {
        let (backend, doorbell, fallback_reason) = os::backend(choice)?;
        Ok(Runtime { core: Core::new(backend, Some(doorbell), None), fallback_reason })
    }

    pub(crate) fn simulated(backend: Box<dyn Backend>, process: SimulatedProcess) -> Runtime {
        Runtime { core: Core::new(backend, None, Some(process)), fallback_reason: None }
    }

    pub fn io(&self) -> Io {
        Io::new(self.core.clone())
    }

    /// Why `Auto` did not choose io_uring, if it did not.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Runs `future`, and all spawned tasks meanwhile, until it is ready.
    pub fn block_on<T>(&mut self, future: impl Future<Output = T>) -> T {
        match self.run_sim(future) {
            Ok(output) => output,
            Err(stopped) => panic!("the simulated process stopped inside block_on (run_sim reports it): {stopped}"),
        }
    }

    /// Like `block_on`, for a simulated process: says so if it crashed or can never go on. A crash drops all its tasks.
    pub fn run_sim<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let result = self.core.run(future);
        if matches!(result, Err(Stopped::Crashed)) {
            self.core.drop_all_tasks();
        }
        result
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.core.drop_all_tasks();
        self.core.drain();
    }
}

/// What the loop must know of a simulated process.
pub(crate) struct SimulatedProcess {
    pub(crate) crashed: Rc<Cell<bool>>,
    /// A run that lasts longer on the simulated clock hangs.
    pub(crate) run_limit_ns: u64,
}

/// Task polls between two looks at the back end while tasks stay ready.
const TICK: u32 = 64;

pub(crate) struct Core {
    executor: Executor,
    pub(crate) timers: RefCell<Timers>,
    backend: RefCell<Box<dyn Backend>>,
    operations: RefCell<Operations>,
    turns: Cell<u64>,
    yielded: RefCell<Vec<Waker>>,
    scratch: RefCell<Scratch>,
    simulated: Option<SimulatedProcess>,
}

/// Vectors kept from turn to turn, so that a turn allocates nothing.
#[derive(Default)]
struct Scratch {
    completions: Vec<Completion>,
    wakers: Vec<Waker>,
    over: Vec<Request>,
}

impl Core {
    fn new(backend: Box<dyn Backend>, doorbell: Option<Arc<OwnedFd>>, simulated: Option<SimulatedProcess>) -> Rc<Core> {
        Rc::new(Core {
            executor: Executor::new(doorbell),
            timers: RefCell::default(),
            backend: RefCell::new(backend),
            operations: RefCell::default(),
            turns: Cell::new(0),
            yielded: RefCell::default(),
            scratch: RefCell::default(),
            simulated,
        })
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn now(&self) -> u64 {
        self.backend.borrow().now()
    }

    pub(crate) fn with_backend<T>(&self, ask: impl FnOnce(&dyn Backend) -> T) -> T {
        ask(self.backend.borrow().as_ref())
    }

    /// Starts an operation now; the future only waits for it.
    pub(crate) fn start(self: &Rc<Core>, request: Request) -> InFlight {
        let mut operations = self.operations.borrow_mut();
        let token = operations.insert(request);
        self.backend.borrow_mut().start(token, operations.request(token));
        InFlight { core: self.clone(), token: Some(token) }
    }

    /// Ready once the back end has been looked at, after all tasks that are ready now.
    pub(crate) fn yield_now(self: &Rc<Core>) -> Yield {
        Yield { core: self.clone(), since: None }
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let main = Arc::new(MainWaker { ready: AtomicBool::new(true), queue: self.executor.queue().clone() });
        let waker = Waker::from(main.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut polls = 0;
        let limit = self.simulated.as_ref().map(|process| self.now().saturating_add(process.run_limit_ns));
        loop {
            let mut ran = false;
            if main.ready.swap(false, Ordering::Acquire) {
                ran = true;
                polls += 1;
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return if self.has_crashed() { Err(Stopped::Crashed) } else { Ok(output) };
                }
            }
            while polls < TICK && !main.ready.load(Ordering::Relaxed) && !self.has_crashed() && self.executor.run_one()
            {
                ran = true;
                polls += 1;
            }
            if self.has_crashed() {
                return Err(Stopped::Crashed);
            }
            if ran && polls < TICK {
                continue;
            }
            polls = 0;
            let busy =
                main.ready.load(Ordering::Relaxed) || self.executor.has_ready() || !self.yielded.borrow().is_empty();
            match self.turn(busy) {
                Turn::Done => {}
                Turn::Idle => return Err(Stopped::Deadlock),
                Turn::Crashed => return Err(Stopped::Crashed),
            }
            if limit.is_some_and(|limit| self.now() > limit) {
                return Err(Stopped::Deadlock);
            }
        }
    }

    fn has_crashed(&self) -> bool {
        self.simulated.as_ref().is_some_and(|process| process.crashed.get())
    }

    /// One look at the back end: completions, timers, and the tasks that yielded to them.
    fn turn(&self, busy: bool) -> Turn {
        let wait = if busy { Wait::No } else { Wait::Until(self.timers.borrow().earliest()) };
        let scratch = &mut *self.scratch.borrow_mut();
        let turn = {
            let mut operations = self.operations.borrow_mut();
            let mut backend = self.backend.borrow_mut();
            let turn = backend.turn(wait, &mut operations, &mut scratch.completions);
            for completion in scratch.completions.drain(..) {
                match operations.complete(completion.token, completion.result) {
                    Outcome::Again => backend.start(completion.token, operations.request(completion.token)),
                    Outcome::Wake(waker) => scratch.wakers.extend(waker),
                    Outcome::Over(request) => scratch.over.push(request),
                }
            }
            turn
        };
        scratch.over.clear();
        self.turns.set(self.turns.get() + 1);
        let now = self.now();
        self.timers.borrow_mut().due(now, &mut scratch.wakers);
        scratch.wakers.append(&mut self.yielded.borrow_mut());
        for waker in scratch.wakers.drain(..) {
            waker.wake();
        }
        turn
    }

    fn drop_all_tasks(&self) {
        self.executor.stop();
        let timers = self.timers.borrow_mut().clear();
        drop(timers);
        let yielded = self.yielded.take();
        drop(yielded);
    }

    /// Waits until the kernel has let go of all our memory.
    fn drain(&self) {
        let deadline = self.now().saturating_add(DRAIN_LIMIT_NS);
        let waiting = self.operations.borrow().waiting_tokens();
        for token in waiting {
            self.backend.borrow_mut().cancel(token);
        }
        while self.operations.borrow().in_flight() > 0 {
            self.timers.borrow_mut().set(deadline, Waker::noop());
            if self.turn(false) != Turn::Done {
                return;
            }
            if self.now() >= deadline {
                // A device that never answers: leaking its buffers is safe, freeing them is not.
                std::mem::forget(self.operations.take());
                return;
            }
        }
    }
}

/// How long the end of a runtime waits for a device.
const DRAIN_LIMIT_NS: u64 = 30_000_000_000;

/// An operation in flight. Dropping it abandons the operation, which runs on or is cancelled, and frees nothing early.
pub(crate) struct InFlight {
    core: Rc<Core>,
    token: Option<Token>,
}

impl Future for InFlight {
    type Output = (io::Result<usize>, Request);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let token = self.token.expect("an operation is not polled after its end");
        let ended = self.core.operations.borrow_mut().poll(token, context.waker());
        match ended {
            Some(ended) => {
                self.token = None;
                Poll::Ready(ended)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(token) = self.token else { return };
        let abandoned = self.core.operations.borrow_mut().abandon(token);
        match abandoned {
            Abandoned::RunsOn => {}
            Abandoned::Cancel => self.core.backend.borrow_mut().cancel(token),
            Abandoned::Over(request) => drop(request),
        }
    }
}

pub(crate) struct Yield {
    core: Rc<Core>,
    since: Option<u64>,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let turns = self.core.turns.get();
        if *self.since.get_or_insert(turns) != turns {
            return Poll::Ready(());
        }
        self.core.yielded.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

struct MainWaker {
    ready: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::Release);
        self.queue.ring_from_elsewhere();
    }
}
