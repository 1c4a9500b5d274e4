//! The bytes of a Treering store: what each structure means, how it is written, and how anything at all is read back safely.
//!
//! Each module has a prose chapter (`record.md`) and golden bytes (`vectors/record-*.bin`) under its own name. The chapter
//! gives the reasons, the module the layout, the vectors the proof that neither has drifted.
//!
//! What this crate keeps true: every number is little-endian and of a fixed width; decoding arbitrary bytes never panics, loops
//! or allocates more than the input justifies; what was encoded decodes to itself. Encoding a value that could not be decoded
//! again is a bug of the caller and panics. It knows no files, no time and no threads; it never decides what a store may
//! do, only what the bytes say.
//!
//! Layers, top to bottom, each using only those beneath: `checkpoint`, `superblock` · `container`, `segment` · `record` · `catalog` · `root` ·
//! `node` · `bytes`, `checksum` · `units`, `error`.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod bytes;
pub mod catalog;
pub mod checkpoint;
mod checksum;
pub mod container;
mod error;
pub mod node;
pub mod record;
mod root;
pub mod segment;
pub mod superblock;
pub mod units;

pub use checksum::checksum;
pub use error::DecodeError;
pub use units::*;
