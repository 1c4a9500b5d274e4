//! How this crate words its errors: what we were doing, with what, and what the system said.
//!
//! The kind of the error is kept, because callers branch on it (`WouldBlock` for a held lock, `AddrInUse` for a live socket).

use std::io;
use std::path::Path;

pub(crate) fn while_doing(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} \"{}\": {error}", path.display()))
}

/// A kernel result: a count, or a negated error number.
pub(crate) fn checked(result: i32) -> io::Result<usize> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) }
}
