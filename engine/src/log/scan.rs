//! The records of one closed segment, for those who want to know what lies in it: by its footer, else by walking it.

use std::io;

use treering_format::record::Record;
use treering_format::segment::SegmentFooter;
use treering_format::units::{LogAddress, SegmentId, SlotIndex, StoreId};

use crate::disk::{BLOCK, Disk};

/// Blocks read at once by a walk; more than any record header takes.
const WALK_BLOCKS: u32 = 256;

/// All records of a segment, in order. A walk ends where no record follows.
pub(crate) async fn records_of(disk: &Disk, store: StoreId, id: SegmentId, slot: SlotIndex) -> io::Result<Vec<Record>> {
    match by_footer(disk, store, id, slot).await? {
        Some(records) => Ok(records),
        None => by_walk(disk, store, id, slot).await,
    }
}

async fn by_footer(disk: &Disk, store: StoreId, id: SegmentId, slot: SlotIndex) -> io::Result<Option<Vec<Record>>> {
    let blocks = disk.geometry().segment_blocks;
    let Ok(footer) = SegmentFooter::decode_trailer(&disk.read(slot, blocks - 1, 1).await?) else { return Ok(None) };
    let whole = footer.body_block + SegmentFooter::blocks(footer.body_bytes as usize) == blocks;
    if footer.segment != id || footer.store_id != store || !whole || footer.body_bytes == 0 {
        return Ok(None);
    }
    let body = disk.read(slot, footer.body_block, u64::from(blocks - 1 - footer.body_block)).await?;
    let Ok(body) = footer.body(&body) else { return Ok(None) };
    let records: Option<Vec<Record>> = SegmentFooter::iterate(body).map(Result::ok).collect();
    Ok(records.filter(|records| records.len() == footer.record_count as usize))
}

async fn by_walk(disk: &Disk, store: StoreId, id: SegmentId, slot: SlotIndex) -> io::Result<Vec<Record>> {
    let blocks = disk.geometry().segment_blocks;
    let mut records: Vec<Record> = Vec::new();
    let mut at = 1;
    while at < blocks {
        let read = disk.read(slot, at, u64::from(WALK_BLOCKS.min(blocks - at))).await?;
        let before = at;
        while let Ok(record) = Record::decode(&read[((at - before) as usize * BLOCK as usize).min(read.len())..]) {
            let ours = record.header.address == LogAddress::new(id, at) && record.header.store_tag == store.tag();
            let end = at + record.header.total_blocks();
            if !ours || end > blocks {
                return Ok(records);
            }
            at = end;
            records.push(record);
            if at - before >= WALK_BLOCKS.min(blocks - before) {
                break;
            }
        }
        if at == before {
            break;
        }
    }
    Ok(records)
}
