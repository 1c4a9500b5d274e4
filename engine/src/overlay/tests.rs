//! The overlay against a plain array: whatever was put in, in whatever layers, the newest content of each block is found.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treering_format::units::LogAddress;

use super::*;

const BLOCKS: u64 = 64;

/// What one block shows: arena position of its content, or zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Data(u64),
    Blank(bool),
}

#[derive(Clone, Debug)]
enum Step {
    Data { block: u64, count: u64 },
    Blank { block: u64, count: u64, allocated: bool },
    Close,
    DropOldest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..BLOCKS).prop_flat_map(|block| (Just(block), 1..=BLOCKS - block));
    let step = prop_oneof![
        6 => range.clone().prop_map(|(block, count)| Step::Data { block, count }),
        2 => (range, any::<bool>()).prop_map(|((block, count), allocated)| Step::Blank { block, count, allocated }),
        1 => Just(Step::Close),
        1 => Just(Step::DropOldest),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn the_newest_content_of_each_block_is_found(steps in steps()) {
        let mut overlay = Overlay::new();
        // Layers of the model, oldest first; the last takes what is new.
        let mut model: Vec<BTreeMap<u64, Shown>> = vec![BTreeMap::new()];
        let (mut position, mut closes) = (0, 0);
        for step in steps {
            match step {
                Step::Data { block, count } => {
                    let place = sealed(position, count);
                    overlay.active().insert(Piece { block, count, place });
                    for i in 0..count {
                        model.last_mut().unwrap().insert(block + i, Shown::Data(position + i));
                    }
                    position += count;
                }
                Step::Blank { block, count, allocated } => {
                    let place = Place::Blank { allocated, address: LogAddress(1 << 16 | 1) };
                    overlay.active().insert(Piece { block, count, place });
                    (block..block + count).for_each(|b| { model.last_mut().unwrap().insert(b, Shown::Blank(allocated)); });
                }
                Step::Close => {
                    let filled = !model.last().unwrap().is_empty();
                    closes += 1;
                    overlay.close_layer(OrderNumber(closes));
                    if filled {
                        model.push(BTreeMap::new());
                    }
                }
                Step::DropOldest if model.len() > 1 => {
                    prop_assert!(overlay.oldest_closed(OrderNumber(closes)).is_some());
                    overlay.drop_oldest();
                    model.remove(0);
                }
                Step::DropOldest => prop_assert!(overlay.oldest_closed(OrderNumber(closes)).is_none()),
            }
            check(&overlay, &model, 0, BLOCKS)?;
            check(&overlay, &model, 7, 41)?;
        }
    }
}

#[test]
fn a_version_and_a_fork_of_it_go_on_showing_what_was_frozen() {
    let piece = |block, position| Piece { block, count: 1, place: sealed(position, 1) };
    let mut overlay = Overlay::new();
    overlay.active().insert(piece(0, 10));
    overlay.close_layer(OrderNumber(1));
    overlay.active().insert(piece(1, 11));
    overlay.close_layer(OrderNumber(2));
    let version = overlay.frozen();
    overlay.active().insert(piece(0, 20));
    overlay.close_layer(OrderNumber(3));

    let mut fork = Overlay::over(version.clone());
    fork.active().insert(piece(1, 31));
    fork.close_layer(OrderNumber(4));
    let shown = |pieces: Vec<Piece>| -> Vec<u64> {
        let position = |p: Piece| if let Place::Log { position, .. } = p.place { position } else { 0 };
        pieces.into_iter().map(position).collect()
    };
    assert_eq!(shown(overlay.lookup(0, 2).0), [20, 11]);
    assert_eq!(shown(fork.lookup(0, 2).0), [10, 31]);

    assert!(overlay.oldest_closed(OrderNumber(0)).is_none());
    for left in [2, 1, 0] {
        assert!(overlay.oldest_closed(OrderNumber(3)).is_some());
        overlay.drop_oldest();
        assert_eq!(overlay.frozen().len(), left);
    }
    fork.drop_base();
    assert_eq!(shown(fork.lookup(0, 2).0), [31]);
    assert_eq!(shown(lookup_in(version.iter().rev().map(|layer| &**layer), 0, 2).0), [10, 11]);
}

/// Data whose block i is known by arena position `position` + i, wherever the piece is cut.
fn sealed(position: u64, count: u64) -> Place {
    let extent = SealedExtent {
        address: LogAddress(1 << 16 | 1),
        encoding: Encoding::Raw,
        blocks: count as u32,
        stored_blocks: count as u32,
        checksums: vec![0; count as usize].into_boxed_slice(),
    };
    Place::Log { extent: Rc::new(extent), offset: 0, position }
}

fn check(overlay: &Overlay, model: &[BTreeMap<u64, Shown>], from: u64, to: u64) -> Result<(), TestCaseError> {
    let (pieces, gaps) = overlay.lookup(from, to);
    let mut found: BTreeMap<u64, Option<Shown>> = BTreeMap::new();
    for piece in pieces {
        for i in 0..piece.count {
            let shown = match &piece.place {
                Place::Log { position, offset, extent } => {
                    prop_assert!(u64::from(*offset) + piece.count <= u64::from(extent.blocks));
                    Shown::Data(position + i)
                }
                Place::Blank { allocated, .. } => Shown::Blank(*allocated),
                Place::Arena { .. } => unreachable!("the model seals at once"),
            };
            prop_assert!(
                found.insert(piece.block + i, Some(shown)).is_none(),
                "block {} is found twice",
                piece.block + i
            );
        }
    }
    for (gap_from, gap_to) in gaps {
        for block in gap_from..gap_to {
            prop_assert!(found.insert(block, None).is_none(), "block {block} is found and missing");
        }
    }
    for block in from..to {
        let due = model.iter().rev().find_map(|layer| layer.get(&block)).copied();
        prop_assert_eq!(found.get(&block), Some(&due), "block {}", block);
    }
    prop_assert_eq!(found.len() as u64, to - from);
    Ok(())
}
