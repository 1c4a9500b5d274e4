//! Reads: overlay first, newest layer to oldest, then the map; then arena, cache or disk; and a checksum over all that came
//! from disk.
//!
//! What was published is read from the arena while it is there. Everything else has a log address and checksums, from the
//! overlay or from the map, so damage is seen here: it is read once more (a bit may have flipped on the way), and then
//! reported with block, segment and sums, never returned as data. A ticket keeps slots from being written again while the
//! read is on its way to them.

use std::rc::Rc;

use futures_util::future::join_all;
use treering_format::record::Encoding;
use treering_format::units::{BlockCount, BlockIndex, LogAddress};
use treering_io::Buffer;

use crate::canary::{self, Canary};
use crate::compress::expand;
use crate::disk::BLOCK;
use crate::error::VolumeError;
use crate::map;
use crate::overlay;
use crate::segments::{Place, Spot};
use crate::store::Core;
use crate::versions::Source;

/// Blocks that are read at once to be verified.
const VERIFY_BLOCKS: usize = 256;

/// Blocks of a volume that are stored and cannot be read.
pub(crate) struct Broken {
    /// Where the first of them is stored.
    pub address: LogAddress,
    pub from: u64,
    /// One past the last.
    pub to: u64,
    pub what: String,
}

/// What a read leaves in the data cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// What the cache wants.
    Wanted,
    /// All of it: somebody said that he will come for it.
    All,
}

/// Blocks of the volume that must come from the log.
struct Wanted {
    block: u64,
    count: u64,
    stored: Stored,
}

enum Stored {
    /// Block i of the run lies at address + i.
    Raw { address: LogAddress, checksums: Vec<u32> },
    /// Part of a compressed extent, from its block `offset`.
    Lz4 { address: LogAddress, offset: u64, blocks: u64, stored_blocks: u64, checksum: u32 },
}

impl Core {
    /// The content of blocks `[from, to)` of a volume or a version. The caller may have waited for space or for another write
    /// since it asked whether the volume is there.
    pub(crate) async fn read_blocks(
        &self,
        source: &Source,
        from: u64,
        to: u64,
        keep: Keep,
    ) -> Result<Buffer, VolumeError> {
        if source.is_removed() {
            return Err(VolumeError::Removed);
        }
        let _ticket = self.readers.enter();
        let mut into = None;
        let wanted = self.resolve(source, from, to, &mut into).await?;
        if into.is_none()
            && let [Wanted { block, count, stored: Stored::Raw { address, checksums } }] = &wanted[..]
            && *block == from
            && *count == to - from
            && (self.is_stream(*count) || self.cache.get(*address).is_none())
        {
            return self.read_run(from, *address, checksums, keep).await;
        }
        let mut into = into.unwrap_or_else(|| Buffer::with_len(((to - from) * BLOCK) as usize));
        self.fetch(from, wanted, &mut into, keep).await?;
        Ok(into)
    }

    /// Fills in what is zeros or still in the arena, and says what must come from the log. The buffer is made when the first
    /// byte goes into it.
    async fn resolve(
        &self,
        source: &Source,
        from: u64,
        to: u64,
        into: &mut Option<Buffer>,
    ) -> Result<Vec<Wanted>, VolumeError> {
        let (pieces, gaps, map) = source.look(from, to);
        let bytes = ((to - from) * BLOCK) as usize;
        let mut wanted = Vec::new();
        let span = |block: u64, count: u64| {
            let start = ((block - from) * BLOCK) as usize;
            start..start + (count * BLOCK) as usize
        };
        for piece in pieces {
            match piece.place {
                overlay::Place::Blank { .. } => {
                    into.get_or_insert_with(|| Buffer::with_len(bytes))[span(piece.block, piece.count)].fill(0);
                }
                overlay::Place::Arena { position } => {
                    let target =
                        &mut into.get_or_insert_with(|| Buffer::with_len(bytes))[span(piece.block, piece.count)];
                    assert!(self.log.read_resident(position, target), "unsealed payload is in the arena");
                }
                overlay::Place::Log { extent, offset, position } => {
                    if position != crate::overlay::NOT_IN_ARENA {
                        let target =
                            &mut into.get_or_insert_with(|| Buffer::with_len(bytes))[span(piece.block, piece.count)];
                        if self.log.read_resident(position, target) {
                            continue;
                        }
                    }
                    let stored = match extent.encoding {
                        Encoding::Raw => Stored::Raw {
                            address: extent.address.next(offset),
                            checksums: extent.checksums[offset as usize..][..piece.count as usize].to_vec(),
                        },
                        Encoding::Lz4 => Stored::Lz4 {
                            address: extent.address,
                            offset: u64::from(offset),
                            blocks: u64::from(extent.blocks),
                            stored_blocks: u64::from(extent.stored_blocks),
                            checksum: extent.checksums[0],
                        },
                    };
                    wanted.push(Wanted { block: piece.block, count: piece.count, stored });
                }
            }
        }
        for (gap_from, gap_to) in gaps {
            let (gap_from, gap_to) = (BlockIndex(gap_from), BlockIndex(gap_to));
            let extents = match map.lookup_cached(&self.pages, gap_from, gap_to, usize::MAX) {
                Some(extents) => extents,
                None => map
                    .lookup(&self.pages, gap_from, gap_to, usize::MAX)
                    .await
                    .map_err(|e| VolumeError::Damaged { block: gap_from.0, what: e.to_string() })?,
            };
            let mut at = gap_from.0;
            for extent in extents {
                let mut zero = |from: u64, to: u64| {
                    if from < to {
                        into.get_or_insert_with(|| Buffer::with_len(bytes))[span(from, to - from)].fill(0);
                    }
                };
                zero(at, extent.block.0);
                at = extent.block.0 + extent.count;
                match Stored::of(&extent) {
                    None => zero(extent.block.0, at),
                    Some(stored) => wanted.push(Wanted { block: extent.block.0, count: extent.count, stored }),
                }
            }
            if at < gap_to.0 {
                into.get_or_insert_with(|| Buffer::with_len(bytes))[span(at, gap_to.0 - at)].fill(0);
            }
        }
        Ok(wanted)
    }

    /// Brings in everything wanted, all reads at once.
    async fn fetch(&self, from: u64, wanted: Vec<Wanted>, into: &mut Buffer, keep: Keep) -> Result<(), VolumeError> {
        let mut reads = Vec::new();
        for item in wanted {
            match item.stored {
                Stored::Raw { address, checksums } => {
                    self.take_cached(from, item.block, address, &checksums, into, &mut reads)
                }
                Stored::Lz4 { address, offset, blocks, stored_blocks, checksum } => {
                    let range = (offset, item.count);
                    reads.push(Missing::Lz4 { block: item.block, address, range, blocks, stored_blocks, checksum });
                }
            }
        }
        let results = join_all(reads.iter().map(|missing| self.read_missing(missing, keep))).await;
        for (missing, result) in reads.iter().zip(results) {
            let (block, data, skip) = (missing.block(), result?, missing.skip());
            let start = ((block - from) * BLOCK) as usize;
            let bytes = (missing.count() * BLOCK) as usize;
            let skip = (skip * BLOCK) as usize;
            into[start..start + bytes].copy_from_slice(&data[skip..skip + bytes]);
        }
        Ok(())
    }

    /// Copies the cached blocks of a raw run, and lists the runs between them.
    fn take_cached(
        &self,
        from: u64,
        block: u64,
        address: LogAddress,
        checksums: &[u32],
        into: &mut Buffer,
        reads: &mut Vec<Missing>,
    ) {
        let mut run: Option<(usize, usize)> = None;
        let mut missing = |run: &mut Option<(usize, usize)>| {
            if let Some((start, end)) = run.take() {
                reads.push(Missing::Raw {
                    block: block + start as u64,
                    address: address.next(start as u32),
                    checksums: checksums[start..end].to_vec(),
                });
            }
        };
        for i in 0..checksums.len() {
            match self.cache.get(address.next(i as u32)) {
                Some(content) => {
                    let start = ((block + i as u64 - from) * BLOCK) as usize;
                    into[start..start + BLOCK as usize].copy_from_slice(&content);
                    missing(&mut run);
                }
                None => run = Some((run.map_or(i, |(start, _)| start), i + 1)),
            }
        }
        missing(&mut run);
    }

    async fn read_missing(&self, missing: &Missing, keep: Keep) -> Result<Rc<Buffer>, VolumeError> {
        match missing {
            Missing::Raw { block, address, checksums } => {
                Ok(Rc::new(self.read_run(*block, *address, checksums, keep).await?))
            }
            Missing::Lz4 { block, address, blocks, stored_blocks, checksum, .. } => {
                if let Some(expanded) = self.cache.get(*address) {
                    return Ok(expanded);
                }
                let whole = |data: &Buffer| verify_whole(data, *checksum);
                let stored = self.read_verified(*block, *address, *stored_blocks, whole).await?;
                let expanded = expand(&stored, BlockCount(*blocks))
                    .map_err(|what| VolumeError::Damaged { block: *block, what: format!("{address}: {what}") })?;
                let expanded = Rc::new(expanded);
                if self.keeps(*address, keep) {
                    self.cache.insert(*address, Rc::clone(&expanded));
                }
                Ok(expanded)
            }
        }
    }

    /// Reads from the disk what an extent of a map shows, past every cache, and verifies it. The bytes that hold, and the ranges of
    /// blocks that do not.
    pub(crate) async fn verify_stored(&self, extent: &map::Extent) -> (u64, Vec<Broken>) {
        let (block, count) = (extent.block.0, extent.count);
        match Stored::of(extent) {
            None => (0, Vec::new()),
            Some(Stored::Lz4 { address, stored_blocks, checksum, .. }) => {
                let whole = |data: &Buffer| verify_whole(data, checksum);
                match self.read_verified(block, address, stored_blocks, whole).await {
                    Ok(_) => (stored_blocks * BLOCK, Vec::new()),
                    Err(error) => {
                        (0, vec![Broken { address, from: block, to: block + count, what: error.to_string() }])
                    }
                }
            }
            Some(Stored::Raw { address, checksums }) => self.verify_raw(block, address, &checksums).await,
        }
    }

    async fn verify_raw(&self, block: u64, address: LogAddress, checksums: &[u32]) -> (u64, Vec<Broken>) {
        let mut broken: Vec<Broken> = Vec::new();
        for (part, sums) in checksums.chunks(VERIFY_BLOCKS).enumerate() {
            let at = (part * VERIFY_BLOCKS) as u64;
            if self.read_raw(block + at, address.next(at as u32), sums).await.is_ok() {
                continue;
            }
            // Which blocks of it.
            for (i, sum) in (at..).zip(sums) {
                let address = address.next(i as u32);
                let Err(error) = self.read_raw(block + i, address, &[*sum]).await else { continue };
                match broken.last_mut() {
                    Some(last) if last.to == block + i => last.to += 1,
                    _ => broken.push(Broken { address, from: block + i, to: block + i + 1, what: error.to_string() }),
                }
            }
        }
        let lost: u64 = broken.iter().map(|b| b.to - b.from).sum();
        ((checksums.len() as u64 - lost) * BLOCK, broken)
    }

    /// Reads a run that no cache holds, and leaves in the cache what is to be kept of it, if it is short.
    async fn read_run(
        &self,
        block: u64,
        address: LogAddress,
        checksums: &[u32],
        keep: Keep,
    ) -> Result<Buffer, VolumeError> {
        let count = checksums.len() as u64;
        if self.is_stream(count) {
            return match self.ahead.take(address, count).await {
                Some(buffer) => Ok(buffer),
                None => self.read_raw(block, address, checksums).await,
            };
        }
        let buffer = self.read_raw(block, address, checksums).await?;
        for (i, block) in buffer.chunks_exact(BLOCK as usize).enumerate() {
            let address = address.next(i as u32);
            if self.keeps(address, keep) {
                self.cache.insert(address, Rc::new(Buffer::from(block)));
            }
        }
        Ok(buffer)
    }

    fn keeps(&self, address: LogAddress, keep: Keep) -> bool {
        keep == Keep::All || self.cache.wants(address)
    }

    /// Reads of so many blocks come one behind the other, if they come again at all.
    pub(super) fn is_stream(&self, blocks: u64) -> bool {
        blocks > self.limits.stream_blocks
    }

    /// Reads ahead the long runs that the map shows in blocks `[from, to)`. It counts as a reader from the call on.
    pub(super) fn read_ahead(self: Rc<Self>, source: Source, from: u64, to: u64) -> impl Future<Output = ()> {
        let ticket = self.readers.enter();
        async move {
            let _ticket = ticket;
            let (_, gaps, map) = source.look(from, to);
            let mut reads = Vec::new();
            for (from, to) in gaps {
                let found = map.lookup(&self.pages, BlockIndex(from), BlockIndex(to), usize::MAX).await;
                // What cannot be looked up is the client's to hear of, when it asks.
                for extent in found.iter().flatten().filter(|extent| self.is_stream(extent.count)) {
                    if let Some(Stored::Raw { address, checksums }) = Stored::of(extent)
                        && let Some(run) = self.ahead.reserve(address, extent.count)
                    {
                        let (core, block) = (&self, extent.block.0);
                        reads.push(async move { run.came(core.read_raw(block, address, &checksums).await.ok()) });
                    }
                }
            }
            join_all(reads).await;
        }
    }

    async fn read_raw(&self, block: u64, address: LogAddress, checksums: &[u32]) -> Result<Buffer, VolumeError> {
        self.read_verified(block, address, checksums.len() as u64, |data| verify_blocks(data, checksums)).await
    }

    /// Reads stored blocks and verifies them; once more if they do not verify at first.
    async fn read_verified(
        &self,
        block: u64,
        address: LogAddress,
        blocks: u64,
        verify: impl Fn(&Buffer) -> Result<(), Mismatch>,
    ) -> Result<Buffer, VolumeError> {
        let place = match self.segments.place_now(address, blocks as u32) {
            Some(place) => place,
            None => {
                let found = self.segments.place(&self.pages, address, blocks as u32).await;
                found.map_err(|e| VolumeError::Damaged { block, what: e.to_string() })?
            }
        };
        let mut wrong = String::new();
        for _ in 0..2 {
            let read = match &place {
                Place::Slot(slot) => self.disk.read(*slot, address.block(), blocks).await,
                Place::Moved(spots) => self.read_spots(spots).await,
                Place::Nowhere => {
                    let what = format!("the map names {blocks} blocks at {address}, and no slot holds them");
                    return Err(VolumeError::Damaged { block, what });
                }
            };
            match read {
                Ok(buffer) if canary::is(Canary::ChecksumIgnored) => return Ok(buffer),
                Ok(buffer) => match verify(&buffer) {
                    Ok(()) => return Ok(buffer),
                    Err(m) => {
                        wrong = format!(
                            "{}: checksum mismatch: expected {:08x}, computed {:08x}",
                            address.next(m.block),
                            m.expected,
                            m.computed
                        );
                    }
                },
                Err(error) => wrong = format!("{address}: {error}"),
            }
        }
        tracing::error!("block {block} of a volume cannot be read: {wrong}");
        Err(VolumeError::Damaged { block, what: wrong })
    }

    /// Reads what was moved, at all its places at once.
    async fn read_spots(&self, spots: &[Spot]) -> std::io::Result<Buffer> {
        self.cleaner.count_read();
        if let [spot] = spots {
            return self.disk.read(spot.slot, spot.block, u64::from(spot.count)).await;
        }
        let reads = spots.iter().map(|spot| self.disk.read(spot.slot, spot.block, u64::from(spot.count)));
        let blocks: u64 = spots.iter().map(|spot| u64::from(spot.count)).sum();
        let mut whole = Buffer::with_len((blocks * BLOCK) as usize);
        let mut at = 0;
        for part in join_all(reads).await {
            let part = part?;
            whole[at..at + part.len()].copy_from_slice(&part);
            at += part.len();
        }
        Ok(whole)
    }
}

impl Stored {
    /// Where a piece of the map lies; None for zeros.
    fn of(extent: &map::Extent) -> Option<Stored> {
        match &extent.content {
            map::Content::Hole { .. } | map::Content::Zero { .. } => None,
            map::Content::Data { address, encoding: Encoding::Raw, checksums, .. } => {
                Some(Stored::Raw { address: *address, checksums: checksums.to_vec() })
            }
            map::Content::Data {
                address,
                encoding: Encoding::Lz4,
                offset,
                extent_blocks,
                stored_blocks,
                checksums,
            } => Some(Stored::Lz4 {
                address: *address,
                offset: u64::from(*offset),
                blocks: u64::from(*extent_blocks),
                stored_blocks: u64::from(*stored_blocks),
                checksum: checksums[0],
            }),
        }
    }
}

/// One disk read to do.
enum Missing {
    Raw { block: u64, address: LogAddress, checksums: Vec<u32> },
    Lz4 { block: u64, address: LogAddress, range: (u64, u64), blocks: u64, stored_blocks: u64, checksum: u32 },
}

impl Missing {
    fn block(&self) -> u64 {
        match self {
            Missing::Raw { block, .. } | Missing::Lz4 { block, .. } => *block,
        }
    }

    fn count(&self) -> u64 {
        match self {
            Missing::Raw { checksums, .. } => checksums.len() as u64,
            Missing::Lz4 { range, .. } => range.1,
        }
    }

    /// Blocks of the result that come before the wanted ones.
    fn skip(&self) -> u64 {
        match self {
            Missing::Raw { .. } => 0,
            Missing::Lz4 { range, .. } => range.0,
        }
    }
}

struct Mismatch {
    block: u32,
    expected: u32,
    computed: u32,
}

fn verify_blocks(data: &Buffer, checksums: &[u32]) -> Result<(), Mismatch> {
    for (i, (block, expected)) in data.chunks_exact(BLOCK as usize).zip(checksums).enumerate() {
        let computed = crc32fast::hash(block);
        if computed != *expected {
            return Err(Mismatch { block: i as u32, expected: *expected, computed });
        }
    }
    Ok(())
}

fn verify_whole(data: &Buffer, expected: u32) -> Result<(), Mismatch> {
    let computed = crc32fast::hash(data);
    if computed == expected { Ok(()) } else { Err(Mismatch { block: 0, expected, computed }) }
}
