//! Why a Treering store can be trusted: a reference model, and machines that compare the engine with it.
//!
//! | room | holds |
//! |---|---|
//! | `model` | what a store should hold, piece by piece in the order in which the engine published them |
//! | `scenario`, `random`, `content` | what a seed decides, and the bytes that are written |
//! | `world`, `clients` | a running store under several clients, every answer checked |
//! | `life`, `recovered` | crashes, recoveries, and what is owed after each |
//! | `run`, `coverage` | many seeds, and what they met |
//! | `exhaustive` | small traces: every crash point, every subset of what was in doubt |
//! | `full` | stores that are filled to the last page, and must go on |
//! | `canaries` | broken engines that all of this must reject (feature `canary`) |
//! | `images` | damaged stores: open, read, check, and never panic |
//! | `repairs` | damaged metadata: repaired, and everything reads as before but for what the report names |
#![forbid(unsafe_code)]

#[cfg(feature = "canary")]
pub mod canaries;
pub mod clients;
pub mod content;
pub mod coverage;
pub mod exhaustive;
pub mod full;
pub mod held;
pub mod images;
pub mod life;
pub mod model;
pub mod random;
pub mod recovered;
pub mod repairs;
pub mod run;
pub mod scenario;
pub mod slices;
pub mod world;
