//! What one connection was told about each of its blocks, and whether the volume agrees.
//!
//! Each write of a block has a stamp of its own, and the block's bytes follow from place and stamp, so a block shows which write
//! it holds, and a torn or misplaced one shows nothing at all. A block has at most one write under way: else the order of two
//! could not be told.

use serde::Serialize;
use std::collections::BTreeSet;
use treering_nbd_server::control::{Kind, Trouble};

pub const BLOCK: usize = 4096;

/// The blocks `first, first + step, …` in runs: the connections share the volume between them.
pub struct Journal {
    connection: u64,
    connections: u64,
    blocks: Vec<Block>,
    next_stamp: u64,
    /// Acknowledgements so far.
    acknowledged: u64,
    /// Acknowledgements up to this one are covered by an answered flush.
    flushed: u64,
}

#[derive(Clone, Copy, Default)]
struct Block {
    /// Stamp of the last acknowledged write; 0 for none.
    stamp: u64,
    /// Its place among the acknowledgements.
    acknowledged: u64,
    /// Stamp of the write under way; 0 for none.
    under_way: u64,
}

/// Blocks by what must be on them.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Tally {
    pub flushed: u64,
    pub acknowledged: u64,
    pub under_way: u64,
    /// Of those under way, found on the volume.
    pub happened: u64,
}

/// Blocks that one connection has in a row before the next one's begin.
const STRIPE: u64 = 64;

impl Journal {
    pub fn new(connection: u64, connections: u64, volume_bytes: u64) -> Journal {
        let blocks = volume_bytes / BLOCK as u64 / connections;
        assert!(blocks.is_multiple_of(STRIPE), "stripes are whole");
        Journal {
            connection,
            connections,
            blocks: vec![Block::default(); blocks as usize],
            next_stamp: 1,
            acknowledged: 0,
            flushed: 0,
        }
    }

    /// Blocks that this connection may write to.
    pub fn len(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// As many blocks from `first` on as lie in a row and have no write under way.
    pub fn free_run(&self, first: u64, wanted: u64) -> u64 {
        let end = (first + wanted).min((first / STRIPE + 1) * STRIPE);
        (first..end).take_while(|block| self.blocks[*block as usize].under_way == 0).count() as u64
    }

    /// A write of these blocks: its place on the volume and its bytes.
    pub fn begin(&mut self, first: u64, count: u64) -> (u64, Vec<u8>) {
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        let mut bytes = vec![0; count as usize * BLOCK];
        for (block, into) in (first..).zip(bytes.chunks_exact_mut(BLOCK)) {
            self.blocks[block as usize].under_way = stamp;
            fill(into, self.place(block), stamp);
        }
        (self.place(first) * BLOCK as u64, bytes)
    }

    pub fn acknowledge(&mut self, first: u64, count: u64) {
        self.acknowledged += 1;
        for block in &mut self.blocks[first as usize..(first + count) as usize] {
            *block = Block { stamp: block.under_way, acknowledged: self.acknowledged, under_way: 0 };
        }
    }

    /// What a flush that is sent now covers.
    pub fn flush_covers(&self) -> u64 {
        self.acknowledged
    }

    pub fn flushed(&mut self, covers: u64) {
        self.flushed = self.flushed.max(covers);
    }

    /// Compares the blocks of this connection in `bytes`, which lie at byte `offset` of the volume. What was under way is
    /// settled by what is found.
    pub fn verify(&mut self, offset: u64, bytes: &[u8], tally: &mut Tally) -> Result<(), Trouble> {
        let mut expected = vec![0; BLOCK];
        for (place, found) in (offset / BLOCK as u64..).zip(bytes.chunks_exact(BLOCK)) {
            let (stripe, within) = (place / STRIPE, place % STRIPE);
            if stripe % self.connections != self.connection {
                continue;
            }
            let index = (stripe / self.connections * STRIPE + within) as usize;
            let block = self.blocks[index];
            let candidates =
                BTreeSet::from([block.stamp, if block.under_way == 0 { block.stamp } else { block.under_way }]);
            let holds = candidates.into_iter().find(|stamp| {
                fill(&mut expected, place, *stamp);
                expected == found
            });
            let Some(holds) = holds else {
                return Err(self.lost(place, block, found));
            };
            match block {
                Block { under_way: 0, stamp: 0, .. } => {}
                Block { under_way: 0, acknowledged, .. } if acknowledged <= self.flushed => tally.flushed += 1,
                Block { under_way: 0, .. } => tally.acknowledged += 1,
                Block { under_way, .. } => {
                    tally.under_way += 1;
                    tally.happened += u64::from(holds == under_way);
                }
            }
            self.blocks[index] = Block { stamp: holds, under_way: 0, ..block };
        }
        Ok(())
    }

    fn place(&self, block: u64) -> u64 {
        (block / STRIPE * self.connections + self.connection) * STRIPE + block % STRIPE
    }

    fn lost(&self, place: u64, block: Block, found: &[u8]) -> Trouble {
        let promise = if block.acknowledged <= self.flushed { "flushed" } else { "acknowledged" };
        let what = format!(
            "block {place} does not hold write {} of connection {}, which was {promise}",
            block.stamp, self.connection
        );
        let first = found[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Trouble::new(Kind::Damage, what).evidence(format!("it begins with {first}"))
    }
}

/// The bytes of a block after the write with this stamp; zeros before the first.
fn fill(into: &mut [u8], place: u64, stamp: u64) {
    if stamp == 0 {
        return into.fill(0);
    }
    let mut state = place.rotate_left(32) ^ stamp;
    for word in into.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word.copy_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (Journal, Vec<u8>) {
        let mut journal = Journal::new(1, 2, 2 * STRIPE * BLOCK as u64);
        let mut volume = vec![0; 2 * STRIPE as usize * BLOCK];
        let (offset, bytes) = journal.begin(3, 2);
        volume[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        journal.acknowledge(3, 2);
        (journal, volume)
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_noticed() {
        let (mut journal, mut volume) = written();
        let mut tally = Tally::default();
        journal.verify(0, &volume, &mut tally).expect("all is there");
        assert_eq!(tally.acknowledged, 2);
        let place = (STRIPE as usize + 4) * BLOCK;
        volume[place + 4095] ^= 1;
        assert_eq!(journal.verify(0, &volume, &mut tally).expect_err("one bit").kind, Kind::Damage);
    }

    #[test]
    fn what_was_under_way_may_be_there_or_not_but_whole() {
        for happened in [false, true] {
            let (mut journal, mut volume) = written();
            let (offset, bytes) = journal.begin(3, 1);
            if happened {
                volume[offset as usize..][..BLOCK].copy_from_slice(&bytes);
            }
            let mut tally = Tally::default();
            journal.verify(0, &volume, &mut tally).expect("either is right");
            assert_eq!((tally.under_way, tally.happened), (1, u64::from(happened)));
        }
        let (mut journal, mut volume) = written();
        let (offset, bytes) = journal.begin(3, 1);
        volume[offset as usize..][..512].copy_from_slice(&bytes[..512]);
        journal.verify(0, &volume, &mut Tally::default()).expect_err("half of it is torn");
    }
}
