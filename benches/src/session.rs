//! One peer's round: fresh storage, a fresh server, the volume prefilled, then every row in the table's order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::case::{CASES, Case, Stage, Unit};
use crate::device::{self, Device};
use crate::fio;
use crate::peer::{Peer, SMALL_VOLUMES, Sizes};
use crate::restart;
use crate::server::Server;

pub struct Plan {
    pub scratch: PathBuf,
    pub sizes: Sizes,
    pub seconds: u64,
    /// Names of rows; empty means all.
    pub rows: Vec<String>,
}

/// One row of one peer in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    pub value: f64,
    pub requests: u64,
    pub seconds: f64,
    pub p99_microseconds: f64,
    pub server_cpu_seconds: f64,
    pub device_bytes_read: u64,
    pub device_bytes_written: u64,
    pub guest_bytes: u64,
    pub peak_memory_bytes: Option<u64>,
}

pub type Measures = BTreeMap<String, Measure>;

impl Plan {
    pub fn wants(&self, case: &Case) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == case.name)
    }
}

pub fn run(peer: Peer, plan: &Plan) -> Result<Measures> {
    let folder = plan.scratch.join(peer.name());
    let measured = on_fresh_storage(peer, plan, &folder);
    fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
    let mut measures = measured?;
    measures.extend(restart::run(peer, plan)?);
    Ok(measures)
}

fn on_fresh_storage(peer: Peer, plan: &Plan, folder: &Path) -> Result<Measures> {
    let mut measures = Measures::new();
    let wanted: Vec<_> =
        CASES.iter().filter(|case| case.unit != Unit::Seconds && plan.wants(case) && can(peer, case)).collect();
    peer.create(folder, plan.sizes)?;
    if wanted.is_empty() {
        return Ok(measures);
    }
    let device = Device::under(folder)?;
    let mut server = peer.start(folder, plan.sizes, &[])?;
    prefill(&server, plan, wanted.iter().any(|case| case.stage == Stage::EightVolumes))?;
    let mut last: Option<(&str, Measure)> = None;
    for case in wanted {
        let measure = match &last {
            // Two rows may be read off one run.
            Some((workload, measure)) if *workload == case.workload => measure.clone(),
            _ => {
                server = set_stage(case.stage, peer, plan, folder, server)?;
                measure(case, &server, plan, &device).with_context(|| format!("{}: {}", peer.name(), case.name))?
            }
        };
        last = Some((case.workload, measure.clone()));
        measures.insert(case.name.to_owned(), Measure { value: value_of(case.unit, &measure), ..measure });
    }
    server.stop()?;
    Ok(measures)
}

fn can(peer: Peer, case: &Case) -> bool {
    match case.stage {
        Stage::EightVolumes => peer.has_volumes(),
        Stage::Cold => peer.is_durable(),
        Stage::Running | Stage::Warm => true,
    }
}

fn prefill(server: &Server, plan: &Plan, small_too: bool) -> Result<()> {
    let settings = |uri: &str, size: u64| vec![("URI".into(), uri.to_owned()), ("SIZE".into(), size.to_string())];
    fio::run("prefill", &settings(server.uri(), plan.sizes.volume))?;
    for uri in server.small_uris().iter().filter(|_| small_too) {
        fio::run("prefill", &settings(uri, plan.sizes.small_volume))?;
    }
    device::sync()
}

fn set_stage(stage: Stage, peer: Peer, plan: &Plan, folder: &Path, server: Server) -> Result<Server> {
    match stage {
        Stage::Running | Stage::EightVolumes => Ok(server),
        Stage::Warm => {
            fio::run("warm-up", &settings(&server, plan))?;
            Ok(server)
        }
        Stage::Cold => {
            server.stop()?;
            device::drop_caches()?;
            peer.start(folder, plan.sizes, &[])
        }
    }
}

fn measure(case: &Case, server: &Server, plan: &Plan, device: &Device) -> Result<Measure> {
    device::sync()?;
    let (traffic, cpu) = (device.traffic()?, server.cpu_seconds());
    let seen = fio::run(case.workload, &settings(server, plan))?;
    let after = device.traffic()?;
    Ok(Measure {
        value: 0.0,
        requests: seen.requests,
        seconds: seen.seconds,
        p99_microseconds: seen.p99_microseconds,
        server_cpu_seconds: server.cpu_seconds() - cpu,
        device_bytes_read: after.read - traffic.read,
        device_bytes_written: after.written - traffic.written,
        guest_bytes: seen.bytes,
        peak_memory_bytes: server.peak_memory_bytes(),
    })
}

fn settings(server: &Server, plan: &Plan) -> Vec<(String, String)> {
    let mut settings = vec![
        ("URI".into(), server.uri().to_owned()),
        ("SECONDS".into(), plan.seconds.to_string()),
        ("SIZE".into(), plan.sizes.volume.to_string()),
        ("SMALL_SIZE".into(), plan.sizes.small_volume.to_string()),
        ("WARM_SIZE".into(), plan.sizes.warm.to_string()),
    ];
    for n in 0..SMALL_VOLUMES {
        settings.push((format!("URI{n}"), server.small_uris().get(n as usize).cloned().unwrap_or_default()));
    }
    settings
}

fn value_of(unit: Unit, measure: &Measure) -> f64 {
    match unit {
        Unit::RequestsPerSecond => measure.requests as f64 / measure.seconds,
        Unit::MebibytesPerSecond => measure.guest_bytes as f64 / f64::from(1 << 20) / measure.seconds,
        Unit::RequestsPerCpuSecond => measure.requests as f64 / measure.server_cpu_seconds.max(0.01),
        Unit::Seconds => measure.seconds,
    }
}
