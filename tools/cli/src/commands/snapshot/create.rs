//! `treering snapshot create`.

use super::{full_names, notes, short_id};
use crate::ages;
use crate::commands::{Common, DotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{NewSnapshot, Snapshot, Snapshots};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot create shop                                  named after the time
  treering snapshot create shop --name before-migration --protect
  treering snapshot create shop blog --ttl 7d                    two dots at one instant; gone after a week

What was acknowledged before the command began is in it; nothing is copied, and nobody is stopped. It is durable when the
command returns, and at once an export for reading: DOT.VOLUME@SNAPSHOT. What a filesystem has not written yet is not in it,
as after a power cut: mount a fork of it (treering fork), so that the journal can be replayed.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Create {
    /// Dots to freeze at one instant
    #[arg(required = true, value_name = "DOT")]
    dots: Vec<DotName>,
    /// Name of the snapshot, the same in each dot; s- and the time if not given
    #[arg(long)]
    name: Option<String>,
    /// Refuse to delete it until it is unprotected
    #[arg(long)]
    protect: bool,
    /// Delete it by itself after this time, as in 7d
    #[arg(long, value_name = "AGE", value_parser = ages::parse)]
    ttl: Option<u64>,
}

impl Create {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let dots: Vec<String> = self.dots.iter().map(DotName::to_string).collect();
        let named = |trouble: Trouble| trouble.doing(format!("snapshot create {}", dots.join(" ")));
        let made = self.create(common, &dots).map_err(named)?;
        common.output().result(&made, &full_names(&made.snapshots), || made.snapshots.iter().map(line).collect());
        Ok(ExitCode::SUCCESS)
    }

    fn create(&self, common: &Common, dots: &[String]) -> Result<Snapshots, Trouble> {
        let asked =
            NewSnapshot { dots: dots.to_vec(), name: self.name.clone(), protect: self.protect, ttl_seconds: self.ttl };
        match reach(common, None)? {
            Reach::Served(client) => client.post("/v1/snapshots", &asked),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |io, store, _| {
                verbs::create_snapshot(io, store, &asked).await
            }),
        }
    }
}

fn line(snapshot: &Snapshot) -> String {
    let volumes = match snapshot.volumes.len() {
        1 => "1 volume".into(),
        several => format!("{several} volumes, one instant"),
    };
    let notes = match notes(snapshot) {
        none if none.is_empty() => none,
        notes => format!(", {notes}"),
    };
    format!("{}  {}  {volumes}{notes}\n", snapshot.full_name(), short_id(snapshot))
}
