//! Sees that long reads of a volume follow each other, and says how far to read ahead of them.
//!
//! Reads of one stream come in order, over whichever connection, so a read that begins where an earlier one ended goes on with
//! its stream. The window doubles with each of them, so that a client which stops early has cost little. What is read ahead
//! is cut into pieces as long as the client's own: each of its reads finds one piece, whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;

/// Streams of one volume that are known at a time.
const STREAMS: usize = 8;

/// Reads in a row that make a stream.
const FOLLOWING: u32 = 2;

/// Long reads of one volume, the newest first.
#[derive(Default)]
pub(crate) struct Streams(RefCell<VecDeque<Stream>>);

struct Stream {
    /// Where its next read would begin, in blocks.
    next: u64,
    /// Reads that followed the first.
    followed: u32,
    /// Read ahead up to here.
    ahead: u64,
}

impl Streams {
    /// A read of blocks `[from, to)` begins. The range to read ahead now, a multiple of the read's own length; empty mostly.
    pub(crate) fn follow(&self, from: u64, to: u64, window_blocks: u64) -> Range<u64> {
        let mut streams = self.0.borrow_mut();
        let found = streams.iter().position(|stream| stream.next == from);
        let Some(mut stream) = found.and_then(|at| streams.remove(at)) else {
            streams.truncate(STREAMS - 1);
            streams.push_front(Stream { next: to, followed: 0, ahead: to });
            return to..to;
        };
        let len = to - from;
        stream.next = to;
        stream.followed = stream.followed.saturating_add(1);
        let mut range = to..to;
        if stream.followed >= FOLLOWING {
            let window = len.saturating_mul(1 << stream.followed.min(16)).min(window_blocks);
            let start = stream.ahead.max(to);
            let pieces = (to + window).saturating_sub(start) / len;
            range = start..start + pieces * len;
            stream.ahead = range.end;
        }
        streams.push_front(stream);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_opens_with_each_read_and_nothing_is_asked_twice() {
        let streams = Streams::default();
        let ranges: Vec<_> = (0..6).map(|i| streams.follow(i * 64, (i + 1) * 64, 1024)).collect();
        assert_eq!(ranges[..2], [64..64, 128..128]);
        assert_eq!(ranges[2..], [192..448, 448..768, 768..1344, 1344..1408]);
    }

    #[test]
    fn reads_here_and_there_are_no_stream() {
        let streams = Streams::default();
        for i in 0..100 {
            assert!(streams.follow(i * 1000, i * 1000 + 64, 1024).is_empty());
        }
    }

    #[test]
    fn streams_beside_each_other_are_told_apart() {
        let streams = Streams::default();
        for i in 0..4 {
            for base in 0..STREAMS as u64 {
                let from = base * 100_000 + i * 64;
                assert_eq!(streams.follow(from, from + 64, 1024).is_empty(), i < 2);
            }
        }
    }
}
