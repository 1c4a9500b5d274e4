//! When a slice of sweeping may run: at once while clients ask for nothing, else a small share of the time.
//!
//! A slice is work of the thread that serves. While clients are at work, each is followed by a rest of many times what it took,
//! so that few requests meet one. The share grows as free space shrinks, and there is no rest when writers wait for space: what
//! bounds the versions that wait to be swept is that they hold space. It is never nothing, so every sweep ends.

use std::time::Duration;

/// Clients that asked for nothing for so long are away.
const AWAY: Duration = Duration::from_millis(20);

/// What a slice takes at the least, for its rest.
const SLICE_LEAST: Duration = Duration::from_micros(10);

/// Times are those of the store's clock, in nanoseconds.
#[derive(Default)]
pub(crate) struct Pace {
    /// What clients had asked for when last looked at, and when that was last more than before.
    asked: u64,
    asked_at: u64,
    /// The end of the rest.
    rests_until: u64,
}

impl Pace {
    /// How long the next slice has to wait still. `asked` counts what clients ever asked for.
    pub(crate) fn wait(&mut self, asked: u64, now: u64) -> Option<Duration> {
        if std::mem::replace(&mut self.asked, asked) != asked {
            self.asked_at = now;
        }
        let away = now.saturating_sub(self.asked_at) >= AWAY.as_nanos() as u64;
        let left = Duration::from_nanos(self.rests_until.saturating_sub(now));
        (!away && !left.is_zero()).then_some(left)
    }

    /// A slice took so long; `multiple` of it is rested.
    pub(crate) fn slice_ended(&mut self, took: Duration, multiple: u32, now: u64) {
        self.rests_until = now.saturating_add((took.max(SLICE_LEAST) * multiple).as_nanos() as u64);
    }
}

/// The rest after a slice, as a multiple of its time: `most` of them while a quarter of the slots is free, fewer as that shrinks.
pub(crate) fn rest(most: u32, free_slots: u64, slots: u64) -> u32 {
    let quarter = (slots / 4).max(1);
    (u64::from(most) * free_slots.min(quarter) / quarter) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_slice_waits_for_its_rest_while_clients_are_at_work() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(1, 100 * MS), None);
        pace.slice_ended(Duration::from_millis(1), 100, 101 * MS);
        assert_eq!(pace.wait(2, 111 * MS), Some(Duration::from_millis(90)));
        assert_eq!(pace.wait(3, 201 * MS), None);
    }

    #[test]
    fn nothing_rests_when_clients_are_away() {
        let mut pace = Pace::default();
        pace.wait(1, 100 * MS);
        pace.slice_ended(Duration::from_millis(1), 100, 101 * MS);
        assert!(pace.wait(1, 110 * MS).is_some(), "they were here a moment ago");
        assert_eq!(pace.wait(1, 120 * MS), None);
    }

    #[test]
    fn the_rest_shrinks_with_free_space() {
        assert_eq!(rest(100, 90, 100), 100);
        assert_eq!(rest(100, 25, 100), 100);
        assert_eq!(rest(100, 5, 100), 20);
        assert_eq!(rest(100, 0, 100), 0);
        assert_eq!(rest(100, 1, 2), 100);
    }
}
