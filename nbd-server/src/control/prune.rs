//! Which snapshots of a dot a set of rules keeps, and which may go. Pure: times in, names out.
//!
//! A rule `AGE:EVERY` keeps, of the snapshots that are at most AGE old, the newest of each slot of EVERY, slots being counted
//! from 1970, so that the same snapshots are kept whenever the rules are applied. What no rule keeps may go. Protected
//! snapshots stay, and stand for their slot as any other; those that a reset left are not touched and stand for nothing.

use super::api::Keep;
use std::collections::BTreeMap;

const NS: u64 = 1_000_000_000;

/// A snapshot as the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<Id> {
    pub id: Id,
    /// Since 1970.
    pub created_ns: u64,
    pub protected: bool,
    pub reflog: bool,
}

/// The snapshots that no rule keeps, in the order in which they were given.
pub fn doomed<Id: Copy + Ord>(now_ns: u64, candidates: &[Candidate<Id>], keep: &[Keep]) -> Vec<Id> {
    let judged = || candidates.iter().filter(|c| !c.reflog);
    let mut kept: Vec<Id> = judged().filter(|c| c.protected).map(|c| c.id).collect();
    for rule in keep {
        let young = judged().filter(|c| now_ns.saturating_sub(c.created_ns) / NS <= rule.age_seconds);
        if rule.every_seconds == 0 {
            kept.extend(young.map(|c| c.id));
            continue;
        }
        let mut newest: BTreeMap<u64, &Candidate<Id>> = BTreeMap::new();
        for candidate in young {
            let best = newest.entry(candidate.created_ns / NS / rule.every_seconds).or_insert(candidate);
            if (candidate.created_ns, candidate.id) > (best.created_ns, best.id) {
                *best = candidate;
            }
        }
        kept.extend(newest.values().map(|c| c.id));
    }
    kept.sort_unstable();
    judged().map(|c| c.id).filter(|id| kept.binary_search(id).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const NOW: u64 = 1_795_369_804;

    fn aged(ages: impl IntoIterator<Item = u64>) -> Vec<Candidate<u64>> {
        let candidate = |age| Candidate { id: age, created_ns: (NOW - age) * NS, protected: false, reflog: false };
        ages.into_iter().map(candidate).collect()
    }

    fn rule(age_seconds: u64, every_seconds: u64) -> Keep {
        Keep { age_seconds, every_seconds }
    }

    #[test]
    fn all_of_a_day_and_then_one_an_hour_of_a_week() {
        let snapshots = aged((0..10 * DAY).step_by(HOUR as usize / 4));
        let gone = doomed(NOW * NS, &snapshots, &[rule(DAY, 0), rule(7 * DAY, HOUR)]);
        let kept: Vec<u64> = snapshots.iter().map(|s| s.id).filter(|id| !gone.contains(id)).collect();
        assert_eq!(kept.iter().filter(|age| **age <= DAY).count(), 24 * 4 + 1);
        let older: Vec<u64> = kept.iter().copied().filter(|age| *age > DAY).collect();
        assert!(older.iter().all(|age| *age <= 7 * DAY), "{older:?}");
        assert!((6 * 24 - 1..=6 * 24 + 1).contains(&older.len()), "{}", older.len());
        let mut slots: Vec<u64> = older.iter().map(|age| (NOW - age) / HOUR).collect();
        slots.dedup();
        assert_eq!(slots.len(), older.len(), "one for each hour");
    }

    #[test]
    fn what_was_kept_is_kept_again_and_pruning_twice_is_pruning_once() {
        let rules = [rule(HOUR, 0), rule(DAY, HOUR), rule(30 * DAY, DAY)];
        let mut snapshots = aged((0..40 * DAY).step_by(1237));
        for later in [0, 1, 17, HOUR, 5 * HOUR, DAY, 3 * DAY] {
            let gone = doomed((NOW + later) * NS, &snapshots, &rules);
            snapshots.retain(|s| !gone.contains(&s.id));
            assert_eq!(doomed((NOW + later) * NS, &snapshots, &rules), [0; 0], "{later} s later");
        }
        // Each of the last days has still got its newest one.
        let day = |s: &Candidate<u64>| s.created_ns / NS / DAY;
        for wanted in (NOW - 20 * DAY) / DAY..NOW / DAY {
            assert!(snapshots.iter().any(|s| day(s) == wanted), "day {wanted}");
        }
    }

    #[test]
    fn protected_ones_stay_and_stand_for_their_slot_and_a_reset_s_way_back_stays_out_of_it() {
        let mut snapshots = aged([10, 20, 30, 40 * DAY]);
        snapshots.iter_mut().for_each(|s| s.created_ns = s.created_ns / (DAY * NS) * DAY * NS + s.id % 100);
        snapshots[2].protected = true; // the newest of its day, now
        snapshots[3].protected = true;
        assert_eq!(doomed(NOW * NS, &snapshots, &[rule(7 * DAY, DAY)]), [10, 20]);
        snapshots[2] = Candidate { reflog: true, protected: false, ..snapshots[2] };
        assert_eq!(doomed(NOW * NS, &snapshots, &[rule(7 * DAY, DAY)]), [10]);
        assert_eq!(doomed(NOW * NS, &snapshots, &[]), [10, 20]);
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_old() {
        let mut snapshots = aged([0]);
        snapshots[0].created_ns = (NOW + DAY) * NS;
        assert_eq!(doomed(NOW * NS, &snapshots, &[rule(HOUR, 0)]), [0; 0]);
    }
}
