//! What a write or a send carries: several pieces of memory in one operation.
//!
//! A `Gather` owns its pieces until its operation has ended, and keeps the vectors that name them at a stable heap address,
//! because the kernel may read those after the submission. It knows how much has been transferred, so that a short transfer is
//! resumed where it stopped. It never looks into the bytes.

use std::rc::Rc;

use crate::buffer::Buffer;
use crate::memory::SharedSlice;

/// One piece of a write.
#[derive(Debug)]
pub enum WriteBuffer {
    Owned(Buffer),
    Counted(Rc<Buffer>),
    Shared(SharedSlice),
}

impl WriteBuffer {
    pub fn len(&self) -> usize {
        match self {
            WriteBuffer::Owned(buffer) => buffer.len(),
            WriteBuffer::Counted(buffer) => buffer.len(),
            WriteBuffer::Shared(slice) => slice.len() as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn start(&self) -> *const u8 {
        match self {
            WriteBuffer::Owned(buffer) => buffer.as_ptr(),
            WriteBuffer::Counted(buffer) => buffer.as_ptr(),
            WriteBuffer::Shared(slice) => slice.start(),
        }
    }
}

impl From<Buffer> for WriteBuffer {
    fn from(buffer: Buffer) -> WriteBuffer {
        WriteBuffer::Owned(buffer)
    }
}

impl From<Rc<Buffer>> for WriteBuffer {
    fn from(buffer: Rc<Buffer>) -> WriteBuffer {
        WriteBuffer::Counted(buffer)
    }
}

impl From<SharedSlice> for WriteBuffer {
    fn from(slice: SharedSlice) -> WriteBuffer {
        WriteBuffer::Shared(slice)
    }
}

pub(crate) struct Gather {
    pieces: Vec<WriteBuffer>,
    vectors: Box<[libc::iovec]>,
    message: Box<libc::msghdr>,
    /// The first vector that is not done.
    first: usize,
    transferred: usize,
    total: usize,
}

/// The kernel's IOV_MAX; longer gathers go as short transfers.
const VECTORS_PER_CALL: usize = 1024;

impl Gather {
    pub(crate) fn new(pieces: Vec<WriteBuffer>) -> Gather {
        let vectors: Box<[libc::iovec]> = pieces
            .iter()
            .filter(|piece| !piece.is_empty())
            .map(|piece| libc::iovec { iov_base: piece.start().cast_mut().cast(), iov_len: piece.len() })
            .collect();
        let total = vectors.iter().map(|vector| vector.iov_len).sum();
        // SAFETY: a msghdr of zeros is valid: no name, no vectors, no control data.
        let message = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        Gather { pieces, vectors, message, first: 0, transferred: 0, total }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn transferred(&self) -> usize {
        self.transferred
    }

    pub(crate) fn is_done(&self) -> bool {
        self.transferred == self.total
    }

    /// What is left to transfer, for one call: stable until the next `advance`.
    pub(crate) fn vectors(&self) -> &[libc::iovec] {
        let left = &self.vectors[self.first..];
        &left[..left.len().min(VECTORS_PER_CALL)]
    }

    /// The same as a message for `sendmsg`; it lives as long as this Gather.
    pub(crate) fn message(&mut self) -> *const libc::msghdr {
        let vectors = self.vectors();
        let (start, count) = (vectors.as_ptr(), vectors.len());
        self.message.msg_iov = start.cast_mut();
        self.message.msg_iovlen = count;
        &raw const *self.message
    }

    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.transferred += bytes;
        assert!(self.transferred <= self.total, "the kernel transferred more than it was given");
        while bytes > 0 {
            let vector = &mut self.vectors[self.first];
            let step = bytes.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(step);
            vector.iov_len -= step;
            bytes -= step;
            if vector.iov_len == 0 {
                self.first += 1;
            }
        }
    }

    /// What is left, for the simulator, which is its own kernel: shared memory is looked at only when the write takes effect.
    pub(crate) fn capture(&self) -> Vec<Captured> {
        let mut skip = self.transferred;
        let mut captured = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let from = skip.min(piece.len());
            skip -= from;
            captured.push(match piece {
                WriteBuffer::Owned(buffer) => Captured::Bytes(buffer[from..].to_vec()),
                WriteBuffer::Counted(buffer) => Captured::Counted(buffer.clone(), from),
                WriteBuffer::Shared(slice) => Captured::Shared(slice.clone(), from),
            });
        }
        captured
    }
}

/// A piece of a simulated write, from an offset on.
pub(crate) enum Captured {
    Bytes(Vec<u8>),
    Counted(Rc<Buffer>, usize),
    Shared(SharedSlice, usize),
}

impl Captured {
    pub(crate) fn len(&self) -> usize {
        match self {
            Captured::Bytes(bytes) => bytes.len(),
            Captured::Counted(buffer, from) => buffer.len() - from,
            Captured::Shared(slice, from) => slice.len() as usize - from,
        }
    }

    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Captured::Bytes(captured) => bytes.extend_from_slice(captured),
            Captured::Counted(buffer, from) => bytes.extend_from_slice(&buffer[*from..]),
            Captured::Shared(slice, from) => {
                let start = bytes.len();
                bytes.resize(start + self.len(), 0);
                slice.copy_out(*from, &mut bytes[start..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_transfer_resumes_inside_a_piece() {
        let pieces =
            vec![Buffer::from(&b"abc"[..]).into(), Buffer::zeroed(0).into(), Buffer::from(&b"defgh"[..]).into()];
        let mut gather = Gather::new(pieces);
        for step in [2, 1, 1, 3] {
            gather.advance(step);
        }
        let mut rest = Vec::new();
        gather.capture().iter().for_each(|piece| piece.append_to(&mut rest));
        assert_eq!(rest, b"h");
        assert_eq!(gather.vectors().len(), 1);
        gather.advance(1);
        assert!(gather.is_done());
    }
}
