//! What an open store shows of itself: every dot, every volume, every byte, every block's status.

use std::rc::Rc;

use treering_engine::{Store, VolumeError};

use crate::content::BLOCK;
use crate::model::{Block, State, VolumeKey, VolumeModel};

/// Reads everything. Keys are made up: only names count.
pub async fn read_all(store: &Store) -> Result<State, String> {
    let mut state = State::default();
    for dot in store.dots() {
        for volume in &dot.volumes {
            let key = VolumeKey(u64::MAX - state.volumes.len() as u64);
            let blocks = read_volume(store, &dot.name, &volume.name).await?;
            let model = VolumeModel {
                dot: dot.name.clone(),
                name: volume.name.clone(),
                size: volume.size_bytes,
                compression: volume.compression,
                blocks,
            };
            state.volumes.insert(key, model);
        }
        state.dots.insert(dot.name);
    }
    Ok(state)
}

/// One block of a store that may be damaged.
pub type Doubtful = (String, u64, Result<Vec<u8>, VolumeError>);

/// Reads block by block, errors included; of each volume at most so many blocks.
pub async fn read_each(store: &Store, most: u64) -> Vec<Doubtful> {
    let mut found = Vec::new();
    for dot in store.dots() {
        for info in &dot.volumes {
            let Some(volume) = store.volume(&dot.name, &info.name) else { continue };
            let name = format!("{}.{}", dot.name, info.name);
            for number in 0..info.size_bytes.div_ceil(BLOCK).min(most) {
                let len = (info.size_bytes - number * BLOCK).min(BLOCK);
                let read = volume.read(number * BLOCK, len as usize).await.map(|b| padded(&b));
                found.push((name.clone(), number, read));
            }
        }
    }
    found
}

async fn read_volume(store: &Store, dot: &str, name: &str) -> Result<Vec<Block>, String> {
    let volume = store.volume(dot, name).ok_or_else(|| format!("{dot}.{name} is listed and cannot be opened"))?;
    let size = volume.size();
    let bytes = volume.read(0, size as usize).await.map_err(|e| format!("reading all of {dot}.{name}: {e}"))?;
    let mut blocks: Vec<Block> =
        bytes.chunks(BLOCK as usize).map(|chunk| Block::Data(Rc::from(padded(chunk)))).collect();
    let mut at = 0;
    while at < size {
        let extents = volume.extents(at, size - at, usize::MAX).await;
        for extent in extents.map_err(|e| format!("status of {dot}.{name}: {e}"))? {
            let range = at / BLOCK..(at + extent.len).div_ceil(BLOCK);
            for number in range.filter(|_| extent.zero) {
                let block = &mut blocks[number as usize];
                if block.bytes().iter().any(|b| *b != 0) {
                    return Err(format!("{dot}.{name} block {number} has status {extent:?} and is not zeros"));
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
