//! What option haggling is about: the exports to choose from, and how it can end.

use super::Rules;

/// One export as the handshake shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The full name, `DOT.VOLUME`.
    pub name: String,
    pub description: String,
    pub size: u64,
    pub read_only: bool,
}

/// Why a name leads to no export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotExported {
    /// Nothing here has that name, or it is no name at all.
    Unknown(String),
    /// It could be understood, but this server will not or cannot serve it.
    Refused(String),
}

/// Where the handshake looks names up.
pub trait Directory {
    fn list(&self) -> Vec<Listing>;
    fn find(&self, name: &str) -> Result<Listing, NotExported>;
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub export: Listing,
    pub rules: Rules,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The bytes given were used as far as they hold whole options.
    NeedMore,
    /// The transmission phase begins with the next byte.
    Finished(Box<Negotiated>),
    /// The client left in good order.
    Aborted,
}

/// Why the connection must end without a further word: the protocol has no reply for these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("option haggling: client flags {0:#x} hold bits that were not offered")]
    ClientFlags(u32),
    #[error("option haggling: bad magic {0:#018x} before an option: not an NBD client, or the stream lost its place")]
    OptionMagic(u64),
    #[error("option haggling: option {option} of {length} bytes is longer than any option can be")]
    OptionLength { option: u32, length: u32 },
    #[error("option haggling: client without the fixed newstyle flag sent option {0}, which needs it")]
    NotFixed(u32),
    #[error("option haggling: EXPORT_NAME: {0}")]
    ExportName(String),
}
