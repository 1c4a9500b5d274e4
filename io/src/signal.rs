//! SIGTERM and SIGINT as a descriptor that becomes readable, for ever.
//!
//! A handler writes to an eventfd that nobody reads, so every runtime of the process that polls it learns of the signal, now or
//! later. (A signalfd would need the signals blocked in every thread of the process, also in those we did not start.)

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::EventfdFlags;

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The descriptor; the first call installs the handler.
pub(crate) fn termination() -> io::Result<BorrowedFd<'static>> {
    static BELL: OnceLock<Result<OwnedFd, i32>> = OnceLock::new();
    let bell = BELL.get_or_init(|| install().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)));
    match bell {
        Ok(bell) => Ok(std::os::fd::AsFd::as_fd(bell)),
        Err(number) => Err(io::Error::from_raw_os_error(*number)),
    }
}

fn install() -> io::Result<OwnedFd> {
    let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    DESCRIPTOR.store(bell.as_raw_fd(), Ordering::Release);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: zeros are a valid sigaction (default action, empty mask), completed below.
        let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is valid for the call, and the handler does only what a signal handler may (see there).
        let installed = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(bell)
}

/// Runs inside a signal: only an atomic load and write(2), and errno is put back.
extern "C" fn on_signal(_signal: libc::c_int) {
    let one = 1u64;
    // SAFETY: errno is thread-local and always there; write(2) reads eight bytes of a live local; the descriptor is an eventfd
    // that is never closed. Both are async-signal-safe.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(DESCRIPTOR.load(Ordering::Acquire), (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}
