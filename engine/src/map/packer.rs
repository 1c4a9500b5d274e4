//! Cuts a sorted series of entries into leaves.
//!
//! Entries that fit as many leaves as they came from make no more of them, evenly filled. When they have outgrown those, they
//! are spread over pages that are filled to nine tenths, so that the next change does not split them again. A series that grew
//! at its end, as a sequential writer makes it, fills its pages and leaves the room in the last one. On the way neighbouring
//! extents that say the same become one.

use treering_format::node::{
    ChecksumList, ENTRY_OVERHEAD_BYTES, ExtentContent, ExtentEntry, NODE_BYTES, NODE_ROOM_BYTES, NodeWriter, TreeKind,
};
use treering_format::record::DATA_BLOCKS_MAX;
use treering_format::units::LogAddress;
use treering_io::Buffer;

use super::child::Child;
use super::rewrite::Run;
use crate::pages::{Page, PageBytes};

/// Room that an evenly filled page uses.
const EVEN_ROOM_BYTES: usize = NODE_ROOM_BYTES / 10 * 9;

/// So many changes side by side come from a sequential writer.
const SERIES_CHANGES: usize = 4;

#[derive(Default)]
pub(super) struct Packer {
    values: Vec<u8>,
    /// Keys, and where the values end.
    entries: Vec<(u64, usize)>,
    pending: Option<Pending>,
    checksums: Vec<u8>,
    /// How many leaves the entries came from.
    leaves_before: usize,
    /// A series of changes ends here, and will go on in later merges.
    pub grew_at_end: bool,
}

/// The newest extent, while its neighbour may join it. Its checksums lie in the packer's.
struct Pending {
    block: u64,
    address: LogAddress,
    count: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Raw,
    Hole,
    Zero,
}

impl Packer {
    pub(super) fn new(leaves_before: usize) -> Packer {
        Packer { leaves_before, ..Packer::default() }
    }

    pub(super) fn push(&mut self, key: u64, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.entries.push((key, self.values.len()));
    }

    /// Pushes all entries of a leaf; in a map its first extent may join the last one here.
    pub(super) fn push_leaf(&mut self, tree: TreeKind, leaf: &Page) {
        (0..leaf.len()).for_each(|index| self.push_entry(tree, leaf.key(index), leaf.value(index)));
    }

    /// Puts all entries of a leaf before those that are here.
    pub(super) fn push_leaf_before(&mut self, tree: TreeKind, leaf: &Page) {
        self.flush();
        let mut joined = Packer { grew_at_end: self.grew_at_end, ..Packer::new(self.leaves_before) };
        joined.push_leaf(tree, leaf);
        let mut start = 0;
        for (key, end) in &self.entries {
            joined.push_entry(tree, *key, &self.values[start..*end]);
            start = *end;
        }
        *self = joined;
    }

    fn push_entry(&mut self, tree: TreeKind, key: u64, value: &[u8]) {
        match tree {
            TreeKind::Map => {
                self.push_extent(key, &ExtentEntry::decode(value).expect("entries of a leaf were checked"))
            }
            TreeKind::Liveness | TreeKind::Catalog => self.push(key, value),
        }
    }

    /// Pushes an extent, or lets it join the one before.
    pub(super) fn push_extent(&mut self, block: u64, extent: &ExtentEntry<'_>) {
        let (kind, checksums) = match extent.content {
            ExtentContent::Raw { checksums } => (Kind::Raw, checksums.bytes()),
            ExtentContent::Hole => (Kind::Hole, &[][..]),
            ExtentContent::Zero => (Kind::Zero, &[][..]),
            ExtentContent::Lz4 { .. } => {
                self.flush();
                extent.encode(&mut self.values);
                return self.entries.push((block, self.values.len()));
            }
        };
        if let Some(pending) = &mut self.pending
            && pending.joins(block, extent, kind)
        {
            pending.count += extent.count;
            // Of a raw extent it is the first block's; of holes and zeros the newer one's, which hides nothing from a diff.
            pending.address = if kind == Kind::Raw { pending.address } else { pending.address.max(extent.address) };
        } else {
            self.flush();
            self.pending = Some(Pending { block, address: extent.address, count: extent.count, kind });
        }
        self.checksums.extend_from_slice(checksums);
    }

    fn flush(&mut self) {
        let Some(Pending { block, address, count, kind }) = self.pending.take() else { return };
        let content = match kind {
            Kind::Raw => ExtentContent::Raw { checksums: ChecksumList::new(&self.checksums) },
            Kind::Hole => ExtentContent::Hole,
            Kind::Zero => ExtentContent::Zero,
        };
        ExtentEntry { address, count, content }.encode(&mut self.values);
        self.entries.push((block, self.values.len()));
        self.checksums.clear();
    }

    /// Notes how many changes in a row stand at the end of a run. One may be chance, unless it is the end of the tree.
    pub(super) fn ends_with_new(&mut self, run: &Run<'_>, changes: usize) {
        self.grew_at_end = changes >= SERIES_CHANGES || changes > 0 && run.high == u64::MAX;
    }

    /// What the entries cost of pages' room.
    pub(super) fn room_used(&mut self) -> usize {
        self.flush();
        self.values.len() + ENTRY_OVERHEAD_BYTES * self.entries.len()
    }

    /// The leaves, by the low ends of their ranges; the first begins at `low`.
    pub(super) fn finish(mut self, low: u64) -> Vec<(u64, Child)> {
        let total = self.room_used();
        let (had, roomy) = (self.leaves_before.max(1), total.div_ceil(EVEN_ROOM_BYTES).max(1));
        let count = if total <= had * NODE_ROOM_BYTES { roomy.min(had) } else { roomy };
        let mut leaves = Vec::new();
        let mut writer = NodeWriter::default();
        let (mut leaf_low, mut start, mut before) = (low, 0, 0);
        for (key, end) in self.entries {
            let cost = end - start + ENTRY_OVERHEAD_BYTES;
            let full = writer.room_used() + cost > NODE_ROOM_BYTES;
            // Measured from the first leaf on: what rounding leaves over must not end up as a tiny leaf of its own.
            let share = total * (leaves.len() + 1) / count;
            let enough = !self.grew_at_end && leaves.len() + 1 < count && before + cost / 2 > share;
            if full || enough {
                leaves.push((leaf_low, leaf(&mut writer)));
                leaf_low = key;
            }
            writer.push(key, &self.values[start..end]);
            before += cost;
            start = end;
        }
        if !writer.is_empty() {
            leaves.push((leaf_low, leaf(&mut writer)));
        }
        leaves
    }
}

fn leaf(writer: &mut NodeWriter) -> Child {
    Child::Leaf(writer.finish(Buffer::with_len(NODE_BYTES)).map(PageBytes::from))
}

impl Pending {
    fn joins(&self, block: u64, extent: &ExtentEntry<'_>, kind: Kind) -> bool {
        let neighbour = kind == self.kind && self.block + u64::from(self.count) == block;
        neighbour
            && match kind {
                Kind::Raw => {
                    self.address.next(self.count) == extent.address
                        && self.count + extent.count <= u32::from(DATA_BLOCKS_MAX)
                }
                Kind::Hole | Kind::Zero => self.count.checked_add(extent.count).is_some(),
            }
    }
}
