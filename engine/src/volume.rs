//! A volume: all that a server sees of the engine. Requests have any byte offset and length; blocks begin here.
//!
//! What it keeps true: an answer to `write` or `zero` means the operation has its order number and survives the process; an
//! answer to `flush`, or to an operation with `fua`, means it survives the host. A request that does not cover whole blocks
//! reads the rest first, and reads again if another write to the same blocks was published meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use treering_format::units::OrderNumber;
use treering_io::Buffer;

use crate::disk::BLOCK;
use crate::error::VolumeError;
use crate::line::Line;
use crate::log::Flusher;
use crate::store::Core;
use crate::versions::Source;

mod ahead;
mod read;
mod status;
mod streams;

pub(crate) use ahead::Ahead;
pub(crate) use read::Broken;
use read::Keep;
pub use status::Extent;
use streams::Streams;

/// What a zeroed range reports as, and whether it gives its space back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// A hole.
    Hole,
    /// Zeros that count as allocated. The store is thin all the same: they take no space until written.
    Allocated,
}

/// What all handles of one volume share.
pub(crate) struct VolumeState {
    pub source: Source,
    pub size: Cell<u64>,
    /// Handles that clients hold.
    pub users: Cell<usize>,
    streams: Streams,
}

impl VolumeState {
    pub(crate) fn new(source: Source, size: u64) -> Rc<VolumeState> {
        Rc::new(VolumeState { source, size: Cell::new(size), users: Cell::new(0), streams: Streams::default() })
    }

    /// The line that takes what is written.
    pub(crate) fn head(&self) -> Result<&Rc<Line>, VolumeError> {
        match &self.source {
            Source::Head(line) => Ok(line),
            Source::Frozen(_) => Err(VolumeError::Frozen),
        }
    }

    pub(crate) fn mark_removed(&self) {
        if let Source::Head(line) = &self.source {
            line.removed.set(true);
        }
    }
}

/// A handle of one volume of an open store.
pub struct Volume {
    core: Rc<Core>,
    state: Rc<VolumeState>,
    flusher: Flusher,
}

impl Clone for Volume {
    fn clone(&self) -> Volume {
        Volume::new(Rc::clone(&self.core), Rc::clone(&self.state))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.state.users.set(self.state.users.get() - 1);
    }
}

impl Volume {
    pub(crate) fn new(core: Rc<Core>, state: Rc<VolumeState>) -> Volume {
        state.users.set(state.users.get() + 1);
        Volume { core, state, flusher: Flusher::default() }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.state.size.get()
    }

    /// Reads `len` bytes at byte `offset`.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Buffer, VolumeError> {
        self.check_range(offset, len as u64)?;
        if len == 0 {
            return Ok(Buffer::zeroed(0));
        }
        let (from, to) = blocks_of(offset, len as u64);
        self.follow_stream(from, to);
        let mut whole = self.core.read_blocks(&self.state.source, from, to, Keep::Wanted).await?;
        let start = (offset - from * BLOCK) as usize;
        if start == 0 {
            whole.truncate(len);
            return Ok(whole);
        }
        Ok(Buffer::from(&whole[start..start + len]))
    }

    /// Writes bytes at byte `offset`; with `fua`, durable when it returns.
    pub async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), VolumeError> {
        self.check_writable(offset, data.len() as u64)?;
        let chunk = self.core.publish_blocks() * BLOCK;
        let mut order = OrderNumber(0);
        let mut at = offset;
        let end = offset + data.len() as u64;
        while at < end {
            let rest = &data[(at - offset) as usize..];
            let within = at % BLOCK;
            let taken = if within != 0 || end - at < BLOCK {
                let bytes = (BLOCK - within).min(end - at);
                order = self.merge_into_block(at, &rest[..bytes as usize], OnFull::ByPolicy).await?;
                bytes
            } else {
                let bytes = ((end - at) / BLOCK * BLOCK).min(chunk);
                self.core.admit(bytes / BLOCK).await?;
                self.check_range(at, bytes)?;
                order = self.core.log.publish_data(self.state.head()?, at / BLOCK, &rest[..bytes as usize]);
                bytes
            };
            at += taken;
        }
        self.finish(order, fua).await
    }

    /// Makes a range read as zeros. Whole blocks are one operation, whatever the length.
    pub async fn zero(&self, offset: u64, len: u64, zeroing: Zeroing, fua: bool) -> Result<(), VolumeError> {
        self.check_writable(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let end = offset + len;
        let (first, last) = (offset.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
        let mut order = OrderNumber(0);
        let zeros = [0u8; BLOCK as usize];
        if first > last {
            order = self.merge_into_block(offset, &zeros[..len as usize], OnFull::ByPolicy).await?;
        } else {
            if offset < first {
                order = self.merge_into_block(offset, &zeros[..(first - offset) as usize], OnFull::ByPolicy).await?;
            }
            if first < last {
                self.core.admit(0).await?;
                self.check_range(first, last - first)?;
                let (block, count) = (first / BLOCK, (last - first) / BLOCK);
                let allocated = zeroing == Zeroing::Allocated;
                order = self.core.log.publish_blank(self.state.head()?, block, count, allocated);
            }
            if last < end {
                order = self.merge_into_block(last, &zeros[..(end - last) as usize], OnFull::ByPolicy).await?;
            }
        }
        self.finish(order, fua).await
    }

    /// Gives the space of a range back; it reads as zeros then. On a full store whole blocks are given back as long as there is
    /// room for saying so; what is not is left as it was, and no error.
    pub async fn trim(&self, offset: u64, len: u64, fua: bool) -> Result<(), VolumeError> {
        self.check_writable(offset, len)?;
        let end = offset + len;
        let (first, last) = (offset.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
        let mut order = OrderNumber(0);
        if first < last {
            if !self.core.room.admit_trim(0).await? {
                return Ok(());
            }
            self.check_range(first, last - first)?;
            order = self.core.log.publish_blank(self.state.head()?, first / BLOCK, (last - first) / BLOCK, false);
        }
        let edges = if first > last { [(offset, end), (end, end)] } else { [(offset, first), (last, end)] };
        for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
            match self.zero_within_block(from, to - from).await {
                Ok(merged) => order = merged,
                Err(VolumeError::NoSpace { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.finish(order, fua).await
    }

    /// Zeros part of a block, if there is room: does not wait for it.
    pub(crate) async fn zero_within_block(&self, offset: u64, len: u64) -> Result<OrderNumber, VolumeError> {
        self.merge_into_block(offset, &[0; BLOCK as usize][..len as usize], OnFull::Refuse).await
    }

    /// Makes everything durable that was answered before, on this volume and on all others.
    pub async fn flush(&self) -> Result<(), VolumeError> {
        if self.core.read_only {
            return Ok(());
        }
        self.core.log.persist_for(&self.flusher, self.core.log.published()).await?;
        Ok(())
    }

    /// Reads a range into the data cache.
    pub async fn prefetch(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.check_range(offset, len)?;
        // Longer ones are streams, of which nothing is kept.
        let step = self.core.limits.stream_blocks.max(1) * BLOCK;
        let mut at = offset;
        while at < offset + len {
            let bytes = step.min(offset + len - at);
            let (from, to) = blocks_of(at, bytes);
            self.core.read_blocks(&self.state.source, from, to, Keep::All).await?;
            at += bytes;
        }
        Ok(())
    }

    /// Sets reads going for what a client will ask for next, if it reads long pieces one behind the other.
    fn follow_stream(&self, from: u64, to: u64) {
        if !self.core.is_stream(to - from) {
            return;
        }
        let window = self.core.limits.read_ahead_window_bytes / BLOCK;
        let ahead = self.state.streams.follow(from, to, window);
        let end = ahead.end.min(self.size() / BLOCK);
        for piece in (ahead.start..end).step_by((to - from) as usize) {
            let piece_end = (piece + to - from).min(end);
            let read = Rc::clone(&self.core).read_ahead(self.state.source.clone(), piece, piece_end);
            self.core.disk.io().spawn(read).detach();
        }
    }

    /// Writes part of one block: reads the block, puts the bytes in, publishes the whole. Another such write to the block
    /// waits; a write of whole blocks does not, so the block is read again if one came between.
    async fn merge_into_block(&self, offset: u64, bytes: &[u8], full: OnFull) -> Result<OrderNumber, VolumeError> {
        let block = offset / BLOCK;
        let within = (offset % BLOCK) as usize;
        let guard = self.state.head()?.begin_merge(block, block + 1).await;
        loop {
            guard.take_disturbed();
            let mut whole = self.core.read_blocks(&self.state.source, block, block + 1, Keep::Wanted).await?;
            whole[within..within + bytes.len()].copy_from_slice(bytes);
            match full {
                OnFull::ByPolicy => self.core.admit(1).await?,
                OnFull::Refuse if self.core.room.admit_trim(1).await? => {}
                OnFull::Refuse => return Err(VolumeError::NoSpace { needed_blocks: 1, free_blocks: 0 }),
            }
            // Admission may have waited, and the volume may have shrunk or gone meanwhile.
            self.check_range(offset, bytes.len() as u64)?;
            if !guard.take_disturbed() {
                return Ok(self.core.log.publish_data(self.state.head()?, block, &whole));
            }
        }
    }

    async fn finish(&self, order: OrderNumber, fua: bool) -> Result<(), VolumeError> {
        if fua {
            self.core.log.persist_for(&self.flusher, order).await?;
        }
        Ok(())
    }

    /// Asked when a request begins, and again next to each publish.
    fn check_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        let size = self.size();
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(VolumeError::OutOfRange { offset, len, size });
        }
        if self.state.source.is_removed() { Err(VolumeError::Removed) } else { Ok(()) }
    }

    fn check_writable(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        if self.core.read_only {
            return Err(VolumeError::ReadOnly);
        }
        self.state.head()?;
        self.check_range(offset, len)?;
        self.core.health.check()?;
        Ok(())
    }
}

/// What a write does when the store is full.
#[derive(Clone, Copy)]
enum OnFull {
    ByPolicy,
    Refuse,
}

/// Blocks that a byte range touches: first, and one past the last.
fn blocks_of(offset: u64, len: u64) -> (u64, u64) {
    (offset / BLOCK, (offset + len).div_ceil(BLOCK))
}
