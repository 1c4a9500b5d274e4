//! A slice of the simulation that `cargo test` runs; `treering-sim` runs the rest.

use treering_proptests::life::How;
use treering_proptests::{exhaustive, full, images, run};

fn passes(seed: u64) {
    let (result, _) = run::seed(seed, &How::default());
    if let Err(broken) = result {
        panic!("seed {seed}: {broken}");
    }
}

#[test]
fn a_hundred_seeds_hold_their_promises() {
    (1..=100).for_each(passes);
}

#[test]
fn every_crash_point_of_small_traces_leaves_a_prefix() {
    assert_eq!(exhaustive::all(""), 0);
}

#[test]
fn damaged_images_are_survived() {
    assert_eq!(images::run(1, 200), 0);
}

#[test]
fn one_seed_runs_the_same_twice() {
    let events = |_| run::seed(77, &How::default()).1.disk_events;
    assert_eq!(events(1), events(2));
}

#[test]
fn full_stores_go_on() {
    assert_eq!(full::all(1, 3), 0);
}
