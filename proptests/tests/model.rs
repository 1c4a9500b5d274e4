//! Properties of a store without crashes: whatever clients ask, in whatever order, answers are those of a plain array. Found
//! failures shrink to a few operations.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use treering_engine::{CompressionMode, CreateOptions, Limits, NewVolume, OpenOptions, Store, Zeroing};
use treering_format::superblock::DATA_START;
use treering_io::sim::Host;

const BLOCK: u64 = 4096;
const SIZE: u64 = 40 * BLOCK - 512;
const STORE: &str = "/store";

#[derive(Clone, Debug)]
enum Operation {
    Write { offset: u64, len: u64, fill: u8, fua: bool },
    Zero { offset: u64, len: u64, hole: bool },
    Read { offset: u64, len: u64 },
    Flush,
    Fold,
    Checkpoint,
    Check,
    Reopen,
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    let aligned = (0..39u64, 1..12u64).prop_map(|(block, count)| (block * BLOCK, count.min(39 - block) * BLOCK));
    let any = (0..SIZE, 1..3 * BLOCK).prop_map(|(offset, len)| (offset, len.min(SIZE - offset)));
    prop_oneof![2 => aligned, 1 => any]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (range(), any::<u8>(), prop::bool::weighted(0.2))
            .prop_map(|((offset, len), fill, fua)| Operation::Write { offset, len, fill, fua }),
        2 => (range(), any::<bool>()).prop_map(|((offset, len), hole)| Operation::Zero { offset, len, hole }),
        6 => range().prop_map(|(offset, len)| Operation::Read { offset, len }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Fold),
        1 => Just(Operation::Checkpoint),
        1 => Just(Operation::Check),
        1 => Just(Operation::Reopen),
    ]
}

fn options(record_blocks: u64) -> OpenOptions {
    let limits = Limits {
        arena_bytes: 64 * BLOCK,
        arena_entries: 64,
        overlay_bytes: 64 * 192,
        node_cache_bytes: 16 * BLOCK,
        data_cache_bytes: 16 * BLOCK,
        fold_log_bytes: 32 * BLOCK,
        checkpoint_log_bytes: 128 * BLOCK,
        record_bytes: record_blocks * BLOCK,
        ..Limits::default()
    };
    OpenOptions { limits, arena_dir: Some("/arenas".into()), ..OpenOptions::default() }
}

/// Runs operations against a new store, and against a plain array.
fn behaves_as_an_array(operations: &[Operation], record_blocks: u64, compression: CompressionMode) {
    let host = Host::new(1);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let done = runtime.run_sim(async {
        let create = CreateOptions { size: Some(DATA_START + 24 * 64 * BLOCK), sparse: true, segment_blocks: 64 };
        Store::create(&io, Path::new(STORE), &create).await.expect("it fits");
        let open = async || Store::open(&io, Path::new(STORE), &options(record_blocks)).await.expect("it opens").0;
        let mut store = open().await;
        let new = NewVolume { name: "v".into(), size_bytes: SIZE, compression };
        store.create_dot("dot", &[new]).await.expect("there is room");
        let mut array = vec![0u8; SIZE as usize];
        for operation in operations {
            let volume = store.volume("dot", "v").expect("it was made");
            match *operation {
                Operation::Write { offset, len, fill, fua } => {
                    let data: Vec<u8> = (0..len).map(|i| fill.wrapping_add((i / 512) as u8)).collect();
                    volume.write(offset, &data, fua).await.expect("a small volume never fills this store");
                    array[offset as usize..(offset + len) as usize].copy_from_slice(&data);
                }
                Operation::Zero { offset, len, hole } => {
                    let kind = if hole { Zeroing::Hole } else { Zeroing::Allocated };
                    volume.zero(offset, len, kind, false).await.expect("nothing fails");
                    array[offset as usize..(offset + len) as usize].fill(0);
                }
                Operation::Read { offset, len } => {
                    let read = volume.read(offset, len as usize).await.expect("nothing is damaged");
                    assert!(read[..] == array[offset as usize..(offset + len) as usize], "read {len} at {offset}");
                }
                Operation::Flush => volume.flush().await.expect("nothing fails"),
                Operation::Fold => store.fold().await.expect("nothing fails"),
                Operation::Checkpoint => store.checkpoint().await.expect("nothing fails"),
                Operation::Check => {
                    let report = store.check(true, &mut |_| {}).await.expect("nothing fails");
                    assert!(report.findings.is_empty(), "{:?}", report.findings);
                }
                Operation::Reopen => {
                    drop(volume);
                    store.close().await.expect("nothing fails");
                    // The lock goes with the background tasks, which end when they next run.
                    io.sleep(Duration::from_millis(1)).await;
                    store = open().await;
                }
            }
        }
        let volume = store.volume("dot", "v").expect("it was made");
        let read = volume.read(0, SIZE as usize).await.expect("nothing is damaged");
        assert!(read[..] == array[..], "the whole volume at the end");
        let extents = volume.extents(0, SIZE, usize::MAX).await.expect("nothing is damaged");
        let mut at = 0;
        for extent in extents {
            let part = &array[at as usize..(at + extent.len) as usize];
            assert!(!extent.zero || part.iter().all(|byte| *byte == 0), "{extent:?} at {at}");
            at += extent.len;
        }
        assert_eq!(at, SIZE, "the status covers the volume");
    });
    done.expect("nothing stops it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_behaves_as_a_plain_array(
        operations in prop::collection::vec(operation(), 1..60),
        record_blocks in 1..16u64,
        mode in prop_oneof![Just(CompressionMode::Auto), Just(CompressionMode::Lz4), Just(CompressionMode::Off)],
    ) {
        behaves_as_an_array(&operations, record_blocks, mode);
    }
}
