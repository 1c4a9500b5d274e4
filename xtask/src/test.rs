//! Everything CI runs, block by block, each with a time budget; a table at the end says what it came to.
//!
//! A block over its budget is pointed out but does not fail: machines differ. A failed build ends the run, since nothing after
//! it would mean anything; every other failure is counted and the run goes on.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::outcome::Counts;
use crate::program::{cargo, heard};
use crate::{real, sim};

struct Block {
    name: &'static str,
    budget_seconds: u64,
    what: &'static str,
    run: fn() -> Result<Counts>,
}

const BLOCKS: &[Block] = &[
    Block { name: "build", budget_seconds: 240, what: "the server in release, its canary, the simulator", run: build },
    Block {
        name: "check",
        budget_seconds: 120,
        what: "format, clippy, no unsafe outside io/",
        run: || ours(&["check"]),
    },
    Block { name: "unit", budget_seconds: 460, what: "unit, conformance, model and property tests", run: unit },
    Block {
        name: "sim",
        budget_seconds: 240,
        what: "the engine on a simulated disk: seeds with history, small traces from every side, damaged images, repairs",
        run: simulate,
    },
    Block {
        name: "canaries",
        budget_seconds: 180,
        what: "broken variants that the simulator must reject",
        run: canaries,
    },
    Block {
        name: "fuzz",
        budget_seconds: 210,
        what: "every fuzz target for 15 s",
        run: || ours(&["fuzz", "--seconds", "15"]),
    },
    Block {
        name: "clients",
        budget_seconds: 60,
        what: "nbdinfo, nbdcopy, nbdsh, qemu-img, qemu-io, fio",
        run: || lab("clients"),
    },
    Block { name: "hostile", budget_seconds: 15, what: "clients that lie, stall or vanish", run: || lab("hostile") },
    Block { name: "filesystems", budget_seconds: 30, what: "ext4 and XFS of this kernel", run: || lab("filesystems") },
    Block {
        name: "postgres",
        budget_seconds: 200,
        what: "PostgreSQL through 20 kills of the server",
        run: || lab("postgres"),
    },
    Block {
        name: "groups",
        budget_seconds: 330,
        what: "snapshots of several volumes under load, and what real programs find in them",
        run: || lab("groups"),
    },
    Block {
        name: "full",
        budget_seconds: 60,
        what: "a store filled to the last byte, and its writers going on",
        run: || lab("full"),
    },
    Block { name: "kernel", budget_seconds: 60, what: "the kernel's own client, in a guest", run: || lab("kernel") },
    Block {
        name: "powercut",
        budget_seconds: 150,
        what: "power cuts replayed from the disk's log, and the canary",
        run: || lab("powercut"),
    },
    Block { name: "demo", budget_seconds: 20, what: "the demo as a user without privileges", run: || lab("demo") },
];

pub fn run(mut arguments: Arguments) -> Result<bool> {
    let list = arguments.flag("--list");
    let wanted = arguments.words()?;
    if let Some(unknown) = wanted.iter().find(|name| BLOCKS.iter().all(|block| block.name != **name)) {
        bail!("there is no block `{unknown}`; `cargo xtask test --list` lists them");
    }
    let chosen: Vec<_> =
        BLOCKS.iter().filter(|block| wanted.is_empty() || wanted.iter().any(|name| name == block.name)).collect();
    if list {
        for block in &chosen {
            println!("{:<12} {:>4} s  {}", block.name, block.budget_seconds, block.what);
        }
        return Ok(true);
    }
    let results = play(&chosen);
    Ok(report(&chosen, &results))
}

fn play(blocks: &[&Block]) -> Vec<(Counts, Duration)> {
    let mut results = Vec::new();
    for block in blocks {
        println!("\n━━ {}: {} (budget {} s)", block.name, block.what, block.budget_seconds);
        let started = Instant::now();
        let counts = (block.run)().unwrap_or_else(|error| {
            println!("error: {}: {error:#}", block.name);
            Counts { failed: 1, ..Counts::default() }
        });
        results.push((counts, started.elapsed()));
        if block.name == "build" && counts.failed > 0 {
            println!("the build failed: nothing after it was run");
            break;
        }
    }
    results
}

fn report(blocks: &[&Block], results: &[(Counts, Duration)]) -> bool {
    println!("\n{:<12} {:>8} {:>8}   {:>6} {:>6} {:>7}", "block", "seconds", "budget", "passed", "failed", "skipped");
    let mut total = Counts::default();
    let mut seconds = 0.0;
    for (block, (counts, took)) in blocks.iter().zip(results) {
        let took = took.as_secs_f64();
        let over = if took > block.budget_seconds as f64 { "  over its budget" } else { "" };
        let Counts { passed, failed, skipped } = counts;
        println!(
            "{:<12} {took:>8.1} {:>8}   {passed:>6} {failed:>6} {skipped:>7}{over}",
            block.name, block.budget_seconds
        );
        total += *counts;
        seconds += took;
    }
    for block in &blocks[results.len()..] {
        println!("{:<12} {:>8} {:>8}   not run", block.name, "–", block.budget_seconds);
    }
    let budget: u64 = blocks.iter().map(|block| block.budget_seconds).sum();
    println!("{:<12} {seconds:>8.1} {budget:>8}", "total");
    println!("{total}");
    total.failed == 0
}

fn build() -> Result<Counts> {
    let built = real::build()? && sim::build()?;
    Ok(Counts::heard(built, &[]))
}

fn unit() -> Result<Counts> {
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|said| said.status.success());
    if !nextest {
        return counted(cargo(&["test", "--workspace", "--no-fail-fast"]));
    }
    let mut counts = counted(cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "slow"]))?;
    counts += counted(cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
    Ok(counts)
}

fn simulate() -> Result<Counts> {
    let mut counts = counted(sim::seeds_from(0, sim::SEEDS_IN_CI))?;
    for word in ["exhaustive", "images", "slices", "repairs", "full", "held"] {
        counts += counted(sim::simulator(&[word.into()]))?;
    }
    Ok(counts)
}

fn canaries() -> Result<Counts> {
    counted(sim::simulator(&["canaries".into()]))
}

fn lab(block: &str) -> Result<Counts> {
    counted(real::lab(&[block.to_owned()]))
}

/// Another verb of this program, as its own process so that its words can be counted.
fn ours(words: &[&str]) -> Result<Counts> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words);
    counted(command)
}

fn counted(command: Command) -> Result<Counts> {
    let (success, lines) = heard(command)?;
    Ok(Counts::heard(success, &lines))
}
