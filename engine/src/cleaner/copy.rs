//! Copying what a plan names: read, verify, write; the header last.

use treering_format::container::{ContainerHeader, Survivor};
use treering_format::record::Encoding;
use treering_format::units::{ContainerId, SlotIndex};
use treering_io::{Buffer, Durability, WriteBuffer};

use super::pace::Pace;
use super::plan::{Plan, Planned};
use super::{CREDIT_TICK, Stopped};
use crate::disk::BLOCK;
use crate::store::Core;

/// Blocks of the victim that one read brings, and blocks that one write holds at the least.
const STEP_BLOCKS: u32 = 64;

/// Dead blocks that are read along rather than skipped.
const GAP_BLOCKS: u32 = 8;

/// What is copied for each second in which no client writes.
const IDLE_BYTES_PER_SECOND: u64 = 16 << 20;

/// How much of this job was copied, and what pays for it.
struct Credit {
    copied_bytes: u64,
    /// By clients, since the job began.
    written_bytes: u64,
    /// How long they were quiet.
    quiet_ns: u64,
    /// When this was last brought up to date, and what was sealed then.
    seen: (u64, u64),
}

impl Core {
    /// Writes the container. All its writes have completed when this returns. What was planned of a victim that died whole
    /// meanwhile is left out.
    pub(super) async fn copy(&self, plan: &mut Plan, container: ContainerId, slot: SlotIndex) -> Result<(), Stopped> {
        let io = self.disk.io();
        let mut header = ContainerHeader {
            store_id: self.superblock.current().store_id,
            container,
            slot,
            generation: plan.generation,
            created_ns: io.wall_clock(),
            ..ContainerHeader::default()
        };
        let seen = (io.now(), self.log.sealed_bytes());
        let mut credit = Credit { copied_bytes: 0, written_bytes: 0, quiet_ns: 0, seen };
        let mut out: Vec<u8> = Vec::new();
        let mut next = 1;
        for planned in &mut plan.pieces {
            planned.piece.base = 1 + header.data_blocks;
            for step in steps(planned) {
                self.wait_for_credit(&mut credit).await?;
                let Some(read) = self.read_step(planned, step.clone()).await? else {
                    planned.piece.survivors.truncate(step.start);
                    break;
                };
                credit.copied_bytes += read.len() as u64;
                header.data_blocks += (read.len() as u64 / BLOCK) as u32;
                out.extend_from_slice(&read);
                if out.len() as u64 >= u64::from(STEP_BLOCKS) * BLOCK {
                    next = self.write_blocks(slot, next, &mut out).await?;
                }
            }
        }
        plan.pieces.retain(|planned| !planned.piece.survivors.is_empty());
        if plan.pieces.is_empty() {
            return Err(Stopped::Victim);
        }
        let pieces: Vec<_> = plan.pieces.iter().map(|planned| planned.piece.clone()).collect();
        let (first, directory) = header.encode(&pieces);
        out.extend_from_slice(&directory);
        self.write_blocks(slot, next, &mut out).await?;
        out.extend_from_slice(&first);
        self.write_blocks(slot, 0, &mut out).await?;
        Ok(())
    }

    async fn write_blocks(&self, slot: SlotIndex, block: u32, out: &mut Vec<u8>) -> Result<u32, Stopped> {
        let blocks = out.len() as u64 / BLOCK;
        let buffers = vec![WriteBuffer::Owned(Buffer::from(&out[..]))];
        let offset = self.disk.geometry().offset(slot, block);
        self.disk.write_bytes(offset, buffers, Durability::Volatile).await.map_err(Stopped::Write)?;
        out.clear();
        Ok(block + blocks as u32)
    }

    /// Reads some survivors, verified, one behind the other. None: the victim died meanwhile, all of it, and its slot is about
    /// to be used for something else.
    async fn read_step(&self, planned: &Planned, step: std::ops::Range<usize>) -> Result<Option<Vec<u8>>, Stopped> {
        let (from, to) = (planned.at[step.start], planned.end(step.end - 1));
        let mut why = String::new();
        for _ in 0..2 {
            let read = {
                let _ticket = self.readers.enter();
                if self.segments.slot_of(planned.source) != Some(planned.slot) {
                    return Ok(None);
                }
                self.disk.read(planned.slot, from, u64::from(to - from)).await
            };
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let mut out = Vec::with_capacity(read.len());
            let mut whole = true;
            for n in step.clone() {
                let survivor = &planned.piece.survivors[n];
                let start = ((planned.at[n] - from) as usize) * BLOCK as usize;
                let bytes = &read[start..start + usize::from(survivor.count) * BLOCK as usize];
                if !verifies(survivor, bytes) {
                    why = format!("blocks {} to {} do not verify", survivor.first, planned.end(n) - 1);
                    whole = false;
                }
                out.extend_from_slice(bytes);
            }
            if whole {
                return Ok(Some(out));
            }
        }
        self.spare(planned.source, why);
        Err(Stopped::Victim)
    }

    /// Waits until more may be copied, by what clients wrote and by the time in which they wrote nothing.
    async fn wait_for_credit(&self, credit: &mut Credit) -> Result<(), Stopped> {
        loop {
            self.health.check()?;
            let seen = std::mem::replace(&mut credit.seen, (self.disk.io().now(), self.log.sealed_bytes()));
            let (passed, written) = (credit.seen.0.saturating_sub(seen.0), credit.seen.1.saturating_sub(seen.1));
            credit.written_bytes += written;
            if written == 0 {
                credit.quiet_ns += passed;
            }
            let quiet = credit.quiet_ns / 1000 * IDLE_BYTES_PER_SECOND / 1_000_000;
            let allowed = match self.clean_pace() {
                Pace::Urgent => return Ok(()),
                Pace::Rest | Pace::Idle => quiet,
                Pace::PerBlock { sixteenths } => quiet + credit.written_bytes.saturating_mul(sixteenths) / 16,
            };
            if credit.copied_bytes <= allowed {
                return Ok(());
            }
            self.disk.io().sleep(CREDIT_TICK).await;
        }
    }
}

impl Planned {
    /// The block of the victim's slot behind a survivor.
    fn end(&self, n: usize) -> u32 {
        self.at[n] + u32::from(self.piece.survivors[n].count)
    }
}

/// Survivors that are read at once: near each other, and not too many.
fn steps(planned: &Planned) -> Vec<std::ops::Range<usize>> {
    let mut steps: Vec<std::ops::Range<usize>> = Vec::new();
    for n in 0..planned.at.len() {
        match steps.last_mut() {
            Some(step)
                if planned.end(n) - planned.at[step.start] <= STEP_BLOCKS
                    && planned.at[n] - planned.end(n - 1) <= GAP_BLOCKS =>
            {
                step.end = n + 1;
            }
            _ => steps.push(n..n + 1),
        }
    }
    steps
}

fn verifies(survivor: &Survivor, bytes: &[u8]) -> bool {
    match survivor.encoding {
        Encoding::Lz4 => crc32fast::hash(bytes) == survivor.checksums[0],
        Encoding::Raw => {
            let blocks = bytes.chunks_exact(BLOCK as usize);
            blocks.zip(&survivor.checksums).all(|(block, sum)| crc32fast::hash(block) == *sum)
        }
    }
}
