//! Volumes of a store as devices, and a store as a catalog: where the server meets the engine.
//!
//! Nothing is decided here. The engine's ranges, zeroes and extents have the shape the server needs; its errors keep their
//! text and gain the class from which the errno follows.

use super::{Catalog, Device, DeviceError, Extent, VolumeEntry, Zeroing};
use treering_engine::{Store, Volume, VolumeError};
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
                entries.push(VolumeEntry { dot: dot.name.clone(), volume: volume.name, size: volume.size_bytes });
            }
        }
        entries
    }

    fn open(&self, dot: &str, volume: &str) -> Option<Volume> {
        self.volume(dot, volume)
    }
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
