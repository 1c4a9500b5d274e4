//! Many seeds: run each, catch what panics, and print what a reader needs to run a failed one again.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use crate::coverage::Coverage;
use crate::life::{self, How};

/// So many seeds should have met everything that is counted.
const SEEDS_THAT_MEET_ALL: u64 = 1_000;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of the engine quiet and remembers where they came from.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        let text = format!("panic: {info}");
        LAST_PANIC.with(|last| *last.borrow_mut() = text);
    }));
}

/// Runs something that may panic; a panic is a broken promise.
pub fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| LAST_PANIC.with(|last| last.borrow().clone()))
}

/// Runs one seed.
pub fn seed(seed: u64, how: &How) -> (Result<(), String>, Coverage) {
    match guarded(|| life::run(seed, how)) {
        Ok((result, coverage)) => (result, coverage),
        Err(panic) => (Err(panic), Coverage { seeds: 1, ..Coverage::default() }),
    }
}

pub struct Seeds {
    pub first: u64,
    pub count: u64,
    pub time: Option<Duration>,
    pub how: How,
}

/// Runs all, prints, and gives how many failed.
pub fn seeds(seeds: &Seeds) -> u64 {
    catch_panics();
    let began = Instant::now();
    let mut total = Coverage::default();
    let mut failed = 0;
    let mut skipped = 0;
    for number in seeds.first..seeds.first + seeds.count {
        if seeds.time.is_some_and(|limit| began.elapsed() > limit) {
            skipped = seeds.first + seeds.count - number;
            break;
        }
        let how = How { sample_image: number.is_multiple_of(8), ..seeds.how.clone() };
        let (result, coverage) = seed(number, &how);
        total.add(&coverage);
        if let Err(broken) = result {
            failed += 1;
            println!("seed {number} FAILED: {broken}");
            println!("  again: treering-sim one {number} --trace{}\n", operations_flag(&how));
        }
    }
    total.print();
    if total.seeds >= SEEDS_THAT_MEET_ALL {
        for what in total.missing() {
            failed += 1;
            println!("FAILED: in {} seeds there were no {what}", total.seeds);
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{:.1} s, {:.1} seeds a second", took, total.seeds as f64 / took);
    println!("{} passed, {failed} failed, {skipped} skipped", total.seeds.saturating_sub(failed));
    failed
}

fn operations_flag(how: &How) -> String {
    how.operations.map_or(String::new(), |n| format!(" --ops {n}"))
}
