//! `treering store scrub`: every checksum verified, at a rate that leaves the disk to others.

use crate::commands::Common;
use crate::progress::Progress;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::{self, iec};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::api::{Damaged, ScrubRequest, ScrubResult};
use treering_nbd_server::control::{Kind, Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering store scrub                    at 64 MiB/s
  treering store scrub --rate 1G --json

Reads all data and maps from the disk, past every cache, those of snapshots too, each once. Nothing is changed, and a served
store goes on serving. What cannot be read is named with its volume or snapshot and its range.

Exit codes: 0 everything verified · 7 damage, each piece named";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Scrub {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
    /// Bytes to read each second
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = sizes::parse)]
    rate: u64,
}

impl Scrub {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let result = self.scrub(common).map_err(|trouble| trouble.doing("store scrub"))?;
        let names: Vec<String> = result.damaged.iter().map(|damaged| damaged.name.clone()).collect();
        common.output().result(&result, &names, || text(&result));
        Ok(if result.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Kind::Damage.exit_code()) })
    }

    fn scrub(&self, common: &Common) -> Result<ScrubResult, Trouble> {
        let mut progress = Progress::new("scrubbing", common.quiet);
        match reach(common, self.path.as_deref())? {
            Reach::Served(client) => {
                let asked = ScrubRequest { bytes_per_second: self.rate };
                client.work("/v1/scrub", &asked, &mut |bytes| progress.tell(|| iec(bytes)))
            }
            Reach::Unserved(path) => with_store(common, &path, Purpose::Look, async |_, store, _| {
                let mut seen = 0;
                let mut tell = |bytes| {
                    seen += bytes;
                    progress.tell(|| iec(seen));
                };
                verbs::scrub(store, self.rate, &mut tell).await
            }),
        }
    }
}

fn text(result: &ScrubResult) -> String {
    let mut text = format!("verified {} of data and {} of maps\n", iec(result.data_bytes), iec(result.page_bytes));
    for Damaged { name, from, to, what } in &result.damaged {
        let range = from.zip(*to).map(|(from, to)| format!(" bytes {from} to {}", to - 1)).unwrap_or_default();
        text.push_str(&format!("damage: {name}{range}: {what}\n"));
    }
    match result.damaged.len() {
        0 => text.push_str("sound: every checksum holds\n"),
        damaged => text.push_str(&format!("damaged: {damaged} places\n")),
    }
    text
}
