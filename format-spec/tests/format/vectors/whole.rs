//! Vectors that are right: how each is made, and how its bytes are decoded, compared with the sample and encoded again.

use treering_format::BLOCK_BYTES;
use treering_format::catalog::{DotEntry, LineEntry, SnapshotEntry, VersionEntry, VolumeEntry};
use treering_format::checkpoint::Checkpoint;
use treering_format::container::{ContainerHeader, ContainerPiece};
use treering_format::node::{Node, NodeWriter};
use treering_format::record::{Descriptor, Record};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::Superblock;

use crate::sample;

pub struct Whole {
    pub name: &'static str,
    pub make: fn() -> Vec<u8>,
    pub again: fn(&[u8]) -> Vec<u8>,
}

pub const VECTORS: &[Whole] = &[
    Whole {
        name: "superblock-full.bin",
        make: || sample::superblock().encode().to_vec(),
        again: |bytes| {
            let superblock = Superblock::decode(bytes).unwrap();
            assert_eq!(superblock, sample::superblock());
            superblock.encode().to_vec()
        },
    },
    Whole {
        name: "superblock-new-store.bin",
        make: || sample::new_superblock().encode().to_vec(),
        again: |bytes| {
            let superblock = Superblock::decode(bytes).unwrap();
            assert_eq!(superblock, sample::new_superblock());
            superblock.encode().to_vec()
        },
    },
    Whole {
        name: "segment-header.bin",
        make: || sample::segment_header().encode().to_vec(),
        again: |bytes| {
            let header = SegmentHeader::decode(bytes).unwrap();
            assert_eq!(header, sample::segment_header());
            header.encode().to_vec()
        },
    },
    Whole {
        name: "segment-footer.bin",
        make: footer,
        again: |bytes| {
            let mut trailer = SegmentFooter::decode_trailer(&bytes[bytes.len() - BLOCK_BYTES..]).unwrap();
            let body = trailer.body(bytes).unwrap();
            let records: Vec<Record> = SegmentFooter::iterate(body).map(Result::unwrap).collect();
            assert_eq!(records.len(), trailer.record_count as usize);
            trailer.encode(&records.iter().flat_map(record_again).collect::<Vec<u8>>())
        },
    },
    Whole {
        name: "container.bin",
        make: || container_bytes(&mut sample::container_header(), &sample::container_pieces()),
        again: |bytes| {
            let mut header = ContainerHeader::decode(bytes).unwrap();
            let pieces = header.directory(&bytes[BLOCK_BYTES..]).unwrap();
            assert_eq!(pieces, sample::container_pieces());
            container_bytes(&mut header, &pieces)
        },
    },
    Whole {
        name: "record-every-descriptor.bin",
        make: || header_area(&sample::descriptors()),
        again: |bytes| {
            let record = Record::decode(bytes).unwrap();
            assert_eq!(record.descriptors, sample::descriptors());
            padded(record_again(&record))
        },
    },
    Whole {
        name: "record-empty.bin",
        make: || header_area(&[]),
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
    Whole {
        name: "record-two-header-blocks.bin",
        make: two_header_blocks,
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
    Whole { name: "node-map-leaf.bin", make: || sample::map_leaf().into_inner(), again: node_again },
    Whole { name: "node-map-branch.bin", make: || sample::map_branch().into_inner(), again: node_again },
    Whole {
        name: "checkpoint-full.bin",
        make: || sample::checkpoint().encode(),
        again: |bytes| {
            let checkpoint = Checkpoint::decode(bytes).unwrap();
            assert_eq!(checkpoint, sample::checkpoint());
            checkpoint.encode()
        },
    },
    Whole {
        name: "checkpoint-new-store.bin",
        make: || sample::new_checkpoint().encode(),
        again: |bytes| {
            let checkpoint = Checkpoint::decode(bytes).unwrap();
            assert_eq!(checkpoint, sample::new_checkpoint());
            checkpoint.encode()
        },
    },
    Whole {
        name: "catalog-dot.bin",
        make: || sample::dot_entry().encode(),
        again: |bytes| {
            let entry = DotEntry::decode(bytes).unwrap();
            assert_eq!(entry, sample::dot_entry());
            entry.encode()
        },
    },
    Whole {
        name: "catalog-volume.bin",
        make: || sample::volume_entry().encode(),
        again: |bytes| {
            let entry = VolumeEntry::decode(bytes).unwrap();
            assert_eq!(entry, sample::volume_entry());
            entry.encode()
        },
    },
    Whole {
        name: "catalog-volume-never-written.bin",
        make: || VolumeEntry { root: None, ..sample::volume_entry() }.encode(),
        again: |bytes| {
            let entry = VolumeEntry::decode(bytes).unwrap();
            assert_eq!(entry, VolumeEntry { root: None, ..sample::volume_entry() });
            entry.encode()
        },
    },
    Whole {
        name: "catalog-version.bin",
        make: || sample::version_entry().encode(),
        again: |bytes| {
            let entry = VersionEntry::decode(bytes).unwrap();
            assert_eq!(entry, sample::version_entry());
            entry.encode()
        },
    },
    Whole {
        name: "catalog-line.bin",
        make: || sample::line_entry().encode(),
        again: |bytes| {
            let entry = LineEntry::decode(bytes).unwrap();
            assert_eq!(entry, sample::line_entry());
            entry.encode()
        },
    },
    Whole {
        name: "catalog-snapshot.bin",
        make: || sample::snapshot_entry().encode(),
        again: |bytes| {
            let entry = SnapshotEntry::decode(bytes).unwrap();
            assert_eq!(entry, sample::snapshot_entry());
            entry.encode()
        },
    },
    Whole {
        name: "record-snapshot.bin",
        make: || header_area(&[sample::snapshot()]),
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
    Whole {
        name: "record-fork.bin",
        make: || header_area(&[sample::fork()]),
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
    Whole {
        name: "record-reset.bin",
        make: || header_area(&[sample::reset()]),
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
    Whole {
        name: "record-delete.bin",
        make: || header_area(&[sample::deletion()]),
        again: |bytes| padded(record_again(&Record::decode(bytes).unwrap())),
    },
];

/// The header area of a record as it lies on disk.
pub fn header_area(descriptors: &[Descriptor]) -> Vec<u8> {
    padded(Record::encode(&mut sample::record_header(), descriptors))
}

pub fn two_header_blocks() -> Vec<u8> {
    header_area(&vec![sample::descriptors(); 16].concat())
}

pub fn footer() -> Vec<u8> {
    let mut body = Record::encode(&mut sample::record_header(), &sample::descriptors());
    body.extend(Record::encode(&mut sample::record_header(), &[]));
    sample::segment_footer().encode(&body)
}

fn record_again(record: &Record) -> Vec<u8> {
    let mut header = record.header;
    let bytes = Record::encode(&mut header, &record.descriptors);
    assert_eq!(header, record.header);
    bytes
}

fn node_again(bytes: &[u8]) -> Vec<u8> {
    let node = Node::decode(bytes).unwrap();
    let mut writer = NodeWriter::default();
    (0..node.len()).for_each(|index| writer.push(node.key(index), node.value(index)));
    sample::page(&mut writer, &node.header()).into_inner()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

/// Block 0 and the directory, without the survivors between them.
fn container_bytes(header: &mut ContainerHeader, pieces: &[ContainerPiece]) -> Vec<u8> {
    let (block, directory) = header.encode(pieces);
    [&block[..], &directory].concat()
}
