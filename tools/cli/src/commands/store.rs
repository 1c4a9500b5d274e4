//! `treering store …`: verbs on a store itself.

mod check;
mod df;
mod grow;
mod info;
mod init;
mod repair;
mod scrub;

pub use check::check_unserved;
pub use init::make;

use super::Common;
use clap::Subcommand;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;

#[derive(Subcommand)]
pub enum Command {
    /// Make a store in a file or on a block device
    Init(init::Init),
    /// What a store is
    Info(info::Info),
    /// Where the space of a store is
    Df(df::Df),
    /// Take in what the file or device has more than before
    Grow(grow::Grow),
    /// Recompute everything from the roots, and say what is wrong
    Check(check::Check),
    /// Read everything at a steady rate, and verify every checksum
    Scrub(scrub::Scrub),
}

pub fn run(command: Command, common: &Common) -> Result<ExitCode, Trouble> {
    match command {
        Command::Init(command) => command.run(common),
        Command::Info(command) => command.run(common),
        Command::Df(command) => command.run(common),
        Command::Grow(command) => command.run(common),
        Command::Check(command) => command.run(common),
        Command::Scrub(command) => command.run(common),
    }
}
