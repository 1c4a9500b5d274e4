//! Bytes from the client: many small requests per receive, large payloads straight to where they stay.

use super::{Connection, SessionError};
use std::io;
use std::rc::Rc;
use treering_io::Buffer;

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Flows,
    Ended,
}

pub struct Receiver {
    connection: Rc<Connection>,
    buffer: Buffer,
    /// What was received and not used yet lies in `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl Receiver {
    pub fn new(connection: &Rc<Connection>, capacity: usize) -> Receiver {
        // An option that is parsed must fit, with its header.
        let capacity = capacity.max(crate::protocol::wire::MAXIMUM_OPTION as usize + 16);
        Receiver { connection: connection.clone(), buffer: Buffer::with_len(capacity), start: 0, end: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "more was used than received");
    }

    /// Receives once, behind what is there.
    pub async fn fill(&mut self) -> io::Result<Stream> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        assert!(self.end < self.buffer.len(), "the receive buffer holds the longest message");
        let buffer = std::mem::replace(&mut self.buffer, Buffer::with_len(0));
        let (received, buffer) = self.connection.io().recv(self.connection.socket(), buffer, self.end).await;
        self.buffer = buffer;
        let count = received?;
        self.end += count;
        Ok(if count == 0 { Stream::Ended } else { Stream::Flows })
    }

    /// The next `len` bytes of the stream in a buffer of their own.
    pub async fn payload(&mut self, len: usize) -> Result<Buffer, SessionError> {
        let mut payload = Buffer::with_len(len);
        let mut have = len.min(self.end - self.start);
        payload[..have].copy_from_slice(&self.buffer[self.start..self.start + have]);
        self.consume(have);
        if have == len {
            return Ok(payload);
        }
        self.connection.set_receiving((len - have) as u64);
        let _done = OnDrop(|| self.connection.set_receiving(0));
        while have < len {
            let (received, buffer) = self.connection.io().recv(self.connection.socket(), payload, have).await;
            payload = buffer;
            match received? {
                0 => return Err(SessionError::Cut("the payload of a write, which was not applied")),
                count => have += count,
            }
        }
        Ok(payload)
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
