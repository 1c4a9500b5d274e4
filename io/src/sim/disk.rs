//! A simulated disk: what a process reads, what would survive now, and the writes in between.
//!
//! Content is kept in 4 KiB blocks, shared between the three by reference counts, so that a write costs one copy and an empty
//! gigabyte costs nothing. `pending` holds the writes that no sync has covered, in the order in which they took effect, each
//! with the sectors it changed. A crash of the host goes through them in that order and keeps or drops each sector; a sync
//! applies a prefix of them whole.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(super) const BLOCK: usize = 4096;
pub(super) const SECTOR: usize = 512;
const SECTORS_PER_BLOCK: usize = BLOCK / SECTOR;

pub(super) struct Disk {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// Space below this is allocated, written or not.
    pub(super) allocated: u64,
    current: Blocks,
    durable: Blocks,
    pending: VecDeque<PendingWrite>,
    next_write: u64,
    pub(super) locks: Vec<Lock>,
}

/// A lock held by one open file.
pub(super) struct Lock {
    pub(super) holder: u64,
    pub(super) exclusive: bool,
}

type Block = Rc<[u8]>;
type Blocks = HashMap<u64, Block, BuildHasherDefault<BlockHasher>>;

struct PendingWrite {
    number: u64,
    in_flight: bool,
    blocks: Vec<(u64, Block, Sectors)>,
}

/// Which sectors of a block: bit n is sector n.
type Sectors = u8;

/// One sector whose survival a host crash decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSector<'disk> {
    pub disk: &'disk Path,
    pub offset: u64,
    /// The write's place in the order in which writes to this disk took effect.
    pub write: u64,
    /// The write had not completed.
    pub in_flight: bool,
}

impl Disk {
    pub(super) fn new(path: &Path, len: u64) -> Disk {
        Disk {
            path: path.to_owned(),
            len,
            allocated: 0,
            current: Blocks::default(),
            durable: Blocks::default(),
            pending: VecDeque::new(),
            next_write: 0,
            locks: Vec::new(),
        }
    }

    /// Reads what a process sees; gives the count, short at the end of the disk.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let count = (self.len.saturating_sub(offset)).min(into.len() as u64) as usize;
        for (block, within, range) in pieces(offset, count) {
            let part = &mut into[range];
            match self.current.get(&block) {
                Some(content) => part.copy_from_slice(&content[within..within + part.len()]),
                None => part.fill(0),
            }
        }
        count
    }

    /// True if all of it lies in space that is allocated or was written.
    pub(super) fn is_allocated(&self, offset: u64, len: usize) -> bool {
        let end = offset + len as u64;
        end <= self.allocated || pieces(offset, len).all(|(block, ..)| self.current.contains_key(&block))
    }

    /// A write takes effect; `arrives` tells for each sector, counted from the write's start, whether it does.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], mut arrives: impl FnMut(usize) -> bool) -> u64 {
        let mut blocks = Vec::with_capacity(bytes.len() / BLOCK + 2);
        let mut sector_number = 0;
        for (block, within, range) in pieces(offset, bytes.len()) {
            let bytes = &bytes[range];
            let mut sectors: Sectors = 0;
            for sector in within / SECTOR..(within + bytes.len()).div_ceil(SECTOR) {
                if arrives(sector_number) {
                    sectors |= 1 << sector;
                }
                sector_number += 1;
            }
            let content: Block = if bytes.len() == BLOCK && sectors == Sectors::MAX {
                Rc::from(bytes)
            } else {
                let mut content =
                    self.current.get(&block).map_or([0; BLOCK], |old| old[..].try_into().expect("a block"));
                for sector in (0..SECTORS_PER_BLOCK).filter(|sector| sectors & (1 << sector) != 0) {
                    let start = (sector * SECTOR).max(within);
                    let end = ((sector + 1) * SECTOR).min(within + bytes.len());
                    content[start..end].copy_from_slice(&bytes[start - within..end - within]);
                }
                Rc::from(&content[..])
            };
            self.current.insert(block, content.clone());
            blocks.push((block, content, sectors));
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        let number = self.next_write;
        self.next_write += 1;
        self.pending.push_back(PendingWrite { number, in_flight: false, blocks });
        number
    }

    /// Everything from here on is not covered by a sync submitted now.
    pub(super) fn sync_mark(&self) -> u64 {
        self.next_write
    }

    /// Makes the pending writes before `mark` durable; those for which `persists` is false never will be.
    pub(super) fn sync(&mut self, mark: u64, mut persists: impl FnMut() -> bool) {
        while self.pending.front().is_some_and(|write| write.number < mark) {
            let write = self.pending.pop_front().expect("just seen");
            if persists() {
                for (block, content, sectors) in write.blocks {
                    keep(&mut self.durable, block, &content, sectors);
                }
            }
        }
    }

    /// Makes one write durable, out of turn. What is older in its sectors must not come back over it.
    pub(super) fn persist(&mut self, number: u64) {
        let Some(place) = self.pending.iter().position(|write| write.number == number) else { return };
        let write = self.pending.remove(place).expect("just found");
        for (block, content, sectors) in write.blocks {
            for older in self.pending.iter_mut().take(place) {
                for (other, _, theirs) in &mut older.blocks {
                    if *other == block {
                        *theirs &= !sectors;
                    }
                }
            }
            keep(&mut self.durable, block, &content, sectors);
        }
    }

    /// Marks a write that had not completed when its process died.
    pub(super) fn mark_in_flight(&mut self, number: u64) {
        if let Some(write) = self.pending.iter_mut().find(|write| write.number == number) {
            write.in_flight = true;
        }
    }

    pub(super) fn pending_sectors(&self) -> usize {
        self.pending.iter().flat_map(|write| &write.blocks).map(|(_, _, sectors)| sectors.count_ones() as usize).sum()
    }

    /// The host crashes: each pending sector is kept or lost. Gives how many were kept and lost.
    pub(super) fn crash(&mut self, choose: &mut dyn FnMut(&PendingSector<'_>) -> bool) -> (u64, u64) {
        let (mut kept, mut lost) = (0, 0);
        for write in std::mem::take(&mut self.pending) {
            for (block, content, sectors) in write.blocks {
                let mut keeps: Sectors = 0;
                for sector in (0..SECTORS_PER_BLOCK).filter(|sector| sectors & (1 << sector) != 0) {
                    let offset = block * BLOCK as u64 + (sector * SECTOR) as u64;
                    let (disk, in_flight) = (self.path.as_path(), write.in_flight);
                    if choose(&PendingSector { disk, offset, write: write.number, in_flight }) {
                        keeps |= 1 << sector;
                    }
                }
                kept += u64::from(keeps.count_ones());
                lost += u64::from((sectors & !keeps).count_ones());
                keep(&mut self.durable, block, &content, keeps);
            }
        }
        self.current = self.durable.clone();
        self.locks.clear();
        (kept, lost)
    }

    pub(super) fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.len as usize];
        for (block, content) in &self.current {
            let start = (*block as usize * BLOCK).min(image.len());
            let end = (start + BLOCK).min(image.len());
            image[start..end].copy_from_slice(&content[..end - start]);
        }
        image
    }

    /// Replaces the content, durably.
    pub(super) fn set_image(&mut self, image: &[u8]) {
        let written = image.chunks(BLOCK).enumerate().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        self.current = written
            .map(|(block, bytes)| {
                let mut content = [0; BLOCK];
                content[..bytes.len()].copy_from_slice(bytes);
                (block as u64, Rc::from(&content[..]))
            })
            .collect();
        self.durable = self.current.clone();
        self.pending.clear();
        self.len = image.len() as u64;
        self.allocated = self.len;
    }
}

/// Sets `sectors` of a block to those of `content`.
fn keep(blocks: &mut Blocks, block: u64, content: &Block, sectors: Sectors) {
    match sectors {
        0 => {}
        Sectors::MAX => drop(blocks.insert(block, content.clone())),
        _ => {
            let mut mixed = blocks.get(&block).map_or([0; BLOCK], |old| old[..].try_into().expect("a block"));
            for sector in (0..SECTORS_PER_BLOCK).filter(|sector| sectors & (1 << sector) != 0) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                mixed[range.clone()].copy_from_slice(&content[range]);
            }
            blocks.insert(block, Rc::from(&mixed[..]));
        }
    }
}

/// Cuts a range at block boundaries: block number, offset within it, and the range of the caller's bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let within = (position % BLOCK as u64) as usize;
        let step = (BLOCK - within).min(len - done);
        let range = done..done + step;
        done += step;
        Some((position / BLOCK as u64, within, range))
    })
}

/// Block numbers are spread well by one multiplication; and unlike the default hasher it is the same in every run.
#[derive(Default)]
pub(super) struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
