//! The page that a run leaves: machine, method, the table, and what stands behind it. The raw measures go beside it as JSON.

use std::fmt::Write;

use crate::case::{Bar, CASES, Case, Unit};
use crate::disk_itself::DiskItself;
use crate::peer::Peer;
use crate::session::{Measure, Plan};
use crate::summary::{Rounds, over_rounds, verdict};

pub fn page(machine: &str, date: &str, plan: &Plan, peers: &[Peer], rounds: &Rounds, disk: DiskItself) -> String {
    let mut page = String::new();
    let gib = plan.sizes.volume as f64 / f64::from(1 << 30);
    let _ = writeln!(page, "# Peers, {date}\n\nMachine: {machine}.\n");
    let _ = writeln!(
        page,
        "Method: `cargo xtask bench peers`, {} rounds, {} s per row, fio's nbd engine over unix sockets, a volume of {gib:.1} GiB, \
         prefilled; each round a fresh server on fresh storage per peer, the order of peers rotating; medians over rounds, ratios \
         taken inside a round. Write rows run on a fresh log and have a flush inside the timed part. *Cold* is after a restart with \
         caches dropped (the disk may be cached by its host). Ours and `nbdkit-file-2g` run in process groups of 2 GiB \
         (`treering-256m`: 256 MiB), page cache and shared memory included; the other peers have no limit.\n",
        rounds.len(),
        plan.seconds
    );
    main_table(&mut page, plan, peers, rounds);
    let _ = writeln!(
        page,
        "\nThe disk itself, without a server (a file, past the page cache): 256K sequential read {}, queue 8; write {}; 4K random read \
         {}, queue 32.",
        figure(Unit::MebibytesPerSecond, disk.sequential_read),
        figure(Unit::MebibytesPerSecond, disk.sequential_write),
        figure(Unit::RequestsPerSecond, disk.random_read)
    );
    device_table(&mut page, plan, peers, rounds);
    page
}

fn main_table(page: &mut String, plan: &Plan, peers: &[Peer], rounds: &Rounds) {
    head(page, "case", peers, " bar | ratio | |");
    for case in CASES.iter().filter(|case| plan.wants(case)) {
        let _ = write!(page, "| {} |", case.title);
        for peer in peers {
            cell(page, over_rounds(rounds, case, *peer, |m| m.value), |value| figure(case.unit, value));
        }
        let _ = write!(page, " {} |", bar(case));
        match verdict(rounds, case) {
            Some(verdict) => {
                let _ = writeln!(page, " {:.2} | {} |", verdict.figure, if verdict.met { "met" } else { "**missed**" });
            }
            None => {
                let _ = writeln!(page, " – | |");
            }
        }
    }
}

/// What the disk moved per byte the guest moved, what a request cost the server, how long the slowest hundredth took.
fn device_table(page: &mut String, plan: &Plan, peers: &[Peer], rounds: &Rounds) {
    let _ =
        writeln!(page, "\nDevice bytes written + read per guest byte · server CPU per request · 99th percentile:\n");
    head(page, "case", peers, "");
    for case in CASES.iter().filter(|case| plan.wants(case) && case.unit != Unit::RequestsPerCpuSecond) {
        let _ = write!(page, "| {} |", case.title);
        for peer in peers {
            let of = |what: fn(&Measure) -> f64| over_rounds(rounds, case, *peer, what);
            let written = of(|m| m.device_bytes_written as f64 / m.guest_bytes.max(1) as f64);
            let read = of(|m| m.device_bytes_read as f64 / m.guest_bytes.max(1) as f64).unwrap_or(0.0);
            let cpu = of(|m| m.server_cpu_seconds * 1e6 / m.requests.max(1) as f64).unwrap_or(0.0);
            let p99 = of(|m| m.p99_microseconds).unwrap_or(0.0);
            cell(page, written, |written| format!("{written:.2} + {read:.2} · {cpu:.1} µs · {p99:.0} µs"));
        }
        page.push('\n');
    }
    for peer in peers {
        let peaks = rounds.iter().flatten().filter(|(p, _)| p == peer).flat_map(|(_, measures)| measures.values());
        if let Some(peak) = peaks.filter_map(|m| m.peak_memory_bytes).max() {
            let _ = writeln!(
                page,
                "\nMost memory held by {}: {} MiB (page cache and shared memory included).",
                peer.name(),
                peak >> 20
            );
        }
    }
}

fn head(page: &mut String, first: &str, peers: &[Peer], more: &str) {
    let names: Vec<_> = peers.iter().map(|peer| peer.name()).collect();
    let _ = writeln!(page, "| {first} | {} |{more}", names.join(" | "));
    let columns = 1 + peers.len() + more.matches('|').count();
    let _ = writeln!(page, "|{}", "---|".repeat(columns));
}

fn cell(page: &mut String, value: Option<f64>, show: impl Fn(f64) -> String) {
    let _ = write!(page, " {} |", value.map_or_else(|| "–".to_owned(), show));
}

fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::RequestsPerSecond | Unit::RequestsPerCpuSecond if value >= 1e4 => format!("{:.1}k/s", value / 1e3),
        Unit::RequestsPerSecond | Unit::RequestsPerCpuSecond => format!("{value:.0}/s"),
        Unit::MebibytesPerSecond => format!("{value:.0} MiB/s"),
        Unit::Seconds => format!("{value:.2} s"),
    }
}

fn bar(case: &Case) -> String {
    match case.bar {
        Bar::TimesPeer(factor, peer) => format!("{factor} × {}", peer.name()),
        Bar::AtMostSeconds(seconds) => format!("≤ {seconds} s"),
        Bar::None => "–".into(),
    }
}
