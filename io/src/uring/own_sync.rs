//! Which thread syncs: the flusher's, or the runtime's own.
//!
//! On a fast disk a sync takes less time than waking the flusher's thread for it and being woken by it again. So the runtime's thread
//! does it itself where it would only sleep until the sync has ended. For so long it serves nobody; that is bounded in three ways: it
//! does so only after many short syncs in a row, and one long sync gives the next ones to the flusher; not while the disk
//! owes us reads; and a sync that finds the thread busy for a few turns goes to the flusher, too.
//!
//! No other thread of ours wants the core then. So where one or two clients flush, their next request is watched for (`poll_window`).

use std::collections::VecDeque;

use crate::operation::Token;

/// So many syncs in a row must have been short.
const IN_A_ROW: u32 = 16;

/// A sync that takes longer, the flusher's wake-ups included, is a slow disk's.
const SHORT_NS: u64 = 500_000;

/// Turns for which a sync waits until the thread has nothing else to do.
const MOST_TURNS: u32 = 4;

/// For so long after a sync clients count as flushing.
const LIVELY_NS: u64 = 1_000_000;

/// Completions between two syncs: a client's write, its flush, the answers to both, and records.
const FEW: u64 = 12;

#[derive(Default)]
pub(super) struct OwnSync {
    short_in_a_row: u32,
    /// Those that wait for this thread, and since how many turns.
    waiting: VecDeque<Token>,
    turns: u32,
    /// When the last one ended here, what the ring had completed by then, and how much of that since the one before it.
    ended: u64,
    completed: u64,
    between: u64,
    /// When the flusher, which does one after another, was given those that it has not reported.
    given: VecDeque<u64>,
}

impl OwnSync {
    /// Whether a sync that starts now is to wait for this thread.
    pub(super) fn suits(&self) -> bool {
        self.short_in_a_row >= IN_A_ROW
    }

    pub(super) fn wait(&mut self, token: Token) {
        self.waiting.push_back(token);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// One more turn has found something else to do. True: that was the last one.
    pub(super) fn passed_over(&mut self) -> bool {
        self.turns += 1;
        self.turns >= MOST_TURNS
    }

    pub(super) fn take(&mut self) -> Option<Token> {
        self.turns = 0;
        self.waiting.pop_front()
    }

    pub(super) fn given_away(&mut self, now: u64) {
        self.given.push_back(now);
    }

    /// The flusher reports the first of those that it was given.
    pub(super) fn reported(&mut self, now: u64) {
        if let Some(since) = self.given.pop_front() {
            self.took(now.saturating_sub(since));
        }
    }

    /// This thread has synced, from `started` until now, when the ring had completed so much.
    pub(super) fn ended_here(&mut self, started: u64, now: u64, completed: u64) {
        self.took(now.saturating_sub(started));
        self.ended = now;
        // Of two syncs in a row, the first tells.
        if completed > self.completed {
            self.between = completed - std::mem::replace(&mut self.completed, completed);
        }
    }

    /// Whether this thread does the syncs now, and one or two clients ask for them, one after the other. Where more do, those who come
    /// while it falls asleep are served together, which gives more than serving the first at once.
    pub(super) fn serves_few(&self, now: u64) -> bool {
        self.suits() && self.given.is_empty() && now.saturating_sub(self.ended) < LIVELY_NS && self.between <= FEW
    }

    /// A sync has taken so many nanoseconds.
    pub(super) fn took(&mut self, ns: u64) {
        self.short_in_a_row = if ns <= SHORT_NS { self.short_in_a_row.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_whose_syncs_are_short_has_them_done_here_and_a_long_one_ends_it() {
        let mut own = OwnSync::default();
        for n in 0..u64::from(IN_A_ROW) {
            assert!(!own.suits());
            own.given_away(n * 1_000_000);
            own.reported(n * 1_000_000 + 100_000);
        }
        assert!(own.suits());
        own.took(60_000);
        assert!(own.suits());
        own.took(20_000_000);
        assert!(!own.suits());
        own.took(60_000);
        assert!(!own.suits(), "one short sync says little after a long one");
    }

    #[test]
    fn it_is_worth_watching_for_few_clients_and_only_while_they_flush() {
        let mut own = OwnSync { short_in_a_row: IN_A_ROW, ..OwnSync::default() };
        let (mut now, mut completed) = (0, 0);
        for (each, few) in [(6, true), (10, true), (28, false)] {
            for _ in 0..2 {
                now += 300_000;
                completed += each;
                own.ended_here(now - 60_000, now, completed);
            }
            assert_eq!(own.serves_few(now + 100_000), few, "{each} completions to a sync");
        }
        own.ended_here(now, now + 60_000, completed + 6);
        assert!(!own.serves_few(now + 10_000_000), "nobody flushes any more");
    }

    #[test]
    fn sync_does_not_wait_for_ever_for_a_busy_thread() {
        let mut own = OwnSync::default();
        own.wait(Token::from_bits(7));
        let turns = (1..).find(|_| own.passed_over());
        assert_eq!(turns, Some(MOST_TURNS));
        assert_eq!(own.take(), Some(Token::from_bits(7)));
        assert!(!own.is_waiting());
        own.wait(Token::from_bits(8));
        assert!(!own.passed_over(), "the next one waits as long");
    }
}
