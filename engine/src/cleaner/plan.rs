//! What one job copies, block by block: the survivors of its victims with what the log, or the container they lie in, says of
//! each. A plan is made from headers alone; no data is read for it.

use std::collections::BTreeSet;
use std::io;

use treering_format::container::{ContainerHeader, ContainerPiece, Survivor};
use treering_format::record::{DataDescriptor, Descriptor, Encoding};
use treering_format::units::{BlockIndex, SlotIndex};

use super::Stopped;
use crate::disk::BLOCK;
use crate::limits::container_pieces;
use crate::log::scan::records_of;
use crate::segments::{LiveBits, Moved, Source, Survivors};
use crate::store::Core;

/// Blocks of the container for survivors and directory are all but its header.
const HEADER_BLOCKS: usize = 1;

/// Blocks that live in a victim at the most.
pub(super) fn most_live(capacity: u32) -> u32 {
    capacity - capacity / 16
}

#[derive(Default)]
pub(super) struct Plan {
    pub pieces: Vec<Planned>,
    pub generation: u8,
    data_blocks: u32,
    directory_bytes: usize,
    /// Victims that lose all that lives in them.
    emptied: u32,
    /// Blocks taken from victims that keep some.
    in_part: u32,
    /// Of all blocks taken, those that live: a compressed extent brings its dead ones along.
    live: u32,
}

/// A piece of the container to be.
pub(super) struct Planned {
    pub source: Source,
    pub slot: SlotIndex,
    pub from_part: u8,
    pub piece: ContainerPiece,
    /// Where each survivor lies in the victim's slot.
    pub at: Vec<u32>,
}

impl Plan {
    /// Whether it leads to more space: two slots for one, or one and a good part of another for one that is full and will not
    /// be asked again, because more of it lives than of any victim. Anything less could go on for ever, from one half-full container
    /// to the next.
    pub(super) fn gains(&self, capacity: u32) -> bool {
        self.emptied >= 2 || self.emptied == 1 && self.in_part >= capacity / 16 && self.live > most_live(capacity)
    }

    /// Blocks of survivors and directory.
    fn used_blocks(&self) -> u32 {
        self.data_blocks + self.directory_bytes.div_ceil(BLOCK as usize) as u32
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.pieces.iter().map(|planned| u64::from(planned.piece.blocks())).sum::<u64>() * BLOCK
    }

    /// How many of the victims are containers.
    pub(super) fn containers(&self) -> u64 {
        let containers = self.pieces.iter().map(|planned| planned.source).filter(|s| matches!(s, Source::Container(_)));
        containers.collect::<BTreeSet<_>>().len() as u64
    }

    /// Whether a victim keeps a part of what lives in it.
    pub(super) fn splits(&self) -> bool {
        self.in_part > 0
    }

    pub(super) fn moved(&self, segment_blocks: u32) -> Vec<Moved> {
        self.pieces.iter().map(|planned| planned.moved(segment_blocks)).collect()
    }

    /// Whether one more survivor, of a piece that is begun or not, still fits.
    fn fits(&self, survivor: &Survivor, begun: bool, segment_blocks: u32) -> bool {
        let piece = if begun { 0 } else { ContainerPiece::encoded_len(&[]) };
        let directory = self.directory_bytes + piece + survivor.encoded_len();
        let data = self.data_blocks + u32::from(survivor.count);
        HEADER_BLOCKS + data as usize + directory.div_ceil(BLOCK as usize) <= segment_blocks as usize
    }

    /// Takes as many survivors as fit. Gives how many blocks that are.
    fn take(&mut self, part: Part, segment_blocks: u32) -> u32 {
        let Part { source, survivors: what, runs } = part;
        let before = (self.data_blocks, self.directory_bytes);
        let (mut taken, mut at) = (Vec::new(), Vec::new());
        let total = runs.len();
        for (place, run) in runs {
            if !self.fits(&run, !taken.is_empty(), segment_blocks) {
                break;
            }
            if taken.is_empty() {
                self.directory_bytes += ContainerPiece::encoded_len(&[]);
            }
            self.directory_bytes += run.encoded_len();
            self.data_blocks += u32::from(run.count);
            at.push(place);
            taken.push(run);
        }
        if taken.is_empty() || taken.len() < total && !what.may_split {
            (self.data_blocks, self.directory_bytes) = before;
            return 0;
        }
        let piece = ContainerPiece {
            segment: what.segment,
            part: what.to_part,
            base: HEADER_BLOCKS as u32 + before.0,
            salt: [0; 16],
            survivors: taken,
        };
        let lives = |run: &Survivor| {
            (run.first..run.first + u32::from(run.count)).filter(|block| what.blocks.get(*block)).count()
        };
        self.live += piece.survivors.iter().map(lives).sum::<usize>() as u32;
        self.pieces.push(Planned { source, slot: what.slot, from_part: what.from_part, piece, at });
        self.data_blocks - before.0
    }
}

impl Planned {
    fn moved(&self, segment_blocks: u32) -> Moved {
        let mut placed = LiveBits::empty(segment_blocks);
        for survivor in &self.piece.survivors {
            (survivor.first..survivor.first + u32::from(survivor.count)).for_each(|block| {
                placed.put(block, true);
            });
        }
        Moved {
            segment: self.piece.segment,
            from_part: self.from_part,
            to_part: self.piece.part,
            base: self.piece.base,
            placed,
        }
    }
}

/// The survivors of a victim, or of one of its pieces, each with the block of the victim's slot it lies in.
struct Part {
    source: Source,
    survivors: Survivors,
    runs: Vec<(u32, Survivor)>,
}

impl Core {
    /// Plans a job over these victims, in this order, until a container is full.
    pub(super) async fn plan(&self, order: &[Source]) -> Result<Plan, Stopped> {
        let segment_blocks = self.disk.geometry().segment_blocks;
        let mut plan = Plan { generation: 1, ..Plan::default() };
        for source in order {
            if plan.used_blocks() + segment_blocks / 64 >= segment_blocks - HEADER_BLOCKS as u32 {
                break;
            }
            let wanted = self.segments.survivors(&self.pages, *source).await?;
            // Of one that brings too many pieces none is taken: a few blocks of it would fill the container up.
            if plan.pieces.len() + wanted.len() > container_pieces(segment_blocks) as usize {
                continue;
            }
            let all: u32 = wanted.iter().map(|survivors| survivors.blocks.count()).sum();
            let Some((parts, generation)) = self.described(*source, wanted).await else {
                self.spare(*source, "its descriptors cannot be read");
                continue;
            };
            let mut taken = 0;
            for part in parts {
                taken += plan.take(part, segment_blocks);
            }
            if taken > 0 {
                plan.generation = plan.generation.max(generation.saturating_add(1));
            }
            // A compressed extent moves whole, so more than what lives may be taken.
            if taken >= all && all > 0 {
                plan.emptied += 1;
            } else {
                plan.in_part += taken;
            }
        }
        Ok(plan)
    }

    /// A victim that cannot be moved stays where it is, and is tried again after a while.
    pub(super) fn spare(&self, source: Source, why: impl std::fmt::Display) {
        if self.segments.slot_of(source).is_some() {
            tracing::error!("{source:?} is not cleaned: {why}");
            self.cleaner.spared.borrow_mut().insert(source, self.disk.io().now());
        }
    }

    /// What is known of each survivor; None if it is not known of all. With it the generation they are of.
    async fn described(&self, source: Source, wanted: Vec<Survivors>) -> Option<(Vec<Part>, u8)> {
        let _ticket = self.readers.enter();
        let slot = self.segments.slot_of(source)?;
        let store = self.superblock.current().store_id;
        let mut parts = Vec::new();
        let mut generation = 0;
        let directory = match source {
            Source::Segment(_) => Vec::new(),
            Source::Container(_) => {
                let header = ContainerHeader::decode(&self.disk.read(slot, 0, 1).await.ok()?).ok()?;
                if Source::Container(header.container) != source || header.store_id != store {
                    return None;
                }
                generation = header.generation;
                self.directory(slot, &header).await.ok()??
            }
        };
        for survivors in wanted {
            let runs: Vec<(u32, Survivor)> = match source {
                Source::Segment(id) => {
                    let records = records_of(&self.disk, store, id, slot).await.ok()?;
                    let data = records.iter().flat_map(|record| {
                        let data = record.descriptors.iter().filter_map(|descriptor| match descriptor {
                            Descriptor::Data(data) => Some(data),
                            _ => None,
                        });
                        data.map(|data| (record.header.payload_address(data.payload).block(), data))
                    });
                    let whole = data.map(|(first, data)| survivor_of(first, data));
                    whole.flat_map(|whole| living(&whole, &survivors.blocks)).map(|run| (run.first, run)).collect()
                }
                Source::Container(_) => {
                    let known = directory
                        .iter()
                        .find(|piece| piece.segment == survivors.segment && piece.part == survivors.from_part)?;
                    let mut at = known.base;
                    let mut runs = Vec::new();
                    for whole in &known.survivors {
                        let moved = |run: Survivor| (at + (run.first - whole.first), run);
                        runs.extend(living(whole, &survivors.blocks).into_iter().map(moved));
                        at += u32::from(whole.count);
                    }
                    runs
                }
            };
            let mut runs = runs;
            runs.sort_by_key(|(_, run)| run.first);
            let overlap = runs.windows(2).any(|two| two[0].1.first + u32::from(two[0].1.count) > two[1].1.first);
            let known = |block: u32| {
                let after = runs.partition_point(|(_, run)| run.first <= block);
                after > 0 && block < runs[after - 1].1.first + u32::from(runs[after - 1].1.count)
            };
            if overlap || !survivors.blocks.blocks().all(known) {
                return None;
            }
            parts.push(Part { source, survivors, runs });
        }
        Some((parts, generation))
    }

    async fn directory(&self, slot: SlotIndex, header: &ContainerHeader) -> io::Result<Option<Vec<ContainerPiece>>> {
        let inside = header.directory_block + header.directory_blocks() <= self.disk.geometry().segment_blocks;
        if !inside || header.directory_blocks() == 0 {
            return Ok(None);
        }
        let blocks = self.disk.read(slot, header.directory_block, u64::from(header.directory_blocks())).await?;
        Ok(header.directory(&blocks).ok())
    }
}

/// A whole descriptor of the log as a survivor.
fn survivor_of(first: u32, data: &DataDescriptor) -> Survivor {
    let count = match data.encoding {
        Encoding::Raw => data.count,
        Encoding::Lz4 => data.stored_blocks,
    };
    Survivor {
        first,
        count,
        encoding: data.encoding,
        extent_blocks: data.count,
        line: data.line,
        block: data.block,
        checksums: data.checksums.clone(),
    }
}

/// The runs of it that live; of a compressed extent all or nothing.
fn living(whole: &Survivor, live: &LiveBits) -> Vec<Survivor> {
    let lives = |n: &u32| live.get(whole.first + n);
    let count = u32::from(whole.count);
    if whole.encoding == Encoding::Lz4 {
        return (0..count).any(|n| lives(&n)).then(|| whole.clone()).into_iter().collect();
    }
    let mut runs: Vec<Survivor> = Vec::new();
    for n in (0..count).filter(lives) {
        match runs.last_mut() {
            Some(run) if run.first + u32::from(run.count) == whole.first + n => {
                run.count += 1;
                run.extent_blocks += 1;
                run.checksums.push(whole.checksums[n as usize]);
            }
            _ => runs.push(Survivor {
                first: whole.first + n,
                count: 1,
                encoding: Encoding::Raw,
                extent_blocks: 1,
                line: whole.line,
                block: BlockIndex(whole.block.0 + u64::from(n)),
                checksums: vec![whole.checksums[n as usize]],
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers of a full store waited for a cleaner that moved 32 blocks of one container and 27 of another with 59 into a third, which
    /// had 59 then and lost 27 to the next one, for ever: it counted as full with its directory, and as a victim without.
    #[test]
    fn a_container_that_will_be_a_victim_again_is_no_gain() {
        let capacity = 62;
        let plan = Plan { emptied: 1, in_part: 27, data_blocks: 59, directory_bytes: 584, live: 59, ..Plan::default() };
        assert!(!plan.gains(capacity));
        assert!(Plan { live: most_live(capacity) + 1, ..plan }.gains(capacity));
    }
}
