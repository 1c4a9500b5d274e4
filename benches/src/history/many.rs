//! A store with ten thousand snapshots: how it opens after kill -9, what the size of one costs to know, and how half of them go.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::peer::MIB;

const VOLUME_MIB: u64 = 1024;
const WORKLOAD: &str = "random-write-8k-queue-32";

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
    let opened = stand.serve_cold()?;

    let mut milliseconds = Vec::new();
    for n in (0..count).step_by((count / 20) as usize) {
        let started = Instant::now();
        stand.ask("GET", &format!("/v1/dots/bench/snapshots/n{n}"), &Value::Null)?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }

    // Windows under load until all is swept, between windows without: the p99 of each.
    let settings = [size.clone(), ("SECONDS", scale.of(10, 2).to_string())];
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let alone = |p99: &mut Vec<f64>| -> Result<()> {
        for _ in 0..3 {
            p99.push(stand.fio(WORKLOAD, &settings)?.p99_microseconds);
        }
        Ok(())
    };
    alone(&mut without)?;
    let started = Instant::now();
    let mut load = stand.fio_beside(WORKLOAD, &settings);
    for n in (0..count).step_by(2) {
        stand.ask("DELETE", &format!("/v1/dots/bench/snapshots/n{n}"), &Value::Null)?;
    }
    let mut seconds = None;
    while seconds.is_none() {
        with.push(load.join().expect("fio's thread ends")?.p99_microseconds);
        load = stand.fio_beside(WORKLOAD, &settings);
        while seconds.is_none() && !load.is_finished() {
            seconds = (stand.sweeps_pending()? == 0).then(|| started.elapsed().as_secs_f64());
            anyhow::ensure!(started.elapsed() < Duration::from_secs(1200), "the deletions did not end in 20 minutes");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    load.join().expect("fio's thread ends")?;
    let seconds = seconds.expect("the loop ends with it");
    alone(&mut without)?;
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
            quantile(&with, 0.5) / quantile(&without, 0.5),
            "×",
            Limit::AtMost(1.15),
            format!("windows with {}; before and after {}", spread(&with, "µs"), spread(&without, "µs")),
        ),
    ])
}
