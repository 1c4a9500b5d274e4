//! `treering snapshot show`.

use super::{full_names, notes, short_id};
use crate::ages;
use crate::commands::show::sizes_table;
use crate::commands::{Common, SnapshotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::SnapshotShow;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot show shop@before-migration
  treering snapshot show shop@c1f2a934 --json | jq .sizes.exclusive_bytes

LOGICAL is the size that clients see, REFERENCED what is stored of it, EXCLUSIVE what deleting the snapshot would free, DIRTY
what was written since the snapshot before it.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// DOT@SNAPSHOT, by name or id
    #[arg(value_name = "DOT@SNAPSHOT")]
    name: SnapshotName,
}

impl Show {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let shown = self.show(common).map_err(|trouble| trouble.doing(format!("snapshot show {}", self.name)))?;
        common.output().result(&shown, &full_names(std::slice::from_ref(&shown.snapshot)), || text(&shown));
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, common: &Common) -> Result<SnapshotShow, Trouble> {
        let SnapshotName { dot, at } = &self.name;
        match reach(common, None)? {
            Reach::Served(client) => client.get(&self.name.path()),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Look, async |io, store, _| {
                verbs::show_snapshot(io, store, dot, at).await
            }),
        }
    }
}

fn text(shown: &SnapshotShow) -> String {
    let snapshot = &shown.snapshot;
    let created = ages::past(&snapshot.created, snapshot.age_seconds);
    let notes = match notes(snapshot) {
        none if none.is_empty() => none,
        notes => format!("  {notes}"),
    };
    let head = format!("{}  {}  {created}{notes}\n", snapshot.full_name(), short_id(snapshot));
    head + &sizes_table(&shown.volumes, &shown.sizes)
}
