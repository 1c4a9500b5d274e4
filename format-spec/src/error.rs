//! Why bytes were refused. Every variant names the structure and, where there is one, the field, what was found there and
//! what was expected, so that a report about a damaged store can be read without the source at hand.

use std::fmt::Display;

use thiserror::Error;

/// The result of looking at bytes that may be anything: torn, flipped, foreign or newer than this program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("decode {structure}: too short: {found} bytes at {field}, expected {expected}")]
    Truncated { structure: &'static str, field: &'static str, found: u64, expected: u64 },

    /// The place holds something else, or nothing: no sign that this structure was ever written here.
    #[error("decode {structure}: magic is {found:#x}, expected {expected:#x}")]
    Magic { structure: &'static str, found: u64, expected: u64 },

    #[error("decode {structure}: checksum of the {field} is {found:#010x}, stored was {expected:#010x}")]
    Checksum { structure: &'static str, field: &'static str, found: u32, expected: u32 },

    #[error("decode {structure}: {field} is {found}, expected {expected}")]
    Invalid { structure: &'static str, field: &'static str, found: String, expected: String },

    /// A number that the format has set aside for something this program cannot do.
    #[error("decode {structure}: {field} is {found} ({expected}), which this program does not support")]
    Unsupported { structure: &'static str, field: &'static str, found: u64, expected: &'static str },
}

impl DecodeError {
    /// The structure that was being decoded.
    pub fn structure(&self) -> &'static str {
        match self {
            Self::Truncated { structure, .. }
            | Self::Magic { structure, .. }
            | Self::Checksum { structure, .. }
            | Self::Invalid { structure, .. }
            | Self::Unsupported { structure, .. } => structure,
        }
    }

    pub(crate) fn invalid(
        structure: &'static str,
        field: &'static str,
        found: impl Display,
        expected: impl Display,
    ) -> Self {
        Self::Invalid { structure, field, found: found.to_string(), expected: expected.to_string() }
    }
}

/// `Ok` when the condition holds; otherwise the field is reported. What was found and expected is only built when needed.
pub(crate) fn require(
    holds: bool,
    structure: &'static str,
    field: &'static str,
    found: impl Display,
    expected: impl Display,
) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::invalid(structure, field, found, expected)) }
}
