//! Which slots to empty. Cost and benefit: what is copied, against the space and for how long it will stay free; old data is
//! likely to stay, so emptying its slot pays for longer. One job takes data of one age, so that what is hot and what is cold
//! do not end in one container.

use treering_format::units::SegmentId;

use crate::segments::{Candidate, Source};

/// How much more than fits is named of one age, and altogether: not everything can be moved in part, and a job that does not
/// fill its container is not worth it.
const NEAR: u64 = 3;
const SURPLUS: u64 = 16;

/// The slots to empty in one job, best first: more than fits, for the rest of the room is filled with parts of the later ones.
pub(super) fn choose(candidates: &[Candidate], capacity: u32, now: SegmentId) -> Vec<Source> {
    let score = |candidate: &Candidate| {
        let used = f64::from(candidate.takes) / f64::from(capacity);
        let age = (now.0.saturating_sub(candidate.written.0) + 1) as f64;
        // Where all is written over alike, age says nothing: it counts, but cannot make up for much that lives.
        (1.0 - used) / (1.0 + used) * (1.0 + age.log2())
    };
    let mut ranked: Vec<(f64, &Candidate)> = candidates.iter().map(|candidate| (score(candidate), candidate)).collect();
    let by_score = |a: &(f64, &Candidate), b: &(f64, &Candidate)| b.0.total_cmp(&a.0).then(a.1.source.cmp(&b.1.source));
    ranked.sort_by(by_score);
    let Some((_, best)) = ranked.first().copied() else { return Vec::new() };
    // Of the others first the half that is nearest in age, but never too few to fill a container.
    let mut near: Vec<(f64, &Candidate)> = ranked.split_off(1);
    near.sort_by_key(|(_, other)| other.written.0.abs_diff(best.written.0));
    let mut live = u64::from(best.takes);
    let fill = near.iter().position(|(_, other)| {
        live += u64::from(other.takes);
        live > NEAR * u64::from(capacity)
    });
    let half = near.len().div_ceil(2).max(fill.map_or(near.len(), |at| at + 1));
    let mut far = near.split_off(half);
    near.sort_by(by_score);
    far.sort_by(by_score);
    let mut filled = u64::from(best.takes);
    let mut order = vec![best.source];
    for (_, candidate) in near.into_iter().chain(far) {
        if filled > SURPLUS * u64::from(capacity) {
            break;
        }
        filled += u64::from(candidate.takes);
        order.push(candidate.source);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use treering_format::units::ContainerId;

    use super::*;

    const CAPACITY: u32 = 100;

    fn candidate(id: u64, takes: u32) -> Candidate {
        Candidate { source: Source::Segment(SegmentId(id)), takes, written: SegmentId(id) }
    }

    #[test]
    fn emptier_goes_first_and_older_before_younger() {
        let order = choose(&[candidate(98, 80), candidate(97, 10), candidate(96, 80)], CAPACITY, SegmentId(99));
        assert_eq!(order.first(), Some(&Source::Segment(SegmentId(97))));
        let order = choose(&[candidate(90, 50), candidate(10, 50)], CAPACITY, SegmentId(99));
        assert_eq!(order.first(), Some(&Source::Segment(SegmentId(10))));
        assert_eq!(choose(&[], CAPACITY, SegmentId(99)), Vec::new());
    }

    #[test]
    fn one_job_takes_one_age() {
        let old = (1..20).map(|id| candidate(id, 30));
        let young = (1000..1020).map(|id| candidate(id, 30));
        let all: Vec<Candidate> = old.chain(young).collect();
        for source in choose(&all, CAPACITY, SegmentId(1021)).into_iter().take(10) {
            let Source::Segment(SegmentId(id)) = source else { panic!("there are no containers") };
            assert!(id < 100, "segment {id} is young");
        }
    }

    proptest! {
        #[test]
        fn a_job_is_filled_if_it_can_be_and_not_much_more(lives in proptest::collection::vec(1u32..90, 0..50)) {
            let all: Vec<Candidate> = lives.iter().enumerate().map(|(i, live)| Candidate {
                source: if i % 3 == 0 { Source::Container(ContainerId(i as u64)) } else { Source::Segment(SegmentId(i as u64)) },
                takes: *live,
                written: SegmentId(i as u64),
            }).collect();
            let order = choose(&all, CAPACITY, SegmentId(50));
            let live = |source: &Source| all.iter().find(|c| c.source == *source).map_or(0, |c| c.takes);
            let chosen: u32 = order.iter().map(live).sum();
            let total: u32 = lives.iter().sum();
            let most = SURPLUS as u32 * CAPACITY;
            prop_assert!(chosen > most || chosen == total);
            let without_last: u32 = order.iter().rev().skip(1).map(live).sum();
            prop_assert!(without_last <= most);
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(distinct.len(), order.len());
        }
    }
}
