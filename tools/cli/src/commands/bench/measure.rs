//! What is measured, and how it is summed up.

use crate::nbd_client::NbdClient;
use serde::Serialize;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

const WRITE: usize = 8 << 10;
const READ: usize = 4 << 10;
const QUEUE: usize = 32;

#[derive(Debug, Serialize)]
pub struct Measured {
    pub what: &'static str,
    pub per_second: f64,
    pub median_us: f64,
    pub p99_us: f64,
}

/// Bytes that do not compress, so that reads find data everywhere.
pub fn fill(client: &mut NbdClient) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let mut random = Random::new();
    for offset in (0..client.size()).step_by(STEP as usize) {
        client.write(offset, &random.bytes(STEP as usize))?;
    }
    client.flush()
}

/// One client that writes 8 KiB at random and flushes, over and over.
pub fn write_and_flush(client: &mut NbdClient, time: Duration) -> io::Result<Measured> {
    let mut random = Random::new();
    let slots = client.size() / WRITE as u64;
    let mut taken = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let data = random.bytes(WRITE);
        let started = Instant::now();
        client.write(random.below(slots) * WRITE as u64, &data)?;
        client.flush()?;
        taken.push(started.elapsed());
    }
    Ok(sum_up("8K random write + flush, 1 client", taken, begun.elapsed()))
}

/// One client with 32 reads of 4 KiB in flight.
pub fn read_at_random(client: &mut NbdClient, time: Duration) -> io::Result<Measured> {
    let mut random = Random::new();
    let slots = client.size() / READ as u64;
    let mut in_flight = HashMap::new();
    let mut taken = Vec::new();
    let begun = Instant::now();
    loop {
        while in_flight.len() < QUEUE && begun.elapsed() < time {
            let cookie = client.submit_read(random.below(slots) * READ as u64, READ)?;
            in_flight.insert(cookie, Instant::now());
        }
        if in_flight.is_empty() {
            return Ok(sum_up("4K random read, queue 32", taken, begun.elapsed()));
        }
        let reply = client.reply()?;
        if reply.errno != 0 {
            return Err(io::Error::from_raw_os_error(reply.errno as i32));
        }
        if let Some(started) = in_flight.remove(&reply.cookie) {
            taken.push(started.elapsed());
        }
    }
}

fn sum_up(what: &'static str, mut taken: Vec<Duration>, whole: Duration) -> Measured {
    taken.sort_unstable();
    let at = |share: f64| {
        let index = ((taken.len() as f64 * share) as usize).min(taken.len().saturating_sub(1));
        taken.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Measured { what, per_second: taken.len() as f64 / whole.as_secs_f64(), median_us: at(0.5), p99_us: at(0.99) }
}

/// xorshift: fast, and the same in every run.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(0x2545_f491_4f6c_dd1d)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 8) % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
