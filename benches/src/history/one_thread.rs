//! Full write load on many volumes from one thread, which notes when each write was answered.
//!
//! fio has a thread for each volume: 32 of them and a server on a few processors wait for each other, and what a client then waits for
//! an answer is how long the scheduler left its thread aside. One thread that polls all connections waits for the server alone.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::latency_log::{Answer, LatencyLog};
use crate::nbd::{self, DISCONNECT, REPLY_BYTES, WRITE};

const WRITE_BYTES: u32 = 8192;
const DEPTH: usize = 4;
const POLL_LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Random writes of 8 KiB, four in flight on each volume, for so long.
pub fn write_to_all(uris: &[String], volume_bytes: u64, time: Duration) -> Result<LatencyLog> {
    let mut clients = uris.iter().map(|uri| Client::new(uri, volume_bytes)).collect::<Result<Vec<_>>>()?;
    let end = Instant::now() + time;
    for client in &mut clients {
        (0..DEPTH).for_each(|slot| client.begin(slot));
        client.send()?;
    }
    while clients.iter().any(|client| client.in_flight > 0) {
        let mut ready: Vec<PollFd<'_>> = clients
            .iter()
            .map(|client| {
                let out = if client.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                PollFd::new(&client.stream, PollFlags::IN | out)
            })
            .collect();
        if poll(&mut ready, Some(&POLL_LIMIT))? == 0 {
            bail!("no answer from any of {} volumes within 30 s", uris.len());
        }
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (client, _) in clients.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            for slot in client.receive()? {
                if Instant::now() < end {
                    client.begin(slot);
                }
            }
            client.send()?;
        }
    }
    for client in &mut clients {
        client.outgoing = nbd::request(DISCONNECT, 0, 0, 0);
        client.send()?;
    }
    Ok(LatencyLog::new(clients.into_iter().map(|client| client.answers).collect()))
}

struct Client {
    stream: UnixStream,
    volume_bytes: u64,
    random: u64,
    data: Vec<u8>,
    outgoing: Vec<u8>,
    /// The beginning of a reply.
    incoming: Vec<u8>,
    began: [Instant; DEPTH],
    in_flight: usize,
    answers: Vec<Answer>,
}

impl Client {
    fn new(uri: &str, volume_bytes: u64) -> Result<Client> {
        let stream = nbd::connect(uri)?;
        stream.set_nonblocking(true)?;
        let mut client = Client {
            stream,
            volume_bytes,
            random: uri.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte)) | 1,
            data: Vec::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            began: [Instant::now(); DEPTH],
            in_flight: 0,
            answers: Vec::new(),
        };
        // Nothing that compresses.
        client.data = (0..WRITE_BYTES).map(|_| client.step() as u8).collect();
        Ok(client)
    }

    fn step(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn begin(&mut self, slot: usize) {
        let offset = self.step() % (self.volume_bytes / u64::from(WRITE_BYTES)) * u64::from(WRITE_BYTES);
        self.began[slot] = Instant::now();
        self.in_flight += 1;
        self.outgoing.extend(nbd::request(WRITE, slot as u64, offset, WRITE_BYTES));
        self.outgoing.extend_from_slice(&self.data);
    }

    /// As much as the socket takes.
    fn send(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.drain(..sent);
        Ok(())
    }

    /// Slots whose writes were answered.
    fn receive(&mut self) -> Result<Vec<usize>> {
        let mut bytes = [0; DEPTH * REPLY_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the server left"),
            Ok(count) => self.incoming.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
        let mut slots = Vec::new();
        while let Some((reply, rest)) = self.incoming.split_first_chunk::<REPLY_BYTES>() {
            let slot = nbd::answered(*reply)? as usize;
            self.incoming = rest.to_vec();
            self.in_flight -= 1;
            self.answers.push(Answer { at, microseconds: self.began[slot].elapsed().as_secs_f64() * 1e6 });
            slots.push(slot);
        }
        Ok(slots)
    }
}
