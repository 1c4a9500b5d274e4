//! Counters of one server.

use crate::protocol::Operation;
use std::cell::Cell;
use std::rc::Rc;

/// What was counted since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: u64,
    pub turned_away: u64,
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub trims: u64,
    pub zeroings: u64,
    /// CACHE and BLOCK_STATUS.
    pub others: u64,
    /// Requests that broke a rule.
    pub refused: u64,
    /// Requests that the device, or its other writer, did not allow.
    pub failed: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Replies on the wire, headers included.
    pub bytes_sent: u64,
}

/// Clones count together.
#[derive(Clone, Default)]
pub struct Stats {
    counts: Rc<Cell<Counts>>,
}

impl Stats {
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    pub(crate) fn count_request(&self, operation: &Operation) {
        self.change(|counts| match operation {
            Operation::Read { len, .. } => {
                counts.reads += 1;
                counts.bytes_read += u64::from(*len);
            }
            Operation::Write { len, .. } => {
                counts.writes += 1;
                counts.bytes_written += u64::from(*len);
            }
            Operation::Flush => counts.flushes += 1,
            Operation::Trim { .. } => counts.trims += 1,
            Operation::WriteZeroes { .. } => counts.zeroings += 1,
            Operation::Cache { .. } | Operation::BlockStatus { .. } | Operation::Disconnect => counts.others += 1,
        });
    }

    pub(crate) fn count_connection(&self) {
        self.change(|counts| counts.connections += 1);
    }

    pub(crate) fn count_turned_away(&self) {
        self.change(|counts| counts.turned_away += 1);
    }

    pub(crate) fn count_refused(&self) {
        self.change(|counts| counts.refused += 1);
    }

    pub(crate) fn count_failed(&self) {
        self.change(|counts| counts.failed += 1);
    }

    pub(crate) fn count_sent(&self, bytes: u64) {
        self.change(|counts| counts.bytes_sent += bytes);
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}
