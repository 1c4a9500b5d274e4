//! `treering-sim`: the simulated store under clients, crashes and faults.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use treering_proptests::life::How;
use treering_proptests::run::{self, Seeds};

/// Runs the whole engine on a simulated machine, crashes it, and compares what is left with a model.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many seeds
    Run {
        #[arg(long, default_value_t = 2000)]
        seeds: u64,
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// Stop after this time; what is left counts as skipped
        #[arg(long)]
        minutes: Option<f64>,
        /// Operations per life, instead of what the seed draws
        #[arg(long)]
        ops: Option<u64>,
    },
    /// Small traces with every crash point and every subset of unsynced sectors
    Exhaustive {
        /// Only those whose name contains this
        #[arg(default_value = "")]
        only: String,
    },
    /// Large versions, swept a leaf at a time with crashes between
    Slices {
        #[arg(long, default_value_t = 1)]
        first: u64,
        #[arg(long, default_value_t = 150)]
        seeds: u64,
    },
    /// Damaged stores, checksums mended or not: open, read, check
    Images {
        #[arg(long, default_value_t = 1)]
        first: u64,
        #[arg(long, default_value_t = 1000)]
        mutations: u64,
    },
    /// Damaged metadata: repair, compare with what was there
    Repairs {
        #[arg(long, default_value_t = 1)]
        first: u64,
        #[arg(long, default_value_t = 300)]
        seeds: u64,
    },
    /// Stores that are filled to the last page, block and byte
    Full {
        #[arg(long, default_value_t = 1)]
        first: u64,
        #[arg(long, default_value_t = 30)]
        stores: u64,
    },
    /// Full stores that hold their writers
    Held {
        #[arg(long, default_value_t = 1)]
        first: u64,
        #[arg(long, default_value_t = 30)]
        stores: u64,
    },
    /// Deliberately broken engines: each must be rejected
    #[cfg(feature = "canary")]
    Canaries {
        /// Only those whose name contains this
        #[arg(default_value = "")]
        only: String,
    },
    /// One seed
    One {
        seed: u64,
        #[arg(long)]
        trace: bool,
        #[arg(long)]
        ops: Option<u64>,
    },
}

fn main() -> ExitCode {
    let failed = match Arguments::parse().command {
        Command::Run { seeds, first, minutes, ops } => run::seeds(&Seeds {
            first,
            count: seeds,
            time: minutes.map(|m| Duration::from_secs_f64(m * 60.0)),
            how: How { operations: ops, ..How::default() },
        }),
        Command::Exhaustive { only } => treering_proptests::exhaustive::all(&only),
        Command::Slices { first, seeds } => treering_proptests::slices::all(first, seeds),
        Command::Images { first, mutations } => treering_proptests::images::run(first, mutations),
        Command::Repairs { first, seeds } => treering_proptests::repairs::run(first, seeds),
        Command::Full { first, stores } => treering_proptests::full::all(first, stores),
        Command::Held { first, stores } => treering_proptests::held::all(first, stores),
        #[cfg(feature = "canary")]
        Command::Canaries { only } => treering_proptests::canaries::all(&only),
        Command::One { seed, trace, ops } => run::seeds(&Seeds {
            first: seed,
            count: 1,
            time: None,
            how: How { operations: ops, trace, ..How::default() },
        }),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
