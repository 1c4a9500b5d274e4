//! The command line: what all commands share, and the way to each. One command, one file.

mod bench;
mod demo;
mod doctor;
mod init;
mod ls;
mod serve;
mod status;
mod store;
mod version;
mod volume;

use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::{Kind, Trouble};
use treering_nbd_server::reference::Reference;

const EXAMPLES: &str = "\
Examples:
  treering store init /var/lib/treering/store --size 64G     make a store
  export TREERING_STORE=/var/lib/treering/store
  treering init shop --volume pg=50G --volume redis=5G       a dot with two volumes
  treering serve                                             serve them over NBD, until SIGTERM
  treering status                                            in another terminal
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
    /// Add, list, resize and remove volumes
    #[command(subcommand)]
    Volume(volume::Command),
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
    /// The version of this program
    Version(version::Version),
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let common = &arguments.common;
    match arguments.command {
        Command::Store(command) => store::run(command, common),
        Command::Init(command) => command.run(common),
        Command::Ls(command) => command.run(common),
        Command::Volume(command) => volume::run(command, common),
        Command::Serve(command) => command.run(common),
        Command::Status(command) => command.run(common),
        Command::Demo(command) => command.run(common),
        Command::Doctor(command) => command.run(common),
        Command::Bench(command) => command.run(common),
        Command::Version(command) => command.run(common),
    }
}

/// `DOT.VOLUME` on the command line.
#[derive(Debug, Clone)]
struct VolumeName {
    dot: String,
    volume: String,
}

impl std::fmt::Display for VolumeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.dot, self.volume)
    }
}

impl std::str::FromStr for VolumeName {
    type Err = String;

    fn from_str(text: &str) -> Result<VolumeName, String> {
        let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
        if reference.namespace.is_some() || reference.revision.is_some() {
            return Err(format!("{text} names a namespace or a point in history; a volume is DOT.VOLUME"));
        }
        let volume =
            reference.volume.ok_or_else(|| format!("{text} is a dot; a volume is DOT.VOLUME, as in {text}.main"))?;
        Ok(VolumeName { dot: reference.dot.to_string(), volume: volume.to_string() })
    }
}

impl VolumeName {
    /// Its place at the control socket.
    fn path(&self) -> String {
        format!("/v1/dots/{}/volumes/{}", self.dot, self.volume)
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
