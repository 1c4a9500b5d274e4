//! `treering doctor`: what this machine allows, line by line, each with a way out.

mod checks;

use super::Common;
use crate::output::table;
use clap::Args;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;
use treering_nbd_server::control::api::SCHEMA;

const EXAMPLES: &str = "\
Examples:
  treering doctor
  treering --store /var/lib/treering/store doctor     the filesystem of that store too

ok: as it should be · warn: it works, slower or with less · fail: it will not work.
Exit codes: 0 nothing fails · 1 something does";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Line {
    verdict: Verdict,
    what: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    lines: Vec<Line>,
}

impl Doctor {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let temporary = std::env::temp_dir();
        let store = common.store.as_deref();
        // A store that is yet to be made will lie in its folder.
        let folder = store.and_then(Path::parent).filter(|p| !p.as_os_str().is_empty()).unwrap_or(&temporary);
        let arena = common.arena_dir.as_deref().unwrap_or(Path::new("/dev/shm"));
        let lines = vec![
            checks::io_uring(),
            checks::direct_io(folder),
            checks::free_space(folder),
            checks::shared_memory(arena),
            checks::open_files(),
            checks::locked_memory(),
            checks::memory_limit(),
            checks::kernel_client(),
        ];
        let failed: Vec<String> =
            lines.iter().filter(|line| line.verdict == Verdict::Fail).map(|line| line.what.to_owned()).collect();
        let report = Report { schema: SCHEMA, lines };
        common.output().result(&report, &failed, || text(&report.lines));
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(lines: &[Line]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let verdict = match line.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            vec![verdict.into(), line.what.into(), line.found.clone()]
        })
        .collect();
    let mut text = table(&["", "WHAT", "FOUND"], &[], &rows);
    for line in lines {
        if let Some(fix) = &line.fix {
            text.push_str(&format!("\nfix ({}): {fix}", line.what));
        }
    }
    text
}
