//! Benches: builds the server and the bench as people get them, then runs the bench.

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::program::{cargo, succeeds};

pub fn run(mut arguments: Arguments) -> Result<bool> {
    match arguments.word().as_deref() {
        Some("peers") => {}
        Some(other) => bail!("there is no bench `{other}`; there is: peers"),
        None => bail!("which bench? there is: peers"),
    }
    if !succeeds(cargo(&["build", "--quiet", "--release", "--package", "treering"]))?
        || !succeeds(cargo(&["build", "--quiet", "--release", "--package", "treering-benches", "--bin", "peers"]))?
    {
        return Ok(false);
    }
    let mut bench = std::process::Command::new(crate::program::target().join("release/peers"));
    bench.args(arguments.rest()).current_dir(crate::program::project());
    if std::env::var_os("TREERING_BIN").is_none() {
        bench.env("TREERING_BIN", crate::program::target().join("release/treering"));
    }
    succeeds(bench)
}
