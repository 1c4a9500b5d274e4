//! Runs one job file of `workloads/` and reads what fio measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What fio saw of one run, all jobs together.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub p99_microseconds: f64,
    pub slowest_microseconds: f64,
}

pub fn run(workload: &str, settings: &[(String, String)]) -> Result<Seen> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads").join(format!("{workload}.fio"));
    let mut command = Command::new("fio");
    command.arg("--output-format=json").arg(&file).envs(settings.iter().map(|(name, value)| (name, value)));
    let said = command.output().context("starting fio (tools/install-test-needs installs it)")?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        bail!("fio {}: {}: {}{text}", file.display(), said.status, String::from_utf8_lossy(&said.stderr));
    }
    // The nbd engine prints a line before the report.
    let json = text.find('{').map_or("", |at| &text[at..]);
    let report: Value = serde_json::from_str(json).with_context(|| format!("fio's report is no JSON: {text}"))?;
    let jobs = report["jobs"].as_array().context("fio's report has no jobs")?;
    let mut seen = Seen { requests: 0, bytes: 0, seconds: 0.0, p99_microseconds: 0.0, slowest_microseconds: 0.0 };
    for side in jobs.iter().flat_map(|job| [&job["read"], &job["write"]]) {
        seen.requests += side["total_ios"].as_u64().unwrap_or(0);
        seen.bytes += side["io_bytes"].as_u64().unwrap_or(0);
        seen.seconds = seen.seconds.max(side["runtime"].as_f64().unwrap_or(0.0) / 1e3);
        seen.slowest_microseconds = seen.slowest_microseconds.max(side["clat_ns"]["max"].as_f64().unwrap_or(0.0) / 1e3);
        seen.p99_microseconds =
            seen.p99_microseconds.max(side["clat_ns"]["percentile"]["99.000000"].as_f64().unwrap_or(0.0) / 1e3);
    }
    // A row that flushes after each write waits for the flush: that is its latency.
    for flush in jobs.iter().map(|job| &job["sync"]["lat_ns"]["percentile"]["99.000000"]) {
        seen.p99_microseconds = seen.p99_microseconds.max(flush.as_f64().unwrap_or(0.0) / 1e3);
    }
    if seen.requests == 0 || seen.seconds == 0.0 {
        bail!("fio {}: nothing was done: {}", file.display(), String::from_utf8_lossy(&said.stderr));
    }
    Ok(seen)
}
