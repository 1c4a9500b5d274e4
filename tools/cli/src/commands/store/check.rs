//! `treering store check`: what is wrong with a store, in words.

use crate::commands::Common;
use crate::progress::Progress;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::iec;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use treering_nbd_server::control::api::{CheckRequest, CheckResult};
use treering_nbd_server::control::{Kind, Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering store check /var/lib/treering/store            maps, liveness, pages: minutes at most
  treering store check /var/lib/treering/store --data     and every stored block against its checksum
  treering store check --repair --dry-run                 what a repair would do, and what would be lost
  treering store check --repair                           and do it

Nothing is changed. A served store is checked by its server while it goes on serving.

A repair needs a store that nobody serves. Damaged pages of maps are rebuilt from the log, the liveness of segments from the
maps, one copy of the catalog from the other; a damaged log is cut. Of each volume and snapshot it names what is lost, and
what is doubtful: the newest content that is known, though something that the log no longer tells may have replaced it.

Exit codes: 0 nothing is lost (space that leaked is named) · 7 damage, each piece named; after a repair, what is lost or doubtful";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
    /// Read every stored block too
    #[arg(long)]
    data: bool,
    /// Rebuild metadata that is damaged from what the store says a second time
    #[arg(long, conflicts_with = "data")]
    repair: bool,
    /// With --repair: change nothing, only say what would be done and lost
    #[arg(long, requires = "repair")]
    dry_run: bool,
}

impl Check {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        if self.repair {
            return super::repair::run(self.path.as_deref(), self.dry_run, common);
        }
        let result = self.check(common).map_err(|trouble| trouble.doing("store check"))?;
        let findings: Vec<String> = result.findings.iter().map(|finding| finding.what.clone()).collect();
        common.output().result(&result, &findings, || text(&result));
        Ok(if result.sound { ExitCode::SUCCESS } else { ExitCode::from(Kind::Damage.exit_code()) })
    }

    fn check(&self, common: &Common) -> Result<CheckResult, Trouble> {
        let mut progress = Progress::new("checking", common.quiet);
        match reach(common, self.path.as_deref())? {
            Reach::Served(client) => {
                let asked = CheckRequest { data: self.data };
                client.work("/v1/check", &asked, &mut |bytes| progress.tell(|| iec(bytes)))
            }
            Reach::Unserved(path) => check_unserved(common, &path, self.data, &mut progress),
        }
    }
}

/// Opens the store for reading and checks it.
pub fn check_unserved(
    common: &Common,
    path: &Path,
    data: bool,
    progress: &mut Progress,
) -> Result<CheckResult, Trouble> {
    with_store(common, path, Purpose::Look, async |_, store, _| {
        let total: u64 = store.dots().iter().flat_map(|dot| &dot.volumes).map(|v| v.size_bytes).sum();
        let mut seen = 0;
        let mut tell = |bytes| {
            seen += bytes;
            progress.tell(|| format!("{} of {}", iec(seen), iec(total)));
        };
        verbs::check(store, data, &mut tell).await
    })
}

fn text(result: &CheckResult) -> String {
    let mut text = format!(
        "checked {} volumes, {} snapshots: {} extents, {} live, {} pages of maps\n",
        result.volumes,
        result.snapshots,
        result.extents,
        iec(result.live_blocks * 4096),
        result.pages
    );
    if result.data_bytes_verified > 0 {
        text.push_str(&format!("verified {} of data against its checksums\n", iec(result.data_bytes_verified)));
    }
    for finding in &result.findings {
        text.push_str(if finding.damage { "damage: " } else { "space: " });
        text.push_str(&finding.what);
        text.push('\n');
    }
    let damaged = result.findings.iter().filter(|finding| finding.damage).count();
    match (damaged, result.findings.len()) {
        (0, 0) => text.push_str("sound: nothing is wrong\n"),
        (0, leaks) => text.push_str(&format!("sound: nothing is lost; {leaks} findings about space\n")),
        (damaged, _) => text.push_str(&format!("damaged: {damaged} findings\n")),
    }
    text
}
