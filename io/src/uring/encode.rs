//! Requests in the ring's language.
//!
//! An entry names memory by address: always memory that its request owns, at an address that does not change while the request
//! lies in its slot (heap of a Buffer, a mapping, boxed vectors, a boxed message, a boxed address).

use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue, types};

use crate::operation::Request;
use crate::os;

/// The kernel transfers no more than this at once; the rest is resumed.
const LARGEST_TRANSFER: usize = 0x7fff_f000;

/// The entry for what is left of a request.
pub(super) fn entry(request: &mut Request) -> squeue::Entry {
    match request {
        Request::Read { file, offset, buffer, done } => {
            let room = &mut buffer[*done..];
            let len = room.len().min(LARGEST_TRANSFER) as u32;
            let descriptor = types::Fd(file.descriptor().as_raw_fd());
            opcode::Read::new(descriptor, room.as_mut_ptr(), len).offset(*offset + *done as u64).build()
        }
        Request::Write { file, offset, data, durable } => {
            let descriptor = types::Fd(file.descriptor().as_raw_fd());
            let offset = *offset + data.transferred() as u64;
            let flags = if *durable && file.writes_through() { libc::RWF_DSYNC } else { 0 };
            match data.vectors() {
                [one] if one.iov_len <= LARGEST_TRANSFER => {
                    let write = opcode::Write::new(descriptor, one.iov_base.cast(), one.iov_len as u32);
                    write.offset(offset).rw_flags(flags).build()
                }
                many => {
                    let write = opcode::Writev::new(descriptor, many.as_ptr(), many.len() as u32);
                    write.offset(offset).rw_flags(flags).build()
                }
            }
        }
        Request::Receive { socket, buffer, from } => {
            let room = &mut buffer[*from..];
            let descriptor = types::Fd(socket.descriptor().as_raw_fd());
            opcode::Recv::new(descriptor, room.as_mut_ptr(), room.len().min(LARGEST_TRANSFER) as u32).build()
        }
        Request::Send { socket, data } => {
            let descriptor = types::Fd(socket.descriptor().as_raw_fd());
            match data.vectors() {
                [one] => {
                    let len = one.iov_len.min(LARGEST_TRANSFER) as u32;
                    opcode::Send::new(descriptor, one.iov_base.cast(), len).flags(libc::MSG_NOSIGNAL).build()
                }
                _ => opcode::SendMsg::new(descriptor, data.message()).flags(libc::MSG_NOSIGNAL as u32).build(),
            }
        }
        Request::Accept { listener, .. } => {
            let descriptor = types::Fd(listener.descriptor().as_raw_fd());
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(descriptor, nowhere, std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        }
        Request::Connect { socket, storage, .. } => {
            let descriptor = types::Fd(socket.descriptor().as_raw_fd());
            let address: *const libc::sockaddr_storage = &raw const **storage;
            opcode::Connect::new(descriptor, address.cast(), os::storage_len(storage)).build()
        }
        Request::Sync { .. } | Request::Terminated => unreachable!("the ring has no entry of their own for them"),
    }
}
