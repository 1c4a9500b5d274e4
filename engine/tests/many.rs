//! What ten thousand snapshots cost in memory. Alone in its file: a process whose memory is measured runs nothing else.

use std::path::Path;

use treering_engine::{CompressionMode, CreateOptions, Limits, NewSnapshot, NewVolume, OpenOptions, Store};
use treering_io::sim::Host;

const MIB: u64 = 1 << 20;
const SNAPSHOTS: u64 = 10_000;

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux host");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it says how much is resident");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
    kib << 10
}

#[test]
fn ten_thousand_snapshots_fit_64_mib() {
    let host = Host::new(7);
    host.add_disk(Path::new("/store"), 512 * MIB);
    let limits = Limits {
        arena_bytes: 4 * MIB,
        arena_entries: 4096,
        node_cache_bytes: 4 * MIB,
        data_cache_bytes: MIB,
        ..Limits::default()
    };
    let options = OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() };
    let mut runtime = host.runtime();
    let io = runtime.io();
    let made = runtime.run_sim(async {
        let create = CreateOptions { size: None, sparse: true, segment_blocks: 4096 };
        Store::create(&io, Path::new("/store"), &create).await.expect("a new store");
        let (store, _) = Store::open(&io, Path::new("/store"), &options).await.expect("it opens");
        let pg = NewVolume { name: "pg".into(), size_bytes: 8 * MIB, compression: CompressionMode::Auto };
        store.create_dot("shop", &[pg]).await.expect("there is room");
        let pg = store.volume("shop", "pg").expect("it was made");
        for i in 0..SNAPSHOTS {
            if i % 100 == 0 {
                pg.write(i % 2000 * 4096, &[i as u8; 4096], false).await.expect("there is room");
            }
            let new = NewSnapshot { name: Some(format!("s{i}")), ..NewSnapshot::default() };
            store.create_snapshot(&["shop"], &new).await.expect("there is room");
        }
        store.close().await.expect("it closes");
    });
    made.expect("no crash was asked for");
    drop(runtime);

    let mut runtime = host.runtime();
    let io = runtime.io();
    let before = resident();
    let opened = runtime.run_sim(async {
        let (store, _) = Store::open(&io, Path::new("/store"), &options).await.expect("it opens");
        assert_eq!(store.snapshots("shop").expect("the dot is there").len() as u64, SNAPSHOTS);
        store
    });
    let cost = resident().saturating_sub(before);
    drop(opened);
    assert!(cost <= 64 * MIB, "{SNAPSHOTS} snapshots take {} KiB", cost >> 10);
}
