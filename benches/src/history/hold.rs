//! What a client under full load notices of a snapshot of 32 volumes.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::peer::MIB;

const VOLUMES: u64 = 32;
const VOLUME_MIB: u64 = 64;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("hold"), scale.of(40 * 1024, 8192), VOLUMES, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let (windows, seconds) = (scale.of(6, 1), scale.of(10, 3));
    let (mut took, mut without, mut with, mut slowest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for window in 0..windows {
        let settings = [("SECONDS", seconds.to_string()), ("SIZE", (VOLUME_MIB * MIB).to_string())];
        without.push(stand.fio("random-write-8k-32-volumes", &settings)?.p99_microseconds);
        let load = stand.fio_beside("random-write-8k-32-volumes", &settings);
        for second in 0..seconds {
            sleep(Duration::from_millis(900));
            took.push(stand.snapshot(&format!("w{window}s{second}"))? * 1e3);
        }
        let seen = load.join().expect("fio's thread ends")?;
        with.push(seen.p99_microseconds);
        slowest.push(seen.slowest_microseconds / 1e3);
    }
    let status = stand.ask("GET", "/v1/status", &serde_json::Value::Null)?;
    let held = status["log"]["cut_hold_ns_p99"].as_f64().context("status does not say how long cuts held the order")?;
    let ratio = quantile(&with, 0.5) / quantile(&without, 0.5);
    Ok(vec![
        Row::new(
            "order held by a cut, 99th percentile",
            held / 1e6,
            "ms",
            Limit::AtMost(1.0),
            "the server's own histogram".into(),
        ),
        Row::new(
            "slowest write of a client, windows with 10 snapshots",
            quantile(&slowest, 0.5),
            "ms",
            Limit::None,
            spread(&slowest, "ms"),
        ),
        Row::new(
            "99th percentile of writes, with against without",
            ratio,
            "×",
            Limit::AtMost(1.5),
            format!("with {}; without {}", spread(&with, "µs"), spread(&without, "µs")),
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
