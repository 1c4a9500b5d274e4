//! Benches: builds the server and the bench as people get them, then runs the bench.

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::program::{cargo, succeeds};

const BENCHES: [&str; 2] = ["peers", "history"];

pub fn run(mut arguments: Arguments) -> Result<bool> {
    let bench = match arguments.word() {
        Some(word) if BENCHES.contains(&word.as_str()) => word,
        Some(other) => bail!("there is no bench `{other}`; there are: {}", BENCHES.join(", ")),
        None => bail!("which bench? there are: {}", BENCHES.join(", ")),
    };
    if !succeeds(cargo(&["build", "--quiet", "--release", "--package", "treering"]))?
        || !succeeds(cargo(&["build", "--quiet", "--release", "--package", "treering-benches", "--bins"]))?
    {
        return Ok(false);
    }
    let mut bench = std::process::Command::new(crate::program::target().join("release").join(&bench));
    bench.args(arguments.rest()).current_dir(crate::program::project());
    if std::env::var_os("TREERING_BIN").is_none() {
        bench.env("TREERING_BIN", crate::program::target().join("release/treering"));
    }
    succeeds(bench)
}
