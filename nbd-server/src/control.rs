//! The control socket: verbs on a served store, over HTTP/1.1 and JSON on a unix socket.
//!
//! ```text
//! door (who may, how long, how much) ─► http (bytes to a request) ─► routes ─► verbs ─► engine
//! ```
//!
//! What it keeps true: only the user who runs the server, and root, get an answer; a request has at most 64 KiB and 10
//! seconds to arrive; whatever is sent, the answer is JSON of one schema, an error included. One request per connection.
//!
//! [`verbs`] and [`trouble`] serve the command line too, when it opens a store that nobody serves.

pub mod api;
mod door;
mod http;
pub mod prune;
mod routes;
#[cfg(test)]
mod tests;
pub mod times;
pub mod trouble;
pub mod verbs;

pub use door::{Control, Limits};
pub use http::REQUEST_BYTES_MAX;
pub use routes::Served;
pub use trouble::{Kind, Trouble};
