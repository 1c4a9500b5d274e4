//! Volumes of a store as devices, and a store as a catalog: where the server meets the engine.
//!
//! Nothing is decided here. The engine's ranges, zeroes and extents have the shape the server needs; its errors keep their
//! text and gain the class from which the errno follows.

use super::{Catalog, Device, DeviceError, Extent, VolumeEntry, Zeroing};
use treering_engine::{SnapshotInfo, SnapshotRef, Store, Volume, VolumeError};
use treering_io::Buffer;

impl Device for Volume {
    fn size(&self) -> u64 {
        Volume::size(self)
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Buffer, DeviceError> {
        Ok(Volume::read(self, offset, len).await?)
    }

    async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), DeviceError> {
        Ok(Volume::write(self, offset, data, fua).await?)
    }

    async fn zero(&self, offset: u64, len: u64, zeroing: Zeroing, fua: bool) -> Result<(), DeviceError> {
        let zeroing = match zeroing {
            Zeroing::Hole => treering_engine::Zeroing::Hole,
            Zeroing::Allocated => treering_engine::Zeroing::Allocated,
        };
        Ok(Volume::zero(self, offset, len, zeroing, fua).await?)
    }

    async fn trim(&self, offset: u64, len: u64, fua: bool) -> Result<(), DeviceError> {
        Ok(Volume::trim(self, offset, len, fua).await?)
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        Ok(Volume::flush(self).await?)
    }

    async fn extents(&self, offset: u64, len: u64, max: usize) -> Result<Vec<Extent>, DeviceError> {
        let extents = Volume::extents(self, offset, len, max).await?;
        let extents = extents.into_iter();
        Ok(extents.map(|extent| Extent { len: extent.len, hole: extent.hole, zero: extent.zero }).collect())
    }

    async fn prefetch(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        Ok(Volume::prefetch(self, offset, len).await?)
    }
}

impl Catalog for Store {
    type Device = Volume;

    fn volumes(&self) -> Vec<VolumeEntry> {
        let mut entries = Vec::new();
        for dot in self.dots() {
            for volume in dot.volumes {
                let (dot, size) = (dot.name.clone(), volume.size_bytes);
                entries.push(VolumeEntry { dot, volume: volume.name, snapshot: None, size });
            }
        }
        entries
    }

    fn snapshots(&self) -> Vec<VolumeEntry> {
        let dots = self.dots().into_iter();
        // A dot that goes meanwhile has nothing to list.
        let snapshots = dots.flat_map(|dot| Store::snapshots(self, &dot.name).unwrap_or_default());
        snapshots.flat_map(members).collect()
    }

    fn snapshot(&self, dot: &str, reference: &str) -> Result<Vec<VolumeEntry>, String> {
        let found = Store::snapshot(self, dot, &reference.into());
        found.map(|snapshot| members(snapshot).collect()).map_err(|error| error.to_string())
    }

    fn open(&self, entry: &VolumeEntry) -> Option<Volume> {
        match &entry.snapshot {
            None => self.volume(&entry.dot, &entry.volume),
            Some(name) => self.open_snapshot(&entry.dot, &entry.volume, &SnapshotRef::Name(name.clone())).ok(),
        }
    }
}

fn members(snapshot: SnapshotInfo) -> impl Iterator<Item = VolumeEntry> {
    let SnapshotInfo { name, dot, volumes, .. } = snapshot;
    volumes.into_iter().map(move |volume| VolumeEntry {
        dot: dot.clone(),
        volume: volume.name,
        snapshot: Some(name.clone()),
        size: volume.size_bytes,
    })
}

impl From<VolumeError> for DeviceError {
    fn from(error: VolumeError) -> DeviceError {
        let text = error.to_string().into();
        match error {
            VolumeError::OutOfRange { .. } => DeviceError::OutOfRange(text),
            VolumeError::NoSpace { .. } => DeviceError::NoSpace(text),
            VolumeError::ReadOnly | VolumeError::Frozen => DeviceError::ReadOnly(text),
            VolumeError::Removed => DeviceError::Removed(text),
            VolumeError::Failed(_) | VolumeError::Damaged { .. } => DeviceError::Io(text),
        }
    }
}
