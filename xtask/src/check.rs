//! What must hold before anything runs: one format, no warnings, and `unsafe` in one room only.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::program::{cargo, project, succeeds};

/// The only room that may hold `unsafe`.
const UNSAFE_ROOM: &str = "io";

pub fn run(arguments: Arguments) -> Result<bool> {
    arguments.words()?;
    let formatted = succeeds(cargo(&["fmt", "--all", "--check"]))?;
    let warned =
        succeeds(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    let safe = unsafe_stays_in_its_room()?;
    for (what, good) in [("format", formatted), ("clippy", warned), ("no unsafe outside io/", safe)] {
        println!("{}  {what}", if good { "ok    " } else { "FAILED" });
    }
    let good = [formatted, warned, safe].iter().filter(|good| **good).count();
    println!("{good} passed, {} failed, 0 skipped", 3 - good);
    Ok(good == 3)
}

/// Every crate but one must forbid `unsafe` at each of its roots, so that the compiler keeps the promise.
fn unsafe_stays_in_its_room() -> Result<bool> {
    let mut good = true;
    for package in members()? {
        if package.ends_with(UNSAFE_ROOM) {
            continue;
        }
        for root in roots(&package) {
            let text = fs::read_to_string(&root).with_context(|| format!("reading {}", root.display()))?;
            if !text.contains("#![forbid(unsafe_code)]") {
                println!("{}: a root outside {UNSAFE_ROOM}/ must say #![forbid(unsafe_code)]", root.display());
                good = false;
            }
        }
    }
    Ok(good)
}

fn members() -> Result<Vec<PathBuf>> {
    let manifest = fs::read_to_string(project().join("Cargo.toml")).context("reading the workspace's Cargo.toml")?;
    let list = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("no `members` in Cargo.toml")?
        .0;
    Ok(list
        .split(',')
        .map(|m| m.trim().trim_matches('"'))
        .filter(|m| !m.is_empty())
        .map(|m| project().join(m))
        .collect())
}

/// The files that the compiler starts from: libraries, programs, benches. (Integration tests may do as they need.)
fn roots(package: &Path) -> Vec<PathBuf> {
    let mut roots: Vec<_> = ["src/lib.rs", "src/main.rs", "build.rs"].iter().map(|name| package.join(name)).collect();
    for folder in ["src/bin", "benches"] {
        let files = fs::read_dir(package.join(folder)).into_iter().flatten().flatten();
        roots.extend(files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "rs")));
    }
    roots.retain(|root| root.exists());
    roots
}
