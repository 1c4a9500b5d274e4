//! Breaks between the slices of a merge, so that those who write and read meanwhile keep most of the store's thread.
//!
//! A slice takes some hundred microseconds, a request ten. Without breaks each turn of the thread served a handful of requests and then
//! a slice: for the time of a fold clients had a fifth of it, and each waited several times as long. A break is several times as
//! long as the slice before it; the further the log runs on meanwhile, the shorter, so that a fold ends. It keeps nothing waiting that
//! needs the fold: without clients at work, or with writers held for space, there are no breaks.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::store::Core;

/// The longest break, as a multiple of the slice before it.
const LONGEST: u64 = 3;

/// What a slice may take, in nanoseconds. One that took longer waited for something itself. (In the simulator work takes no time.)
const SLICE_NS: RangeInclusive<u64> = 1_000..=1_000_000;

/// When a round last let others run, and what they had done by then.
#[derive(Default)]
pub(crate) struct Breaks {
    since: Cell<u64>,
    clients_did: Cell<(u64, u64)>,
}

impl Core {
    /// What is done from now on is the first slice of a round.
    pub(super) fn begin_slices(&self) {
        self.breaks.since.set(self.disk.io().now());
    }

    /// A slice has ended: lets others run.
    pub(super) async fn take_break(&self) {
        let io = self.disk.io();
        let took = io.now().saturating_sub(self.breaks.since.get()).clamp(*SLICE_NS.start(), *SLICE_NS.end());
        // Operations published, and reads begun.
        let clients_did = (self.log.published().0, self.readers.begun());
        let at_work = self.breaks.clients_did.replace(clients_did) != clients_did;
        let unfolded = self.log.sealed_bytes() - self.pressure.folded_bytes.get();
        let hurried = !at_work || self.pressure.held.get() > 0;
        match length(took, unfolded, self.limits.fold_log_bytes) {
            rest @ 1.. if !hurried => io.sleep(Duration::from_nanos(rest)).await,
            _ => io.yield_now().await,
        }
        self.begin_slices();
    }
}

/// How long the break after a slice of `took` nanoseconds is, when so many bytes of log are not folded and a fold is due after `due`:
/// the whole length up to there, nothing from twice as many on.
fn length(took: u64, unfolded: u64, due: u64) -> u64 {
    let left = (2 * due).saturating_sub(unfolded).min(due);
    (u128::from(took * LONGEST) * u128::from(left) / u128::from(due.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_further_the_log_has_run_on_the_shorter_is_a_break() {
        assert_eq!(length(100, 5, 1000), 300);
        assert_eq!(length(100, 1000, 1000), 300);
        assert_eq!(length(100, 1500, 1000), 150);
        assert_eq!(length(100, 2000, 1000), 0);
        assert_eq!(length(100, 1 << 60, 1000), 0);
        assert_eq!(length(100, 5, 0), 0);
    }
}
