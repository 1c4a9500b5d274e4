//! What is encoded decodes to itself, and lengths are what they were promised to be.

use crate::sample;
use proptest::prelude::*;
use treering_format::catalog::{CatalogKey, DotEntry, LineEntry, SnapshotEntry, VersionEntry, VolumeEntry, valid_name};
use treering_format::checkpoint::Checkpoint;
use treering_format::container::ContainerHeader;
use treering_format::record::{
    DELETE_MAX, Descriptor, Lz4Prefix, RECORD_HEADER_BYTES, Record, SNAPSHOT_VOLUMES_MAX, SnapshotCut, SnapshotDot,
};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{REGION_STARTS, Superblock};
use treering_format::*;

#[test]
fn superblock_decodes_to_what_was_encoded() {
    let superblock = sample::superblock();
    assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
}

#[test]
fn superblock_write_never_touches_the_copy_of_the_generation_before() {
    for generation in 0..64 {
        let [one, two] = Superblock::positions(generation);
        assert!((0..16).contains(&one) && (16..32).contains(&two) && two - one == REGION_STARTS[1]);
        assert_ne!(Superblock::positions(generation + 1), [one, two]);
    }
}

#[test]
fn segment_header_decodes_to_what_was_encoded() {
    let header = sample::segment_header();
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
}

#[test]
fn segment_footer_gives_back_every_record_of_its_body() {
    let mut body = Vec::new();
    let mut records = Vec::new();
    for count in [16, 0, 3] {
        let mut header = sample::record_header();
        let descriptors = sample::descriptors()[..count].to_vec();
        body.extend(Record::encode(&mut header, &descriptors));
        records.push(Ok(Record { header, descriptors }));
    }
    let mut footer = sample::segment_footer();
    let blocks = footer.encode(&body);

    assert_eq!(blocks.len() as u32, SegmentFooter::blocks(body.len()) * BLOCK_BYTES as u32);
    let trailer = SegmentFooter::decode_trailer(&blocks[blocks.len() - BLOCK_BYTES..]).unwrap();
    assert_eq!(trailer, footer);
    let found = trailer.body(&blocks).unwrap();
    assert_eq!(SegmentFooter::iterate(found).collect::<Vec<_>>(), records);
}

#[test]
fn container_gives_back_its_pieces() {
    let pieces = sample::container_pieces();
    let mut header = sample::container_header();
    let (block, directory) = header.encode(&pieces);
    assert_eq!(ContainerHeader::decode(&block), Ok(header));
    assert_eq!(header.directory_block, 13);
    assert_eq!(directory.len(), header.directory_blocks() as usize * BLOCK_BYTES);
    assert_eq!(header.directory(&directory), Ok(pieces));
}

#[test]
fn record_decodes_to_what_was_encoded() {
    let mut header = sample::record_header();
    let descriptors = sample::descriptors();
    let bytes = Record::encode(&mut header, &descriptors);
    assert_eq!(bytes.len(), header.header_bytes as usize);
    assert_eq!(Record::peek(&bytes), Ok(header));
    assert_eq!(Record::decode(&bytes), Ok(Record { header, descriptors }));
}

#[test]
fn record_header_area_is_padded_and_payload_follows_it() {
    let mut header = sample::record_header();
    let one = sample::descriptors()[2].clone();
    let fit = (BLOCK_BYTES - RECORD_HEADER_BYTES) / one.encoded_len();
    Record::encode(&mut header, &vec![one.clone(); fit]);
    assert_eq!((header.header_blocks(), header.total_blocks()), (1, 7));
    Record::encode(&mut header, &vec![one; fit + 1]);
    assert_eq!((header.header_blocks(), header.total_blocks()), (2, 8));
    assert_eq!(header.payload_address(0), header.address.next(2));
    assert_eq!(header.last_address(), header.address.next(7));
}

#[test]
fn compressed_data_is_split_from_its_padding() {
    let prefix = Lz4Prefix { compressed_bytes: 5, uncompressed_bytes: 2 * 4096 };
    let mut stored = prefix.encode().to_vec();
    stored.extend(*b"hello and then padding");
    assert_eq!(Lz4Prefix::split(&stored, 2), Ok((prefix, &b"hello"[..])));
}

#[test]
fn checkpoint_decodes_to_what_was_encoded_and_is_as_long_as_foretold() {
    let checkpoint = sample::checkpoint();
    let bytes = checkpoint.encode();
    assert_eq!(bytes.len() as u64, Checkpoint::encoded_len(6, 2, 128));
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
}

/// Over bytes that end with their own CRC-32, the CRC-32 is a constant. A superblock that kept it would accept any blob.
#[test]
fn checksum_of_a_whole_checkpoint_differs_between_checkpoints() {
    let mut checkpoint = sample::checkpoint();
    let one = checksum(&checkpoint.encode());
    checkpoint.header.sequence.0 += 1;
    assert_ne!(one, checksum(&checkpoint.encode()));
}

#[test]
fn catalog_entries_and_keys_decode_to_what_was_encoded() {
    assert_eq!(DotEntry::decode(&sample::dot_entry().encode()), Ok(sample::dot_entry()));
    assert_eq!(VolumeEntry::decode(&sample::volume_entry().encode()), Ok(sample::volume_entry()));
    assert_eq!(VersionEntry::decode(&sample::version_entry().encode()), Ok(sample::version_entry()));
    assert_eq!(LineEntry::decode(&sample::line_entry().encode()), Ok(sample::line_entry()));
    assert_eq!(SnapshotEntry::decode(&sample::snapshot_entry().encode()), Ok(sample::snapshot_entry()));
    for (key, number) in sample::catalog_keys() {
        assert_eq!((key.encode(), CatalogKey::decode(number)), (number, Ok(key)));
    }
}

#[test]
fn cuts_are_all_descriptors_but_data_and_blanks() {
    let kinds = sample::descriptors();
    assert_eq!(kinds.iter().filter(|kind| !kind.is_cut()).count(), 5);
}

#[test]
fn largest_snapshot_and_deletion_fit_a_descriptor() {
    let volumes = (0..SNAPSHOT_VOLUMES_MAX as u64).map(VolumeId).collect();
    let dots = vec![SnapshotDot { dot: DotId(1), public: PublicId([1; 16]), volumes }];
    let snapshot = SnapshotCut { name: "s".into(), dots, ..SnapshotCut::default() };
    let snapshots = (0..DELETE_MAX as u64).map(SnapshotId).collect();
    for descriptor in [Descriptor::Snapshot(snapshot), Descriptor::DeleteSnapshots { snapshots }] {
        let mut header = sample::record_header();
        let bytes = Record::encode(&mut header, std::slice::from_ref(&descriptor));
        assert_eq!(Record::decode(&bytes), Ok(Record { header, descriptors: vec![descriptor] }));
    }
}

#[test]
fn names_are_lower_case_and_begin_and_end_with_a_letter_or_digit() {
    for good in ["a", "0", "db", "a-b_c9", &"x".repeat(64)] {
        assert!(valid_name(good), "{good}");
    }
    for bad in ["", "-", "a-", "_a", "A", "a b", "ä", "a/b", "a.b", "a\n", &"x".repeat(65)] {
        assert!(!valid_name(bad), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn addresses_order_as_segment_then_block(a in 1u64..1 << 48, b in 0u32..1 << 16, c in 1u64..1 << 48, d in 0u32..1 << 16) {
        let (one, two) = (LogAddress::new(SegmentId(a), b), LogAddress::new(SegmentId(c), d));
        prop_assert_eq!((one.segment(), one.block()), (SegmentId(a), b));
        prop_assert_eq!(one.cmp(&two), (a, b).cmp(&(c, d)));
    }

    #[test]
    fn any_number_of_any_descriptors_round_trips(picks in prop::collection::vec(0usize..16, 0..200)) {
        let kinds = sample::descriptors();
        let descriptors: Vec<_> = picks.iter().map(|&n| kinds[n].clone()).collect();
        let mut header = sample::record_header();
        let bytes = Record::encode(&mut header, &descriptors);
        prop_assert_eq!(Record::decode(&bytes), Ok(Record { header, descriptors }));
    }
}
