//! The rows of the serving table that read or flush, on one stand: to compare a fresh store with a worn one.

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::case::{CASES, Stage};
use crate::peer::{MIB, SMALL_VOLUMES};

pub const SMALL_MIB: u64 = 64;
const WARM_MIB: u64 = 256;
const WINDOWS: u64 = 3;

/// The names of rows as `case` has them, and the least share of its fresh figure that each keeps.
const KEPT: &[(&str, f64)] = &[
    ("read-cached", 0.9),
    ("sequential-read", 0.9),
    ("write-flush-1", 0.8),
    ("write-flush-8", 0.8),
    ("write-flush-8-volumes", 0.8),
    ("read-cold", 0.9),
];

/// Requests per second, several windows for each row of `KEPT`. Volume 0 is the big one, of so many bytes; the small ones come next.
pub fn measure(stand: &mut Stand, volume_bytes: u64, scale: Scale) -> Result<Vec<Vec<f64>>> {
    let mut settings = vec![
        ("SECONDS".to_owned(), scale.of(3, 1).to_string()),
        ("SIZE".to_owned(), volume_bytes.to_string()),
        ("WARM_SIZE".to_owned(), (WARM_MIB * MIB).to_string()),
        ("SMALL_SIZE".to_owned(), (SMALL_MIB * MIB).to_string()),
    ];
    settings.extend((0..SMALL_VOLUMES).map(|n| (format!("URI{n}"), stand.uri(n + 1))));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let mut rows = Vec::new();
    for (name, _) in KEPT {
        let case = CASES.iter().find(|case| case.name == *name).expect("a row of the serving table");
        let mut rates = Vec::new();
        for _ in 0..WINDOWS {
            match case.stage {
                Stage::Warm => drop(stand.fio("warm-up", &settings)?),
                Stage::Cold => drop(stand.serve_cold()?),
                _ => {}
            }
            let seen = stand.fio(case.workload, &settings)?;
            rates.push(seen.requests as f64 / seen.seconds);
        }
        rows.push(rates);
    }
    Ok(rows)
}

pub fn rows(fresh: &[Vec<f64>], worn: &[Vec<f64>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (n, (name, least)) in KEPT.iter().enumerate() {
        let title = CASES.iter().find(|case| case.name == *name).map_or(*name, |case| case.title);
        rows.push(Row::new(
            format!("{title} ({name}), against the fresh store"),
            quantile(&worn[n], 0.5) / quantile(&fresh[n], 0.5),
            "×",
            Limit::AtLeast(*least),
            format!("now {}; fresh {}", spread(&worn[n], "/s"), spread(&fresh[n], "/s")),
        ));
    }
    rows
}
