//! What a container says of itself, read from its slot.

use treering_format::container::{ContainerHeader, ContainerPiece, Survivor};
use treering_format::record::Encoding;
use treering_format::units::{ContainerId, SlotIndex, StoreId};

use crate::disk::{BLOCK, Disk};

/// The pieces that the container in a slot says that it holds; None if it is not this one, or is damaged.
pub(crate) async fn directory(
    disk: &Disk,
    store: StoreId,
    slot: SlotIndex,
    id: ContainerId,
) -> Option<Vec<ContainerPiece>> {
    let header = ContainerHeader::decode(&disk.read(slot, 0, 1).await.ok()?).ok()?;
    let blocks = disk.geometry().segment_blocks;
    let inside = header.directory_block.checked_add(header.directory_blocks()).is_some_and(|end| end <= blocks);
    if header.container != id || header.store_id != store || header.slot != slot || !inside {
        return None;
    }
    let bytes = disk.read(slot, header.directory_block, u64::from(header.directory_blocks())).await.ok()?;
    header.directory(&bytes).ok()
}

/// Whether all that a piece of a container says it holds is there.
pub(super) async fn is_whole(disk: &Disk, slot: SlotIndex, piece: &ContainerPiece) -> bool {
    let mut at = piece.base;
    for survivor in &piece.survivors {
        if !survivor_lies_at(disk, slot, at, survivor).await {
            return false;
        }
        at += u32::from(survivor.count);
    }
    true
}

pub(super) async fn survivor_lies_at(disk: &Disk, slot: SlotIndex, block: u32, survivor: &Survivor) -> bool {
    lies_at(disk, (slot, block), u32::from(survivor.count), survivor.encoding, &survivor.checksums).await
}

/// Whether bytes with these checksums lie at a block of a slot. Raw: a checksum for each block; compressed: one over all of them.
pub(crate) async fn lies_at(
    disk: &Disk,
    (slot, block): (SlotIndex, u32),
    count: u32,
    encoding: Encoding,
    checksums: &[u32],
) -> bool {
    if block.checked_add(count).is_none_or(|end| end > disk.geometry().segment_blocks) {
        return false;
    }
    let Ok(bytes) = disk.read(slot, block, u64::from(count)).await else { return false };
    match encoding {
        Encoding::Lz4 => checksums.first() == Some(&crc32fast::hash(&bytes)),
        Encoding::Raw => {
            let mut blocks = bytes.chunks_exact(BLOCK as usize).zip(checksums);
            blocks.all(|(block, sum)| crc32fast::hash(block) == *sum)
        }
    }
}
