//! How long to look for a completion before sleeping.
//!
//! A sleeping core takes tens of microseconds to wake, longer than a fast device takes to read a block. So while the disk owes
//! us reads, the ring is watched for a while first. The window opens while waits end soon, and closes on a device that is
//! slow, where watching would only take the core from others. (Watching for writes and syncs too was tried: on two cores it took
//! from the thread that syncs more than it gave, and a flush took twice as long.)

const LONGEST_NS: u64 = 200_000;
/// A wait this long is a slow device's.
const SLOW_NS: u64 = 1_000_000;
const FIRST_NS: u64 = 4_000;

#[derive(Default)]
pub(super) struct PollWindow {
    ns: u64,
}

impl PollWindow {
    pub(super) fn ns(&self) -> u64 {
        self.ns
    }

    /// A wait has ended after `ns` nanoseconds, watching and sleeping together.
    pub(super) fn waited(&mut self, ns: u64) {
        self.ns = if ns > SLOW_NS { self.ns / 2 } else { (self.ns * 2).clamp(FIRST_NS, LONGEST_NS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_opens_for_a_fast_device_and_closes_for_a_slow_one() {
        let mut window = PollWindow::default();
        for _ in 0..8 {
            window.waited(60_000);
        }
        assert!((60_000..=LONGEST_NS).contains(&window.ns()), "{} ns", window.ns());
        for _ in 0..20 {
            window.waited(8_000_000);
        }
        assert_eq!(window.ns(), 0);
    }
}
