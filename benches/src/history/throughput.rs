//! Random writes with one snapshot each second, in windows that take turns with windows without.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::peer::MIB;

const VOLUME_MIB: u64 = 1024;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("throughput"), scale.of(50 * 1024, 10 * 1024), 1, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let (pairs, seconds) = (scale.of(6, 1), scale.of(10, 3));
    let settings = [("SECONDS", seconds.to_string()), ("SIZE", (VOLUME_MIB * MIB).to_string())];
    let rate = |seen: crate::fio::Seen| seen.requests as f64 / seen.seconds;
    let (mut ratios, mut with_snapshots) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let without = rate(stand.fio("random-write-8k-queue-32", &settings)?);
        let load = stand.fio_beside("random-write-8k-queue-32", &settings);
        for second in 0..seconds {
            sleep(Duration::from_millis(950));
            stand.snapshot(&format!("p{pair}s{second}"))?;
        }
        let with = rate(load.join().expect("fio's thread ends")?);
        with_snapshots.push(with / 1e3);
        ratios.push(with / without);
    }
    Ok(vec![Row::new(
        "8K random writes, queue 32, one snapshot each second, against without",
        quantile(&ratios, 0.5),
        "×",
        Limit::AtLeast(0.95),
        format!("pairs: {}; with snapshots {}", spread(&ratios, "×"), spread(&with_snapshots, "k/s")),
    )])
}
