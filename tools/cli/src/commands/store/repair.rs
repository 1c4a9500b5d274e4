//! `treering store check --repair`: what metadata lost, taken from where it is said a second time.

use crate::commands::Common;
use crate::reach::{Reach, reach, with_unserved};
use std::path::Path;
use std::process::ExitCode;
use treering_nbd_server::control::api::{Damaged, RepairResult, StatusReport};
use treering_nbd_server::control::{Kind, Trouble, verbs};

pub fn run(path: Option<&Path>, dry_run: bool, common: &Common) -> Result<ExitCode, Trouble> {
    let result = repair(path, dry_run, common).map_err(|trouble| trouble.doing("store check --repair"))?;
    let names: Vec<String> = result.lost.iter().chain(&result.doubtful).map(|damaged| damaged.name.clone()).collect();
    common.output().result(&result, &names, || text(&result));
    let whole = result.lost.is_empty() && result.doubtful.is_empty();
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(Kind::Damage.exit_code()) })
}

fn repair(path: Option<&Path>, dry_run: bool, common: &Common) -> Result<RepairResult, Trouble> {
    match reach(common, path)? {
        Reach::Served(client) => {
            let server = client.get::<StatusReport>("/v1/status")?.pid;
            Err(Trouble::new(Kind::Busy, "the store is served, and is repaired only when nobody has it open")
                .evidence(format!("held by  treering, pid {server}"))
                .fix(format!("kill {server}     ends the server in good order; repair then, and serve again")))
        }
        Reach::Unserved(path) => {
            with_unserved(common, async |io, options| verbs::repair(io, &path, options, dry_run).await)
        }
    }
}

fn text(result: &RepairResult) -> String {
    let mut text = String::new();
    for action in &result.actions {
        text.push_str(&format!("{}: {action}\n", if result.dry_run { "would repair" } else { "repaired" }));
    }
    for (word, list) in [("lost", &result.lost), ("doubtful", &result.doubtful)] {
        for Damaged { name, from, to, what } in list {
            let range = from.zip(*to).map(|(from, to)| format!(" bytes {from} to {}", to - 1)).unwrap_or_default();
            text.push_str(&format!("{word}: {name}{range}: {what}\n"));
        }
    }
    match (result.actions.len(), result.lost.len(), result.doubtful.len()) {
        (0, ..) => text.push_str("nothing needs a repair\n"),
        (_, 0, 0) => text.push_str("nothing is lost\n"),
        (_, lost, doubtful) => text.push_str(&format!("{lost} places are lost, {doubtful} are doubtful\n")),
    }
    text
}
