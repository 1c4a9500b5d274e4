//! One page: how it is laid out, checked once, and searched many times without being decoded.
//!
//! `Node::decode` must be passed before anything else looks at a page; it verifies every offset, every order and every value
//! that the accessors rely on, so that they cannot panic on bytes from disk. Entries lie without gaps in key order behind the
//! directory: one content has one encoding.

use std::ops::{Deref, DerefMut};

use super::extent::ExtentEntry;
use super::{NODE_BYTES, NODE_LEVELS_MAX, NODE_REF_BYTES, NodeRef, TreeKind, VALUE_BYTES_MAX};
use crate::checksum::checksum_without;
use crate::error::{DecodeError, require};
use crate::units::{LogAddress, PageIndex};

const STRUCTURE: &str = "node";
const MAGIC: u64 = u64::from_le_bytes(*b"TRNODEPG");

const CRC_AT: usize = 8;
const KIND_AT: usize = 12;
const LEVEL_AT: usize = 13;
const COUNT_AT: usize = 14;
const USED_AT: usize = 16;
const OWNER_AT: usize = 24;
const BIRTH_AT: usize = 32;
const PAGE_AT: usize = 40;
/// Bytes 48 to 64 are zero: a place for the authentication tag of an encrypted page.
const HEADER_BYTES: usize = 64;

const SLOT_BYTES: usize = 2;
const KEY_BYTES: usize = 8;

/// What an entry costs beyond its value.
pub const ENTRY_OVERHEAD_BYTES: usize = SLOT_BYTES + KEY_BYTES;
/// What the entries of one page may cost together.
pub const NODE_ROOM_BYTES: usize = NODE_BYTES - HEADER_BYTES;

/// What a page says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeHeader {
    pub kind: TreeKind,
    /// 0 for a leaf.
    pub level: u8,
    /// The line that wrote a map page; 0 for the store's own trees.
    pub owner: u64,
    /// The log address that the fold had reached when the page was made.
    pub birth: LogAddress,
    /// Its own place: a write that landed elsewhere shows without the parent.
    pub page: PageIndex,
}

/// A page that passed `decode`, or that a `NodeWriter` laid out. Searched as it is.
#[derive(Debug, Clone)]
pub struct Node<B>(B);

impl<B: Deref<Target = [u8]>> Node<B> {
    /// Accepts a page if its own checksum and everything that this crate knows about its content hold.
    pub fn decode(bytes: B) -> Result<Self, DecodeError> {
        let page: &[u8] = &bytes;
        let (found, expected) = (page.len() as u64, NODE_BYTES as u64);
        if found != expected {
            return Err(DecodeError::Truncated { structure: STRUCTURE, field: "whole", found, expected });
        }
        let magic = u64_at(page, 0);
        if magic != MAGIC {
            return Err(DecodeError::Magic { structure: STRUCTURE, found: magic, expected: MAGIC });
        }
        let (found, expected) = (checksum_without(page, CRC_AT), u32_at(page, CRC_AT));
        if found != expected {
            return Err(DecodeError::Checksum { structure: STRUCTURE, field: "whole", found, expected });
        }
        let Some(kind) = TreeKind::from_number(page[KIND_AT]) else {
            return Err(DecodeError::invalid(STRUCTURE, "kind", page[KIND_AT], "1 to 3"));
        };
        let level = page[LEVEL_AT];
        require(level <= NODE_LEVELS_MAX, STRUCTURE, "level", level, format_args!("0 to {NODE_LEVELS_MAX}"))?;
        let node = Self(bytes);
        node.check_directory()?;
        node.check_values(kind, level)?;
        Ok(node)
    }

    fn check_directory(&self) -> Result<(), DecodeError> {
        let (count, used) = (self.len(), usize::from(u16_at(self.bytes(), USED_AT)));
        let mut start = HEADER_BYTES + SLOT_BYTES * count;
        require(count > 0, STRUCTURE, "count", count, "at least 1")?;
        require(start <= used && used <= NODE_BYTES, STRUCTURE, "used", used, format_args!("{start} to {NODE_BYTES}"))?;
        require(self.slot(0) == start, STRUCTURE, "first offset", self.slot(0), start)?;
        let mut before = None;
        for index in 0..count {
            let end = self.slot(index + 1);
            let fits = (start + KEY_BYTES..=used).contains(&end) && end - start <= KEY_BYTES + VALUE_BYTES_MAX;
            require(fits, STRUCTURE, "offset", end, format_args!("the end of entry {index}, which starts at {start}"))?;
            start = end;
            let key = self.key(index);
            require(before < Some(key), STRUCTURE, "key", key, format_args!("more than {before:?}"))?;
            before = Some(key);
        }
        Ok(())
    }

    fn check_values(&self, kind: TreeKind, level: u8) -> Result<(), DecodeError> {
        for index in 0..self.len() {
            if level > 0 {
                let value = self.value(index);
                require(value.len() == NODE_REF_BYTES, STRUCTURE, "child", value.len(), NODE_REF_BYTES)?;
                let child = NodeRef::decode(value)?;
                require(child.level == level - 1, STRUCTURE, "child's level", child.level, level - 1)?;
                let birth = LogAddress(u64_at(self.bytes(), BIRTH_AT));
                require(
                    child.birth <= birth,
                    STRUCTURE,
                    "child's birth",
                    child.birth,
                    format_args!("at most {birth}"),
                )?;
            } else if kind == TreeKind::Map {
                let extent = ExtentEntry::decode(self.value(index))?;
                let (key, count) = (self.key(index), u64::from(extent.count));
                let limit = if index + 1 < self.len() { self.key(index + 1) } else { u64::MAX };
                let fits = limit - key >= count;
                require(
                    fits,
                    STRUCTURE,
                    "extent",
                    format_args!("{count} blocks at {key}"),
                    format_args!("an end at or before {limit}"),
                )?;
            }
        }
        Ok(())
    }

    pub fn header(&self) -> NodeHeader {
        let page = self.bytes();
        NodeHeader {
            kind: TreeKind::from_number(page[KIND_AT]).expect("decode checked it"),
            level: page[LEVEL_AT],
            owner: u64_at(page, OWNER_AT),
            birth: LogAddress(u64_at(page, BIRTH_AT)),
            page: PageIndex(u64_at(page, PAGE_AT)),
        }
    }

    pub fn checksum(&self) -> u32 {
        u32_at(self.bytes(), CRC_AT)
    }

    pub fn level(&self) -> u8 {
        self.bytes()[LEVEL_AT]
    }

    /// Entries; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a node is never empty")]
    pub fn len(&self) -> usize {
        usize::from(u16_at(self.bytes(), COUNT_AT))
    }

    pub fn key(&self, index: usize) -> u64 {
        u64_at(self.bytes(), self.slot(index))
    }

    pub fn value(&self, index: usize) -> &[u8] {
        &self.bytes()[self.slot(index) + KEY_BYTES..self.slot(index + 1)]
    }

    /// The entry of a branch.
    pub fn child(&self, index: usize) -> NodeRef {
        NodeRef::decode(self.value(index)).expect("decode checked every child")
    }

    /// The entry of a map leaf.
    pub fn extent(&self, index: usize) -> ExtentEntry<'_> {
        ExtentEntry::decode(self.value(index)).expect("decode checked every extent")
    }

    /// How many entries have a key of at most `key`.
    pub fn rank(&self, key: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What the entries cost of the page's room.
    pub fn room_used(&self) -> usize {
        usize::from(u16_at(self.bytes(), USED_AT)) - HEADER_BYTES
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_inner(self) -> B {
        self.0
    }

    /// The same page in another kind of memory; `change` must keep its bytes.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Node<C> {
        Node(change(self.0))
    }

    fn slot(&self, index: usize) -> usize {
        let at = if index < self.len() { HEADER_BYTES + SLOT_BYTES * index } else { USED_AT };
        usize::from(u16_at(self.bytes(), at))
    }
}

/// Collects entries in key order and lays them out as a page.
#[derive(Debug, Clone, Default)]
pub struct NodeWriter {
    entries: Vec<u8>,
    ends: Vec<u16>,
    last_key: Option<u64>,
}

impl NodeWriter {
    /// # Panics
    /// If the key is not larger than the one before, the value is too long, or the page is full.
    pub fn push(&mut self, key: u64, value: &[u8]) {
        assert!(self.last_key < Some(key), "node: key {key} follows {:?}", self.last_key);
        assert!(
            value.len() <= VALUE_BYTES_MAX,
            "node: a value of {} bytes is longer than {VALUE_BYTES_MAX}",
            value.len()
        );
        self.entries.extend_from_slice(&key.to_le_bytes());
        self.entries.extend_from_slice(value);
        assert!(
            self.room_used() + SLOT_BYTES <= NODE_ROOM_BYTES,
            "node: {} entries overflow the page",
            self.ends.len() + 1
        );
        self.ends.push(self.entries.len() as u16);
        self.last_key = Some(key);
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What the entries cost of the page's room.
    pub fn room_used(&self) -> usize {
        self.entries.len() + SLOT_BYTES * self.ends.len()
    }

    /// Lays the entries out in `page` and leaves this writer empty for the next. The page can be searched at once; it needs
    /// `set_header` before it is one that `decode` accepts.
    pub fn finish<B: DerefMut<Target = [u8]>>(&mut self, mut page: B) -> Node<B> {
        assert!(!self.is_empty(), "node: a page without entries");
        let bytes: &mut [u8] = &mut page;
        assert!(bytes.len() == NODE_BYTES, "node: {} bytes are not a page", bytes.len());
        let first = HEADER_BYTES + SLOT_BYTES * self.ends.len();
        let used = first + self.entries.len();
        bytes[..HEADER_BYTES].fill(0);
        bytes[COUNT_AT..COUNT_AT + 2].copy_from_slice(&(self.ends.len() as u16).to_le_bytes());
        bytes[USED_AT..USED_AT + 2].copy_from_slice(&(used as u16).to_le_bytes());
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        for (slot, start) in bytes[HEADER_BYTES..first].as_chunks_mut::<SLOT_BYTES>().0.iter_mut().zip(starts) {
            *slot = (first as u16 + start).to_le_bytes();
        }
        bytes[first..used].copy_from_slice(&self.entries);
        bytes[used..].fill(0);
        self.entries.clear();
        self.ends.clear();
        self.last_key = None;
        Node(page)
    }
}

impl<B: DerefMut<Target = [u8]>> Node<B> {
    /// Replaces what the page says about itself; the checksum follows. The same entries become another page this way.
    pub fn set_header(&mut self, header: &NodeHeader) {
        let page: &mut [u8] = &mut self.0;
        page[..8].copy_from_slice(&MAGIC.to_le_bytes());
        page[KIND_AT] = header.kind.number();
        page[LEVEL_AT] = header.level;
        page[OWNER_AT..OWNER_AT + 8].copy_from_slice(&header.owner.to_le_bytes());
        page[BIRTH_AT..BIRTH_AT + 8].copy_from_slice(&header.birth.0.to_le_bytes());
        page[PAGE_AT..PAGE_AT + 8].copy_from_slice(&header.page.0.to_le_bytes());
        let checksum = checksum_without(page, CRC_AT);
        page[CRC_AT..CRC_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
