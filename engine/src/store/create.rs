//! Making a store: slots laid out, a first checkpoint of nothing, a superblock.

use std::path::Path;

use treering_format::checkpoint::{Checkpoint, CheckpointHeader, Slot, SlotState};
use treering_format::superblock::{CheckpointRef, DATA_START, NODE_BYTES_LOG2, Superblock, VERSION};
use treering_format::units::{
    CheckpointSequence, ContainerId, DotId, Incarnation, LineId, OrderNumber, SegmentId, SlotIndex, SnapshotId,
    StoreId, VersionId, VolumeId,
};
use treering_io::{Buffer, Direct, Durability, File, FileOptions, Io, WriteBuffer};

use super::superblock;
use crate::disk::{BLOCK, Disk, Geometry};
use crate::error::StoreError;
use crate::limits::{SEGMENT_BLOCKS_MAX, SEGMENT_BLOCKS_MIN};
use crate::pages::Pages;

/// Slots that the smallest store has: pages, two segments of the log, the reserve.
const SLOTS_MIN: u64 = 8;

/// Bytes of the smallest store with segments of the default size.
pub const STORE_BYTES_MIN: u64 = DATA_START + SLOTS_MIN * SEGMENT_BLOCKS_MAX as u64 * BLOCK;

/// Slots zero-written at once when a store is made: the first seconds of durable writes go there.
const ZEROED_SLOTS: u64 = 4;

#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Bytes; None takes what the file or device has.
    pub size: Option<u64>,
    /// Whether a file's space is allocated as it is used, and not at once.
    pub sparse: bool,
    /// Blocks of a segment. The default suits all but tests.
    pub segment_blocks: u32,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions { size: None, sparse: false, segment_blocks: SEGMENT_BLOCKS_MAX }
    }
}

pub(super) async fn create(io: &Io, path: &Path, options: &CreateOptions) -> Result<StoreId, StoreError> {
    let failed = |doing| move |source| StoreError::Io { doing, path: path.to_owned(), source };
    assert!((SEGMENT_BLOCKS_MIN..=SEGMENT_BLOCKS_MAX).contains(&options.segment_blocks), "segment size is in range");
    let (file, existed) = open_or_make(io, path)?;
    let found = file.len().map_err(failed("reading the size of"))?;
    if existed
        && found > 0
        && let Ok(old) = superblock::read_newest(io, &file).await.map_err(failed("reading"))?
    {
        let id = old.store_id.to_string();
        return Err(StoreError::AlreadyAStore { path: path.to_owned(), id });
    }
    let size = options.size.unwrap_or(found);
    let slot_bytes = u64::from(options.segment_blocks) * BLOCK;
    let slot_count = size.saturating_sub(DATA_START) / slot_bytes;
    if slot_count < SLOTS_MIN || file.is_block_device() && size > found {
        let least = DATA_START + SLOTS_MIN * slot_bytes;
        return Err(StoreError::TooSmall { bytes: size.min(found.max(size)), least });
    }
    if !file.is_block_device() {
        file.allocate(DATA_START + slot_count * slot_bytes, options.sparse).map_err(failed("allocating space for"))?;
    }
    let geometry = Geometry { data_start: DATA_START, segment_blocks: options.segment_blocks, slot_count };
    let disk = Disk::new(io.clone(), file.clone(), geometry);
    // Copies of an older store must not outlive the new one.
    erase_front(&disk).await.map_err(failed("erasing the front of"))?;
    let zeroed = if options.sparse { 0 } else { ZEROED_SLOTS.min(slot_count - 1) };
    for slot in 1..=zeroed {
        zero_slot(&disk, SlotIndex(slot)).await.map_err(failed("zero-writing"))?;
    }
    let mut id = [0; 16];
    io.fill_random(&mut id);
    let mut incarnation = [0; 16];
    io.fill_random(&mut incarnation);
    let store_id = StoreId(id);
    let checkpoint =
        first_checkpoint(&disk, store_id, zeroed).await.map_err(failed("writing the first checkpoint of"))?;
    disk.sync().await.map_err(failed("syncing"))?;
    let superblock = Superblock {
        version: VERSION,
        store_id,
        incarnation: Incarnation(incarnation),
        generation: 1,
        created_ns: io.wall_clock(),
        writer: concat!("treering ", env!("CARGO_PKG_VERSION")).into(),
        node_bytes_log2: NODE_BYTES_LOG2,
        segment_blocks: options.segment_blocks,
        slot_count,
        data_start: DATA_START,
        clean: true,
        checkpoints: [checkpoint, CheckpointRef::default()],
        ..Superblock::default()
    };
    superblock::write(&disk, &superblock).await.map_err(failed("writing the superblock of"))?;
    Ok(store_id)
}

fn open_or_make(io: &Io, path: &Path) -> Result<(File, bool), StoreError> {
    let options = |create_new| FileOptions { create_new, write: true, lock: true, direct: Direct::Auto };
    let opened = match io.open_file(path, &options(false)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            io.open_file(path, &options(true)).map(|f| (f, false))
        }
        other => other.map(|f| (f, true)),
    };
    opened.map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { path: path.to_owned() },
        _ => StoreError::Io { doing: "opening", path: path.to_owned(), source },
    })
}

async fn erase_front(disk: &Disk) -> std::io::Result<()> {
    let zeros = Buffer::zeroed(DATA_START as usize);
    disk.write_bytes(0, vec![WriteBuffer::Owned(zeros)], Durability::Volatile).await
}

async fn zero_slot(disk: &Disk, slot: SlotIndex) -> std::io::Result<()> {
    let bytes = disk.geometry().slot_bytes();
    let step = bytes.min(1 << 20);
    for at in (0..bytes).step_by(step as usize) {
        let zeros = Buffer::zeroed(step.min(bytes - at) as usize);
        let offset = disk.geometry().offset(slot, 0) + at;
        disk.write_bytes(offset, vec![WriteBuffer::Owned(zeros)], Durability::Volatile).await?;
    }
    Ok(())
}

/// A checkpoint of an empty store: slot 0 holds pages, of which only the blob itself is used.
async fn first_checkpoint(disk: &Disk, store_id: StoreId, zeroed: u64) -> std::io::Result<CheckpointRef> {
    let geometry = disk.geometry();
    let pages =
        Pages::new(disk.io().clone(), disk.file().clone(), geometry.data_start, geometry.segment_blocks, 1 << 20);
    let mut page_slots = 0;
    let blob_page = loop {
        pages.add_slot(SlotIndex(page_slots));
        page_slots += 1;
        let maps = pages.page_map_count() as u64;
        let bytes = Checkpoint::encoded_len(geometry.slot_count, maps, geometry.segment_blocks);
        if let Some(page) = pages.allocate_run(bytes.div_ceil(BLOCK)) {
            break page;
        }
        assert!(page_slots < geometry.slot_count, "a checkpoint of nothing fits the store");
    };
    let slot = |i: u64| Slot {
        state: if i < page_slots { SlotState::Pages } else { SlotState::Free },
        written: (1..=zeroed).contains(&i),
    };
    let sequence = CheckpointSequence(1);
    let header = CheckpointHeader {
        store_id,
        sequence,
        next_segment: SegmentId(1),
        next_order: OrderNumber(1),
        next_volume: VolumeId(1),
        next_dot: DotId(1),
        next_line: LineId(1),
        next_version: VersionId(1),
        next_snapshot: SnapshotId(1),
        next_container: ContainerId(1),
        ..CheckpointHeader::default()
    };
    let slots = (0..geometry.slot_count).map(slot).collect();
    let blob = Checkpoint { header, slots, page_maps: pages.seal_window() }.encode();
    let reference = CheckpointRef {
        sequence,
        blob_page,
        blob_bytes: blob.len() as u64,
        blob_crc: crc32fast::hash(&blob),
        ..CheckpointRef::default()
    };
    let buffers = vec![WriteBuffer::Owned(Buffer::from(&blob[..]))];
    disk.write_bytes(blob_page.0 * BLOCK, buffers, Durability::Volatile).await?;
    Ok(reference)
}
