//! Fuzz targets, built and run without a nightly compiler or cargo-fuzz.
//!
//! The flags below are what guides libFuzzer (edge counters and compared values) and are stable. What is left out is the
//! address sanitizer, which needs nightly: outside io/ there is no `unsafe` for it to watch. `cargo fuzz run TARGET` works
//! beside this, for those who have it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::program::{cargo, project, succeeds, target};

const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";
const DEFAULT_SECONDS: u64 = 15;

pub fn run(mut arguments: Arguments) -> Result<bool> {
    let seconds = arguments.number("--seconds")?.unwrap_or(DEFAULT_SECONDS);
    let wanted = arguments.words()?;
    let known = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    let host = host_triple()?;
    if !build(&host)? {
        return Ok(false);
    }
    let chosen = if wanted.is_empty() { known } else { wanted };
    let mut failed = 0;
    for name in &chosen {
        failed += u64::from(!fuzz(&host, name, seconds)?);
    }
    println!("{} passed, {failed} failed, 0 skipped", chosen.len() as u64 - failed);
    Ok(failed == 0)
}

fn folder() -> PathBuf {
    project().join("fuzz")
}

/// The programs that the fuzz crate's manifest names.
fn targets() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).context("reading fuzz/Cargo.toml")?;
    let programs = manifest.split("[[bin]]").skip(1);
    Ok(programs.filter_map(|text| text.split("name = \"").nth(1)?.split('"').next().map(str::to_owned)).collect())
}

/// Named so that build scripts and procedural macros, which are built for the host as such, get none of the flags.
fn host_triple() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").output().context("asking rustc for its host")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?.to_owned())
}

fn build(host: &str) -> Result<bool> {
    let mut command = cargo(&["build", "--quiet", "--release", "--bins", "--target", host, "--manifest-path"]);
    command.arg(folder().join("Cargo.toml")).arg("--target-dir").arg(target().join("fuzz")).env("RUSTFLAGS", COVERAGE);
    succeeds(command)
}

/// One target for a while. What it learns is kept under target/, on top of the inputs that fuzz/seeds/TARGET brings.
fn fuzz(host: &str, name: &str, seconds: u64) -> Result<bool> {
    let corpus = target().join("fuzz/corpus").join(name);
    let found = target().join("fuzz/found").join(name);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    let seeds = folder().join("seeds").join(name);
    let said = Command::new(target().join("fuzz").join(host).join("release").join(name))
        .arg(&corpus)
        .args(seeds.is_dir().then_some(&seeds))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"])
        .output()
        .with_context(|| format!("starting the fuzz target {name}"))?;
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    if !said.status.success() {
        println!("{words}\nFAILED  {name}: the input is in {}", found.display());
        return Ok(false);
    }
    println!(
        "ok      {name}: {} runs in {seconds} s",
        words.lines().find_map(|l| l.strip_prefix("stat::number_of_executed_units: ")).unwrap_or("?")
    );
    Ok(true)
}
