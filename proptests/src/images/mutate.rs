//! Where a store's disk is changed, and how its checksums are made to fit again.
//!
//! Mending goes up the chain of those who vouch: a page by its parent, the root by the checkpoint's blob, the blob by the
//! superblock. What vouches for itself (a record's header, a segment's) is mended in place.

use treering_format::checksum;
use treering_format::node::{Node, TreeKind};
use treering_format::record::Record;
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{DATA_START, Superblock};

use crate::content::BLOCK;
use crate::life::newest_superblock;
use crate::random::Random;

const B: usize = BLOCK as usize;
/// Superblock, segment, page and blob keep their checksum here; it is taken with the field as zeros.
const CRC_AT: usize = 8;

pub(super) struct Mutation {
    pub what: String,
    /// Some checksum was made to fit what was changed.
    pub mended: bool,
}

pub(super) fn apply(image: &mut [u8], random: &mut Random) -> Mutation {
    let mended = random.chance(75);
    let Some(superblock) = newest_superblock(image) else {
        return Mutation { what: "nothing: no superblock".into(), mended };
    };
    let kind = random.below(11);
    let what = match kind {
        0 => anywhere(image, random),
        1 | 2 => superblock_copies(image, &superblock, random, mended),
        3 => record(image, random, mended),
        4 => segment(image, random, mended),
        5 | 6 => node(image, &superblock, random, mended),
        7 | 8 => catalog_entry(image, &superblock, random, mended),
        _ => blob(image, &superblock, random, mended),
    };
    match what {
        Some(what) => Mutation { what, mended: mended && kind != 0 },
        None => Mutation { what: anywhere(image, random).expect("there are bytes"), mended: false },
    }
}

/// Changes a few bytes of a structure.
fn scramble(bytes: &mut [u8], random: &mut Random) -> String {
    let mut what = Vec::new();
    for _ in 0..random.between(1, 3) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.word() as u8,
            // A number of eight bytes becomes another one: extreme, or off by a little.
            number => {
                let at = at / 8 * 8;
                let Some(field) = bytes.get_mut(at..at + 8) else { continue };
                let old = u64::from_le_bytes(field.try_into().expect("eight bytes"));
                let new = match (number, random.below(5)) {
                    (2, 0) => 0,
                    (2, 1) => u64::MAX,
                    (2, 2) => 1 << random.below(64),
                    (2, _) => random.word() >> random.below(64),
                    (_, 0) => old.wrapping_mul(2),
                    (_, 1) => old.swap_bytes(),
                    (_, 2) => old.wrapping_sub(1),
                    _ => old.wrapping_add(random.scale(1, 1 << 20)),
                };
                field.copy_from_slice(&new.to_le_bytes());
            }
        }
        what.push(at.to_string());
    }
    format!("bytes at {}", what.join(", "))
}

fn anywhere(image: &mut [u8], random: &mut Random) -> Option<String> {
    let blocks: Vec<usize> =
        (0..image.len() / B).filter(|b| image[b * B..(b + 1) * B].iter().any(|x| *x != 0)).collect();
    let block = *random.pick(&blocks);
    let page = &mut image[block * B..(block + 1) * B];
    if random.chance(20) {
        page.fill(0);
        return Some(format!("block {block} lost"));
    }
    Some(format!("block {block}: {}", scramble(page, random)))
}

fn superblock_copies(image: &mut [u8], superblock: &Superblock, random: &mut Random, mended: bool) -> Option<String> {
    let mut bytes = superblock.encode().to_vec();
    let what = scramble(&mut bytes[16..2304], random);
    if mended {
        seal(&mut bytes, CRC_AT);
    }
    for position in Superblock::positions(superblock.generation) {
        image[position as usize * B..][..B].copy_from_slice(&bytes);
    }
    Some(format!("superblock, from its 16th byte: {what}"))
}

fn record(image: &mut [u8], random: &mut Random, mended: bool) -> Option<String> {
    let starts = (DATA_START as usize..image.len() / B * B).step_by(B);
    let records: Vec<(usize, usize)> = starts
        .filter_map(|at| Record::decode(&image[at..]).ok().map(|r| (at, r.header.header_bytes as usize)))
        .collect();
    if records.is_empty() {
        return None;
    }
    let (at, len) = *random.pick(&records);
    let bytes = &mut image[at..at + len];
    let what = scramble(&mut bytes[8..], random);
    if mended {
        let sum = checksum(&bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    Some(format!("record at block {}, from its 8th byte: {what}", at / B))
}

fn segment(image: &mut [u8], random: &mut Random, mended: bool) -> Option<String> {
    let starts = (DATA_START as usize..image.len() / B * B).step_by(B);
    let is_segment = |at: &usize| {
        let block = &image[*at..*at + B];
        SegmentHeader::decode(block).is_ok() || SegmentFooter::decode_trailer(block).is_ok()
    };
    let segments: Vec<usize> = starts.filter(is_segment).collect();
    if segments.is_empty() {
        return None;
    }
    let at = *random.pick(&segments);
    let bytes = &mut image[at..at + B];
    let what = scramble(&mut bytes[12..160], random);
    if mended {
        seal(bytes, CRC_AT);
    }
    Some(format!("segment header or trailer at block {}, from its 12th byte: {what}", at / B))
}

fn node(image: &mut [u8], superblock: &Superblock, random: &mut Random, mended: bool) -> Option<String> {
    let nodes = node_pages(image);
    if nodes.is_empty() {
        return None;
    }
    let at = *random.pick(&nodes);
    let used = u16::from_le_bytes(image[at + 16..at + 18].try_into().expect("two bytes")) as usize;
    let page = &mut image[at..at + B];
    let end = (64 + used).clamp(128, B);
    let what = scramble(&mut page[12..end], random);
    if mended {
        mend_page(image, at, superblock, 4);
    }
    Some(format!("node at block {}, from its 12th byte: {what}", at / B))
}

/// What the catalog says of a dot, a volume, a version, a line or a snapshot.
fn catalog_entry(image: &mut [u8], superblock: &Superblock, random: &mut Random, mended: bool) -> Option<String> {
    let mut entries = Vec::new();
    for at in node_pages(image) {
        let Ok(leaf) = Node::decode(&image[at..at + B]) else { continue };
        if leaf.header().kind == TreeKind::Catalog && leaf.level() == 0 {
            let value = |index| (at, leaf.key(index), leaf.value(index).as_ptr().addr(), leaf.value(index).len());
            entries.extend((0..leaf.len()).map(value));
        }
    }
    if entries.is_empty() {
        return None;
    }
    let (at, key, address, len) = *random.pick(&entries);
    let start = address - image.as_ptr().addr();
    let what = scramble(&mut image[start..start + len], random);
    if mended {
        mend_page(image, at, superblock, 4);
    }
    Some(format!("catalog entry {key:#x} at block {}: {what}", at / B))
}

fn node_pages(image: &[u8]) -> Vec<usize> {
    (DATA_START as usize..image.len() / B * B).step_by(B).filter(|at| image[*at..].starts_with(b"TRNODEPG")).collect()
}

/// Gives a page its checksum, and tells everybody who refers to it.
fn mend_page(image: &mut [u8], at: usize, superblock: &Superblock, levels: u32) {
    let number = ((at / B) as u64).to_le_bytes();
    let old: [u8; 4] = image[at + CRC_AT..at + CRC_AT + 4].try_into().expect("four bytes");
    seal(&mut image[at..at + B], CRC_AT);
    let new: [u8; 4] = image[at + CRC_AT..at + CRC_AT + 4].try_into().expect("four bytes");
    if levels == 0 {
        return;
    }
    let pattern = [&number[..], &old[..]].concat();
    for parent in node_pages(image) {
        if parent != at && replace(&mut image[parent..parent + B], &pattern, &new) {
            mend_page(image, parent, superblock, levels - 1);
        }
    }
    let Some(range) = blob_range(image, superblock) else { return };
    if replace(&mut image[range], &pattern, &new) {
        mend_blob(image, superblock);
    }
}

/// Puts `new` behind the first eight bytes of every place where `pattern` stands.
fn replace(bytes: &mut [u8], pattern: &[u8], new: &[u8]) -> bool {
    let places: Vec<usize> =
        bytes.windows(pattern.len()).enumerate().filter(|(_, w)| *w == pattern).map(|(i, _)| i).collect();
    for place in &places {
        bytes[place + 8..place + 8 + new.len()].copy_from_slice(new);
    }
    !places.is_empty()
}

fn blob(image: &mut [u8], superblock: &Superblock, random: &mut Random, mended: bool) -> Option<String> {
    let range = blob_range(image, superblock)?;
    let what = scramble(&mut image[range.clone()][12..], random);
    if mended {
        mend_blob(image, superblock);
    }
    Some(format!("checkpoint at block {}, from its 12th byte: {what}", range.start / B))
}

fn blob_range(image: &[u8], superblock: &Superblock) -> Option<std::ops::Range<usize>> {
    let newest = superblock.checkpoints[0];
    let start = newest.blob_page.0 as usize * B;
    let end = start + newest.blob_bytes as usize;
    (end <= image.len()).then_some(start..end)
}

fn mend_blob(image: &mut [u8], superblock: &Superblock) {
    let Some(range) = blob_range(image, superblock) else { return };
    seal(&mut image[range.clone()], CRC_AT);
    let mut superblock = superblock.clone();
    superblock.checkpoints[0].blob_crc = checksum(&image[range]);
    for position in Superblock::positions(superblock.generation) {
        image[position as usize * B..][..B].copy_from_slice(&superblock.encode());
    }
}

fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = checksum(bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}
