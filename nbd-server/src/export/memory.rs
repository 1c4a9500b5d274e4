//! A device of plain memory and a catalog of such devices: what the protocol tests and the fuzzers run against, and a
//! floor for measurements of the session alone.
//!
//! Memory is taken in pages as they are first written, so a device of any size costs only what it holds.

use super::{Catalog, Device, DeviceError, Extent, VolumeEntry, Zeroing};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use treering_io::Buffer;

const PAGE: usize = 4096;

#[derive(Clone)]
pub struct MemoryDevice {
    shared: Rc<Shared>,
}

struct Shared {
    size: Cell<u64>,
    pages: RefCell<HashMap<u64, Box<[u8; PAGE]>>>,
    flushes: Cell<u64>,
    writes: Cell<u64>,
    durable_writes: Cell<u64>,
    failing: RefCell<Option<DeviceError>>,
}

impl MemoryDevice {
    pub fn new(size: u64) -> MemoryDevice {
        MemoryDevice {
            shared: Rc::new(Shared {
                size: Cell::new(size),
                pages: RefCell::default(),
                flushes: Cell::new(0),
                writes: Cell::new(0),
                durable_writes: Cell::new(0),
                failing: RefCell::new(None),
            }),
        }
    }

    pub fn flushes(&self) -> u64 {
        self.shared.flushes.get()
    }

    pub fn writes(&self) -> u64 {
        self.shared.writes.get()
    }

    /// Writes and zeroings that asked for FUA.
    pub fn durable_writes(&self) -> u64 {
        self.shared.durable_writes.get()
    }

    pub fn resize(&self, size: u64) {
        self.shared.size.set(size);
    }

    /// From now on everything fails with this error.
    pub fn fail_with(&self, error: Option<DeviceError>) {
        *self.shared.failing.borrow_mut() = error;
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        if let Some(error) = &*self.shared.failing.borrow() {
            return Err(error.clone());
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.shared.size.get() => Ok(()),
            _ => Err(DeviceError::OutOfRange(format!("{len} bytes at {offset} are not all inside").into())),
        }
    }

    fn count_write(&self, fua: bool) {
        self.shared.writes.set(self.shared.writes.get() + 1);
        self.shared.durable_writes.set(self.shared.durable_writes.get() + u64::from(fua));
    }
}

impl Device for MemoryDevice {
    fn size(&self) -> u64 {
        self.shared.size.get()
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Buffer, DeviceError> {
        self.check(offset, len as u64)?;
        let mut buffer = Buffer::with_len(len);
        let pages = self.shared.pages.borrow();
        for (page, within, range) in pieces(offset, len) {
            let into = &mut buffer[range];
            match pages.get(&page) {
                Some(bytes) => into.copy_from_slice(&bytes[within..within + into.len()]),
                None => into.fill(0),
            }
        }
        Ok(buffer)
    }

    async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), DeviceError> {
        self.check(offset, data.len() as u64)?;
        self.count_write(fua);
        let mut pages = self.shared.pages.borrow_mut();
        for (page, within, range) in pieces(offset, data.len()) {
            let bytes = pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            bytes[within..within + range.len()].copy_from_slice(&data[range]);
        }
        Ok(())
    }

    async fn zero(&self, offset: u64, len: u64, zeroing: Zeroing, fua: bool) -> Result<(), DeviceError> {
        self.check(offset, len)?;
        self.count_write(fua);
        let mut pages = self.shared.pages.borrow_mut();
        let end = offset + len;
        let whole = offset.div_ceil(PAGE as u64)..end / PAGE as u64;
        // A huge range costs by what is there, not by its length.
        pages.retain(|page, bytes| {
            let start = page * PAGE as u64;
            let from = offset.clamp(start, start + PAGE as u64) - start;
            let to = end.clamp(start, start + PAGE as u64) - start;
            bytes[from as usize..to.max(from) as usize].fill(0);
            !(whole.contains(page) && zeroing == Zeroing::Hole)
        });
        Ok(())
    }

    async fn trim(&self, offset: u64, len: u64, fua: bool) -> Result<(), DeviceError> {
        self.zero(offset, len, Zeroing::Hole, fua).await
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.check(0, 0)?;
        self.shared.flushes.set(self.shared.flushes.get() + 1);
        Ok(())
    }

    async fn extents(&self, offset: u64, len: u64, max: usize) -> Result<Vec<Extent>, DeviceError> {
        self.check(offset, len)?;
        let pages = self.shared.pages.borrow();
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let page = at / PAGE as u64;
            let here = ((page + 1) * PAGE as u64).min(offset + len) - at;
            let hole = !pages.contains_key(&page);
            let full = extents.len() == max;
            match extents.last_mut() {
                Some(last) if last.hole == hole => last.len += here,
                _ if full => break,
                _ => extents.push(Extent { len: here, hole, zero: hole }),
            }
            at += here;
        }
        Ok(extents)
    }

    async fn prefetch(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.check(offset, len)
    }
}

/// `(page, offset within it, range of the data)` for each page that `len` bytes at `offset` touch.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let here = (PAGE - within).min(len - done);
        let range = done..done + here;
        done += here;
        Some((at / PAGE as u64, within, range))
    })
}

/// Named memory devices.
#[derive(Clone, Default)]
pub struct MemoryCatalog {
    volumes: Rc<RefCell<Vec<(VolumeEntry, MemoryDevice)>>>,
}

impl MemoryCatalog {
    pub fn add(&self, dot: &str, volume: &str, size: u64) -> MemoryDevice {
        let device = MemoryDevice::new(size);
        self.push(VolumeEntry { dot: dot.into(), volume: volume.into(), snapshot: None, size }, &device);
        device
    }

    /// A device that is exported as a volume in a snapshot.
    pub fn add_snapshot(&self, dot: &str, volume: &str, snapshot: &str, size: u64) -> MemoryDevice {
        let device = MemoryDevice::new(size);
        let entry = VolumeEntry { dot: dot.into(), volume: volume.into(), snapshot: Some(snapshot.into()), size };
        self.push(entry, &device);
        device
    }

    fn push(&self, entry: VolumeEntry, device: &MemoryDevice) {
        self.volumes.borrow_mut().push((entry, device.clone()));
    }

    fn entries(&self, wanted: impl Fn(&VolumeEntry) -> bool) -> Vec<VolumeEntry> {
        let volumes = self.volumes.borrow();
        let found = volumes.iter().filter(|(entry, _)| wanted(entry));
        found.map(|(entry, device)| VolumeEntry { size: device.size(), ..entry.clone() }).collect()
    }
}

impl Catalog for MemoryCatalog {
    type Device = MemoryDevice;

    fn volumes(&self) -> Vec<VolumeEntry> {
        self.entries(|entry| entry.snapshot.is_none())
    }

    fn snapshots(&self) -> Vec<VolumeEntry> {
        self.entries(|entry| entry.snapshot.is_some())
    }

    fn snapshot(&self, dot: &str, reference: &str) -> Result<Vec<VolumeEntry>, String> {
        let found = self.entries(|entry| entry.dot == dot && entry.snapshot.as_deref() == Some(reference));
        if found.is_empty() { Err(format!("{dot} has no snapshot {reference}")) } else { Ok(found) }
    }

    fn open(&self, entry: &VolumeEntry) -> Option<MemoryDevice> {
        let same = |e: &VolumeEntry| e.dot == entry.dot && e.volume == entry.volume && e.snapshot == entry.snapshot;
        let volumes = self.volumes.borrow();
        volumes.iter().find(|(e, _)| same(e)).map(|(_, device)| device.clone())
    }
}
