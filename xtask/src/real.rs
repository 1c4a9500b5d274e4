//! Real programs against the real server: builds what the lab needs, then lets it run.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::program::{cargo, project, succeeds, target};

pub fn run(arguments: Arguments) -> Result<bool> {
    let words = arguments.rest();
    if std::env::var_os("TREERING_LAB_SERVER").is_none()
        && !words.iter().any(|w| w == "--list" || w == "--help")
        && !build()?
    {
        return Ok(false);
    }
    succeeds(lab(&words))
}

/// Builds the server, and the canary: the same server with its promise to sync broken on request.
///
/// Only the package itself is named: building the whole workspace at once would unite features, and the server would get
/// the broken variants that only the simulator wants. The canary goes first, since both are built to the same place.
pub fn build() -> Result<bool> {
    let release = ["build", "--quiet", "--release", "--package", "treering"];
    if !succeeds(cargo(&[&release[..], &["--features", "treering-engine/canary"]].concat()))? {
        return Ok(false);
    }
    let canary = target().join("canary");
    fs::create_dir_all(&canary)?;
    fs::copy(target().join("release/treering"), canary.join("treering")).context("setting the canary aside")?;
    succeeds(cargo(&release))
}

pub fn lab(words: &[String]) -> Command {
    let mut command = Command::new(project().join("lab/run"));
    command.args(words).env("TREERING_CANARY_BIN", target().join("canary/treering")).current_dir(project());
    if std::env::var_os("TREERING_BIN").is_none() {
        command.env("TREERING_BIN", target().join("release/treering"));
    }
    command
}
