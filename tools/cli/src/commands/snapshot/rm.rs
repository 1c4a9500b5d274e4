//! `treering snapshot rm`: destroys, so it asks on a terminal and wants `--yes` elsewhere.

use super::full_names;
use crate::commands::confirm::confirm;
use crate::commands::{Common, SnapshotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{SCHEMA, Snapshot, Snapshots};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot rm shop@before-migration --yes
  treering snapshot rm shop@c1f2a934 shop@monday --yes

What only the snapshot held is freed in the background; other snapshots, forks and the dot itself lose nothing, in whatever
order snapshots are deleted. One that is protected (exit 4) or that a client reads (exit 5) is refused.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Rm {
    /// DOT@SNAPSHOT, by name or id; several go one after the other
    #[arg(required = true, value_name = "DOT@SNAPSHOT")]
    names: Vec<SnapshotName>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Rm {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let all: Vec<String> = self.names.iter().map(SnapshotName::to_string).collect();
        let all = all.join(" ");
        let named = |trouble: Trouble| trouble.doing(format!("snapshot rm {all}"));
        if !self.yes {
            confirm(&format!("Delete {all} and the data that nothing else holds?")).map_err(named)?;
        }
        let snapshots = self.remove(common).map_err(named)?;
        let removed = Snapshots { schema: SCHEMA, snapshots };
        common.output().result(&removed, &full_names(&removed.snapshots), || {
            removed.snapshots.iter().map(|snapshot| format!("removed {}\n", snapshot.full_name())).collect()
        });
        Ok(ExitCode::SUCCESS)
    }

    fn remove(&self, common: &Common) -> Result<Vec<Snapshot>, Trouble> {
        let mut removed = Vec::new();
        match reach(common, None)? {
            Reach::Served(client) => {
                for name in &self.names {
                    removed.append(&mut client.delete::<Snapshots>(&name.path())?.snapshots);
                }
            }
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |io, store, _| {
                for SnapshotName { dot, at } in &self.names {
                    removed.append(&mut verbs::delete_snapshot(io, store, &[], dot, at).await?.snapshots);
                }
                Ok(())
            })?,
        }
        Ok(removed)
    }
}
