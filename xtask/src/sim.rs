//! The simulator: the whole engine on a disk that reorders, tears, lies and dies, by seed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::program::{cargo, succeeds, target};

/// What CI runs; the issue asks for at least 2,000.
pub const SEEDS_IN_CI: u64 = 5_000;
const WORDS: [&str; 5] = ["canaries", "exhaustive", "images", "repairs", "slices"];
const SEEDS_PER_BATCH: u64 = 250;

pub fn run(mut arguments: Arguments) -> Result<bool> {
    let seeds = arguments.number("--seeds")?;
    let first = arguments.number("--seed")?;
    let minutes = arguments.number("--minutes")?;
    let words = arguments.words()?;
    if let Some(other) = words.iter().find(|word| !WORDS.contains(&word.as_str())) {
        bail!("`cargo xtask sim` knows the words {}, not `{other}`", WORDS.join(", "));
    }
    if !build()? {
        return Ok(false);
    }
    match (words.first(), minutes) {
        (Some(word), _) => succeeds(simulator(std::slice::from_ref(word))),
        // A seed without a count is one to look at.
        (None, None) => {
            let count = seeds.unwrap_or(if first.is_some() { 1 } else { SEEDS_IN_CI });
            succeeds(seeds_from(first.unwrap_or(0), count))
        }
        (None, Some(minutes)) => until(Instant::now() + Duration::from_secs(minutes * 60), first.unwrap_or(0)),
    }
}

pub fn build() -> Result<bool> {
    let words = ["build", "--quiet", "--release", "--package", "treering-proptests", "--bins", "--features", "canary"];
    succeeds(cargo(&words))
}

pub fn seeds_from(first: u64, count: u64) -> Command {
    simulator(&["run".into(), "--seeds".into(), count.to_string(), "--first".into(), first.to_string()])
}

pub fn simulator(words: &[String]) -> Command {
    let mut command = Command::new(target().join("release").join("treering-sim"));
    command.args(words);
    command
}

/// Batch after batch until the time is over; the first failing batch ends it.
fn until(end: Instant, mut first: u64) -> Result<bool> {
    while Instant::now() < end {
        if !succeeds(seeds_from(first, SEEDS_PER_BATCH))? {
            return Ok(false);
        }
        first += SEEDS_PER_BATCH;
    }
    println!("next seed: {first}");
    Ok(true)
}
