//! The NBD protocol as two machines that do no I/O.
//!
//! [`Handshake`] turns the bytes of option haggling into replies and, at its end, a [`Negotiated`] session.
//! [`Transmission`] turns the bytes after it into validated [`Request`]s, or into a [`Refusal`] whose errno was chosen in
//! one place ([`Rules::check`]). [`reply`] encodes what goes back.
//!
//! Both machines consume whole messages from the front of whatever bytes are there and say how many they took, so they
//! behave the same however the stream was cut.

mod agreement;
mod handshake;
mod option;
pub mod reply;
mod request;
mod transmission;
pub mod wire;

#[cfg(test)]
mod tests;

pub use agreement::{Directory, HandshakeError, Listing, Negotiated, NotExported, Progress};
pub use handshake::Handshake;
pub use request::{Errno, Operation, Refusal, Request, Rules};
pub use transmission::{Step, Transmission, TransmissionError};
