//! One measured figure, the bar it has to clear, and the page made of them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, not judged.
    None,
}

#[derive(Serialize, Deserialize)]
pub struct Row {
    pub what: String,
    /// None: not measured, the evidence says why.
    pub value: Option<f64>,
    pub unit: String,
    pub limit: Limit,
    /// What stands behind the figure: samples, interval, peers.
    pub evidence: String,
}

impl Row {
    pub fn new(what: impl Into<String>, value: f64, unit: &str, limit: Limit, evidence: String) -> Row {
        Row { what: what.into(), value: Some(value), unit: unit.into(), limit, evidence }
    }

    /// What this machine cannot run.
    pub fn skipped(what: &str, why: &anyhow::Error) -> Row {
        let evidence = format!("skipped: {why:#}");
        Row { what: what.into(), value: None, unit: String::new(), limit: Limit::None, evidence }
    }

    fn verdict(&self) -> &'static str {
        let met = match (self.limit, self.value) {
            (Limit::AtLeast(bar), Some(value)) => value >= bar,
            (Limit::AtMost(bar), Some(value)) => value <= bar,
            (Limit::None, _) | (_, None) => return "",
        };
        if met { "met" } else { "**missed**" }
    }
}

pub fn table(title: &str, rows: &[Row]) -> String {
    let mut page = format!("\n## {title}\n\n| what | figure | bar | | evidence |\n|---|---|---|---|---|\n");
    for row in rows {
        let bar = match row.limit {
            Limit::AtLeast(bar) => format!("≥ {bar} {}", row.unit),
            Limit::AtMost(bar) => format!("≤ {bar} {}", row.unit),
            Limit::None => "–".into(),
        };
        let figure = match row.value {
            None => "–".into(),
            Some(value) if value >= 100.0 => format!("{value:.0}"),
            Some(value) => format!("{value:.2}"),
        };
        let (what, unit, verdict, evidence) = (&row.what, &row.unit, row.verdict(), &row.evidence);
        let _ = writeln!(page, "| {what} | {figure} {unit} | {bar} | {verdict} | {evidence} |");
    }
    page
}

/// The value below which `share` of the samples lie.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Median and its spread in words.
pub fn spread(samples: &[f64], unit: &str) -> String {
    format!(
        "{} samples: median {:.2}, p90 {:.2}, most {:.2} {unit}",
        samples.len(),
        quantile(samples, 0.5),
        quantile(samples, 0.9),
        quantile(samples, 1.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!((quantile(&samples, 0.0), quantile(&samples, 0.5), quantile(&samples, 1.0)), (1.0, 3.0, 5.0));
    }

    #[test]
    fn a_figure_on_its_bar_is_met() {
        let row = |limit| Row::new("x", 1.0, "s", limit, String::new()).verdict();
        assert_eq!(
            (row(Limit::AtMost(1.0)), row(Limit::AtLeast(1.0)), row(Limit::AtMost(0.9))),
            ("met", "met", "**missed**")
        );
    }
}
