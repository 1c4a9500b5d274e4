//! Bytes that nobody wrote: random, flipped, or changed and checksummed again. Decoding answers with a value or an error; it
//! never panics, loops or asks for memory that the input does not justify. What it accepts it can write and read again.

use crate::sample;
use proptest::prelude::*;
use treering_format::catalog::{CatalogKey, DotEntry, LineEntry, SnapshotEntry, VersionEntry, VolumeEntry};
use treering_format::checkpoint::Checkpoint;
use treering_format::container::ContainerHeader;
use treering_format::record::{Lz4Prefix, RECORD_HEADER_BYTES, Record};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::Superblock;
use treering_format::*;

/// A few bytes written over a sample, at places spread over the first `within` bytes.
fn damage(within: usize) -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    let odd = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0xff; 8]),
        Just(vec![0; 8]),
        Just(vec![0xff; 4]),
        Just(vec![0, 0, 0, 0x80]),
    ];
    prop::collection::vec((0..within, odd), 1..4)
}

fn apply(bytes: &mut [u8], damage: &[(usize, Vec<u8>)]) {
    for (at, with) in damage {
        let end = bytes.len().min(at + with.len());
        let at = (*at).min(end);
        bytes[at..end].copy_from_slice(&with[..end - at]);
    }
}

/// Blocks and blobs keep the checksum of the rest of themselves at byte 8.
pub fn checksum_again(bytes: &mut [u8]) {
    bytes[8..12].fill(0);
    let crc = checksum(bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

pub fn record_checksum_again(bytes: &mut [u8]) {
    let said = u32::from_le_bytes(bytes[76..80].try_into().unwrap()) as usize;
    let end = said.clamp(RECORD_HEADER_BYTES, bytes.len());
    let crc = checksum(&bytes[8..end]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn sample_record() -> Vec<u8> {
    let mut bytes = Record::encode(&mut sample::record_header(), &sample::descriptors());
    bytes.resize(BLOCK_BYTES, 0);
    bytes
}

fn every_flipped_bit_is_refused<T, E>(bytes: &[u8], covered: usize, decode: impl Fn(&[u8]) -> Result<T, E>) {
    let mut bytes = bytes.to_vec();
    assert!(decode(&bytes).is_ok());
    for bit in 0..covered * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err(), "bit {} of byte {} flipped", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn superblock_with_any_flipped_bit_is_refused() {
    every_flipped_bit_is_refused(&sample::superblock().encode(), BLOCK_BYTES, Superblock::decode);
}

#[test]
fn segment_header_with_any_flipped_bit_is_refused() {
    every_flipped_bit_is_refused(&sample::segment_header().encode(), BLOCK_BYTES, SegmentHeader::decode);
}

#[test]
fn segment_footer_with_any_flipped_bit_is_refused() {
    let mut body = sample_record();
    body.truncate(Record::peek(&body).unwrap().header_bytes as usize);
    let blocks = sample::segment_footer().encode(&body);
    let trailer = &blocks[BLOCK_BYTES..];
    every_flipped_bit_is_refused(trailer, BLOCK_BYTES, SegmentFooter::decode_trailer);
    let footer = SegmentFooter::decode_trailer(trailer).unwrap();
    every_flipped_bit_is_refused(&blocks, body.len(), |blocks| footer.body(blocks).map(<[u8]>::len));
}

#[test]
fn container_with_any_flipped_bit_is_refused() {
    let mut header = sample::container_header();
    let (block, directory) = header.encode(&sample::container_pieces());
    every_flipped_bit_is_refused(&block, BLOCK_BYTES, ContainerHeader::decode);
    every_flipped_bit_is_refused(&directory, header.directory_bytes as usize, |bytes| header.directory(bytes));
}

#[test]
fn record_with_any_flipped_bit_in_header_or_descriptors_is_refused() {
    let bytes = sample_record();
    let covered = Record::peek(&bytes).unwrap().header_bytes as usize;
    every_flipped_bit_is_refused(&bytes, covered, Record::decode);
}

#[test]
fn checkpoint_with_any_flipped_bit_is_refused() {
    every_flipped_bit_is_refused(&sample::checkpoint().encode(), BLOCK_BYTES, Checkpoint::decode);
}

#[test]
fn every_structure_cut_short_is_refused() {
    let record = sample_record();
    let record_bytes = Record::peek(&record).unwrap().header_bytes as usize;
    let (dot, volume) = (sample::dot_entry().encode(), sample::volume_entry().encode());
    let (version, line) = (sample::version_entry().encode(), sample::line_entry().encode());
    let snapshot = sample::snapshot_entry().encode();
    for len in 0..BLOCK_BYTES {
        assert!(Superblock::decode(&sample::superblock().encode()[..len]).is_err());
        assert!(SegmentHeader::decode(&sample::segment_header().encode()[..len]).is_err());
        assert!(Checkpoint::decode(&sample::checkpoint().encode()[..len]).is_err());
        assert_eq!(Record::decode(&record[..len]).is_ok(), len >= record_bytes);
        assert!(DotEntry::decode(&dot[..len.min(dot.len() - 1)]).is_err());
        assert!(VolumeEntry::decode(&volume[..len.min(volume.len() - 1)]).is_err());
        assert!(VersionEntry::decode(&version[..len.min(version.len() - 1)]).is_err());
        assert!(LineEntry::decode(&line[..len.min(line.len() - 1)]).is_err());
        assert!(SnapshotEntry::decode(&snapshot[..len.min(snapshot.len() - 1)]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000), key: u64, count: u16) {
        let _ = Superblock::decode(&bytes);
        let _ = SegmentHeader::decode(&bytes);
        let _ = SegmentFooter::decode_trailer(&bytes);
        let _ = SegmentFooter::iterate(&bytes).count();
        let _ = Record::peek(&bytes);
        let _ = Record::decode(&bytes);
        let _ = Checkpoint::decode(&bytes);
        let _ = DotEntry::decode(&bytes);
        let _ = VolumeEntry::decode(&bytes);
        let _ = VersionEntry::decode(&bytes);
        let _ = LineEntry::decode(&bytes);
        let _ = SnapshotEntry::decode(&bytes);
        let _ = CatalogKey::decode(key);
        let _ = Lz4Prefix::split(&bytes, count);
    }

    #[test]
    fn damaged_superblock_with_a_right_checksum_is_refused_or_can_be_written_again(damage in damage(2700)) {
        let mut bytes = sample::superblock().encode();
        apply(&mut bytes, &damage);
        checksum_again(&mut bytes);
        if let Ok(superblock) = Superblock::decode(&bytes) {
            prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock.clone()));
            let _ = superblock.check_features(true);
        }
    }

    #[test]
    fn damaged_segment_header_with_a_right_checksum_is_refused_or_can_be_written_again(damage in damage(128)) {
        let mut bytes = sample::segment_header().encode();
        apply(&mut bytes, &damage);
        checksum_again(&mut bytes);
        if let Ok(header) = SegmentHeader::decode(&bytes) {
            prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn damaged_container_with_a_right_checksum_never_panics(
        first in damage(104),
        then in damage(160),
    ) {
        let (block, mut directory) = sample::container_header().encode(&sample::container_pieces());
        let mut block = block.to_vec();
        apply(&mut block, &first);
        apply(&mut directory, &then);
        let bytes = (block[64..68].try_into().map(u32::from_le_bytes).unwrap() as usize).min(directory.len());
        block[68..72].copy_from_slice(&checksum(&directory[..bytes]).to_le_bytes());
        checksum_again(&mut block);
        if let Ok(header) = ContainerHeader::decode(&block)
            && let Ok(pieces) = header.directory(&directory)
        {
            let mut again = header;
            let (_, written) = again.encode(&pieces);
            prop_assert_eq!(again.directory(&written), Ok(pieces));
        }
    }

    #[test]
    fn damaged_segment_footer_with_a_right_checksum_never_panics(damage in damage(128)) {
        let mut bytes = sample::segment_footer().encode(&[]);
        apply(&mut bytes, &damage);
        checksum_again(&mut bytes);
        if let Ok(footer) = SegmentFooter::decode_trailer(&bytes) {
            let _ = footer.body(&bytes);
        }
    }

    #[test]
    fn damaged_footer_body_ends_at_its_first_bad_record(damage in damage(2000)) {
        let one = sample_record();
        let len = Record::peek(&one).unwrap().header_bytes as usize;
        let mut body = one[..len].repeat(3);
        apply(&mut body, &damage);
        let records: Vec<_> = SegmentFooter::iterate(&body).collect();
        prop_assert!(records.len() <= 3);
        prop_assert!(records.iter().rev().skip(1).all(Result::is_ok));
    }

    #[test]
    fn damaged_record_with_a_right_checksum_is_refused_or_can_be_written_again(damage in damage(1500)) {
        let mut bytes = sample_record();
        apply(&mut bytes, &damage);
        record_checksum_again(&mut bytes);
        if let Ok(Record { mut header, descriptors }) = Record::decode(&bytes) {
            let again = Record::encode(&mut header, &descriptors);
            prop_assert_eq!(Record::decode(&again), Ok(Record { header, descriptors }));
        }
    }

    #[test]
    fn damaged_checkpoint_with_a_right_checksum_is_refused_or_can_be_written_again(damage in damage(400)) {
        let mut bytes = sample::checkpoint().encode();
        apply(&mut bytes, &damage);
        checksum_again(&mut bytes);
        if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
            prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }

    #[test]
    fn damaged_catalog_entry_is_refused_or_can_be_written_again(damage in damage(96)) {
        let (mut dot, mut volume) = (sample::dot_entry().encode(), sample::volume_entry().encode());
        apply(&mut dot, &damage);
        apply(&mut volume, &damage);
        let (mut version, mut line) = (sample::version_entry().encode(), sample::line_entry().encode());
        let mut snapshot = sample::snapshot_entry().encode();
        [&mut version, &mut line, &mut snapshot].into_iter().for_each(|bytes| apply(bytes, &damage));
        if let Ok(entry) = VersionEntry::decode(&version) {
            prop_assert_eq!(VersionEntry::decode(&entry.encode()), Ok(entry));
        }
        if let Ok(entry) = LineEntry::decode(&line) {
            prop_assert_eq!(LineEntry::decode(&entry.encode()), Ok(entry));
        }
        if let Ok(entry) = SnapshotEntry::decode(&snapshot) {
            prop_assert_eq!(SnapshotEntry::decode(&entry.encode()), Ok(entry));
        }
        if let Ok(entry) = DotEntry::decode(&dot) {
            prop_assert_eq!(DotEntry::decode(&entry.encode()), Ok(entry));
        }
        if let Ok(entry) = VolumeEntry::decode(&volume) {
            prop_assert_eq!(VolumeEntry::decode(&entry.encode()), Ok(entry));
        }
    }
}
