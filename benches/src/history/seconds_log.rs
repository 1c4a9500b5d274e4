//! How many requests fio saw answered in each second.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Reads what a job file with `write_iops_log=PREFIX` and one job left, and removes it: requests per second, whole seconds only.
pub fn take(prefix: &Path) -> Result<Vec<f64>> {
    let name = prefix.file_name().context("a log has a name")?.to_string_lossy();
    let file = prefix.with_file_name(format!("{name}_iops.1.log"));
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    fs::remove_file(&file)?;
    let mut seconds = parse(&text)?;
    // The last one may be a part of one, and waits for the flush.
    seconds.pop();
    ensure!(!seconds.is_empty(), "fio left no whole second in {}", file.display());
    Ok(seconds)
}

/// Lines of `milliseconds, requests per second, direction, size, ...`. A second in which nothing was answered has no line.
fn parse(text: &str) -> Result<Vec<f64>> {
    let mut seconds: Vec<f64> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(',').map(|field| field.trim().parse::<f64>().ok());
        let (at, rate) = fields
            .next()
            .flatten()
            .zip(fields.next().flatten())
            .with_context(|| format!("a line that is none of fio's: {line}"))?;
        let second = (at / 1000.0).round().max(1.0) as usize;
        seconds.resize(second.max(seconds.len()), 0.0);
        seconds[second - 1] += rate;
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_an_answer_is_nought() {
        let text = "1000, 500, 1, 8192, 0\n2001, 400, 1, 8192, 0\n3999, 100, 1, 8192, 0\n";
        assert_eq!(parse(text).unwrap(), [500.0, 400.0, 0.0, 100.0]);
    }
}
