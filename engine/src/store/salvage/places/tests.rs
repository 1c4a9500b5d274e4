//! Slots and containers that both say that they hold a segment.

use treering_format::container::Survivor;
use treering_format::record::Encoding;
use treering_format::units::{BlockIndex, LineId, LogAddress};

use super::*;

const BLOCKS: u32 = 64;
const SEGMENT: SegmentId = SegmentId(5);

fn piece(container: u64, part: u8, blocks: &[u32]) -> FoundPiece {
    let survivor = |block: &u32| Survivor {
        first: *block,
        count: 1,
        encoding: Encoding::Raw,
        extent_blocks: 1,
        line: LineId(1),
        block: BlockIndex(u64::from(*block)),
        checksums: vec![0],
    };
    let survivors = blocks.iter().map(survivor).collect();
    let piece = ContainerPiece { segment: SEGMENT, part, base: 1, salt: [0; 16], survivors };
    FoundPiece { container: ContainerId(container), piece, is_whole: true }
}

/// Slot 0 holds the segment, the others containers 1 and on; maps show these blocks, and can all be read.
fn decided(pieces: Vec<FoundPiece>, overwritten: bool, shown: &[u32]) -> Places {
    let containers = pieces.iter().map(|found| SlotState::Container(found.container));
    let slots = std::iter::once(SlotState::Log(SEGMENT)).chain(containers).collect();
    let overwritten = overwritten.then_some(SEGMENT).into_iter().collect();
    let mut ground = Ground::default();
    (ground.slots, ground.pieces, ground.overwritten) = (slots, pieces, overwritten);
    let mut bits = LiveBits::empty(BLOCKS);
    for block in shown {
        bits.put(*block, true);
    }
    let reached = Reached { shown: BTreeMap::from([(SEGMENT, bits)]), is_all: true, ..Reached::default() };
    let at = LogAddress::new(SegmentId(9), 3);
    places(&ground, &reached, &CheckpointRef { fold: at, next: at.next(1), ..CheckpointRef::default() }, BLOCKS)
}

/// A job that ended too late for any checkpoint moved what still lived then; the checkpoint shows more.
#[test]
fn of_containers_that_hold_the_same_the_one_that_holds_what_maps_show_is_taken() {
    let found = decided(vec![piece(1, 1, &[3, 4, 5]), piece(2, 1, &[3, 5])], true, &[3, 4, 5]);
    assert_eq!(found.slots, [SlotState::Free, SlotState::Container(ContainerId(1)), SlotState::Free]);
    assert_eq!(found.placed.len(), 1);
}

#[test]
fn a_slot_that_was_not_written_over_has_everything_that_containers_took() {
    let found = decided(vec![piece(1, 1, &[3, 4])], false, &[3, 7]);
    assert_eq!(found.slots, [SlotState::Log(SEGMENT), SlotState::Free]);
    assert!(found.placed.is_empty());
}

#[test]
fn a_slot_that_was_written_over_is_free_if_containers_have_what_maps_show() {
    let found = decided(vec![piece(1, 1, &[3]), piece(2, 2, &[7])], true, &[3, 7]);
    let containers = [1, 2].map(|id| SlotState::Container(ContainerId(id)));
    assert_eq!(found.slots, [SlotState::Free, containers[0], containers[1]]);
    assert_eq!(found.placed.len(), 2);
}

/// One block of it decayed after it was moved; the others were not moved.
#[test]
fn a_slot_that_decayed_stays_for_what_was_not_moved() {
    let found = decided(vec![piece(1, 1, &[3])], true, &[3, 7]);
    assert_eq!(found.slots, [SlotState::Log(SEGMENT), SlotState::Container(ContainerId(1))]);
    assert_eq!(found.placed.len(), 1);
}
