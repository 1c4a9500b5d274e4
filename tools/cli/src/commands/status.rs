//! `treering status`: how the server of a store does.

use super::Common;
use crate::output::table;
use crate::reach::{Reach, reach};
use crate::sizes::iec;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{Recovery, StatusReport};
use treering_nbd_server::control::{Kind, Trouble, times};

const EXAMPLES: &str = "\
Examples:
  treering --store /var/lib/treering/store status
  treering status --json | jq .log

Exit codes: 0 it serves · 1 it serves, but acknowledges nothing any more (the reason is shown) · 11 nobody serves the store";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Status {}

impl Status {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let status = status(common).map_err(|trouble| trouble.doing("status"))?;
        let names: Vec<String> = status.exports.iter().map(|export| export.name.clone()).collect();
        common.output().result(&status, &names, || text(&status));
        Ok(if status.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn status(common: &Common) -> Result<StatusReport, Trouble> {
    match reach(common, None)? {
        Reach::Served(client) => client.get("/v1/status"),
        Reach::Unserved(path) => {
            let path = path.display();
            let trouble = Trouble::new(Kind::NoDaemon, format!("nobody serves {path}, as far as this user can see"));
            Err(trouble.fix(format!("treering --store {path} serve")))
        }
    }
}

fn text(status: &StatusReport) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<10} {value}\n"));
    line("time", times::now());
    line("store", format!("{}, id {}", status.store, status.store_id));
    line("server", format!("treering {}, pid {}, up {}", status.version, status.pid, duration(status.uptime_seconds)));
    let (direct, read_only) =
        (if status.direct_io { "direct" } else { "buffered" }, if status.read_only { ", read-only" } else { "" });
    line("I/O", format!("{}, {direct}{read_only}", status.backend));
    match &status.failure {
        None => line("health", "good".into()),
        Some(why) => line("health", format!("FAILED, acknowledges nothing: {why}")),
    }
    line("start", recovery(&status.recovery));
    let log = &status.log;
    line("log", format!("{} records, {}, {} syncs", log.records, iec(log.bytes), log.syncs));
    line(
        "order",
        format!(
            "{} operations published, the first {} of them durable, {} not folded",
            log.published, log.durable, status.unfolded
        ),
    );
    line(
        "recovery",
        format!(
            "would replay {}; {} checkpoints so far, {} changed pages wait",
            iec(status.replay_bytes),
            status.checkpoints,
            status.dirty_nodes
        ),
    );
    line("held", format!("{} writers wait for space", status.held_writers));
    line(
        "history",
        format!(
            "{} deleted versions give their space back; cuts held writers for {} us at most",
            status.sweeps_pending,
            log.cut_hold_ns_longest.div_ceil(1000)
        ),
    );
    let requests = &status.requests;
    line(
        "requests",
        format!(
            "{} reads ({}), {} writes ({}), {} flushes, {} trims, {} zeroings; {} refused, {} failed",
            requests.reads,
            iec(requests.bytes_read),
            requests.writes,
            iec(requests.bytes_written),
            requests.flushes,
            requests.trims,
            requests.zeroings,
            requests.refused,
            requests.failed
        ),
    );
    line("clients", format!("{} connections, their requests hold {}", status.connections, iec(status.request_bytes)));
    let rows: Vec<Vec<String>> = status
        .exports
        .iter()
        .map(|export| {
            let holder = export.holder.clone().unwrap_or_else(|| "-".into());
            vec![
                export.name.clone(),
                iec(export.size_bytes),
                export.clients.len().to_string(),
                holder,
                export.uri.clone(),
            ]
        })
        .collect();
    format!("{}\n{}", lines.concat(), table(&["EXPORT", "SIZE", "CONNECTIONS", "WRITER", "ADDRESS"], &[1, 2], &rows))
}

fn recovery(recovery: &Recovery) -> String {
    if recovery.clean {
        return "the store had been closed".into();
    }
    let mut text = format!(
        "recovered in {} ms: {} records replayed ({} of them verified), {} writes from shared memory",
        recovery.took_ms, recovery.replayed_records, recovery.verified_records, recovery.republished
    );
    if recovery.host_restarted {
        text.push_str("; the host had restarted");
    }
    if let Some(cut) = &recovery.cut {
        text.push_str(&format!("; {cut}"));
    }
    if let Some(why) = &recovery.older_checkpoint {
        text.push_str(&format!("; the older checkpoint was used: {why}"));
    }
    if recovery.incarnation_changed {
        text.push_str("; acknowledged writes may be missing");
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
