//! Sockets without blocking: try, and if there is nothing yet, wait in `poll`.
//!
//! Every attempt carries MSG_DONTWAIT (listeners are non-blocking), so a readiness that turns out false costs one call and
//! never a wait.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags};

use crate::operation::{Request, Token};

/// A request whose descriptor was not ready. The request in its slot holds the descriptor open.
pub(super) struct Waiting {
    token: Token,
    descriptor: RawFd,
    interest: PollFlags,
}

impl Waiting {
    pub(super) fn new(token: Token, request: &Request) -> Waiting {
        let (descriptor, interest) = match request {
            Request::Receive { socket, .. } => (socket.descriptor().as_raw_fd(), PollFlags::IN),
            Request::Send { socket, .. } => (socket.descriptor().as_raw_fd(), PollFlags::OUT),
            Request::Accept { listener, .. } => (listener.descriptor().as_raw_fd(), PollFlags::IN),
            _ => unreachable!("only sockets wait in poll"),
        };
        Waiting { token, descriptor, interest }
    }

    pub(super) fn signal(token: Token, bell: BorrowedFd<'static>) -> Waiting {
        Waiting { token, descriptor: bell.as_raw_fd(), interest: PollFlags::IN }
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn poll_descriptor(&self) -> PollFd<'_> {
        // SAFETY: the request with this token holds a handle of the descriptor and stays in its slot until its terminal
        // completion; this Waiting is removed before that is reported. The signal's descriptor is never closed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        PollFd::from_borrowed_fd(descriptor, self.interest)
    }
}

/// The result of the request if it could be carried out now.
pub(super) fn attempt(request: &mut Request) -> Option<i32> {
    let result = match request {
        Request::Receive { socket, buffer, from } => {
            let room = &mut buffer[*from..];
            // SAFETY: `room` is writable for its length, and the call returns before the borrow ends.
            unsafe {
                libc::recv(socket.descriptor().as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
            }
        }
        Request::Send { socket, data } => {
            let message = data.message();
            // SAFETY: the message and its vectors name memory that `data` owns, valid during this call.
            unsafe { libc::sendmsg(socket.descriptor().as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
        }
        Request::Accept { listener, .. } => {
            // SAFETY: no address is asked for; the listener is non-blocking.
            let accepted = unsafe {
                libc::accept4(
                    listener.descriptor().as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC,
                )
            };
            accepted as isize
        }
        Request::Terminated => 0,
        _ => unreachable!("only sockets are tried"),
    };
    if result >= 0 {
        return Some(result as i32);
    }
    match std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) {
        libc::EAGAIN | libc::EINTR => None,
        // A connection that was gone before we accepted it.
        libc::ECONNABORTED if matches!(request, Request::Accept { .. }) => None,
        number => Some(-number),
    }
}
