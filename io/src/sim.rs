//! Stub while the simulator is being written.
use crate::socket::Peer;
use std::io;
pub(crate) enum SimFile {}
impl SimFile {
    pub(crate) fn len(&self) -> u64 {
        match *self {}
    }
    pub(crate) fn allocate(&self, _: u64, _: bool) -> io::Result<()> {
        match *self {}
    }
}
pub(crate) enum SimSocket {}
impl SimSocket {
    pub(crate) fn shutdown(&self) {
        match *self {}
    }
    pub(crate) fn peer(&self) -> Peer {
        match *self {}
    }
}
pub(crate) enum SimListener {}
impl SimListener {
    pub(crate) fn adopt(&self, _: i32) -> SimSocket {
        match *self {}
    }
}
/// Why a simulated process did not reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Crashed,
    Deadlock,
}
pub use Stopped::{Crashed, Deadlock};
impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
