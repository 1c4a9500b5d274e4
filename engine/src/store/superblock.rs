//! The superblock in memory, and how a new one is made durable: one writer at a time, both regions, one sync. The places of
//! older generations are written over only after sixteen newer ones, so a torn write leaves its predecessor whole.

use std::cell::RefCell;
use std::io;

use treering_format::BLOCK_BYTES;
use treering_format::superblock::{COPIES_PER_REGION, REGION_STARTS, Superblock};
use treering_io::{Buffer, Durability, File, Io, WriteBuffer};

use crate::disk::Disk;
use crate::turn::Turn;

pub(crate) struct SuperblockCell {
    current: RefCell<Superblock>,
    turn: Turn,
}

impl SuperblockCell {
    pub(crate) fn new(current: Superblock) -> SuperblockCell {
        SuperblockCell { current: RefCell::new(current), turn: Turn::new() }
    }

    /// The newest durable one.
    pub(crate) fn current(&self) -> Superblock {
        self.current.borrow().clone()
    }

    /// Writes a superblock that differs from the newest one as `change` says; durable when it returns.
    pub(crate) async fn commit(&self, disk: &Disk, change: impl FnOnce(&mut Superblock)) -> io::Result<()> {
        let _turn = self.turn.take().await;
        let mut next = self.current();
        change(&mut next);
        next.generation += 1;
        let result = write(disk, &next).await;
        if result.is_ok() {
            *self.current.borrow_mut() = next;
        }
        result
    }
}

/// Writes both copies of a superblock and syncs.
pub(crate) async fn write(disk: &Disk, superblock: &Superblock) -> io::Result<()> {
    let bytes = superblock.encode();
    for block in Superblock::positions(superblock.generation) {
        let buffer = WriteBuffer::Owned(Buffer::from(&bytes[..]));
        disk.write_bytes(block * BLOCK_BYTES as u64, vec![buffer], Durability::Volatile).await?;
    }
    disk.sync().await
}

/// The newest whole superblock of a file. `Ok(Err(why))` when there is none.
pub(crate) async fn read_newest(io: &Io, file: &File) -> io::Result<Result<Superblock, String>> {
    let blocks = (REGION_STARTS[1] + COPIES_PER_REGION) as usize;
    let (result, bytes) = io.read_at(file, 0, Buffer::with_len(blocks * BLOCK_BYTES)).await;
    let whole = match result {
        Ok(()) => vec![bytes],
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err("it is shorter than a store's first blocks".into()));
        }
        // One bad sector must not hide the other copies.
        Err(_) => read_each(io, file, blocks).await,
    };
    let mut newest: Option<Superblock> = None;
    let mut why = String::from("no superblock was found");
    for block in whole.iter().flat_map(|b| b.chunks_exact(BLOCK_BYTES)) {
        match Superblock::decode(block) {
            Ok(found) if newest.as_ref().is_none_or(|n| n.generation < found.generation) => newest = Some(found),
            Ok(_) => {}
            Err(error) if block.starts_with(b"TREERING") => why = error.to_string(),
            Err(_) => {}
        }
    }
    Ok(newest.ok_or(why))
}

async fn read_each(io: &Io, file: &File, blocks: usize) -> Vec<Buffer> {
    let mut found = Vec::new();
    for block in 0..blocks {
        let (result, bytes) = io.read_at(file, (block * BLOCK_BYTES) as u64, Buffer::with_len(BLOCK_BYTES)).await;
        if result.is_ok() {
            found.push(bytes);
        }
    }
    found
}
