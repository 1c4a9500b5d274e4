//! A thousand snapshots of a dot with a hundred volumes: how the store opens after kill -9.

use std::path::Path;

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row};
use super::stand::Stand;
use crate::peer::{MIB, SMALL_VOLUMES};

const VOLUMES: u64 = 100;
const VOLUME_MIB: u64 = 64;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let mut stand = Stand::new(&folder.join("fleet"), scale.of(24 * 1024, 8192), VOLUMES, VOLUME_MIB)?;
    stand.prefill(VOLUME_MIB)?;
    let count = scale.of(1000, 40);
    for n in 0..count {
        if n % 10 == 0 {
            overwrite_some(&stand, n / 10 * SMALL_VOLUMES)?;
        }
        stand.snapshot(&format!("n{n}"))?;
    }
    let opened = stand.serve_cold()?;
    Ok(vec![Row::new(
        format!("open after kill -9, {count} snapshots of {VOLUMES} volumes"),
        opened,
        "s",
        Limit::AtMost(2.0),
        "to the first byte read, caches dropped; eight volumes are written to between every ten snapshots".into(),
    )])
}

/// Writes to as many volumes as the job has, this one first.
fn overwrite_some(stand: &Stand, first: u64) -> Result<()> {
    let mut settings =
        vec![("SECONDS".to_owned(), "1".to_owned()), ("SMALL_SIZE".to_owned(), (VOLUME_MIB * MIB).to_string())];
    settings.extend((0..SMALL_VOLUMES).map(|n| (format!("URI{n}"), stand.uri((first + n) % VOLUMES))));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    stand.fio("random-write-8k-flush-each-8-volumes", &settings)?;
    Ok(())
}
