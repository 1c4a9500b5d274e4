//! The arena: payload of published writes, and the ring of their publish entries, in shared memory that outlives the process.
//!
//! It keeps O12: a server that dies loses nothing it acknowledged while the host lives. A write is acknowledged only after its
//! payload was copied here and its entry, with order number and checksum, was written behind it. The arena is a ring: space is
//! given again only when every record that holds its payload has been written. Until it is overwritten the payload stays
//! readable, so the arena is also the cache of what was written last.
//!
//! Layout: one header block, `entries` × 64 bytes, then `blocks` × 4 KiB. Entry of order number n stands at n mod `entries`.
//! Copies of payload are checksummed block by block as they arrive; the sums serve the entry, the record and the map.

use treering_format::units::{LineId, Mount, OrderNumber, StoreId};
use treering_io::{SharedMemory, SharedSlice};

use crate::disk::BLOCK;

const MAGIC: &[u8; 8] = b"TRARENA1";
const HEADER_BYTES: u64 = BLOCK;
const ENTRY_BYTES: u64 = 64;
/// Byte of the header at which the newest published order number stands.
const PUBLISHED_AT: u64 = 96;

/// What an entry says about one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Data,
    Hole,
    Zero,
    /// A catalog operation: durable before it is acknowledged, so it needs no replay; its order number must not look missing.
    Cut,
}

/// One published operation as the ring holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub order: OrderNumber,
    pub line: LineId,
    pub block: u64,
    pub count: u64,
    pub kind: EntryKind,
    /// Block position in the arena; data only.
    pub position: u64,
}

pub(crate) struct Arena {
    memory: SharedMemory,
    blocks: u64,
    entries: u64,
    /// Next block position; positions only grow, the place in memory is position mod `blocks`.
    head: u64,
    /// Positions below it may be overwritten.
    released: u64,
    /// In the first round through the memory: positions below it were touched ahead of the writers.
    touched: u64,
    /// Order numbers up to it need their entries no more.
    released_order: OrderNumber,
    /// Of the payload at each place.
    checksums: Vec<u32>,
}

/// Bytes of shared memory for an arena of this many payload bytes and entries.
pub(crate) fn file_bytes(payload_bytes: u64, entries: u64) -> u64 {
    HEADER_BYTES + (entries * ENTRY_BYTES).next_multiple_of(BLOCK) + payload_bytes / BLOCK * BLOCK
}

impl Arena {
    /// Begins an arena in memory that holds nothing worth keeping. Orders above `after` will be published here.
    pub(crate) fn begin(
        memory: SharedMemory,
        payload_bytes: u64,
        entries: u64,
        identity: &Identity,
        after: OrderNumber,
    ) -> Arena {
        let blocks = payload_bytes / BLOCK;
        assert!(memory.len() >= file_bytes(payload_bytes, entries), "the shared memory fits its arena");
        // Entries of an earlier life must not be taken for ours: clear them before the header makes them count.
        let zeros = vec![0u8; 64 << 10];
        let end = HEADER_BYTES + (entries * ENTRY_BYTES).next_multiple_of(BLOCK);
        let mut at = 0;
        while at < end {
            let n = (end - at).min(zeros.len() as u64);
            memory.copy_in(at, &zeros[..n as usize]);
            at += n;
        }
        let mut header = [0u8; 128];
        header[0..8].copy_from_slice(MAGIC);
        header[8..24].copy_from_slice(&identity.boot);
        header[24..40].copy_from_slice(&identity.store.0);
        header[40..48].copy_from_slice(&identity.mount.0.to_le_bytes());
        header[48..56].copy_from_slice(&blocks.to_le_bytes());
        header[56..64].copy_from_slice(&entries.to_le_bytes());
        header[64..72].copy_from_slice(&after.0.to_le_bytes());
        let sum = crc32fast::hash(&header[..72]);
        header[72..76].copy_from_slice(&sum.to_le_bytes());
        header[PUBLISHED_AT as usize..PUBLISHED_AT as usize + 8].copy_from_slice(&after.0.to_le_bytes());
        memory.publish_fence();
        memory.copy_in(0, &header);
        Arena {
            memory,
            blocks,
            entries,
            head: 0,
            released: 0,
            touched: 0,
            released_order: after,
            checksums: vec![0; blocks as usize],
        }
    }

    /// Whether `count` blocks and `entries` entries fit now.
    pub(crate) fn has_room(&self, count: u64, next: OrderNumber, entries: u64) -> bool {
        let start = self.aligned_head(count);
        start + count <= self.released + self.blocks && next.0 + entries <= self.released_order.0 + self.entries
    }

    /// Copies payload in and returns its position. The caller checked `has_room`.
    pub(crate) fn fill(&mut self, data: &[u8]) -> u64 {
        debug_assert!((data.len() as u64).is_multiple_of(BLOCK));
        let count = data.len() as u64 / BLOCK;
        let start = self.aligned_head(count);
        assert!(start + count <= self.released + self.blocks, "the arena never overwrites payload it still needs");
        let place = start % self.blocks;
        for (i, block) in data.chunks_exact(BLOCK as usize).enumerate() {
            self.checksums[place as usize + i] = crc32fast::hash(block);
        }
        self.memory.copy_in(self.payload_offset(start), data);
        self.head = start + count;
        start
    }

    /// Writes the entry of an operation: from here on it survives the process.
    pub(crate) fn publish(&mut self, entry: &Entry) {
        assert!(
            entry.order.0 <= self.released_order.0 + self.entries,
            "an entry never replaces one that is still needed"
        );
        let payload = match entry.kind {
            EntryKind::Data => fold_checksums(self.checksums(entry.position, entry.count)),
            EntryKind::Hole | EntryKind::Zero | EntryKind::Cut => 0,
        };
        self.memory.publish_fence();
        self.memory.copy_in(self.entry_offset(entry.order), &encode_entry(entry, payload));
        self.memory.publish_fence();
        self.memory.copy_in(PUBLISHED_AT, &entry.order.0.to_le_bytes());
    }

    /// Everything up to this position and order number has been written to the log.
    pub(crate) fn release(&mut self, position: u64, order: OrderNumber) {
        debug_assert!(position <= self.head);
        self.released = self.released.max(position);
        self.released_order = self.released_order.max(order);
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Whether the payload at `position` has not been overwritten.
    pub(crate) fn is_resident(&self, position: u64) -> bool {
        position != crate::overlay::NOT_IN_ARENA && position + self.blocks >= self.head
    }

    pub(crate) fn checksums(&self, position: u64, count: u64) -> &[u32] {
        let place = (position % self.blocks) as usize;
        &self.checksums[place..place + count as usize]
    }

    pub(crate) fn slice(&self, position: u64, count: u64) -> SharedSlice {
        self.memory.slice(self.payload_offset(position), count * BLOCK)
    }

    pub(crate) fn copy_out(&self, position: u64, into: &mut [u8]) {
        self.memory.copy_out(self.payload_offset(position), into);
    }

    /// Touches the next blocks that no write has reached yet, so that writers do not pay for the first use of the memory.
    /// False when all of it is in use or touched.
    pub(crate) fn touch_ahead(&mut self, count: u64) -> bool {
        let from = self.touched.max(self.head);
        let to = (from + count).min(self.blocks);
        if from >= to {
            return false;
        }
        let zeros = vec![0u8; ((to - from) * BLOCK) as usize];
        self.memory.copy_in(self.payload_offset(from), &zeros);
        self.touched = to;
        true
    }

    /// Writes over payload in place: for the canary that breaks the rule against it.
    pub(crate) fn overwrite(&self, position: u64, data: &[u8]) {
        self.memory.copy_in(self.payload_offset(position), data);
    }

    /// A run never wraps: when it would, the blocks up to the end of the memory are skipped.
    fn aligned_head(&self, count: u64) -> u64 {
        let room = self.blocks - self.head % self.blocks;
        if count <= room { self.head } else { self.head + room }
    }

    fn payload_offset(&self, position: u64) -> u64 {
        HEADER_BYTES + (self.entries * ENTRY_BYTES).next_multiple_of(BLOCK) + position % self.blocks * BLOCK
    }

    fn entry_offset(&self, order: OrderNumber) -> u64 {
        HEADER_BYTES + order.0 % self.entries * ENTRY_BYTES
    }
}

/// What an arena belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub boot: [u8; 16],
    pub store: StoreId,
    pub mount: Mount,
}

/// An arena that a dead server left behind, read only.
pub(crate) struct Remains {
    memory: SharedMemory,
    mount: Mount,
    blocks: u64,
    entries: u64,
    begun_after: OrderNumber,
    published: OrderNumber,
}

impl Remains {
    /// Reads the header; says what is wrong when this is not an arena of the store in this boot.
    pub(crate) fn open(
        memory: SharedMemory,
        boot: [u8; 16],
        store: StoreId,
        known: impl Fn(Mount) -> bool,
    ) -> Result<Remains, String> {
        if memory.len() < HEADER_BYTES {
            return Err(format!("is too short ({} bytes)", memory.len()));
        }
        let mut header = [0u8; 128];
        memory.copy_out(0, &mut header);
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let sum = u32::from_le_bytes(header[72..76].try_into().expect("four bytes"));
        if &header[0..8] != MAGIC || crc32fast::hash(&header[..72]) != sum {
            return Err("holds no arena".into());
        }
        let mount = Mount(number(40));
        if header[8..24] != boot || header[24..40] != store.0 || !known(mount) {
            return Err("belongs to another store or another run of it".into());
        }
        let (blocks, entries) = (number(48), number(56));
        if memory.len() < file_bytes(blocks.saturating_mul(BLOCK), entries) {
            return Err(format!("is cut short ({} bytes)", memory.len()));
        }
        Ok(Remains {
            memory,
            mount,
            blocks,
            entries,
            begun_after: OrderNumber(number(64)),
            published: OrderNumber(number(PUBLISHED_AT as usize)),
        })
    }

    pub(crate) fn mount(&self) -> Mount {
        self.mount
    }

    pub(crate) fn published(&self) -> OrderNumber {
        self.published
    }

    /// Entries above `after`, in order, with none missing up to the newest published one; else what is missing.
    pub(crate) fn entries_after(&self, after: OrderNumber) -> Result<Vec<Entry>, String> {
        if after.0 < self.begun_after.0 {
            return Err(format!("begins after operation {}, the log ends at {}", self.begun_after.0, after.0));
        }
        let mut found = Vec::new();
        // An operation being published when the process died may stand one above the counter, whole or torn.
        for order in after.0 + 1..=self.published.0 + 1 {
            match self.entry(OrderNumber(order)) {
                Some(entry) => found.push(entry),
                None if order > self.published.0 => break,
                None => return Err(format!("lacks operation {order} of {}", self.published.0)),
            }
        }
        Ok(found)
    }

    /// The payload of a data entry.
    pub(crate) fn payload(&self, entry: &Entry, from: u64, into: &mut [u8]) {
        let start = HEADER_BYTES + (self.entries * ENTRY_BYTES).next_multiple_of(BLOCK);
        self.memory.copy_out(start + (entry.position + from) % self.blocks * BLOCK, into);
    }

    fn entry(&self, order: OrderNumber) -> Option<Entry> {
        let mut bytes = [0u8; ENTRY_BYTES as usize];
        self.memory.copy_out(HEADER_BYTES + order.0 % self.entries * ENTRY_BYTES, &mut bytes);
        let (entry, payload) = decode_entry(&bytes)?;
        if entry.order != order || entry.count > self.blocks && entry.kind == EntryKind::Data {
            return None;
        }
        if entry.kind == EntryKind::Data {
            let mut block = [0u8; BLOCK as usize];
            let mut sums = Vec::with_capacity(entry.count as usize);
            for i in 0..entry.count {
                self.payload(&entry, i, &mut block);
                sums.push(crc32fast::hash(&block));
            }
            if fold_checksums(&sums) != payload {
                return None;
            }
        }
        Some(entry)
    }
}

fn fold_checksums(sums: &[u32]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for sum in sums {
        hasher.update(&sum.to_le_bytes());
    }
    hasher.finalize()
}

fn encode_entry(entry: &Entry, payload: u32) -> [u8; ENTRY_BYTES as usize] {
    let mut bytes = [0u8; ENTRY_BYTES as usize];
    bytes[0..8].copy_from_slice(&entry.order.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.line.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&entry.block.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.count.to_le_bytes());
    bytes[32..40].copy_from_slice(&entry.position.to_le_bytes());
    bytes[40] = match entry.kind {
        EntryKind::Data => 1,
        EntryKind::Hole => 2,
        EntryKind::Zero => 3,
        EntryKind::Cut => 4,
    };
    bytes[44..48].copy_from_slice(&payload.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES as usize]) -> Option<(Entry, u32)> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let small = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if crc32fast::hash(&bytes[..60]) != small(60) {
        return None;
    }
    let kind = match bytes[40] {
        1 => EntryKind::Data,
        2 => EntryKind::Hole,
        3 => EntryKind::Zero,
        4 => EntryKind::Cut,
        _ => return None,
    };
    let entry = Entry {
        order: OrderNumber(number(0)),
        line: LineId(number(8)),
        block: number(16),
        count: number(24),
        kind,
        position: number(32),
    };
    Some((entry, small(44)))
}
