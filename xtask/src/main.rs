//! The one door for developers: `cargo xtask VERB`. CI goes through the same door.
//!
//! Each verb is one file. A verb only starts other programs (cargo, the lab, the simulator, fio) and reports what they said;
//! what is true of the engine is decided there, not here.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod check;
mod fuzz;
mod outcome;
mod program;
mod real;
mod sim;
mod test;

use std::process::ExitCode;

use arguments::Arguments;

const HELP: &str = "\
cargo xtask VERB

  check                          format, clippy, and no `unsafe` outside io/
  test [BLOCK...]                everything CI runs, with a time budget per block; or only the blocks named
  test --list                    the blocks and their budgets
  sim [--seeds N] [--seed S] [--minutes M]
                                 the whole engine on a simulated, failing disk: N seeds from S on, or until M minutes are over
  sim canaries                   engines with one rule broken each, all of which the simulator must reject
  sim slices                     large versions, swept a leaf at a time with crashes between the slices
  sim exhaustive                 small traces: every crash point, every subset of unsynced sectors
  sim images                     damaged stores, checksums mended or not
  sim repairs                    damaged metadata, repaired and compared
  fuzz [TARGET...] [--seconds N] the fuzz targets, each for N seconds (15)
  real [BLOCK...] [--only TEXT] [--keep] [--list]
                                 real programs against the server: see lab/README.md
  bench peers [--quick] [--rounds N] [--row NAME]... [--peer NAME]...
                                 the table of speed, ours beside every peer; writes benches/results/
  bench history [--quick] [--case NAME]...
                                 what snapshots cost, with ten thousand of them and under load; writes benches/results/

What the tests need from outside is installed by tools/install-test-needs.
";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_command_line();
    let verb = arguments.word();
    let done = match verb.as_deref() {
        Some("check") => check::run(arguments),
        Some("test") => test::run(arguments),
        Some("sim") => sim::run(arguments),
        Some("fuzz") => fuzz::run(arguments),
        Some("real") => real::run(arguments),
        Some("bench") => bench::run(arguments),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(other) => Err(anyhow::anyhow!("there is no verb `{other}`; `cargo xtask help` lists them")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
