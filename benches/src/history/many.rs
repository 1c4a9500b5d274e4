//! A store with ten thousand snapshots: how it opens after kill -9, what the size of one costs to know, and how half of them go.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::device;
use crate::peer::MIB;

const VOLUME_MIB: u64 = 1024;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let mut stand = Stand::new(&folder.join("many"), scale.of(40 * 1024, 8192), 1, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let count = scale.of(10_000, 300);
    let size = ("SIZE", (VOLUME_MIB * MIB).to_string());
    for n in 0..count {
        if n % 100 == 0 {
            stand.fio("random-write-8k-queue-32-some", &[size.clone(), ("IO_SIZE", (8 * MIB).to_string())])?;
        }
        stand.snapshot(&format!("n{n}"))?;
    }
    stand.kill();
    device::drop_caches()?;
    let opened = stand.serve()?;

    let mut milliseconds = Vec::new();
    for n in (0..count).step_by((count / 20) as usize) {
        let started = Instant::now();
        stand.ask("GET", &format!("/v1/dots/bench/snapshots/n{n}"), &Value::Null)?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }

    let settings = [size.clone(), ("SECONDS", scale.of(10, 2).to_string())];
    let without = stand.fio("random-write-8k-queue-32", &settings)?.p99_microseconds;
    let load = stand.fio_beside("random-write-8k-queue-32", &settings);
    let started = Instant::now();
    for n in (0..count).step_by(2) {
        stand.ask("DELETE", &format!("/v1/dots/bench/snapshots/n{n}"), &Value::Null)?;
    }
    let with = load.join().expect("fio's thread ends")?.p99_microseconds;
    while pending(&stand)? > 0 {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(900), "the deletions did not end in 15 minutes");
        std::thread::sleep(Duration::from_millis(200));
    }
    let seconds = started.elapsed().as_secs_f64();
    let check = stand.ask("POST", "/v1/check", &json!({ "data": false }))?;
    anyhow::ensure!(check["sound"] == true, "the store is not sound afterwards: {check}");
    Ok(vec![
        Row::new(
            format!("open after kill -9, {count} snapshots"),
            opened,
            "s",
            Limit::AtMost(2.0),
            "to the first byte read, caches dropped".into(),
        ),
        Row::new(
            "exclusive size of one of them",
            quantile(&milliseconds, 0.5),
            "ms",
            Limit::AtMost(50.0),
            spread(&milliseconds, "ms"),
        ),
        Row::new(
            format!("deleting {} of them", count / 2),
            seconds,
            "s",
            Limit::AtMost(600.0),
            "`store check` finds nothing wrong afterwards".into(),
        ),
        Row::new(
            "99th percentile of writes meanwhile, against without",
            with / without,
            "×",
            Limit::AtMost(1.15),
            format!("{with:.0} against {without:.0} µs"),
        ),
    ])
}

/// Versions in deletion.
fn pending(stand: &Stand) -> Result<u64> {
    let status = stand.ask("GET", "/v1/status", &Value::Null)?;
    status["sweeps_pending"].as_u64().with_context(|| format!("the status does not count sweeps: {status}"))
}
