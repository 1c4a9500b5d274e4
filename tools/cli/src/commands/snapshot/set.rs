//! `treering snapshot set`.

use super::{full_names, notes};
use crate::ages;
use crate::commands::{Common, SnapshotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use treering_nbd_server::control::api::{ConfigureSnapshot, Snapshots};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot set shop@before-migration --protect on
  treering snapshot set shop@before-migration --protect off --ttl 7d
  treering snapshot set shop@before-migration --ttl never";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Set {
    /// DOT@SNAPSHOT, by name or id
    #[arg(value_name = "DOT@SNAPSHOT")]
    name: SnapshotName,
    /// Whether it is refused to delete it
    #[arg(long, value_enum, required_unless_present = "ttl")]
    protect: Option<OnOff>,
    /// Delete it by itself this long from now, as in 7d; or never
    #[arg(long, value_name = "AGE", value_parser = parse_ttl)]
    ttl: Option<Ttl>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ttl {
    Never,
    Seconds(u64),
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "never" => Ok(Ttl::Never),
        age => ages::parse(age).map(Ttl::Seconds),
    }
}

impl Set {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let changed = self.set(common).map_err(|trouble| trouble.doing(format!("snapshot set {}", self.name)))?;
        common.output().result(&changed, &full_names(&changed.snapshots), || {
            let line = |snapshot| match notes(snapshot) {
                none if none.is_empty() => format!("{}  not protected, stays\n", snapshot.full_name()),
                notes => format!("{}  {notes}\n", snapshot.full_name()),
            };
            changed.snapshots.iter().map(line).collect()
        });
        Ok(ExitCode::SUCCESS)
    }

    fn set(&self, common: &Common) -> Result<Snapshots, Trouble> {
        let SnapshotName { dot, at } = &self.name;
        let asked = ConfigureSnapshot {
            protect: self.protect.map(|protect| protect == OnOff::On),
            ttl_seconds: self.ttl.map(|ttl| match ttl {
                Ttl::Never => None,
                Ttl::Seconds(seconds) => Some(seconds),
            }),
        };
        match reach(common, None)? {
            Reach::Served(client) => client.patch(&self.name.path(), &asked),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |io, store, _| {
                verbs::configure_snapshot(io, store, dot, at, &asked).await
            }),
        }
    }
}
