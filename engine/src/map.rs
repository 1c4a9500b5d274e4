//! The map: from the blocks of a line to places in the log, as a paged copy-on-write B+tree; and the same tree under the
//! liveness of segments and the catalog.
//!
//! What it keeps true:
//! - A published page is never changed. An edit makes new nodes for what it touches, in memory, and releases the pages of the
//!   old ones once. A clone of a tree is a few words, and shows what it showed when it was cloned, whatever happens to the
//!   original.
//! - A child's keys lie between its own separator and the next one, and **an entry never reaches past that range**: looking to
//!   the right of a key is always enough.
//! - Every node reference carries the checksum and the birth of the page. A branch is never older than its children, and no
//!   entry newer than its leaf; so an old birth ends a search for what is new.
//! - A page is released by the tree that made it, and not by one that was cloned from it: by its birth.
//! - A merge reports every piece of data that it takes out of the map, exactly once.
//!
//! An edit works in slices of a bounded number of leaves: read them in parallel, then change everything from leaves to root
//! without waiting, then let others run. Between slices the tree is whole.
//!
//! Layers, top to bottom: `extent_map` (ranges) · `tree` (single keys) · `rewrite`, `write_out`, `walk`, `born` · `gather`, `regroup`,
//! `packer` · `child` · `extent`. The map does not know what is dead: whoever merges gets the displaced pieces and decides.

mod born;
mod child;
mod extent;
mod extent_map;
mod gather;
mod leaves;
mod packer;
mod regroup;
mod replace;
mod rewrite;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod write_out;

pub use extent::{Content, Extent};
pub use extent_map::ExtentMap;
pub(crate) use leaves::{Visited, extents_of};
pub use tree::Tree;
pub use treering_format::node::TreeKind;

/// What a changed node costs in memory, its page and its counters, on the safe side.
pub(crate) const NODE_MEMORY_BYTES: u64 = 4800;
