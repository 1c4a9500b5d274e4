//! The rows of the serving table that read or flush, on one stand: to compare a fresh store with a worn one.
//!
//! The table's volume is filled from front to back before it is measured, so here too. What the random overwrite left is read first,
//! and shown without a bar: a log has the neighbours of such a volume far apart, and a stream of it costs a read for each piece.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::stand::Stand;
use crate::case::{CASES, Stage};
use crate::peer::{MIB, SMALL_VOLUMES};

pub const SMALL_MIB: u64 = 64;
const WARM_MIB: u64 = 256;
const WINDOWS: u64 = 3;

/// A row by its name in `case`, and the least share of its fresh figure that it keeps.
type Kept = (&'static str, Limit);

pub const TABLE: &[Kept] = &[
    ("read-cached", Limit::AtLeast(0.9)),
    ("sequential-read", Limit::AtLeast(0.9)),
    ("write-flush-1", Limit::AtLeast(0.8)),
    ("write-flush-8", Limit::AtLeast(0.8)),
    ("write-flush-8-volumes", Limit::AtLeast(0.8)),
    ("read-cold", Limit::AtLeast(0.9)),
];

/// Of the volume as random overwrites left it.
pub const SCATTERED: &[Kept] =
    &[("read-cached", Limit::None), ("sequential-read", Limit::None), ("read-cold", Limit::None)];

/// Requests per second by the name of the row, several windows for each. Volume 0 is the big one, of so many bytes; the small ones come next.
pub type Rates = BTreeMap<&'static str, Vec<f64>>;

pub fn measure(stand: &mut Stand, rows: &[Kept], volume_bytes: u64, scale: Scale) -> Result<Rates> {
    let mut settings = vec![
        ("SECONDS".to_owned(), scale.of(3, 1).to_string()),
        ("SIZE".to_owned(), volume_bytes.to_string()),
        ("WARM_SIZE".to_owned(), (WARM_MIB * MIB).to_string()),
        ("SMALL_SIZE".to_owned(), (SMALL_MIB * MIB).to_string()),
    ];
    settings.extend((0..SMALL_VOLUMES).map(|n| (format!("URI{n}"), stand.uri(n + 1))));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let mut measured = Rates::new();
    for (name, _) in rows {
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
        measured.insert(name, rates);
    }
    Ok(measured)
}

pub fn compare(fresh: &Rates, worn: &Rates, rows: &[Kept], which: &str) -> Vec<Row> {
    let mut compared = Vec::new();
    for (name, limit) in rows {
        let title = CASES.iter().find(|case| case.name == *name).map_or(*name, |case| case.title);
        compared.push(Row::new(
            format!("{title} ({name}), {which}, against the fresh store"),
            quantile(&worn[name], 0.5) / quantile(&fresh[name], 0.5),
            "×",
            *limit,
            format!("now {}; fresh {}", spread(&worn[name], "/s"), spread(&fresh[name], "/s")),
        ));
    }
    compared
}
