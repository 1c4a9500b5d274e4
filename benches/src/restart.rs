//! How long until the first read after kill -9, with every cache dropped and a log to replay.
//!
//! The server that writes the log is started with a checkpoint limit above what is written, so that none of it is folded away;
//! the server that is measured starts with the defaults.

use std::fs;

use anyhow::{Context, Result};

use crate::case::{CASES, Unit};
use crate::device::{self, Device};
use crate::fio;
use crate::peer::{GIB, MIB, Peer};
use crate::session::{Measure, Measures, Plan};

/// The default of `serve --checkpoint-log`.
const DEFAULT_CHECKPOINT_LOG: u64 = 512 * MIB;

pub fn run(peer: Peer, plan: &Plan) -> Result<Measures> {
    let mut measures = Measures::new();
    for case in CASES.iter().filter(|case| case.unit == Unit::Seconds && plan.wants(case) && peer.is_ours()) {
        let folder = plan.scratch.join(peer.name());
        let log = if case.name == "restart-1m" { 4 * GIB } else { DEFAULT_CHECKPOINT_LOG };
        let measured = restart(peer, plan, case.workload, log.min(plan.sizes.volume));
        fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
        measures.insert(case.name.to_owned(), measured.with_context(|| format!("{}: {}", peer.name(), case.name))?);
    }
    Ok(measures)
}

fn restart(peer: Peer, plan: &Plan, workload: &str, log: u64) -> Result<Measure> {
    let folder = plan.scratch.join(peer.name());
    peer.create(&folder, plan.sizes)?;
    let device = Device::under(&folder)?;
    let above = format!("{}M", 2 * log / MIB);
    let server = peer.start(&folder, plan.sizes, &["--checkpoint-log", &above])?;
    let settings = [
        ("URI".into(), server.uri().to_owned()),
        ("SIZE".into(), plan.sizes.volume.to_string()),
        ("LOG_SIZE".into(), log.to_string()),
    ];
    let seen = fio::run(workload, &settings)?;
    server.kill();
    device::drop_caches()?;
    let before = device.traffic()?;
    let server = peer.start(&folder, plan.sizes, &[])?;
    let after = device.traffic()?;
    let measure = Measure {
        value: server.first_read.as_secs_f64(),
        requests: seen.requests,
        seconds: server.first_read.as_secs_f64(),
        p99_microseconds: 0.0,
        server_cpu_seconds: server.cpu_seconds(),
        device_bytes_read: after.read - before.read,
        device_bytes_written: after.written - before.written,
        guest_bytes: seen.bytes,
        peak_memory_bytes: server.peak_memory_bytes(),
    };
    server.kill();
    Ok(measure)
}
