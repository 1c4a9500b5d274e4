//! Tasks, time and signals.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use treering_io::{Buffer, Notify};

use crate::stage::Stage;

pub fn tasks_run_in_the_order_they_were_spawned(mut stage: Stage) {
    let io = stage.io.clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    stage.runtime.block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (order, io_of_task) = (order.clone(), io.clone());
                io.spawn(async move {
                    order.borrow_mut().push(number);
                    io_of_task.yield_now().await;
                    order.borrow_mut().push(100 + number);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    assert!(order.borrow().iter().copied().eq(0..200));
}

pub fn dropped_task_is_cancelled_and_a_detached_one_runs_on(mut stage: Stage) {
    let io = stage.io.clone();
    let runs = Rc::new(Cell::new(0));
    stage.runtime.block_on(async {
        let count = |detached: bool| {
            let (io_of_task, runs) = (io.clone(), runs.clone());
            let task = io.spawn(async move {
                io_of_task.sleep(Duration::from_millis(1)).await;
                runs.set(runs.get() + 1);
            });
            if detached { task.detach() } else { drop(task) }
        };
        count(false);
        count(true);
        io.sleep(Duration::from_millis(10)).await;
    });
    assert_eq!(runs.get(), 1);
}

pub fn yield_lets_completions_in(mut stage: Stage) {
    let file = stage.file("disk", 1 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let done = Rc::new(Cell::new(false));
        let (read, mark) = (io.read_at(&file, 0, Buffer::with_len(4096)), done.clone());
        let task = io.spawn(async move {
            read.await.0.unwrap();
            mark.set(true);
        });
        let start = io.now();
        while !done.get() {
            io.yield_now().await;
            assert!(io.now() - start < 5_000_000_000, "yielding alone never let the read complete");
        }
        task.await;
    });
}

pub fn notify_between_creation_and_first_poll_is_not_lost(mut stage: Stage) {
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let bell = Notify::new();
        bell.notify_all();
        let waiter = bell.notified();
        bell.notify_all();
        io.timeout(Duration::from_secs(1), waiter).await.expect("it rang after the waiter was made");
        let early = io.timeout(Duration::from_millis(1), bell.notified()).await;
        assert!(early.is_none(), "a ring from before must not count");
        let (waiting, other) = (bell.clone(), bell.clone());
        let tasks: Vec<_> = (0..3).map(|_| io.spawn(waiting.notified())).collect();
        io.yield_now().await;
        other.notify_all();
        for task in tasks {
            task.await;
        }
    });
}

pub fn timers_fire_in_order_and_a_dropped_one_does_not(mut stage: Stage) {
    let io = stage.io.clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    stage.runtime.block_on(async {
        let tasks: Vec<_> = [5u64, 1, 3, 2, 4]
            .into_iter()
            .map(|milliseconds| {
                let (order, sleep) = (order.clone(), io.sleep(Duration::from_millis(milliseconds * 4)));
                io.spawn(async move {
                    sleep.await;
                    order.borrow_mut().push(milliseconds);
                })
            })
            .collect();
        drop(io.sleep(Duration::from_millis(1)));
        for task in tasks {
            task.await;
        }
    });
    assert_eq!(*order.borrow(), [1, 2, 3, 4, 5]);
}

pub fn timeout_gives_up_and_lets_go(mut stage: Stage) {
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let start = io.now();
        let held = Rc::new(());
        let inside = held.clone();
        let never = async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        };
        assert!(io.timeout(Duration::from_millis(3), never).await.is_none());
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(io.now() - start >= 3_000_000);
        assert_eq!(io.timeout(Duration::from_secs(1), async { 7 }).await, Some(7));
    });
}

pub fn clock_and_randomness_are_there(stage: Stage) {
    let (one, two) = (stage.io.random_u64(), stage.io.random_u64());
    assert_ne!(one, two);
    let mut bytes = [0; 1000];
    stage.io.fill_random(&mut bytes);
    assert!(bytes.iter().filter(|byte| **byte == 0).count() < 50);
    assert!(stage.io.wall_clock() > 1_700_000_000_000_000_000);
    assert_eq!(stage.io.boot_id(), stage.io.boot_id());
}

pub fn wake_from_another_thread_reaches_the_task(mut stage: Stage) {
    if stage.is_simulated() {
        return; // There are no other threads in the simulation.
    }
    let (sender, receiver) = std::sync::mpsc::channel::<std::task::Waker>();
    let rung = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ring = rung.clone();
    let thread = std::thread::spawn(move || {
        let waker = receiver.recv().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        ring.store(true, std::sync::atomic::Ordering::Release);
        waker.wake();
    });
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let task = io.spawn(std::future::poll_fn(move |context| {
            if rung.load(std::sync::atomic::Ordering::Acquire) {
                return std::task::Poll::Ready(());
            }
            let _ = sender.send(context.waker().clone());
            std::task::Poll::Pending
        }));
        task.await;
    });
    thread.join().unwrap();
}

pub fn waiting_costs_no_processor_time(mut stage: Stage) {
    let (path, io) = (stage.path("socket"), stage.io.clone());
    let thread_time = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let file = stage.file("disk", 4096);
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = crate::rules::connected(&io, &listener, &path).await;
        // A sync rings the doorbell, which must not stay ringing.
        io.sync_data(&file).await.unwrap();
        let receive = io.spawn(io.recv(&server, Buffer::with_len(100), 0));
        let before = thread_time();
        io.sleep(Duration::from_millis(100)).await;
        let spent = thread_time() - before;
        assert!(spent < Duration::from_millis(20), "100 ms of waiting cost {spent:?} of processor time");
        drop((receive, client));
    });
}

pub fn termination_is_told_to_all_who_wait(mut stage: Stage) {
    let io = stage.io.clone();
    let simulated = stage.is_simulated();
    let host = stage.host.clone();
    // The signal is told for ever, so where tests share a process only the first can see the time before it.
    static TOLD: Mutex<bool> = Mutex::new(false);
    let mut told = TOLD.lock().unwrap();
    stage.runtime.block_on(async {
        let first = io.spawn(io.terminated());
        let dropped = io.timeout(Duration::from_millis(1), io.terminated()).await;
        assert_eq!(dropped.is_some(), *told && !simulated);
        *told |= !simulated;
        io.sleep(Duration::from_millis(1)).await;
        if simulated {
            host.terminate();
        } else {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        }
        first.await;
        io.terminated().await;
    });
}
