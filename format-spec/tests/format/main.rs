//! What the format promises, structure by structure.

#![forbid(unsafe_code)]

mod chapters;
mod features;
mod hostile;
mod roundtrip;
mod sample;
mod vectors;
