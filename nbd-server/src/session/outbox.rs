//! Replies on their way out, gathered so that one send carries all that are ready.
//!
//! Short replies and small payloads are copied behind each other into one buffer: for a 4 KiB read that costs less than one
//! more entry in the gather list. Larger payloads go out of the buffer they were read into.

use super::budget::Permit;
use treering_io::Buffer;

/// Payloads up to here are copied.
const COPIED: usize = 16 << 10;
/// Size of the buffers that replies are copied into.
const CHUNK: usize = 64 << 10;

pub struct Outbox {
    ready: Vec<Buffer>,
    open: Option<(Buffer, usize)>,
    bytes: u64,
    permit: Permit,
}

/// Everything that was ready at one moment, to be sent at once.
pub struct Batch {
    pub buffers: Vec<Buffer>,
    pub bytes: u64,
    /// Given back when the batch has left.
    pub permit: Permit,
}

impl Outbox {
    pub fn new(nothing: Permit) -> Outbox {
        Outbox { ready: Vec::new(), open: None, bytes: 0, permit: nothing }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait to be sent.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn push(&mut self, mut reply: &[u8]) {
        self.bytes += reply.len() as u64;
        while !reply.is_empty() {
            let (buffer, used) = self.open.get_or_insert_with(|| (Buffer::with_len(CHUNK), 0));
            let here = reply.len().min(buffer.len() - *used);
            buffer[*used..*used + here].copy_from_slice(&reply[..here]);
            *used += here;
            reply = &reply[here..];
            if *used == buffer.len() {
                self.close();
            }
        }
    }

    /// A header and the data behind it, with the share of memory that the data holds.
    pub fn push_data(&mut self, header: &[u8], data: Buffer, permit: Permit) {
        self.push(header);
        self.permit.absorb(permit);
        if data.len() <= COPIED {
            self.push(&data);
        } else {
            self.close();
            self.bytes += data.len() as u64;
            self.ready.push(data);
        }
    }

    pub fn take(&mut self, nothing: Permit) -> Batch {
        self.close();
        Batch {
            buffers: std::mem::take(&mut self.ready),
            bytes: std::mem::take(&mut self.bytes),
            permit: std::mem::replace(&mut self.permit, nothing),
        }
    }

    fn close(&mut self) {
        if let Some((mut buffer, used)) = self.open.take() {
            buffer.truncate(used);
            self.ready.push(buffer);
        }
    }
}
