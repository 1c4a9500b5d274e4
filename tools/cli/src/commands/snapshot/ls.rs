//! `treering snapshot ls`.

use super::{full_names, notes, short_id};
use crate::commands::{Common, DotName};
use crate::output::table;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::{ages, sizes};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::Snapshots;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot ls                all of the store
  treering snapshot ls shop -q        names only
  treering snapshot show shop@NAME    and what it takes";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Ls {
    /// Only of this dot
    dot: Option<DotName>,
}

impl Ls {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let found = self.list(common).map_err(|trouble| trouble.doing("snapshot ls"))?;
        common.output().result(&found, &full_names(&found.snapshots), || {
            let cells = found.snapshots.iter().map(|snapshot| {
                vec![
                    snapshot.full_name(),
                    short_id(snapshot),
                    ages::past(&snapshot.created, snapshot.age_seconds),
                    sizes::iec(snapshot.logical_bytes()),
                    snapshot.volumes.len().to_string(),
                    notes(snapshot),
                ]
            });
            table(&["SNAPSHOT", "ID", "CREATED", "SIZE", "VOLUMES", ""], &[3, 4], &cells.collect::<Vec<_>>())
        });
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, common: &Common) -> Result<Snapshots, Trouble> {
        let dot = self.dot.as_ref();
        match reach(common, None)? {
            Reach::Served(client) => match dot {
                Some(dot) => client.get(&format!("{}/snapshots", dot.path())),
                None => client.get("/v1/snapshots"),
            },
            Reach::Unserved(path) => with_store(common, &path, Purpose::Look, async |io, store, _| {
                verbs::snapshots(io, store, dot.map(|dot| dot.0.as_str()))
            }),
        }
    }
}
