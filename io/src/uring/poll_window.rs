//! How long to look for a completion before sleeping.
//!
//! A sleeping core takes tens of microseconds to wake, longer than a fast device takes to read a block, or a client to answer an answer.
//! So while the disk owes us reads, or clients flush and this thread syncs, the ring is watched for a while first. The window opens
//! while waits end soon, and closes where they do not: watching would only take the core from others. (While another thread
//! syncs nothing is watched for but reads: that was tried, and on two cores took from that thread more than it gave.)

const FIRST_NS: u64 = 4_000;

/// What a wait may soon end with.
#[derive(Clone, Copy)]
pub(super) enum Watched {
    Reads,
    Clients,
}

/// One for each.
pub(super) struct PollWindows {
    reads: PollWindow,
    clients: PollWindow,
}

impl PollWindows {
    pub(super) fn of(&mut self, watched: Watched) -> &mut PollWindow {
        match watched {
            Watched::Reads => &mut self.reads,
            Watched::Clients => &mut self.clients,
        }
    }
}

impl Default for PollWindows {
    fn default() -> PollWindows {
        PollWindows { reads: PollWindow::for_reads(), clients: PollWindow::for_clients() }
    }
}

pub(super) struct PollWindow {
    ns: u64,
    longest_ns: u64,
    /// A wait this long was not worth watching for.
    slow_ns: u64,
}

impl PollWindow {
    /// While the disk owes us reads.
    fn for_reads() -> PollWindow {
        PollWindow { ns: 0, longest_ns: 200_000, slow_ns: 1_000_000 }
    }

    /// While clients flush: each is to come back soon.
    fn for_clients() -> PollWindow {
        PollWindow { ns: 0, longest_ns: 50_000, slow_ns: 200_000 }
    }

    pub(super) fn ns(&self) -> u64 {
        self.ns
    }

    /// A wait has ended after `ns` nanoseconds, watching and sleeping together.
    pub(super) fn waited(&mut self, ns: u64) {
        self.ns = if ns > self.slow_ns { self.ns / 2 } else { (self.ns * 2).clamp(FIRST_NS, self.longest_ns) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_opens_for_a_fast_device_and_closes_for_a_slow_one() {
        for (mut window, longest) in [(PollWindow::for_reads(), 200_000), (PollWindow::for_clients(), 50_000)] {
            for _ in 0..8 {
                window.waited(60_000);
            }
            assert_eq!(window.ns(), longest);
            for _ in 0..20 {
                window.waited(8_000_000);
            }
            assert_eq!(window.ns(), 0);
        }
    }
}
