//! From the measures of all rounds to one figure per row and peer, and to a verdict on each bar.

use crate::case::{Bar, Case};
use crate::peer::Peer;
use crate::session::{Measure, Measures};

/// All rounds; in each, what every peer measured.
pub type Rounds = Vec<Vec<(Peer, Measures)>>;

pub struct Verdict {
    /// Ours against the bar's peer, or our seconds.
    pub figure: f64,
    pub bar: f64,
    pub met: bool,
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median over rounds of something measured in a row.
pub fn over_rounds(rounds: &Rounds, case: &Case, peer: Peer, what: impl Fn(&Measure) -> f64) -> Option<f64> {
    median(rounds.iter().filter_map(|round| measure_of(round, case, peer)).map(what).collect())
}

/// Ratios are taken inside a round, where the machine was the same, and then their median.
pub fn verdict(rounds: &Rounds, case: &Case) -> Option<Verdict> {
    match case.bar {
        Bar::None => None,
        Bar::AtMostSeconds(bar) => {
            let figure = over_rounds(rounds, case, Peer::Treering, |m| m.value)?;
            Some(Verdict { figure, bar, met: figure <= bar })
        }
        Bar::TimesPeer(bar, peer) => {
            let ratio = |round: &Vec<(Peer, Measures)>| {
                Some(measure_of(round, case, Peer::Treering)?.value / measure_of(round, case, peer)?.value)
            };
            let figure = median(rounds.iter().filter_map(ratio).collect())?;
            Some(Verdict { figure, bar, met: figure >= bar })
        }
    }
}

fn measure_of<'a>(round: &'a [(Peer, Measures)], case: &Case, peer: Peer) -> Option<&'a Measure> {
    round.iter().find(|(p, _)| *p == peer)?.1.get(case.name)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
