//! One sample of every structure with no field left at its default, so that a field that is forgotten or swapped shows.

use treering_format::catalog::{
    CatalogKey, DotEntry, LineEntry, SnapshotEntry, VersionEntry, VersionState, VolumeEntry,
};
use treering_format::checkpoint::{Checkpoint, CheckpointHeader, PageMap, Slot, SlotState};
use treering_format::container::{ContainerHeader, ContainerPiece, Survivor};
use treering_format::node::{
    ChecksumList, ExtentContent, ExtentEntry, Node, NodeHeader, NodeRef, NodeWriter, TreeKind,
};
use treering_format::record::{
    ConfigureCut, DataDescriptor, Descriptor, Encoding, ForkCut, RecordHeader, ResetCut, SnapshotCut, SnapshotDot,
};
use treering_format::segment::{SegmentFooter, SegmentHeader};
use treering_format::superblock::{CheckpointRef, FeatureName, Features, MountEntry, Superblock};
use treering_format::*;

pub const STORE: StoreId = StoreId([0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xaf]);
pub const MOUNT: Mount = Mount(0x1122_3344_5566_7788);

pub fn superblock() -> Superblock {
    let checkpoint = |sequence: u64| CheckpointRef {
        sequence: CheckpointSequence(sequence),
        fold: LogAddress::new(SegmentId(3), 40 + sequence as u32),
        fold_sequence: RecordSequence(70 + sequence),
        fold_chain: 0xfeed_0000 + sequence as u32,
        fold_order: OrderNumber(9000 + sequence),
        next: LogAddress::new(SegmentId(3), 41 + sequence as u32),
        blob_page: PageIndex(256 + sequence),
        blob_bytes: 8192,
        blob_crc: 0xb10b_0000 + sequence as u32,
    };
    let mount = |number: u64| MountEntry {
        mount: Mount(MOUNT.0 + number),
        first_segment: SegmentId(3 + number),
        first_slot: SlotIndex(20 + number),
        first_sequence: RecordSequence(71 + number),
        previous_end: LogAddress::new(SegmentId(2 + number), 99),
        previous_chain: 0xc4a1_0000 + number as u32,
        time_ns: 1_700_000_000_000_000_000 + number,
    };
    Superblock {
        version: superblock::VERSION,
        features: Features { incompatible: 0, compatible: 1 << 5, clear_on_write: 1 << 6 },
        store_id: STORE,
        incarnation: Incarnation([0xb1; 16]),
        generation: 35,
        created_ns: 1_690_000_000_000_000_000,
        writer: "treering 0.1.0".to_owned(),
        node_bytes_log2: superblock::NODE_BYTES_LOG2,
        segment_blocks: 8192,
        slot_count: 300,
        data_start: superblock::DATA_START,
        mount: MOUNT,
        boot_id: [0xb0; 16],
        clean: true,
        attested_sequence: RecordSequence(88),
        attested_order: OrderNumber(9100),
        checkpoints: [checkpoint(12), checkpoint(11)],
        mounts: vec![mount(0), mount(1)],
        feature_names: vec![
            FeatureName { class: 1, bit: 5, name: "a hint".to_owned() },
            FeatureName { class: 2, bit: 6, name: "22 bytes, as long as is".chars().take(22).collect() },
        ],
    }
}

pub fn segment_header() -> SegmentHeader {
    SegmentHeader {
        store_id: STORE,
        segment: SegmentId(417),
        mount: MOUNT,
        slot: SlotIndex(23),
        next_slot: Some(SlotIndex(0)),
        first_sequence: RecordSequence(1000),
        previous_segment: SegmentId(416),
        previous_chain: 0xdead_beef,
        salt: [0; 16],
        created_ns: 1_700_000_000_123_456_789,
    }
}

pub fn segment_footer() -> SegmentFooter {
    SegmentFooter {
        store_id: STORE,
        segment: SegmentId(417),
        mount: MOUNT,
        body_block: 8190,
        body_bytes: 0,
        body_crc: 0,
        record_count: 2,
        first_sequence: RecordSequence(1000),
        last_sequence: RecordSequence(1001),
        last_chain: 0x1234_5678,
        next_segment: SegmentId(418),
        next_slot: Some(SlotIndex(24)),
    }
}

pub fn container_header() -> ContainerHeader {
    ContainerHeader {
        store_id: STORE,
        container: ContainerId(71),
        slot: SlotIndex(25),
        generation: 2,
        data_blocks: 12,
        created_ns: 1_700_000_000_123_456_789,
        ..ContainerHeader::default()
    }
}

/// Of two segments; raw runs and a compressed extent, and blocks of the container that no piece names.
pub fn container_pieces() -> Vec<ContainerPiece> {
    let survivor = |first, count: u16, encoding, extent_blocks, checksums| Survivor {
        first,
        count,
        encoding,
        extent_blocks,
        line: LineId(4),
        block: BlockIndex(1 << 33 | u64::from(first)),
        checksums,
    };
    let raw = |first, count: u16| survivor(first, count, Encoding::Raw, count, (0..count).map(u32::from).collect());
    let piece = |segment, part, base, survivors| ContainerPiece { segment, part, base, salt: [0; 16], survivors };
    vec![
        piece(SegmentId(417), 1, 1, vec![raw(2, 3), survivor(9, 2, Encoding::Lz4, 16, vec![0xfeed_f00d])]),
        piece(SegmentId(409), 4, 8, vec![raw(8191, 1)]),
    ]
}

pub fn record_header() -> RecordHeader {
    RecordHeader {
        header_crc: 0,
        store_tag: STORE.tag(),
        mount: MOUNT,
        sequence: RecordSequence(1000),
        address: LogAddress::new(SegmentId(417), 1),
        previous_chain: 0xdead_beef,
        attested: RecordSequence(998),
        first_order: OrderNumber(9101),
        last_order: OrderNumber(9111),
        time_ns: 1_700_000_000_223_456_789,
        header_bytes: 0,
        descriptor_count: 0,
        payload_blocks: 6,
        flags: 0,
    }
}

/// One of each kind, with names and checksum lists of lengths that need padding and of lengths that do not.
pub fn descriptors() -> Vec<Descriptor> {
    let data = |count: u16, stored_blocks: u16, payload: u32, encoding| {
        let checksums = if encoding == Encoding::Lz4 { 1 } else { count.into() };
        Descriptor::Data(DataDescriptor {
            line: LineId(0x11ee),
            block: BlockIndex(81_920),
            count,
            encoding,
            stored_blocks,
            payload,
            checksums: (0..checksums).map(|n: u32| 0xcc00_0000 + n).collect(),
        })
    };
    vec![
        Descriptor::CreateDot { dot: DotId(7), name: "db".to_owned() },
        Descriptor::CreateVolume {
            volume: VolumeId(8),
            dot: DotId(7),
            line: LineId(0x11ee),
            size_bytes: 1 << 40,
            compression: 1,
            name: "wal-0_1.".replace('.', "x"),
        },
        data(1, 1, 0, Encoding::Raw),
        data(2, 2, 1, Encoding::Raw),
        data(64, 3, 3, Encoding::Lz4),
        Descriptor::Hole { line: LineId(0x11ee), block: BlockIndex(5), count: 1 << 30 },
        Descriptor::Zero { line: LineId(0x11ee), block: BlockIndex(6), count: 9 },
        Descriptor::ResizeVolume { volume: VolumeId(8), line: LineId(0x11ee), size_bytes: 4096 },
        Descriptor::ConfigureVolume { volume: VolumeId(8), compression: 0 },
        Descriptor::RemoveVolume { volume: VolumeId(8), version: VersionId(31) },
        Descriptor::RemoveDot { dot: DotId(7), first_version: VersionId(32) },
        snapshot(),
        fork(),
        deletion(),
        Descriptor::ConfigureSnapshot(ConfigureCut {
            snapshot: SnapshotId(21),
            name: Some("kept".to_owned()),
            protected: true,
            expires_ns: 1_700_000_500_000_000_000,
        }),
        reset(),
    ]
}

pub fn snapshot() -> Descriptor {
    let dot = |n: u64, volumes: &[u64]| SnapshotDot {
        dot: DotId(n),
        public: PublicId([n as u8; 16]),
        volumes: volumes.iter().map(|volume| VolumeId(*volume)).collect(),
    };
    Descriptor::Snapshot(SnapshotCut {
        name: "before-migration".to_owned(),
        protected: true,
        reflog: true,
        first_snapshot: SnapshotId(21),
        first_version: VersionId(33),
        time_ns: 1_700_000_000_323_456_789,
        expires_ns: 1_700_000_400_000_000_000,
        dots: vec![dot(7, &[8, 9]), dot(6, &[3])],
    })
}

pub fn fork() -> Descriptor {
    Descriptor::Fork(ForkCut {
        name: "test-1".to_owned(),
        dot: DotId(9),
        source: SnapshotId(21),
        first_volume: VolumeId(10),
        first_line: LineId(0x11ef),
        time_ns: 1_700_000_000_423_456_789,
        expires_ns: 1_700_000_600_000_000_000,
        volume_count: 2,
    })
}

pub fn deletion() -> Descriptor {
    Descriptor::DeleteSnapshots { snapshots: vec![SnapshotId(21), SnapshotId(20)] }
}

pub fn reset() -> Descriptor {
    Descriptor::Reset(ResetCut {
        name: "before-reset".to_owned(),
        dot: DotId(7),
        source: SnapshotId(21),
        reflog_snapshot: SnapshotId(23),
        public: PublicId([0x5e; 16]),
        first_version: VersionId(36),
        first_volume: VolumeId(12),
        first_line: LineId(0x11f1),
        volume_count: 2,
        old_count: 3,
        time_ns: 1_700_000_000_523_456_789,
        expires_ns: 1_700_000_700_000_000_000,
    })
}

pub fn root(page: u64) -> NodeRef {
    NodeRef { page: PageIndex(page), checksum: 0x00c0_ffee, level: 2, birth: LogAddress::new(SegmentId(416), 77) }
}

pub fn checkpoint() -> Checkpoint {
    let slot = |state, written| Slot { state, written };
    let page_map = |slot: u64| PageMap {
        slot: SlotIndex(slot),
        used: (0..16).map(|n| n * 3 + slot as u8).collect(),
        quarantined: (0..16).map(|n| n * 5).collect(),
    };
    Checkpoint {
        header: CheckpointHeader {
            store_id: STORE,
            sequence: CheckpointSequence(12),
            fold: LogAddress::new(SegmentId(3), 52),
            catalog_root: Some(root(1024)),
            liveness_root: None,
            next_segment: SegmentId(418),
            next_order: OrderNumber(9112),
            next_volume: VolumeId(9),
            next_dot: DotId(8),
            next_line: LineId(0x11ef),
            catalog_mirror_root: Some(root(1025)),
            next_version: VersionId(37),
            next_snapshot: SnapshotId(24),
            next_container: ContainerId(6),
        },
        slots: vec![
            slot(SlotState::Pages, true),
            slot(SlotState::Log(SegmentId(417)), true),
            slot(SlotState::FreedInWindow(CheckpointSequence(12)), true),
            slot(SlotState::Pages, false),
            slot(SlotState::Free, false),
            slot(SlotState::Container(ContainerId(5)), true),
        ],
        page_maps: vec![page_map(0), page_map(3)],
    }
}

pub fn dot_entry() -> DotEntry {
    DotEntry { name: "db".to_owned(), expires_ns: 1_700_000_600_000_000_000, forked_from: SnapshotId(21) }
}

pub fn volume_entry() -> VolumeEntry {
    VolumeEntry {
        dot: DotId(7),
        line: LineId(0x11ee),
        name: "wal-0".to_owned(),
        size_bytes: 1 << 40,
        compression: 1,
        hole_floor: LogAddress::new(SegmentId(400), 9),
        parent: VersionId(33),
        root: Some(root(2048)),
    }
}

pub fn version_entry() -> VersionEntry {
    VersionEntry {
        state: VersionState::Deleting,
        thinned: true,
        snapshot: SnapshotId(21),
        volume: VolumeId(8),
        line: LineId(0x11ee),
        parent: VersionId(30),
        position: LogAddress::new(SegmentId(401), 19),
        cursor: 77_000,
        size_bytes: 1 << 40,
        compression: 1,
        hole_floor: LogAddress::new(SegmentId(400), 9),
        root: Some(root(2049)),
        name: "wal-0".to_owned(),
    }
}

pub fn line_entry() -> LineEntry {
    LineEntry { parent_line: LineId(0x11ee), fork_position: LogAddress::new(SegmentId(401), 19) }
}

pub fn snapshot_entry() -> SnapshotEntry {
    SnapshotEntry {
        name: "before-migration".to_owned(),
        protected: true,
        reflog: true,
        public: PublicId([7; 16]),
        dot: DotId(7),
        created_ns: 1_700_000_000_323_456_789,
        expires_ns: 1_700_000_400_000_000_000,
        first_version: VersionId(33),
        count: 2,
    }
}

pub fn catalog_keys() -> [(CatalogKey, u64); 5] {
    [
        (CatalogKey::Dot(DotId(7)), 1 << 56 | 7),
        (CatalogKey::Volume(VolumeId(8)), 2 << 56 | 8),
        (CatalogKey::Version(VersionId(33)), 3 << 56 | 33),
        (CatalogKey::Line(LineId(0x11ef)), 4 << 56 | 0x11ef),
        (CatalogKey::Snapshot(SnapshotId(21)), 6 << 56 | 21),
    ]
}

/// A store that was made and never opened.
pub fn new_superblock() -> Superblock {
    Superblock {
        features: Features::default(),
        generation: 0,
        mount: Mount(0),
        boot_id: [0; 16],
        attested_sequence: RecordSequence(0),
        attested_order: OrderNumber(0),
        checkpoints: [CheckpointRef::default(); 2],
        mounts: Vec::new(),
        feature_names: Vec::new(),
        ..superblock()
    }
}

pub fn new_checkpoint() -> Checkpoint {
    Checkpoint {
        header: CheckpointHeader {
            store_id: STORE,
            sequence: CheckpointSequence(1),
            next_segment: SegmentId(1),
            ..CheckpointHeader::default()
        },
        slots: vec![Slot { state: SlotState::Free, written: false }; 4],
        page_maps: Vec::new(),
    }
}

pub fn map_leaf() -> Node<Vec<u8>> {
    let checksums: Vec<u8> = (0..12).collect();
    let entries = [
        (5, 3, ExtentContent::Raw { checksums: ChecksumList::new(&checksums) }),
        (8, 2, ExtentContent::Lz4 { offset: 1, extent_blocks: 16, stored_blocks: 9, checksum: 77 }),
        (40, u32::MAX, ExtentContent::Hole),
        (1 << 39, 1, ExtentContent::Zero),
    ];
    let mut writer = NodeWriter::default();
    for (key, count, content) in entries {
        let mut value = Vec::new();
        ExtentEntry { address: LogAddress::new(SegmentId(3), 9), count, content }.encode(&mut value);
        writer.push(key, &value);
    }
    page(&mut writer, &node_header(0))
}

pub fn map_branch() -> Node<Vec<u8>> {
    let mut writer = NodeWriter::default();
    (0..100).for_each(|n| writer.push(n * 1000, &NodeRef { level: 1, ..root(300 + n) }.encode()));
    page(&mut writer, &node_header(2))
}

/// What is not written must not matter: the page starts out dirty.
pub fn page(writer: &mut NodeWriter, header: &NodeHeader) -> Node<Vec<u8>> {
    let mut node = writer.finish(vec![0xa5; BLOCK_BYTES]);
    node.set_header(header);
    node
}

fn node_header(level: u8) -> NodeHeader {
    NodeHeader {
        kind: TreeKind::Map,
        level,
        owner: 0x11ee,
        birth: LogAddress::new(SegmentId(417), 5),
        page: PageIndex(2048),
    }
}
