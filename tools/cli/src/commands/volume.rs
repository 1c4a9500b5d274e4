//! `treering volume …`: verbs on volumes of a dot.

mod add;
mod ls;
mod resize;
mod rm;

use super::Common;
use clap::Subcommand;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;

#[derive(Subcommand)]
pub enum Command {
    /// Add a volume to a dot
    Add(add::Add),
    /// List volumes
    Ls(ls::Ls),
    /// Change the size of a volume
    Resize(resize::Resize),
    /// Remove a volume and all that is on it
    Rm(rm::Rm),
}

pub fn run(command: Command, common: &Common) -> Result<ExitCode, Trouble> {
    match command {
        Command::Add(command) => command.run(common),
        Command::Ls(command) => command.run(common),
        Command::Resize(command) => command.run(common),
        Command::Rm(command) => command.run(common),
    }
}
