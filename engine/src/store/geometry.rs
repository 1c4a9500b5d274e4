//! Numbers that come from the disk, held against the store's geometry before anything is computed with them. A checksum says
//! that they were written so, not that they make sense.

use std::collections::BTreeSet;

use treering_format::checkpoint::{Checkpoint, CheckpointHeader, SlotState};
use treering_format::superblock::{CheckpointRef, MountEntry, Superblock};
use treering_format::units::{LogAddress, RecordSequence, SegmentId, SlotIndex};

/// No store comes near it; sums below it do not overflow.
const NUMBER_MAX: u64 = 1 << 60;
const SEGMENT_MAX: u64 = 1 << 46;

/// Addresses, slots and counts that a superblock names.
pub(super) fn check(superblock: &Superblock) -> Result<(), String> {
    let small = superblock.attested_sequence.0 < NUMBER_MAX && superblock.attested_order.0 < NUMBER_MAX;
    if !small || superblock.generation >= NUMBER_MAX {
        return Err("attested record or generation cannot be".into());
    }
    for checkpoint in superblock.checkpoints.iter().filter(|c| !c.is_absent()) {
        check_checkpoint(superblock, checkpoint).map_err(|why| format!("checkpoint {} {why}", checkpoint.sequence))?;
    }
    let mut before = RecordSequence(0);
    for mount in &superblock.mounts {
        check_mount(superblock, mount, before).map_err(|why| format!("mount {:016x} {why}", mount.mount.0))?;
        before = mount.first_sequence;
    }
    Ok(())
}

/// The next numbers of a checkpoint.
pub(super) fn check_numbers(header: &CheckpointHeader) -> Result<(), String> {
    let next = [header.next_order.0, header.next_volume.0, header.next_dot.0, header.next_line.0];
    let history = [header.next_version.0, header.next_snapshot.0, header.next_container.0];
    if header.next_segment.0 >= SEGMENT_MAX || next.iter().chain(&history).any(|n| *n >= NUMBER_MAX >> 8) {
        return Err("its next free numbers cannot be".into());
    }
    Ok(())
}

/// The page maps of a checkpoint: one for each slot of pages, each as long as a slot.
pub(super) fn check_page_maps(checkpoint: &Checkpoint, segment_blocks: u32) -> Result<(), String> {
    let bytes = segment_blocks.div_ceil(8) as usize;
    let pages = |slot: SlotIndex| {
        let found = usize::try_from(slot.0).ok().and_then(|i| checkpoint.slots.get(i));
        found.is_some_and(|s| s.state == SlotState::Pages)
    };
    let mut seen = BTreeSet::new();
    for map in &checkpoint.page_maps {
        let whole = map.used.len() == bytes && map.quarantined.len() == bytes;
        if !whole || !pages(map.slot) || !seen.insert(map.slot) {
            return Err(format!("its page map of slot {} does not fit the store", map.slot));
        }
    }
    Ok(())
}

fn check_checkpoint(superblock: &Superblock, checkpoint: &CheckpointRef) -> Result<(), String> {
    let empty = checkpoint.fold_sequence.0 == 0;
    if checkpoint.fold.is_none() != empty || checkpoint.next.is_none() != empty {
        return Err(format!("says it ends at record {} and at {}", checkpoint.fold_sequence, checkpoint.fold));
    }
    let inside = [checkpoint.fold, checkpoint.next].iter().all(|address| inside(superblock, *address));
    if !empty && !inside {
        return Err(format!("ends at {} and goes on at {}, outside any segment", checkpoint.fold, checkpoint.next));
    }
    let numbers = [checkpoint.sequence.0, checkpoint.fold_sequence.0, checkpoint.fold_order.0, checkpoint.blob_bytes];
    if numbers.iter().any(|n| *n >= NUMBER_MAX) {
        return Err("has numbers that cannot be".into());
    }
    Ok(())
}

fn check_mount(superblock: &Superblock, mount: &MountEntry, before: RecordSequence) -> Result<(), String> {
    let SegmentId(segment) = mount.first_segment;
    if segment == 0 || segment >= SEGMENT_MAX || mount.first_slot.0 >= superblock.slot_count {
        return Err(format!("begins with segment {segment} in slot {}", mount.first_slot));
    }
    if mount.first_sequence < before || mount.first_sequence.0 == 0 || mount.first_sequence.0 >= NUMBER_MAX {
        return Err(format!("begins with record {}, the one before with {before}", mount.first_sequence));
    }
    if !mount.previous_end.is_none() && !inside(superblock, mount.previous_end) {
        return Err(format!("follows on {}, outside any segment", mount.previous_end));
    }
    Ok(())
}

/// Whether an address lies in a segment behind its header.
fn inside(superblock: &Superblock, address: LogAddress) -> bool {
    let segment = address.segment().0;
    (1..SEGMENT_MAX).contains(&segment) && (1..superblock.segment_blocks).contains(&address.block())
}
