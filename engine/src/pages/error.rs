//! Why a page of a tree could not be had, or not be written.

use std::io;
use std::sync::Arc;

use treering_format::DecodeError;
use treering_format::units::PageIndex;

/// Cloned to everybody who waited for the same page.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PageError {
    #[error("page {page} of the {tree}: {source}")]
    Io { page: PageIndex, tree: &'static str, source: Arc<io::Error> },
    /// The bytes are not those that the parent refers to: damaged, lost or put elsewhere by the disk.
    #[error(
        "page {page} of the {tree}: checksum mismatch: its parent says {expected:08x}, the page says {stored:08x}, computed {computed:08x}"
    )]
    Checksum { page: PageIndex, tree: &'static str, expected: u32, stored: u32, computed: u32 },
    /// The checksum holds and the content makes no sense.
    #[error("page {page} of the {tree}: {source}")]
    Content { page: PageIndex, tree: &'static str, source: DecodeError },
    /// A value that the tree only carries makes no sense to its owner.
    #[error("value of key {key} in the {tree}: {what}")]
    Value { tree: &'static str, key: u64, what: String },
    #[error("writing the {tree}: no page is free")]
    NoSpace { tree: &'static str },
}

impl PageError {
    pub(crate) fn io(page: PageIndex, tree: &'static str, source: io::Error) -> PageError {
        PageError::Io { page, tree, source: Arc::new(source) }
    }

    pub(crate) fn value_damaged(tree: &'static str, key: u64, what: impl ToString) -> PageError {
        PageError::Value { tree, key, what: what.to_string() }
    }

    pub(crate) fn no_space(tree: &'static str) -> PageError {
        PageError::NoSpace { tree }
    }
}
