//! One connection of the demo: writes until the server is gone, and notes what it was told.

use super::journal::Journal;
use crate::nbd_client::NbdClient;
use std::collections::HashMap;
use std::io;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests in flight.
const WINDOW: usize = 16;
/// One of so many requests is a flush.
const FLUSH_EVERY: u64 = 24;
const BLOCKS_MAX: u64 = 16;

#[derive(Debug, Default, Clone, Copy)]
pub struct Written {
    pub writes: u64,
    pub bytes: u64,
    pub flushes: u64,
    /// Requests that had no answer at the end.
    pub under_way: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.flushes += other.flushes;
        self.under_way += other.under_way;
    }
}

enum Sent {
    Write { first: u64, count: u64 },
    Flush { covers: u64 },
}

/// Writes until the connection breaks, and adds what was acknowledged to `acknowledged`, in bytes. Answers that were on their way by then still count: the client was told.
pub fn write_until_cut(mut client: NbdClient, journal: &mut Journal, acknowledged: &AtomicU64) -> io::Result<Written> {
    let mut sent: HashMap<u64, Sent> = HashMap::new();
    let mut written = Written::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    let mut cut = false;
    loop {
        while !cut && sent.len() < WINDOW {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let submitted = if (random >> 8).is_multiple_of(FLUSH_EVERY) {
                let covers = journal.flush_covers();
                client.submit_flush().map(|cookie| (cookie, Sent::Flush { covers }))
            } else {
                let first = (random >> 20) % journal.len();
                let count = journal.free_run(first, 1 + (random >> 56) % BLOCKS_MAX);
                if count == 0 {
                    continue;
                }
                let (offset, bytes) = journal.begin(first, count);
                client.submit_write(offset, &bytes).map(|cookie| (cookie, Sent::Write { first, count }))
            };
            match submitted {
                Ok((cookie, request)) => drop(sent.insert(cookie, request)),
                Err(_) => cut = true,
            }
        }
        let reply = match client.reply() {
            Ok(reply) => reply,
            // The server was killed; that is the point.
            Err(error) if is_cut(&error) => {
                written.under_way = sent.len() as u64;
                return Ok(written);
            }
            Err(error) => return Err(error),
        };
        if reply.errno != 0 {
            return Err(io::Error::from_raw_os_error(reply.errno as i32));
        }
        match sent.remove(&reply.cookie) {
            Some(Sent::Write { first, count }) => {
                journal.acknowledge(first, count);
                written.writes += 1;
                let bytes = count * super::journal::BLOCK as u64;
                written.bytes += bytes;
                acknowledged.fetch_add(bytes, Ordering::Relaxed);
            }
            Some(Sent::Flush { covers }) => {
                journal.flushed(covers);
                written.flushes += 1;
            }
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to nothing that was asked")),
        }
    }
}

fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
