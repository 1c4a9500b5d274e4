//! Breaks between the slices of a merge, so that those who write and read meanwhile keep most of the store's thread.
//!
//! A slice takes some hundred microseconds, a request ten. Without breaks each turn of the thread served a handful of requests and then
//! a slice: for the time of a fold clients had a fifth of it, and each waited several times as long. A break is several times as
//! long as the slice before it; the further clients run on meanwhile, the shorter, so that what is not folded stays bounded. There are
//! none where nothing is read or written, nor where somebody waits for the fold: writers held for space, verbs that want a checkpoint,
//! those who asked for the turn soon.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::overlay::PIECE_BYTES;
use crate::store::Core;

/// The longest break, as a multiple of the slice before it.
const LONGEST: u64 = 3;

/// Breaks are that long until so many times the log is unfolded that makes a fold due; they are none at twice as much. A round seldom
/// begins with less than twice: while a checkpoint was written clients ran on. And at a third of its pace a fold still outruns them.
const UNFOLDED: u64 = 2;

/// Less is no sleep.
const SHORTEST_NS: u64 = 1_000;

/// What a slice may take, in nanoseconds. One that took longer waited for something itself. (In the simulator work takes no time.)
const SLICE_NS: RangeInclusive<u64> = 1_000..=1_000_000;

/// Of the round under way; there is one at a time.
#[derive(Default)]
pub(crate) struct Breaks {
    /// When the slice began, by the store's clock.
    since: Cell<u64>,
    /// Operations published and reads begun, when the last break began.
    clients_did: Cell<(u64, u64)>,
}

impl Core {
    /// What is done from now on belongs to the next slice.
    pub(super) fn begin_slices(&self) {
        self.breaks.since.set(self.disk.io().now());
    }

    /// A slice has ended: lets others run.
    pub(super) async fn take_break(&self) {
        let io = self.disk.io();
        let took = io.now().saturating_sub(self.breaks.since.get()).clamp(*SLICE_NS.start(), *SLICE_NS.end());
        let clients_did = (self.log.published().0, self.readers.begun());
        let at_work = self.breaks.clients_did.replace(clients_did) != clients_did;
        let pressure = &self.pressure;
        let awaited = pressure.held.get() > 0 || pressure.checkpoint.get() || self.fold_turn.is_wanted_soon();
        match self.break_after(took) {
            rest @ SHORTEST_NS.. if at_work && !awaited => io.sleep(Duration::from_nanos(rest)).await,
            _ => io.yield_now().await,
        }
        self.begin_slices();
    }

    /// By what is not folded: of the log, and in the overlays' memory, whose end writers would have to wait for.
    fn break_after(&self, took: u64) -> u64 {
        let log = self.log.sealed_bytes() - self.pressure.folded_bytes.get();
        let overlays = self.log.published().0.saturating_sub(self.pressure.folded_order.get()) * PIECE_BYTES;
        let limits = &self.limits;
        length(took, log, limits.fold_log_bytes * UNFOLDED).min(length(took, overlays, limits.overlay_bytes / 2))
    }
}

/// How long the break after a slice of `took` nanoseconds is, when so many bytes are not folded: the whole length up to `whole` of
/// them, nothing from twice as many on.
fn length(took: u64, unfolded: u64, whole: u64) -> u64 {
    let left = whole.saturating_mul(2).saturating_sub(unfolded).min(whole);
    (u128::from(took * LONGEST) * u128::from(left) / u128::from(whole.max(1))) as u64
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
