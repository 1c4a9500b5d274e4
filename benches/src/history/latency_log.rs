//! When each request of a load was answered, and how long it took: what fio logged, or a client of ours.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The requests of one client, in the order of their answers.
pub type Client = Vec<Answer>;

#[derive(Clone, Copy)]
pub struct Answer {
    /// Microseconds since 1970; fio knows the millisecond.
    pub at: u64,
    pub microseconds: f64,
}

pub struct LatencyLog {
    clients: Vec<Client>,
}

impl LatencyLog {
    pub fn new(clients: Vec<Client>) -> LatencyLog {
        LatencyLog { clients }
    }

    /// Reads what a job file with `write_lat_log=PREFIX` left, and removes it.
    pub fn take(prefix: &Path) -> Result<LatencyLog> {
        let mut clients = Vec::new();
        for number in 1.. {
            let file = prefix.with_file_name(format!("{}_clat.{number}.log", name_of(prefix)?));
            if !file.exists() {
                break;
            }
            clients.push(parse(&fs::read_to_string(&file)?).with_context(|| format!("reading {}", file.display()))?);
            fs::remove_file(&file)?;
        }
        ensure!(!clients.is_empty(), "fio left no log at {}", prefix.display());
        Ok(LatencyLog { clients })
    }

    /// First and last answer, in microseconds since 1970.
    pub fn span(&self) -> (u64, u64) {
        let all = || self.clients.iter().flatten().map(|answer| answer.at);
        (all().min().unwrap_or(0), all().max().unwrap_or(0))
    }

    /// The longest time within `[from, to]` in which some client got no answer, in milliseconds.
    pub fn longest_gap(&self, from: u64, to: u64) -> f64 {
        let gap = |client: &Client| {
            let within: Vec<u64> = client.iter().map(|a| a.at).filter(|at| (from..=to).contains(at)).collect();
            let (Some(first), Some(last)) = (within.first(), within.last()) else { return to - from };
            let between = within.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
            between.max(first - from).max(to - last)
        };
        self.clients.iter().map(gap).max().unwrap_or(0) as f64 / 1e3
    }

    /// How long the requests took that were answered within `[from, to)`, in microseconds.
    pub fn took(&self, from: u64, to: u64) -> Vec<f64> {
        let within = self.clients.iter().flatten().filter(|answer| (from..to).contains(&answer.at));
        within.map(|answer| answer.microseconds).collect()
    }
}

fn name_of(prefix: &Path) -> Result<String> {
    Ok(prefix.file_name().context("a log has a name")?.to_string_lossy().into_owned())
}

/// Lines of `time, nanoseconds, direction, size, ...`.
fn parse(text: &str) -> Result<Client> {
    let mut client = text
        .lines()
        .map(|line| {
            let mut fields = line.split(',').map(str::trim);
            let mut number = || fields.next()?.parse::<u64>().ok();
            let answer = number().zip(number()).map(|(at, ns)| Answer { at: at * 1000, microseconds: ns as f64 / 1e3 });
            answer.with_context(|| format!("a line that is none of fio's: {line}"))
        })
        .collect::<Result<Client>>()?;
    client.sort_by_key(|answer| answer.at);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_of_one_client_and_reach_to_the_ends() {
        let busy = parse("100, 5000, 1, 8192, 0\n103, 7000, 1, 8192, 0\n110, 9000, 1, 8192, 0\n").unwrap();
        let other = parse("101, 1000, 1, 8192, 0\n105, 1000, 1, 8192, 0\n109, 1000, 1, 8192, 0\n").unwrap();
        let log = LatencyLog { clients: vec![busy, other] };
        assert_eq!(log.longest_gap(100_000, 110_000), 7.0);
        assert_eq!(log.longest_gap(100_000, 130_000), 21.0);
        assert_eq!(log.took(103_000, 110_000), [7.0, 1.0, 1.0]);
        assert_eq!(log.span(), (100_000, 110_000));
    }
}
