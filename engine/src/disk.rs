//! The store's one file or device, seen as slots: a thin face of `Io` that knows where a slot begins.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use treering_format::units::SlotIndex;
use treering_io::{Buffer, Durability, File, Io, WriteBuffer};

pub(crate) const BLOCK: u64 = 4096;

/// Where the parts of a store file lie. Fixed when the store is made, but for the number of slots, which may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Byte at which slot 0 begins.
    pub data_start: u64,
    pub segment_blocks: u32,
    pub slot_count: u64,
}

impl Geometry {
    pub(crate) fn slot_bytes(&self) -> u64 {
        u64::from(self.segment_blocks) * BLOCK
    }

    /// Byte of the store file at which block `block` of a slot begins.
    pub(crate) fn offset(&self, slot: SlotIndex, block: u32) -> u64 {
        debug_assert!(block < self.segment_blocks);
        self.data_start + slot.0 * self.slot_bytes() + u64::from(block) * BLOCK
    }
}

#[derive(Clone)]
pub(crate) struct Disk {
    io: Io,
    file: File,
    /// All handles see the same: slots may be added.
    geometry: Rc<Cell<Geometry>>,
}

impl Disk {
    pub(crate) fn new(io: Io, file: File, geometry: Geometry) -> Disk {
        Disk { io, file, geometry: Rc::new(Cell::new(geometry)) }
    }

    pub(crate) fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    /// The store has so many slots from now on.
    pub(crate) fn set_slot_count(&self, slot_count: u64) {
        self.geometry.set(Geometry { slot_count, ..self.geometry() });
    }

    /// Reads `blocks` blocks of a slot.
    pub(crate) async fn read(&self, slot: SlotIndex, block: u32, blocks: u64) -> io::Result<Buffer> {
        self.read_bytes(self.geometry().offset(slot, block), blocks * BLOCK).await
    }

    /// Reads at a byte offset of the file; offset and length are multiples of a block.
    pub(crate) async fn read_bytes(&self, offset: u64, bytes: u64) -> io::Result<Buffer> {
        let (result, buffer) = self.io.read_at(&self.file, offset, Buffer::with_len(bytes as usize)).await;
        result.map(|()| buffer)
    }

    /// Writes at a byte offset of the file.
    pub(crate) async fn write_bytes(
        &self,
        offset: u64,
        buffers: Vec<WriteBuffer>,
        durability: Durability,
    ) -> io::Result<()> {
        self.io.write_at(&self.file, offset, buffers, durability).await
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.io.sync_data(&self.file).await
    }
}
