//! Vectors that are damaged: what was done to a right one, and with which words it must be refused.

use treering_format::BLOCK_BYTES;
use treering_format::catalog::{DotEntry, VolumeEntry};
use treering_format::checkpoint::Checkpoint;
use treering_format::node::Node;
use treering_format::record::Record;
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{CLASS_INCOMPATIBLE, FeatureName, Superblock};

use super::whole;
use crate::sample;

pub struct Damaged {
    pub name: &'static str,
    pub make: fn() -> Vec<u8>,
    pub refuse: fn(&[u8]) -> String,
    pub error: &'static str,
}

pub const VECTORS: &[Damaged] = &[
    Damaged {
        name: "superblock-blank.bin",
        make: || vec![0; BLOCK_BYTES],
        refuse: superblock,
        error: "decode superblock: magic is 0x0, expected 0x474e495245455254",
    },
    Damaged {
        name: "superblock-flipped-bit.bin",
        make: || flipped(sample::superblock().encode().to_vec(), 520),
        refuse: superblock,
        error: "decode superblock: checksum of the whole is 0xe433e26a, stored was 0xb2674cfc",
    },
    Damaged {
        name: "superblock-torn.bin",
        make: || {
            let mut newer = sample::superblock();
            newer.generation += 16;
            newer.mounts.remove(0);
            with(sample::superblock().encode().to_vec(), 0, &newer.encode()[..512])
        },
        refuse: superblock,
        error: "decode superblock: checksum of the whole is 0xbf474821, stored was 0xfe174e91",
    },
    Damaged {
        name: "superblock-other-major-version.bin",
        make: || checksummed(with(sample::superblock().encode().to_vec(), 12, &[99])),
        refuse: superblock,
        error: "decode superblock: version is 99 (another major version of the format), which this program does not support",
    },
    Damaged {
        name: "superblock-segment-of-no-blocks.bin",
        make: || checksummed(with(sample::superblock().encode().to_vec(), 128, &[0; 4])),
        refuse: superblock,
        error: "decode superblock: segment_blocks is 0, expected a multiple of 8 from 8 to 65536",
    },
    Damaged {
        name: "superblock-unknown-incompatible-feature.bin",
        make: || {
            let mut superblock = sample::superblock();
            superblock.features.incompatible = 1 << 40;
            let name = FeatureName { class: CLASS_INCOMPATIBLE, bit: 40, name: "time travel".to_owned() };
            superblock.feature_names.push(name);
            superblock.encode().to_vec()
        },
        refuse: |bytes| Superblock::decode(bytes).unwrap().check_features(false).unwrap_err().to_string(),
        error: "open store: it needs features that this program does not know: time travel",
    },
    Damaged {
        name: "segment-header-flipped-bit.bin",
        make: || flipped(sample::segment_header().encode().to_vec(), 33),
        refuse: |bytes| error(SegmentHeader::decode(bytes)),
        error: "decode segment header: checksum of the whole is 0xd8c98581, stored was 0xcaf42e7e",
    },
    Damaged {
        name: "segment-footer-damaged-body.bin",
        make: || with(whole::footer(), 200, b"damage"),
        refuse: footer_body,
        error: "decode segment footer: checksum of the body is 0x27a11ec3, stored was 0x24a2b739",
    },
    Damaged {
        name: "segment-footer-torn-trailer.bin",
        make: || with(whole::footer(), BLOCK_BYTES + 72, &[0; 440]),
        refuse: footer_body,
        error: "decode segment footer: checksum of the whole is 0x5e9b9b9b, stored was 0x65b0b666",
    },
    Damaged {
        name: "record-torn-header.bin",
        make: || with(whole::two_header_blocks(), BLOCK_BYTES, &[0; BLOCK_BYTES]),
        refuse: record,
        error: "decode record: checksum of the header and descriptors is 0xf57386dd, stored was 0x78218b4f",
    },
    Damaged {
        name: "record-flipped-bit.bin",
        make: || flipped(whole::header_area(&sample::descriptors()), 200),
        refuse: record,
        error: "decode record: checksum of the header and descriptors is 0xdbd1dcfa, stored was 0x84f154f5",
    },
    Damaged {
        name: "record-cut-short.bin",
        make: || whole::two_header_blocks()[..BLOCK_BYTES].to_vec(),
        refuse: record,
        error: "decode record: too short: 4096 bytes at whole, expected 11648",
    },
    Damaged {
        name: "record-longer-than-any-segment.bin",
        make: || with(whole::header_area(&[]), 76, &[0xf8, 0xff, 0xff, 0xff]),
        refuse: record,
        error: "decode record: header_bytes is 4294967288, expected what a segment can hold",
    },
    Damaged {
        name: "record-payload-outside.bin",
        make: || record_checksummed(with(whole::header_area(&sample::descriptors()), 84, &[5])),
        refuse: record,
        error: "decode descriptor: payload is 3, expected a place inside the payload",
    },
    Damaged {
        name: "record-unsupported-descriptor.bin",
        make: || record_checksummed(with(whole::header_area(&sample::descriptors()), 128, &[35])),
        refuse: record,
        error: "decode descriptor: type is 35 (Rename), which this program does not support",
    },
    Damaged {
        name: "node-flipped-bit.bin",
        make: || flipped(sample::map_leaf().into_inner(), 70),
        refuse: node,
        error: "decode node: checksum of the whole is 0xa402e830, stored was 0x7c75c01d",
    },
    Damaged {
        name: "node-directory-out-of-order.bin",
        make: || {
            let page = sample::map_branch().into_inner();
            let offsets = [&page[66..68], &page[64..66]].concat();
            checksummed(with(page, 64, &offsets))
        },
        refuse: node,
        error: "decode node: first offset is 296, expected 264",
    },
    Damaged {
        name: "checkpoint-flipped-bit.bin",
        make: || flipped(sample::checkpoint().encode(), 300),
        refuse: checkpoint,
        error: "decode checkpoint: checksum of the whole is 0xaf120670, stored was 0x2e62da8d",
    },
    Damaged {
        name: "checkpoint-cut-short.bin",
        make: || {
            let mut long = sample::checkpoint();
            long.slots = vec![long.slots; 120].concat();
            long.encode()[..BLOCK_BYTES].to_vec()
        },
        refuse: checkpoint,
        error: "decode checkpoint: checksum of the whole is 0x4e647bf3, stored was 0x4a6b8a31",
    },
    Damaged {
        name: "checkpoint-more-slots-than-bytes.bin",
        make: || checksummed(with(sample::checkpoint().encode(), 136, &(1u64 << 61).to_le_bytes())),
        refuse: checkpoint,
        error: "decode checkpoint: slot_count and page_map_count is 2305843009213693952 and 2, expected what the blob has room for",
    },
    Damaged {
        name: "catalog-dot-bad-name.bin",
        make: || with(sample::dot_entry().encode(), 24, b"D"),
        refuse: |bytes| error(DotEntry::decode(bytes)),
        error: "decode dot entry: name is \"Db\", expected 1 to 64 of a-z, 0-9, _ and -",
    },
    Damaged {
        name: "catalog-volume-reserved-word.bin",
        make: || with(sample::volume_entry().encode(), 72, &[9]),
        refuse: |bytes| error(VolumeEntry::decode(bytes)),
        error: "decode volume entry: reserved word is 9 (unknown), which this program does not support",
    },
];

fn superblock(bytes: &[u8]) -> String {
    error(Superblock::decode(bytes))
}

fn record(bytes: &[u8]) -> String {
    error(Record::decode(bytes))
}

fn node(bytes: &[u8]) -> String {
    error(Node::decode(bytes))
}

fn checkpoint(bytes: &[u8]) -> String {
    error(Checkpoint::decode(bytes))
}

/// A footer as recovery reads it: the trailer first, then the body that it tells of.
fn footer_body(bytes: &[u8]) -> String {
    let trailer = SegmentFooter::decode_trailer(&bytes[bytes.len() - BLOCK_BYTES..]);
    error(trailer.and_then(|trailer| trailer.body(bytes).map(<[u8]>::len)))
}

fn error<T, E: ToString>(result: Result<T, E>) -> String {
    result.err().map_or_else(|| "accepted".to_owned(), |error| error.to_string())
}

/// The fifth bit of one byte turned over.
fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x10;
    bytes
}

/// Bytes written over what was there; the test that reads the vector fails should they be the same.
fn with(mut bytes: Vec<u8>, at: usize, over: &[u8]) -> Vec<u8> {
    bytes[at..at + over.len()].copy_from_slice(over);
    bytes
}

fn checksummed(mut bytes: Vec<u8>) -> Vec<u8> {
    crate::hostile::checksum_again(&mut bytes);
    bytes
}

fn record_checksummed(mut bytes: Vec<u8>) -> Vec<u8> {
    crate::hostile::record_checksum_again(&mut bytes);
    bytes
}
