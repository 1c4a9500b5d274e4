//! Ours beside every peer, in one run on one machine.
//!
//! fio (its nbd engine, unix sockets) drives each server through the same table of cases. In every round each peer gets a
//! fresh server on a fresh, prefilled volume; the order of peers rotates from round to round; what is compared is the median
//! over rounds. Beside each rate stand the device's bytes per guest byte and the server's processor time per request.
//!
//! Top down: `table` runs rounds, `session` is one peer's round, `case` is the list of rows and their bars, `peer` knows how
//! each server is started, `server` is a running one; `fio`, `device`, `memory_limit`, `first_read` measure.

#![forbid(unsafe_code)]

pub mod case;
pub mod control;
pub mod device;
pub mod disk_itself;
pub mod fio;
pub mod first_read;
pub mod history;
pub mod machine;
pub mod memory_limit;
pub mod nbd;
pub mod peer;
pub mod report;
pub mod restart;
pub mod server;
pub mod session;
pub mod summary;
pub mod table;
