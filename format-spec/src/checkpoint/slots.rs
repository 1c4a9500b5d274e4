//! What each slot of the store is used for, and in slots of pages, each page.
//!
//! This is the allocator as of one checkpoint. What became free while the older retained checkpoint still needs it is not
//! free yet: slots name the window, pages are quarantined.

use super::STRUCTURE;
use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};
use crate::units::*;

const WRITTEN: u64 = 1 << 63;
const KIND_SHIFT: u32 = 56;
const VALUE_MASK: u64 = (1 << KIND_SHIFT) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub state: SlotState,
    /// The slot's blocks were all written at least once: durable writes into it are cheap and no block reads as never written.
    pub written: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    Free,
    /// Freed in the window that this checkpoint closed; free once the next checkpoint is durable.
    FreedInWindow(CheckpointSequence),
    Log(SegmentId),
    /// Holds tree pages and checkpoint blobs; a page map says which.
    Pages,
    /// Holds what the cleaner moved out of other slots.
    Container(ContainerId),
}

/// The pages of one slot; bit `n` of byte `n / 8`, lowest first, is page `n`. A page with neither bit is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageMap {
    pub slot: SlotIndex,
    /// Needed by this checkpoint.
    pub used: Vec<u8>,
    /// Needed by the checkpoint before only; free once the next one is durable.
    pub quarantined: Vec<u8>,
}

impl Slot {
    pub(super) fn encode(self) -> u64 {
        let (kind, value) = match self.state {
            SlotState::Free => (0, 0),
            SlotState::FreedInWindow(window) => (1, window.0),
            SlotState::Log(segment) => (2, segment.0),
            SlotState::Pages => (3, 0),
            SlotState::Container(container) => (4, container.0),
        };
        assert!(value <= VALUE_MASK, "encode checkpoint: slot value {value} needs more than 56 bits");
        (if self.written { WRITTEN } else { 0 }) | kind << KIND_SHIFT | value
    }

    pub(super) fn decode(word: u64) -> Result<Self, DecodeError> {
        let value = word & VALUE_MASK;
        let state = match (word & !WRITTEN) >> KIND_SHIFT {
            0 => SlotState::Free,
            1 => SlotState::FreedInWindow(CheckpointSequence(value)),
            2 => SlotState::Log(SegmentId(value)),
            3 => SlotState::Pages,
            4 => SlotState::Container(ContainerId(value)),
            kind => return Err(unsupported(kind, "unknown")),
        };
        let bare = matches!(state, SlotState::Free | SlotState::Pages);
        require(value == 0 || !bare, STRUCTURE, "slots", format_args!("{word:#x}"), "no value for this state")?;
        Ok(Self { state, written: word & WRITTEN != 0 })
    }
}

impl PageMap {
    pub(super) fn encoded_len(bitmap_bytes: u64) -> u64 {
        8 + 2 * bitmap_bytes
    }

    pub(super) fn encode(&self, w: &mut Writer, bitmap_bytes: usize) {
        let same = self.used.len() == bitmap_bytes && self.quarantined.len() == bitmap_bytes;
        assert!(same, "encode checkpoint: bitmaps of slot {} are not {bitmap_bytes} bytes", self.slot);
        w.u64(self.slot.0);
        w.bytes(&self.used);
        w.bytes(&self.quarantined);
    }

    pub(super) fn decode(r: &mut Reader<'_>, bitmap_bytes: u32) -> Result<Self, DecodeError> {
        let slot = SlotIndex(r.u64("page_maps.slot")?);
        let used = r.slice("page_maps.used", bitmap_bytes as usize)?.to_vec();
        let quarantined = r.slice("page_maps.quarantined", bitmap_bytes as usize)?.to_vec();
        Ok(Self { slot, used, quarantined })
    }
}

fn unsupported(found: u64, expected: &'static str) -> DecodeError {
    DecodeError::Unsupported { structure: STRUCTURE, field: "slots", found, expected }
}
