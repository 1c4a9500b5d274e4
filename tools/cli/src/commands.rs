//! The command line: what all commands share, and the way to each. One command, one file.

mod bench;
mod confirm;
mod demo;
mod doctor;
mod fork;
mod init;
mod ls;
mod man;
mod names;
mod reset;
mod rm;
mod serve;
mod show;
mod snapshot;
mod status;
mod store;
mod version;
mod volume;

use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use names::{DotName, SnapshotName, VolumeName};
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::{Kind, Trouble};

const EXAMPLES: &str = "\
Examples:
  treering store init /var/lib/treering/store --size 64G     make a store
  export TREERING_STORE=/var/lib/treering/store
  treering init shop --volume pg=50G --volume redis=5G       a dot with two volumes
  treering serve                                             serve them over NBD, until SIGTERM
  treering status                                            in another terminal
  treering snapshot create shop --name before-migration      all its volumes at one instant, under load
  treering fork shop@before-migration try                    a writable copy of it, at once
  treering reset shop@before-migration                       back to it; what was is kept for a week
  treering demo                                              see it survive kill -9; needs nothing

Exit codes:
  0 done            3 not found   6 no space       9 remote unreachable
  1 other           4 conflict    7 damage        10 timed out
  2 usage           5 busy        8 not allowed   11 no daemon

Logs go to standard error; TREERING_LOG=info (or debug) shows more of them.";

/// Block-device volumes in one log-structured store, served over NBD.
#[derive(Parser)]
#[command(name = "treering", version, after_help = EXAMPLES, max_term_width = 110, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
pub struct Common {
    /// The store: a file or block device
    #[arg(long, global = true, env = "TREERING_STORE", value_name = "PATH")]
    pub store: Option<PathBuf>,
    /// The server's control socket, if it is not where the store's path leads to
    #[arg(long, global = true, env = "TREERING_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Folder for the memory that outlives the server: shared memory of this host if not given
    #[arg(long, global = true, env = "TREERING_ARENA_DIR", value_name = "DIR")]
    pub arena_dir: Option<PathBuf>,
    /// Print one JSON document (errors too, on standard error)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print names only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Common {
    pub fn store(&self) -> Result<PathBuf, Trouble> {
        self.store.clone().ok_or_else(|| {
            Trouble::new(Kind::Usage, "no store is named").fix("treering --store PATH …, or export TREERING_STORE=PATH")
        })
    }

    /// The store as an argument names it, or else the common one.
    pub fn store_or(&self, path: Option<&PathBuf>) -> Result<PathBuf, Trouble> {
        path.map_or_else(|| self.store(), |path| Ok(path.clone()))
    }

    pub fn output(&self) -> Output {
        Output { json: self.json, quiet: self.quiet }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a store, look at it, check it
    #[command(subcommand)]
    Store(store::Command),
    /// Make a dot: a named group of volumes
    Init(init::Init),
    /// List dots
    Ls(ls::Ls),
    /// What a dot holds, and what it takes
    Show(show::Show),
    /// Remove a dot with all that is in it
    Rm(rm::Rm),
    /// Add, list, resize and remove volumes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Make, list and delete snapshots of dots
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Make writable copies of a dot as it is in a snapshot
    Fork(fork::Fork),
    /// Make a dot what it was in a snapshot
    Reset(reset::Reset),
    /// Serve all volumes over NBD, until SIGTERM
    Serve(serve::Serve),
    /// How the server does
    Status(status::Status),
    /// Kill a server under load and see that nothing acknowledged is lost
    Demo(demo::Demo),
    /// What this machine allows, and what to do about the rest
    Doctor(doctor::Doctor),
    /// A quick measurement through NBD
    Bench(bench::Bench),
    /// Write the manual pages of all commands
    Man(man::Man),
    /// The version of this program
    Version(version::Version),
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let common = &arguments.common;
    match arguments.command {
        Command::Store(command) => store::run(command, common),
        Command::Init(command) => command.run(common),
        Command::Ls(command) => command.run(common),
        Command::Show(command) => command.run(common),
        Command::Rm(command) => command.run(common),
        Command::Volume(command) => volume::run(command, common),
        Command::Snapshot(command) => snapshot::run(command, common),
        Command::Fork(command) => command.run(common),
        Command::Reset(command) => command.run(common),
        Command::Serve(command) => command.run(common),
        Command::Status(command) => command.run(common),
        Command::Demo(command) => command.run(common),
        Command::Doctor(command) => command.run(common),
        Command::Bench(command) => command.run(common),
        Command::Man(command) => command.run(common),
        Command::Version(command) => command.run(common),
    }
}

/// Values of `--compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum CompressionArgument {
    #[default]
    Auto,
    Lz4,
    Off,
}

impl From<CompressionArgument> for treering_nbd_server::control::api::Compression {
    fn from(argument: CompressionArgument) -> Self {
        match argument {
            CompressionArgument::Auto => Self::Auto,
            CompressionArgument::Lz4 => Self::Lz4,
            CompressionArgument::Off => Self::Off,
        }
    }
}
