//! What an open store shows of itself: every dot, every volume, every byte, every block's status.

use std::rc::Rc;

use treering_engine::{CompressionMode, SnapshotInfo, SnapshotRef, Store, Volume, VolumeError};

use crate::content::BLOCK;
use crate::model::{Block, SnapshotModel, State, VolumeKey, VolumeModel};

/// Reads everything. Keys are made up: only names count.
pub async fn read_all(store: &Store) -> Result<State, String> {
    let mut state = State::default();
    for dot in store.dots() {
        for volume in &dot.volumes {
            let key = VolumeKey(u64::MAX - state.volumes.len() as u64);
            let full_name = format!("{}.{}", dot.name, volume.name);
            let handle = store.volume(&dot.name, &volume.name);
            let handle = handle.ok_or_else(|| format!("{full_name} is listed and cannot be opened"))?;
            let blocks = read_volume(&handle, &full_name).await?;
            let model = VolumeModel {
                dot: dot.name.clone(),
                name: volume.name.clone(),
                size: volume.size_bytes,
                compression: volume.compression,
                blocks,
            };
            state.volumes.insert(key, model);
        }
        for info in store.snapshots(&dot.name).map_err(|e| format!("the snapshots of {}: {e}", dot.name))? {
            let snapshot = read_snapshot(store, &info).await?;
            state.snapshots.insert((dot.name.clone(), info.name), Rc::new(snapshot));
        }
        state.dots.insert(dot.name);
    }
    Ok(state)
}

async fn read_snapshot(store: &Store, info: &SnapshotInfo) -> Result<SnapshotModel, String> {
    let mut volumes = Vec::new();
    for volume in &info.volumes {
        let full_name = format!("{}.{}@{}", info.dot, volume.name, info.name);
        let at = SnapshotRef::Name(info.name.clone());
        let handle = store.open_snapshot(&info.dot, &volume.name, &at).map_err(|e| format!("{full_name}: {e}"))?;
        if handle.size() != volume.size_bytes {
            return Err(format!("{full_name} has {} bytes and is listed with {}", handle.size(), volume.size_bytes));
        }
        volumes.push(VolumeModel {
            dot: info.dot.clone(),
            name: volume.name.clone(),
            size: volume.size_bytes,
            compression: CompressionMode::Auto,
            blocks: read_volume(&handle, &full_name).await?,
        });
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(SnapshotModel { protected: info.protected, reflog: info.reflog, volumes })
}

/// One block of a store that may be damaged.
pub type Doubtful = (String, u64, Result<Vec<u8>, VolumeError>);

/// Reads block by block, errors included, snapshots too; of each volume at most so many blocks. The name is the one under
/// which a block was written first: that of the volume.
pub async fn read_each(store: &Store, most: u64) -> Vec<Doubtful> {
    let mut found = Vec::new();
    for dot in store.dots() {
        for info in &dot.volumes {
            let Some(volume) = store.volume(&dot.name, &info.name) else { continue };
            read_blocks(&volume, &format!("{}.{}", dot.name, info.name), most, &mut found).await;
        }
        for snapshot in store.snapshots(&dot.name).unwrap_or_default() {
            let at = SnapshotRef::Name(snapshot.name);
            for info in snapshot.volumes {
                let Ok(volume) = store.open_snapshot(&dot.name, &info.name, &at) else { continue };
                read_blocks(&volume, &format!("{}.{}", dot.name, info.name), most, &mut found).await;
            }
        }
    }
    found
}

async fn read_blocks(volume: &Volume, name: &str, most: u64, found: &mut Vec<Doubtful>) {
    let size = volume.size();
    for number in 0..size.div_ceil(BLOCK).min(most) {
        let len = (size - number * BLOCK).min(BLOCK);
        let read = volume.read(number * BLOCK, len as usize).await.map(|b| padded(&b));
        found.push((name.to_owned(), number, read));
    }
}

async fn read_volume(volume: &Volume, name: &str) -> Result<Vec<Block>, String> {
    let size = volume.size();
    let bytes = volume.read(0, size as usize).await.map_err(|e| format!("reading all of {name}: {e}"))?;
    let mut blocks: Vec<Block> =
        bytes.chunks(BLOCK as usize).map(|chunk| Block::Data(Rc::from(padded(chunk)))).collect();
    let mut at = 0;
    while at < size {
        let extents = volume.extents(at, size - at, usize::MAX).await;
        for extent in extents.map_err(|e| format!("status of {name}: {e}"))? {
            let range = at / BLOCK..(at + extent.len).div_ceil(BLOCK);
            for number in range.filter(|_| extent.zero) {
                let block = &mut blocks[number as usize];
                if block.bytes().iter().any(|b| *b != 0) {
                    return Err(format!("{name} block {number} has status {extent:?} and is not zeros"));
                }
                *block = if extent.hole { Block::Hole } else { Block::Zero };
            }
            at += extent.len;
        }
    }
    Ok(blocks)
}

fn padded(chunk: &[u8]) -> Vec<u8> {
    let mut whole = chunk.to_vec();
    whole.resize(BLOCK as usize, 0);
    whole
}
