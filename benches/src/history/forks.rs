//! A thousand writable copies of one snapshot.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::Scale;
use super::figures::{Limit, Row};
use super::stand::Stand;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("forks"), 8192, 1, 1024)?;
    stand.prefill(1024)?;
    stand.snapshot("base")?;
    let before = stand.memory_bytes()?;
    let count = scale.of(1000, 100);
    let names: Vec<String> = (0..count).map(|n| format!("fork-{n}")).collect();
    let started = Instant::now();
    for batch in names.chunks(500) {
        stand.ask("POST", "/v1/dots/bench/forks", &json!({ "at": "base", "names": batch }))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let each = stand.memory_bytes()?.saturating_sub(before) as f64 / 1024.0 / count as f64;
    Ok(vec![
        Row::new(
            format!("{count} forks of one snapshot"),
            seconds,
            "s",
            Limit::AtMost(1.0),
            "durable when answered".into(),
        ),
        Row::new("memory of a fork", each, "KiB", Limit::AtMost(64.0), "growth of the server's resident memory".into()),
    ])
}
