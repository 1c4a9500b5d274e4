//! What the first overwrite after a snapshot costs, beside any other overwrite: bytes to the disk, and instructions.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Scale;
use super::figures::{Limit, Row, spread};
use super::stand::Stand;
use crate::device::Device;
use crate::peer::MIB;

const VOLUME_MIB: u64 = 64;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let bytes = device_bytes(folder, scale)?;
    let instructions = instructions().unwrap_or_else(|why| Row::skipped(INSTRUCTIONS, &why));
    Ok(vec![bytes, instructions])
}

/// The whole volume is overwritten after a snapshot of it, and again after one of another dot: the first round is all first
/// overwrites, the second has none, and both begin behind the flush of a snapshot.
fn device_bytes(folder: &Path, scale: Scale) -> Result<Row> {
    let stand = Stand::new(&folder.join("overwrite"), scale.of(16 * 1024, 4096), 1, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let small = json!({ "name": "v", "size_bytes": MIB });
    stand.ask("POST", "/v1/dots", &json!({ "name": "idle", "volumes": [small] }))?;
    let device = Device::under(folder)?;
    let size = [("SIZE", (VOLUME_MIB * MIB).to_string())];
    let round = |dot: &str, n: u64| -> Result<f64> {
        stand.ask("POST", "/v1/snapshots", &json!({ "dots": [dot], "name": format!("n{n}") }))?;
        let before = device.traffic()?.written;
        let seen = stand.fio("random-overwrite-8k-each-once", &size)?;
        Ok((device.traffic()?.written - before) as f64 / seen.bytes as f64)
    };
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for n in 0..scale.of(60, 4) {
        first.push(round("bench", n)?);
        again.push(round("idle", n)?);
    }
    Ok(Row::new(
        "bytes to the disk for a first overwrite, against any",
        first.iter().sum::<f64>() / again.iter().sum::<f64>(),
        "×",
        Limit::AtMost(1.05),
        format!("per guest byte: first {}; again {}", spread(&first, ""), spread(&again, "")),
    ))
}

const INSTRUCTIONS: &str = "instructions of the engine for a first overwrite, against any";

/// Counted by callgrind: this machine's processor may not let itself be counted, and a count is exact. The server does not run under it
/// (it has no vdso), so the engine does, over the simulated disk, and what that takes is left out.
fn instructions() -> Result<Row> {
    let [none, once, twice] = ["0", "1", "2"].map(counted);
    let (none, once) = (none?, once?);
    let (first, again) = (once - none, twice? - once);
    Ok(Row::new(
        INSTRUCTIONS,
        first / again,
        "×",
        Limit::AtMost(1.05),
        format!("callgrind, engine on the simulated disk: {:.0}M against {:.0}M", first / 1e6, again / 1e6),
    ))
}

fn counted(times: &str) -> Result<f64> {
    const SIMULATOR: &str = "<treering_io::sim::process::SimProcess as treering_io::backend::Backend>::turn";
    Ok(callgrind(times, &[])? - callgrind(times, &[format!("--toggle-collect={SIMULATOR}")])?)
}

fn callgrind(times: &str, options: &[String]) -> Result<f64> {
    let program = std::env::current_exe()?.with_file_name("overwrites");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).args(options).arg(&program).arg(times);
    let said = command.output().context("starting valgrind (apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&said.stderr);
    if !said.status.success() {
        bail!("{command:?}: {}: {text}", said.status);
    }
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind collected nothing")?;
    line.1.trim().parse().with_context(|| format!("callgrind counted {}", line.1))
}
