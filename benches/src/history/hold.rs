//! What a client under full load notices of a snapshot of 32 volumes.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::latency_log::LatencyLog;
use super::stand::Stand;
use crate::peer::MIB;

const VOLUMES: u64 = 32;
const VOLUME_MIB: u64 = 64;
const WORKLOAD: &str = "random-write-8k-32-volumes";

/// Around the beginning of a snapshot, in milliseconds: what is looked at for a gap.
const BEFORE: u64 = 5;
const AFTER: u64 = 50;

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
        if moment < first + BEFORE || moment + 1000 > last {
            return;
        }
        self.gaps.push(log.longest_gap(moment - BEFORE, moment + AFTER));
        self.p99.push(quantile(&log.took(moment, moment + 1000), 0.99));
    }
}

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("hold"), scale.of(40 * 1024, 8192), VOLUMES, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let (windows, seconds) = (scale.of(8, 1), scale.of(10, 4));
    let prefix = folder.join("hold-log");
    let settings = [
        ("SECONDS", seconds.to_string()),
        ("SIZE", (VOLUME_MIB * MIB).to_string()),
        ("LOG", prefix.display().to_string()),
    ];
    let (mut took, mut with, mut without) = (Vec::new(), Seen::default(), Seen::default());
    for window in 0..windows {
        stand.fio(WORKLOAD, &settings)?;
        let log = LatencyLog::take(&prefix)?;
        let (first, last) = log.span();
        (first + 1000..last).step_by(1000).for_each(|moment| without.at(&log, moment));

        let load = stand.fio_beside(WORKLOAD, &settings);
        let (mut moments, mut names) = (Vec::new(), Vec::new());
        for second in 0..seconds {
            sleep(Duration::from_millis(950));
            moments.push(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64);
            names.push(format!("w{window}s{second}"));
            took.push(stand.snapshot(&names[second as usize])? * 1e3);
        }
        load.join().expect("fio's thread ends")?;
        let log = LatencyLog::take(&prefix)?;
        moments.into_iter().for_each(|moment| with.at(&log, moment));
        // Each of them holds what was overwritten in a second.
        stand.remove(&names)?;
    }
    let status = stand.ask("GET", "/v1/status", &serde_json::Value::Null)?;
    let held = status["log"]["cut_hold_ns_p99"].as_f64().context("status does not say how long cuts held the order")?;
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
            quantile(&with.gaps, 1.0),
            "ms",
            Limit::AtMost(5.0),
            format!(
                "known to 1 ms; {}; around moments without {}",
                spread(&with.gaps, "ms"),
                spread(&without.gaps, "ms")
            ),
        ),
        Row::new(
            "99th percentile of writes in the second of a snapshot, against seconds without",
            quantile(&with.p99, 0.5) / quantile(&without.p99, 0.5),
            "×",
            Limit::AtMost(1.5),
            format!("with {}; without {}", spread(&with.p99, "µs"), spread(&without.p99, "µs")),
        ),
        Row::new(
            "a snapshot, from request to durable answer",
            quantile(&took, 0.5),
            "ms",
            Limit::None,
            spread(&took, "ms"),
        ),
    ])
}
