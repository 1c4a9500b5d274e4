//! The NBD door of Treering.
//!
//! From top to bottom, each room using only those beneath it:
//!
//! - [`daemon`]: one store, opened, served and closed; where its sockets lie.
//! - [`control`]: verbs on a store over HTTP and JSON on a unix socket.
//! - [`server`]: listeners, the limit on connections, the drain on stop, counters.
//! - [`session`]: one connection: receives, starts requests, sends replies in the order they complete.
//! - [`export`]: what a name leads to: a device, its access, and the one client group that may write to it.
//! - [`protocol`]: bytes to decisions and back, without any I/O.
//! - [`reference`](mod@reference): the grammar of names, the same at every door.
//!
//! [`fuzzing`] holds the doors through which fuzzers and seeded tests drive the protocol machines.
#![forbid(unsafe_code)]

pub mod control;
pub mod daemon;
pub mod export;
pub mod fuzzing;
pub mod protocol;
pub mod reference;
pub mod server;
pub mod session;
