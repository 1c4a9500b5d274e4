//! A snapshot must cost the same whether it is the first or the ten thousandth.

use std::path::Path;

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;

const SAMPLES: u64 = 60;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let stand = Stand::new(&folder.join("create"), scale.of(12 * 1024, 4096), 1, 1024)?;
    stand.prefill(1024)?;
    let before = stand.memory_bytes()?;
    let (thousand, ten_thousand) = (scale.of(1000, 100), scale.of(10_000, 300));
    let mut taken = 0;
    let mut medians = Vec::new();
    let mut evidence = Vec::new();
    for existing in [1, thousand, ten_thousand] {
        while taken < existing.max(1) {
            stand.snapshot(&format!("n{taken}"))?;
            taken += 1;
        }
        let mut milliseconds = Vec::new();
        for _ in 0..SAMPLES {
            milliseconds.push(stand.snapshot(&format!("n{taken}"))? * 1e3);
            taken += 1;
        }
        medians.push(quantile(&milliseconds, 0.5));
        evidence.push(spread(&milliseconds, "ms"));
    }
    let grown = stand.memory_bytes()?.saturating_sub(before) as f64 / f64::from(1 << 20);
    Ok(vec![
        Row::new("create, 1 existing", medians[0], "ms", Limit::None, evidence[0].clone()),
        Row::new(
            format!("create, {thousand} existing, against 1"),
            medians[1] / medians[0],
            "×",
            Limit::AtMost(1.2),
            evidence[1].clone(),
        ),
        Row::new(
            format!("create, {ten_thousand} existing, against 1"),
            medians[2] / medians[0],
            "×",
            Limit::AtMost(1.2),
            evidence[2].clone(),
        ),
        Row::new(
            format!("memory of {taken} snapshots"),
            grown,
            "MiB",
            Limit::AtMost(64.0),
            "growth of the server's resident memory".into(),
        ),
    ])
}
