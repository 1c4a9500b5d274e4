//! `treering store df`: where each byte of a store is.

use crate::commands::Common;
use crate::output::table;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::iec;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::api::SpaceReport;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering store df /var/lib/treering/store

The rows add up to the size of the store, to the byte (--json). What is dead comes back when segments are emptied.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Df {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
}

impl Df {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let space = self.space(common).map_err(|trouble| trouble.doing("store df"))?;
        common.output().result(&space, &[space.writable_bytes.to_string()], || text(&space));
        Ok(ExitCode::SUCCESS)
    }

    fn space(&self, common: &Common) -> Result<SpaceReport, Trouble> {
        match reach(common, self.path.as_deref())? {
            Reach::Served(client) => client.get("/v1/space"),
            Reach::Unserved(path) => {
                with_store(common, &path, Purpose::Look, async |_, store, _| verbs::space(store).await)
            }
        }
    }
}

fn text(space: &SpaceReport) -> String {
    let share = |bytes: u64| format!("{:.1}", bytes as f64 * 100.0 / space.store_bytes.max(1) as f64);
    let row = |name: &str, bytes: u64, note: String| vec![name.into(), iec(bytes), share(bytes), note];
    let rows = [
        row("live data", space.live_bytes, "shown by volumes and snapshots".into()),
        row("branching", space.branching_bytes, "held by deleted snapshots that several are based on".into()),
        row("dead data", space.dead_bytes, "shown by nobody, and the log's own headers".into()),
        row("log's open end", space.open_bytes, String::new()),
        row("maps", space.pages_used_bytes, String::new()),
        row("maps, freed", space.pages_waiting_bytes, "usable after the next checkpoints".into()),
        row("maps, free", space.pages_free_bytes, String::new()),
        row("freed", space.freed_bytes, "usable after the next checkpoints".into()),
        row("free", space.free_bytes, String::new()),
        row("fixed", space.fixed_bytes, "superblocks, and what is too short for a segment".into()),
        row("store", space.store_bytes, String::new()),
    ];
    format!(
        "{}\n{} may be written before the store is full; {} are kept back for checkpoints, recovery and deleting\n",
        table(&["WHAT", "SIZE", "%", ""], &[1, 2], &rows),
        iec(space.writable_bytes),
        iec(space.reserve_bytes),
    )
}
