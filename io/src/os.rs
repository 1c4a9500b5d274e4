//! What both back ends of the operating system share: clocks, randomness, listeners, addresses, and the choice between them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::event::EventfdFlags;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};

use crate::backend::{Address, Backend};
use crate::error::while_doing;
use crate::operation::Request;
use crate::posix::Posix;
use crate::runtime::BackendChoice;
use crate::socket::{Listener, ListenerHandle, SocketHandle, SocketState, prepare_tcp};
use crate::uring::{Uring, why_unavailable};

type Chosen = (Box<dyn Backend>, Arc<OwnedFd>, Option<String>);

pub(crate) fn backend(choice: BackendChoice) -> io::Result<Chosen> {
    let doorbell = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let posix = || -> io::Result<Box<dyn Backend>> { Ok(Box::new(Posix::new(doorbell.clone())?)) };
    match choice {
        BackendChoice::Posix => Ok((posix()?, doorbell, None)),
        BackendChoice::Uring => match Uring::new(doorbell.clone()) {
            Ok(ring) => Ok((Box::new(ring), doorbell, None)),
            Err(error) => Err(io::Error::new(error.kind(), why_unavailable(&error))),
        },
        BackendChoice::Auto => match Uring::new(doorbell.clone()) {
            Ok(ring) => Ok((Box::new(ring), doorbell, None)),
            Err(error) => Ok((posix()?, doorbell, Some(why_unavailable(&error)))),
        },
    }
}

/// Rings a runtime's doorbell, from any thread.
#[expect(
    clippy::disallowed_methods,
    reason = "an eventfd takes the host's byte order, and its count stays on this host"
)]
pub(crate) fn ring(doorbell: &OwnedFd) {
    // This fails only when the eventfd's count is full; then the bell is ringing already.
    let _ = rustix::io::write(doorbell, &1u64.to_ne_bytes());
}

pub(crate) fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

pub(crate) fn wall_clock() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) fn fill_random(mut into: &mut [u8]) {
    while !into.is_empty() {
        match rustix::rand::getrandom(&mut *into, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => into = &mut into[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random numbers: {error}"),
        }
    }
}

/// The kernel's random id of this boot; zeros where it has none (every boot then looks the same, which callers must not trust).
pub(crate) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    id
}

/// Opens a listening socket. `nonblocking` is for a back end that accepts by itself after a poll.
pub(crate) fn listen(address: &Address, mode: u32, nonblocking: bool) -> io::Result<Listener> {
    let flags = SocketFlags::CLOEXEC | if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let descriptor = match address {
        Address::Unix(path) => {
            listen_unix(path, mode, flags).map_err(|error| while_doing("listening on", path, error))?
        }
        Address::Tcp(address) => listen_tcp(address, flags)
            .map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))?,
    };
    Ok(Listener::new(ListenerHandle::Os(descriptor), address.clone()))
}

fn listen_unix(path: &Path, mode: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let stream = |flags| rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    if std::fs::symlink_metadata(path).is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
    {
        match rustix::net::connect(stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?, &address) {
            Err(rustix::io::Errno::CONNREFUSED) => std::fs::remove_file(path)?,
            Err(rustix::io::Errno::NOENT) => {}
            // Connected, or too busy to: somebody listens.
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let descriptor = stream(flags)?;
    // The file takes its mode from the socket, so that it is at no time open to more people than asked for.
    rustix::fs::fchmod(&descriptor, Mode::from_raw_mode(mode))?;
    rustix::net::bind(&descriptor, &address)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    rustix::net::listen(&descriptor, BACKLOG)?;
    Ok(descriptor)
}

fn listen_tcp(address: &SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let descriptor = rustix::net::socket_with(family(address), SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&descriptor, true)?;
    rustix::net::bind(&descriptor, address)?;
    rustix::net::listen(&descriptor, BACKLOG)?;
    Ok(descriptor)
}

const BACKLOG: i32 = 128;

pub(crate) fn socket_for(address: &Address) -> io::Result<SocketHandle> {
    let family = match address {
        Address::Unix(_) => AddressFamily::UNIX,
        Address::Tcp(address) => family(address),
    };
    let descriptor = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if matches!(address, Address::Tcp(_)) {
        prepare_tcp(&descriptor);
    }
    Ok(SocketHandle::Os(descriptor))
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

impl Request {
    /// A connect, with its address in the kernel's form at a stable place.
    pub(crate) fn connect(socket: std::rc::Rc<SocketState>, address: Address) -> io::Result<Request> {
        // SAFETY: zeros are a valid sockaddr_storage (an unspecified address).
        let mut storage = Box::new(unsafe { std::mem::zeroed::<libc::sockaddr_storage>() });
        let place: *mut libc::sockaddr_storage = &raw mut *storage;
        match &address {
            Address::Unix(path) => {
                let path = path.as_os_str().as_bytes();
                // SAFETY: sockaddr_storage is made to hold any address type: large enough and aligned; we are its only owner.
                let unix = unsafe { &mut *place.cast::<libc::sockaddr_un>() };
                if path.len() >= unix.sun_path.len() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's path is too long"));
                }
                unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
                for (place, byte) in unix.sun_path.iter_mut().zip(path) {
                    *place = byte.cast_signed();
                }
            }
            Address::Tcp(SocketAddr::V4(address)) => {
                // SAFETY: as above.
                let v4 = unsafe { &mut *place.cast::<libc::sockaddr_in>() };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = address.port().to_be();
                v4.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            }
            Address::Tcp(SocketAddr::V6(address)) => {
                // SAFETY: as above.
                let v6 = unsafe { &mut *place.cast::<libc::sockaddr_in6>() };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = address.port().to_be();
                v6.sin6_addr.s6_addr = address.ip().octets();
                v6.sin6_scope_id = address.scope_id();
            }
        }
        Ok(Request::Connect { socket, address, storage })
    }
}

/// The length of the address in `storage` that the kernel expects with it.
pub(crate) fn storage_len(storage: &libc::sockaddr_storage) -> u32 {
    let len = match i32::from(storage.ss_family) {
        libc::AF_UNIX => size_of::<libc::sockaddr_un>(),
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        _ => size_of::<libc::sockaddr_in6>(),
    };
    len as u32
}
