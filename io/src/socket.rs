//! Sockets: a byte stream to one client or peer, and the listeners they come from.
//!
//! At most one send and one receive are in flight per socket: two sends could interleave their bytes, so a second one is a bug
//! of the caller and asserted; a second receive waits. No byte is ever lost to a dropped future: what an abandoned receive
//! brought is kept here and given to the next. When the program drops its last handle the connection is shut down, so that a
//! receive in flight ends; the descriptor itself closes when the last operation has let go of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use rustix::net::{SocketAddrAny, sockopt};

use crate::backend::Address;
use crate::notify::Notify;
use crate::sim::{SimListener, SimSocket};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Unix { pid: u32, uid: u32, gid: u32 },
    Tcp(SocketAddr),
}

#[derive(Clone)]
pub struct Socket(Rc<ProgramSide>);

/// What the program holds; operations in flight hold the state only.
struct ProgramSide {
    state: Rc<SocketState>,
}

pub(crate) struct SocketState {
    handle: SocketHandle,
    peer: Cell<Option<Peer>>,
    /// Bytes that an abandoned receive brought.
    kept: RefCell<VecDeque<u8>>,
    receiving: Cell<bool>,
    sending: Cell<bool>,
    receive_over: Notify,
}

pub(crate) enum SocketHandle {
    Os(OwnedFd),
    Sim(SimSocket),
}

impl Socket {
    pub(crate) fn new(state: Rc<SocketState>) -> Socket {
        Socket(Rc::new(ProgramSide { state }))
    }

    /// Ends the connection in both directions; a receive in flight answers `Ok(0)` or an error.
    pub fn shutdown(&self) {
        self.0.state.shutdown();
    }

    pub fn peer(&self) -> Peer {
        self.0.state.peer()
    }

    pub(crate) fn state(&self) -> &Rc<SocketState> {
        &self.0.state
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({:?})", self.peer())
    }
}

impl Drop for ProgramSide {
    fn drop(&mut self) {
        self.state.shutdown();
    }
}

impl SocketState {
    pub(crate) fn new(handle: SocketHandle) -> Rc<SocketState> {
        Rc::new(SocketState {
            handle,
            peer: Cell::new(None),
            kept: RefCell::default(),
            receiving: Cell::new(false),
            sending: Cell::new(false),
            receive_over: Notify::new(),
        })
    }

    pub(crate) fn handle(&self) -> &SocketHandle {
        &self.handle
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.handle {
            SocketHandle::Os(descriptor) => descriptor.as_fd(),
            SocketHandle::Sim(_) => {
                panic!("a simulated socket was given to a back end of the operating system")
            }
        }
    }

    pub(crate) fn begin_send(&self) {
        assert!(!self.sending.replace(true), "two sends in flight on one socket would interleave their bytes");
    }

    pub(crate) fn send_ended(&self) {
        self.sending.set(false);
    }

    /// False while another receive is in flight; wait for `receive_over` and look again.
    pub(crate) fn begin_receive(&self) -> bool {
        !self.receiving.replace(true)
    }

    pub(crate) fn receive_ended(&self) {
        self.receiving.set(false);
        self.receive_over.notify_all();
    }

    pub(crate) fn receive_over(&self) -> &Notify {
        &self.receive_over
    }

    pub(crate) fn keep_received(&self, bytes: &[u8]) {
        self.kept.borrow_mut().extend(bytes);
    }

    /// Moves kept bytes into `into`; gives the count.
    pub(crate) fn take_kept(&self, into: &mut [u8]) -> usize {
        let mut kept = self.kept.borrow_mut();
        let count = kept.len().min(into.len());
        for (place, byte) in into.iter_mut().zip(kept.drain(..count)) {
            *place = byte;
        }
        count
    }

    fn shutdown(&self) {
        match &self.handle {
            // An error says that the peer is gone already.
            SocketHandle::Os(descriptor) => drop(rustix::net::shutdown(descriptor, rustix::net::Shutdown::Both)),
            SocketHandle::Sim(socket) => socket.shutdown(),
        }
    }

    fn peer(&self) -> Peer {
        if let Some(peer) = self.peer.get() {
            return peer;
        }
        let peer = match &self.handle {
            SocketHandle::Os(descriptor) => peer_of(descriptor),
            SocketHandle::Sim(socket) => socket.peer(),
        };
        self.peer.set(Some(peer));
        peer
    }
}

/// A peer that is gone before it was asked for is reported with an unspecified address.
fn peer_of(descriptor: &OwnedFd) -> Peer {
    let nowhere = Peer::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    match rustix::net::getpeername(descriptor) {
        Ok(Some(address)) if address.address_family() == rustix::net::AddressFamily::UNIX => {
            unix_credentials(descriptor).unwrap_or(nowhere)
        }
        Ok(Some(address)) => SocketAddr::try_from(address).map_or(nowhere, Peer::Tcp),
        _ => nowhere,
    }
}

/// The process at the other end when it connected; its pid is 0 if it is none of our namespace's.
fn unix_credentials(descriptor: &OwnedFd) -> Option<Peer> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `credentials`, which any bytes make valid, before the call returns.
    let answer = unsafe {
        let place = (&raw mut credentials).cast();
        libc::getsockopt(descriptor.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len)
    };
    let libc::ucred { pid, uid, gid } = credentials;
    (answer == 0).then_some(Peer::Unix { pid: pid.cast_unsigned(), uid, gid })
}

/// Waits for connections. Closed when dropped; a socket file it made stays for the next listener to replace.
pub struct Listener {
    state: Rc<ListenerState>,
}

pub(crate) struct ListenerState {
    handle: ListenerHandle,
    address: Address,
    /// Connections that an abandoned accept brought.
    kept: RefCell<VecDeque<SocketHandle>>,
    accepting: Cell<bool>,
    accept_over: Notify,
}

pub(crate) enum ListenerHandle {
    Os(OwnedFd),
    Sim(SimListener),
}

impl Listener {
    pub(crate) fn new(handle: ListenerHandle, address: Address) -> Listener {
        let kept = RefCell::default();
        let (accepting, accept_over) = (Cell::new(false), Notify::new());
        Listener { state: Rc::new(ListenerState { handle, address, kept, accepting, accept_over }) }
    }

    pub(crate) fn state(&self) -> &Rc<ListenerState> {
        &self.state
    }

    /// Where a TCP listener listens, with the port that the system chose if none was asked for.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match (&self.state.handle, &self.state.address) {
            (ListenerHandle::Os(descriptor), Address::Tcp(_)) => {
                rustix::net::getsockname(descriptor).ok().and_then(|address: SocketAddrAny| address.try_into().ok())
            }
            (ListenerHandle::Sim(_), Address::Tcp(address)) => Some(*address),
            _ => None,
        }
    }
}

impl ListenerState {
    pub(crate) fn handle(&self) -> &ListenerHandle {
        &self.handle
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.handle {
            ListenerHandle::Os(descriptor) => descriptor.as_fd(),
            ListenerHandle::Sim(_) => {
                panic!("a simulated listener was given to a back end of the operating system")
            }
        }
    }

    pub(crate) fn begin_accept(&self) -> bool {
        !self.accepting.replace(true)
    }

    pub(crate) fn accept_ended(&self) {
        self.accepting.set(false);
        self.accept_over.notify_all();
    }

    pub(crate) fn accept_over(&self) -> &Notify {
        &self.accept_over
    }

    /// Takes over the connection that a successful accept named.
    pub(crate) fn adopt(&self, accepted: i32) -> SocketHandle {
        match &self.handle {
            ListenerHandle::Sim(listener) => SocketHandle::Sim(listener.adopt(accepted)),
            ListenerHandle::Os(_) => {
                // SAFETY: the kernel has just returned this descriptor from accept; nobody else knows it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(accepted) };
                match self.address {
                    Address::Tcp(_) => prepare_tcp(&descriptor),
                    Address::Unix(_) => prepare_unix(&descriptor),
                }
                SocketHandle::Os(descriptor)
            }
        }
    }

    pub(crate) fn keep_accepted(&self, socket: SocketHandle) {
        self.kept.borrow_mut().push_back(socket);
    }

    pub(crate) fn take_kept(&self) -> Option<SocketHandle> {
        self.kept.borrow_mut().pop_front()
    }
}

/// What a unix socket holds for a peer that has not read it yet. The kernel's own figure, 208 KiB, is less than one reply of
/// 256 KiB: the sender would wait for the reader in the middle of each.
const UNIX_SEND_BYTES: usize = 1 << 20;

/// Long replies leave in one piece. Who may not pass the system's limit gets as much as that.
fn prepare_unix(descriptor: &OwnedFd) {
    if sockopt::set_socket_send_buffer_size_force(descriptor, UNIX_SEND_BYTES).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(descriptor, UNIX_SEND_BYTES);
    }
}

/// A peer that vanished is noticed within a minute, and small replies leave at once. A socket that refuses works all the same.
pub(crate) fn prepare_tcp(descriptor: &OwnedFd) {
    use std::time::Duration;
    let _ = sockopt::set_tcp_nodelay(descriptor, true);
    let _ = sockopt::set_socket_keepalive(descriptor, true);
    let _ = sockopt::set_tcp_keepidle(descriptor, Duration::from_secs(30));
    let _ = sockopt::set_tcp_keepintvl(descriptor, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepcnt(descriptor, 3);
}
