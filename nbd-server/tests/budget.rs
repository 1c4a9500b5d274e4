//! The memory that requests hold together: bounded, fair to small and to large.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{MIB, simulate};
use treering_nbd_server::session::Budget;

const LIMIT: u64 = 64 * MIB; // 8 MiB of it are the reserve
const SMALL: u64 = 64 << 10;

#[test]
fn large_requests_leave_the_reserve_to_small_ones() {
    let budget = Budget::new(LIMIT);
    let _first = budget.try_acquire(32 * MIB).expect("there is room");
    let second = budget.try_acquire(24 * MIB).expect("up to the reserve");
    assert!(budget.try_acquire(MIB).is_none(), "the reserve is not for large requests");
    let small: Vec<_> = std::iter::from_fn(|| budget.try_acquire(SMALL)).collect();
    assert_eq!((small.len() as u64 * SMALL, budget.used()), (8 * MIB, LIMIT));
    drop(second);
    assert_eq!(budget.used(), 40 * MIB);
}

#[test]
fn large_requests_count_what_small_ones_hold() {
    let budget = Budget::new(LIMIT);
    let small: Vec<_> = (0..600).map(|_| budget.try_acquire(SMALL).expect("there is room")).collect();
    assert!(budget.try_acquire(32 * MIB).is_none(), "small and large together would pass the limit");
    drop(small);
    assert!(budget.try_acquire(32 * MIB).is_some());
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_waiting_large_request_is_overtaken_neither_by_another_nor_by_small_ones_without_end() {
    simulate(40, |io| async move {
        let budget = Budget::new(LIMIT);
        let held = budget.try_acquire(40 * MIB).expect("there is room");
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiting: Vec<_> = [32 * MIB, MIB]
            .into_iter()
            .map(|bytes| {
                let (budget, order) = (budget.clone(), order.clone());
                io.spawn(async move {
                    let permit = budget.acquire(bytes).await;
                    order.borrow_mut().push(bytes);
                    permit
                })
            })
            .collect();
        io.sleep(Duration::from_millis(1)).await;
        assert!(budget.is_contended());
        assert!(budget.try_acquire(MIB).is_none(), "it would overtake those who wait");
        let small: Vec<_> = std::iter::from_fn(|| budget.try_acquire(SMALL)).collect();
        assert_eq!(small.len() as u64 * SMALL, 8 * MIB, "while a large one waits, small ones have the reserve only");
        drop(held);
        for task in waiting {
            task.await;
        }
        assert_eq!(*order.borrow(), [32 * MIB, MIB]);
        assert!(!budget.is_contended());
        drop(small);
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn a_large_request_that_waited_still_counts_what_small_ones_hold() {
    simulate(42, |io| async move {
        let budget = Budget::new(LIMIT);
        let mut small: Vec<_> = (0..600).map(|_| budget.try_acquire(SMALL).expect("there is room")).collect();
        let large = io.spawn({
            let budget = budget.clone();
            async move { budget.acquire(32 * MIB).await }
        });
        while !large.is_finished() {
            small.pop();
            io.sleep(Duration::from_millis(1)).await;
            assert!(budget.used() <= LIMIT, "{} bytes are held", budget.used());
        }
        assert!(small.len() as u64 * SMALL > 30 * MIB, "it waited longer than needed");
    });
}

#[test]
fn one_who_gives_up_waiting_does_not_block_those_behind() {
    simulate(41, |io| async move {
        let budget = Budget::new(LIMIT);
        let held = budget.try_acquire(40 * MIB).expect("there is room");
        let impatient = io.timeout(Duration::from_millis(1), budget.acquire(32 * MIB)).await;
        assert!(impatient.is_none());
        assert!(!budget.is_contended());
        assert!(budget.try_acquire(8 * MIB).is_some());
        drop(held);
    });
}

#[test]
fn writes_that_are_held_leave_room_for_reads_and_large_ones_for_small_ones() {
    simulate(43, |io| async move {
        let budget = Budget::new(LIMIT);
        let mut held: Vec<_> = std::iter::from_fn(|| budget.try_acquire_to_write(4 * MIB)).collect();
        assert_eq!(held.len() as u64 * 4 * MIB, 40 * MIB, "five eighths");
        let next = io.spawn({
            let budget = budget.clone();
            async move { budget.acquire_to_write(4 * MIB).await }
        });
        io.sleep(Duration::from_millis(1)).await;
        assert!(
            budget.is_contended() && budget.try_acquire_to_write(MIB).is_none(),
            "it would overtake the one that waits"
        );
        let small: Vec<_> = std::iter::from_fn(|| budget.try_acquire_to_write(SMALL)).collect();
        assert_eq!(small.len() as u64 * SMALL, 8 * MIB, "an eighth is for small writes");
        // Reads of any size go on, though writes of both sizes wait.
        let large = budget.try_acquire(8 * MIB).expect("beside the writes");
        assert!(budget.try_acquire(SMALL).is_some());
        drop(large);
        held.pop();
        let next = next.await;
        assert!(!budget.is_contended());
        drop((held, next, small));
        assert_eq!(budget.used(), 0);
        let small: Vec<_> = std::iter::from_fn(|| budget.try_acquire_to_write(SMALL)).collect();
        assert_eq!(small.len() as u64 * SMALL, 48 * MIB, "without large ones, small ones have three quarters");
        drop(small);
        let given_up = io.timeout(Duration::from_millis(1), budget.acquire_to_write(LIMIT)).await;
        assert!(given_up.is_none() && budget.try_acquire_to_write(32 * MIB).is_some());
    });
}

#[test]
fn the_largest_write_passes_the_least_budget() {
    let budget = Budget::new(Budget::MINIMUM);
    assert!(budget.try_acquire_to_write(32 * MIB).is_some());
}
