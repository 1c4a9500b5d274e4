//! Random writes with one snapshot each second, in windows that take turns with windows without; ours, and others that can.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::snapshot_peers::SNAPSHOT_PEERS;
use super::stand::Stand;
use crate::device;
use crate::fio::{self, Seen};
use crate::peer::MIB;

const VOLUME_MIB: u64 = 1024;
const WORKLOAD: &str = "random-write-8k-queue-32";

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("throughput"), scale.of(50 * 1024, 10 * 1024), 1, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let ours = pairs(&stand.uri(0), scale, |name| stand.snapshot(name).map(drop))?;
    drop(stand);
    let mut rows = vec![ours.row("treering", Limit::AtLeast(0.95))];
    for peer in SNAPSHOT_PEERS {
        let theirs = peer.start(&folder.join("peer"), VOLUME_MIB).and_then(|running| {
            fio::run("prefill", &settings(&running.uri(), 0))?;
            device::sync()?;
            pairs(&running.uri(), scale, |name| running.snapshot(name))
        });
        rows.push(match theirs {
            Ok(pairs) => pairs.row(peer.name(), Limit::None),
            Err(why) => Row::skipped(peer.name(), &why),
        });
    }
    Ok(rows)
}

/// Windows with snapshots against the windows before them without.
struct Pairs {
    ratios: Vec<f64>,
    /// Thousands of writes a second, in windows with snapshots.
    rates: Vec<f64>,
    /// Milliseconds of a snapshot.
    took: Vec<f64>,
}

fn pairs(uri: &str, scale: Scale, snapshot: impl Fn(&str) -> Result<()>) -> Result<Pairs> {
    let (count, seconds) = (scale.of(6, 1), scale.of(10, 3));
    let settings = settings(uri, seconds);
    let rate = |seen: Seen| seen.requests as f64 / seen.seconds;
    let mut pairs = Pairs { ratios: Vec::new(), rates: Vec::new(), took: Vec::new() };
    for pair in 0..count {
        let without = rate(fio::run(WORKLOAD, &settings)?);
        let beside = settings.clone();
        let load = std::thread::spawn(move || fio::run(WORKLOAD, &beside));
        let mut next = Instant::now();
        for second in 0..seconds {
            next += Duration::from_secs(1);
            sleep(next.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            snapshot(&format!("p{pair}s{second}"))?;
            pairs.took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let with = rate(load.join().expect("fio's thread ends")?);
        pairs.rates.push(with / 1e3);
        pairs.ratios.push(with / without);
    }
    Ok(pairs)
}

impl Pairs {
    fn row(&self, whose: &str, limit: Limit) -> Row {
        let evidence = format!(
            "pairs: {}; with snapshots {}; a snapshot {}",
            spread(&self.ratios, "×"),
            spread(&self.rates, "k/s"),
            spread(&self.took, "ms")
        );
        let what = format!("8K random writes, queue 32, one snapshot each second, against without: {whose}");
        Row::new(what, quantile(&self.ratios, 0.5), "×", limit, evidence)
    }
}

fn settings(uri: &str, seconds: u64) -> Vec<(String, String)> {
    let setting = |name: &str, value: String| (name.to_owned(), value);
    vec![
        setting("URI", uri.to_owned()),
        setting("SIZE", (VOLUME_MIB * MIB).to_string()),
        setting("SECONDS", seconds.to_string()),
    ]
}
