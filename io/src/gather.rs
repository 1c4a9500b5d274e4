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

    fn copy_out(&self, from: usize, into: &mut [u8]) {
        match self {
            WriteBuffer::Owned(buffer) => into.copy_from_slice(&buffer[from..from + into.len()]),
            WriteBuffer::Counted(buffer) => into.copy_from_slice(&buffer[from..from + into.len()]),
            WriteBuffer::Shared(slice) => slice.copy_out(from, into),
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
            .map(|piece| libc::iovec {
                iov_base: piece.start().cast_mut().cast(),
                iov_len: piece.len(),
            })
            .collect();
        let total = vectors.iter().map(|vector| vector.iov_len).sum();
        // SAFETY: a msghdr of zeros is valid: no name, no vectors, no control data.
        let message = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        Gather {
            pieces,
            vectors,
            message,
            first: 0,
            transferred: 0,
            total,
        }
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
        assert!(
            self.transferred <= self.total,
            "the kernel transferred more than it was given"
        );
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

    /// Copies what is left into `into`, as far as that goes; gives the count. For the simulator, which is its own kernel.
    pub(crate) fn copy_remaining(&self, into: &mut [u8]) -> usize {
        let mut skip = self.transferred;
        let mut copied = 0;
        for piece in &self.pieces {
            let from = skip.min(piece.len());
            skip -= from;
            let step = (piece.len() - from).min(into.len() - copied);
            piece.copy_out(from, &mut into[copied..copied + step]);
            copied += step;
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_transfer_resumes_inside_a_piece() {
        let pieces = vec![
            Buffer::from(&b"abc"[..]).into(),
            Buffer::zeroed(0).into(),
            Buffer::from(&b"defgh"[..]).into(),
        ];
        let mut gather = Gather::new(pieces);
        for step in [2, 1, 1, 3] {
            gather.advance(step);
        }
        let mut rest = [0; 8];
        assert_eq!(gather.copy_remaining(&mut rest), 1);
        assert_eq!(rest[0], b'h');
        assert_eq!(gather.vectors().len(), 1);
        gather.advance(1);
        assert!(gather.is_done());
    }
}
