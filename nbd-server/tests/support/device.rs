//! A device whose writes and reads wait at a gate that the test opens.

use std::cell::Cell;
use std::rc::Rc;
use treering_io::{Buffer, Notify};
use treering_nbd_server::export::{Catalog, Device, DeviceError, Extent, MemoryDevice, VolumeEntry, Zeroing};

#[derive(Clone)]
pub struct GatedDevice {
    pub memory: MemoryDevice,
    gate: Rc<Gate>,
}

struct Gate {
    /// Requests at or above this offset wait.
    from: Cell<u64>,
    changed: Notify,
    waiting: Cell<usize>,
}

impl GatedDevice {
    pub fn new(size: u64) -> GatedDevice {
        let gate = Gate { from: Cell::new(u64::MAX), changed: Notify::new(), waiting: Cell::new(0) };
        GatedDevice { memory: MemoryDevice::new(size), gate: Rc::new(gate) }
    }

    /// From now on reads and writes at or above `offset` wait.
    pub fn hold_from(&self, offset: u64) {
        self.gate.from.set(offset);
        self.gate.changed.notify_all();
    }

    pub fn release(&self) {
        self.hold_from(u64::MAX);
    }

    pub fn waiting(&self) -> usize {
        self.gate.waiting.get()
    }

    async fn pass(&self, offset: u64) {
        if offset < self.gate.from.get() {
            return;
        }
        self.gate.waiting.set(self.gate.waiting.get() + 1);
        while offset >= self.gate.from.get() {
            self.gate.changed.notified().await;
        }
        self.gate.waiting.set(self.gate.waiting.get() - 1);
    }
}

impl Device for GatedDevice {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Buffer, DeviceError> {
        self.pass(offset).await;
        self.memory.read(offset, len).await
    }

    async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), DeviceError> {
        self.pass(offset).await;
        self.memory.write(offset, data, fua).await
    }

    async fn zero(&self, offset: u64, len: u64, zeroing: Zeroing, fua: bool) -> Result<(), DeviceError> {
        self.memory.zero(offset, len, zeroing, fua).await
    }

    async fn trim(&self, offset: u64, len: u64, fua: bool) -> Result<(), DeviceError> {
        self.memory.trim(offset, len, fua).await
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.memory.flush().await
    }

    async fn extents(&self, offset: u64, len: u64, max: usize) -> Result<Vec<Extent>, DeviceError> {
        self.memory.extents(offset, len, max).await
    }

    async fn prefetch(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.memory.prefetch(offset, len).await
    }
}

/// A catalog of one such device, `shop.pg`.
impl Catalog for GatedDevice {
    type Device = GatedDevice;

    fn volumes(&self) -> Vec<VolumeEntry> {
        vec![VolumeEntry { dot: "shop".into(), volume: "pg".into(), snapshot: None, size: self.size() }]
    }

    fn snapshots(&self) -> Vec<VolumeEntry> {
        Vec::new()
    }

    fn snapshot(&self, dot: &str, reference: &str) -> Result<Vec<VolumeEntry>, String> {
        Err(format!("{dot} has no snapshot {reference}"))
    }

    fn open(&self, entry: &VolumeEntry) -> Option<GatedDevice> {
        (entry.to_string() == "shop.pg").then(|| self.clone())
    }
}
