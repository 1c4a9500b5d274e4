//! What a client under full load notices of a snapshot of 32 volumes.

use std::path::Path;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::latency_log::LatencyLog;
use super::one_thread;
use super::stand::Stand;
use crate::peer::MIB;

const VOLUMES: u64 = 32;
const VOLUME_MIB: u64 = 64;
const WORKLOAD: &str = "random-write-8k-32-volumes";

/// Around the beginning of a snapshot, in microseconds: what is looked at for a gap.
const BEFORE: u64 = 5_000;
const AFTER: u64 = 50_000;
const SECOND: u64 = 1_000_000;

/// What a client may wait for an answer around a snapshot, in milliseconds.
const LONGEST_GAP: f64 = 5.0;

/// Who writes to all volumes.
#[derive(Clone, Copy)]
enum Load {
    /// fio, a thread for each volume.
    Fio,
    /// One thread of ours for all.
    OneThread,
}

/// What clients saw at some moments, pooled over windows.
#[derive(Default)]
struct Seen {
    /// The longest time without an answer for one client, in milliseconds, around each moment.
    gaps: Vec<f64>,
    /// 99th percentile in the second that each moment begins, in microseconds.
    p99: Vec<f64>,
}

impl Seen {
    fn at(&mut self, log: &LatencyLog, moment: u64) {
        let (first, last) = log.span();
        if moment < first + BEFORE || moment + SECOND > last {
            return;
        }
        self.gaps.push(log.longest_gap(moment - BEFORE, moment + AFTER));
        self.p99.push(quantile(&log.took(moment, moment + SECOND), 0.99));
    }
}

/// What one load saw with snapshots and without, and what the snapshots took, in milliseconds.
#[derive(Default)]
struct Pair {
    with: Seen,
    without: Seen,
    took: Vec<f64>,
}

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("hold"), scale.of(40 * 1024, 16 * 1024), VOLUMES, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let fio = measure(&stand, folder, scale, Load::Fio)?;
    let one = measure(&stand, folder, scale, Load::OneThread)?;
    let status = stand.ask("GET", "/v1/status", &serde_json::Value::Null)?;
    let held = status["log"]["cut_hold_ns_p99"].as_f64().context("status does not say how long cuts held the order")?;
    let gaps = |gaps: &[f64]| {
        let over = gaps.iter().filter(|gap| **gap > LONGEST_GAP).count();
        format!("{}, {over} over {LONGEST_GAP} ms", spread(gaps, "ms"))
    };
    let gap = |pair: &Pair| format!("{}; around moments without {}", gaps(&pair.with.gaps), gaps(&pair.without.gaps));
    let p99 = |pair: &Pair| quantile(&pair.with.p99, 0.5) / quantile(&pair.without.p99, 0.5);
    let p99s =
        |pair: &Pair| format!("with {}; without {}", spread(&pair.with.p99, "µs"), spread(&pair.without.p99, "µs"));
    let took = [&fio.took[..], &one.took].concat();
    Ok(vec![
        Row::new(
            "order held by a cut, 99th percentile",
            held / 1e6,
            "ms",
            Limit::AtMost(1.0),
            "the server's own histogram".into(),
        ),
        Row::new(
            "longest time without an answer for one of 32 clients, around a snapshot",
            quantile(&one.with.gaps, 1.0),
            "ms",
            Limit::AtMost(LONGEST_GAP),
            format!("32 connections of one thread; {}", gap(&one)),
        ),
        Row::new(
            "the same, of 32 threads of fio",
            quantile(&fio.with.gaps, 1.0),
            "ms",
            Limit::None,
            format!("they wait for a processor, too; known to 1 ms; {}", gap(&fio)),
        ),
        Row::new(
            "99th percentile of writes in the second of a snapshot, against seconds without",
            p99(&fio),
            "×",
            Limit::AtMost(1.5),
            p99s(&fio),
        ),
        Row::new("the same, 32 connections of one thread", p99(&one), "×", Limit::AtMost(1.5), p99s(&one)),
        Row::new(
            "a snapshot, from request to durable answer",
            quantile(&took, 0.5),
            "ms",
            Limit::None,
            spread(&took, "ms"),
        ),
    ])
}

fn measure(stand: &Stand, folder: &Path, scale: Scale, load: Load) -> Result<Pair> {
    let (windows, seconds) = (scale.of(8, 1), scale.of(10, 4));
    let mut pair = Pair::default();
    for window in 0..windows {
        let log = load.start(stand, folder, seconds).join().expect("a load ends")?;
        let (first, last) = log.span();
        (first + SECOND..last).step_by(SECOND as usize).for_each(|moment| pair.without.at(&log, moment));

        let running = load.start(stand, folder, seconds);
        let (mut moments, mut names) = (Vec::new(), Vec::new());
        for second in 0..seconds {
            sleep(Duration::from_millis(950));
            moments.push(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64);
            names.push(format!("w{window}s{second}"));
            pair.took.push(stand.snapshot(&names[second as usize])? * 1e3);
        }
        let log = running.join().expect("a load ends")?;
        moments.into_iter().for_each(|moment| pair.with.at(&log, moment));
        // Each of them holds what was overwritten in a second.
        stand.remove(&names)?;
    }
    Ok(pair)
}

impl Load {
    fn start(self, stand: &Stand, folder: &Path, seconds: u64) -> JoinHandle<Result<LatencyLog>> {
        match self {
            Load::Fio => {
                let prefix = folder.join("hold-log");
                let settings = [
                    ("SECONDS", seconds.to_string()),
                    ("SIZE", (VOLUME_MIB * MIB).to_string()),
                    ("LOG", prefix.display().to_string()),
                ];
                let fio = stand.fio_beside(WORKLOAD, &settings);
                spawn(move || {
                    fio.join().expect("fio's thread ends")?;
                    LatencyLog::take(&prefix)
                })
            }
            Load::OneThread => {
                let uris: Vec<String> = (0..VOLUMES).map(|n| stand.uri(n)).collect();
                spawn(move || one_thread::write_to_all(&uris, VOLUME_MIB * MIB, Duration::from_secs(seconds)))
            }
        }
    }
}
