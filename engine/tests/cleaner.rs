//! Space comes back from slots that are mostly dead, and what was moved out of them is read as before.

use std::path::{Path, PathBuf};

use treering_engine::{CompressionMode, CreateOptions, Limits, NewVolume, OpenOptions, Store, Volume};
use treering_io::Io;
use treering_io::sim::Host;

const MIB: u64 = 1 << 20;
const PIECE: u64 = 8192;

fn store() -> PathBuf {
    PathBuf::from("/store")
}

async fn open(io: &Io) -> Store {
    let limits = Limits {
        arena_bytes: 4 * MIB,
        arena_entries: 4096,
        data_cache_bytes: MIB,
        checkpoint_log_bytes: 16 * MIB,
        fold_log_bytes: 2 * MIB,
        clean_busy_percent: 10,
        ..Limits::default()
    };
    let options = OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() };
    Store::open(io, &store(), &options).await.expect("the store opens").0
}

/// Content that tells piece and version apart, and does not compress.
fn content(piece: u64, version: u64) -> Vec<u8> {
    let mut x = piece << 20 | version << 1 | 1;
    let mut step = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) as u8
    };
    (0..PIECE).map(|_| step()).collect()
}

async fn verify(volume: &Volume, versions: &[u64]) {
    for (piece, version) in versions.iter().enumerate() {
        let found = volume.read(piece as u64 * PIECE, PIECE as usize).await.expect("it is readable");
        assert!(found[..] == content(piece as u64, *version)[..], "piece {piece} is not version {version}");
    }
}

#[test]
fn space_comes_back_from_segments_that_are_half_dead() {
    let host = Host::new(11);
    host.add_disk(&store(), 64 * MIB);
    let mut versions = vec![0u64; (32 * MIB / PIECE) as usize];
    for life in 0..3u64 {
        let mut runtime = host.runtime();
        let io = runtime.io();
        let before = versions.clone();
        versions = runtime
            .run_sim(async move {
                let mut versions = before;
                if life == 0 {
                    let options = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
                    Store::create(&io, Path::new("/store"), &options).await.expect("a new store");
                }
                let store = open(&io).await;
                if life == 0 {
                    let pg = NewVolume { name: "pg".into(), size_bytes: 32 * MIB, compression: CompressionMode::Off };
                    store.create_dot("shop", &[pg]).await.expect("a dot");
                }
                let pg = store.volume("shop", "pg").expect("the volume");
                if life == 0 {
                    for piece in 0..versions.len() as u64 {
                        pg.write(piece * PIECE, &content(piece, 0), false).await.expect("the first time");
                    }
                }
                verify(&pg, &versions).await;
                let mut x = life + 1;
                for turn in 0..6000 {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let piece = (x >> 33) % versions.len() as u64;
                    versions[piece as usize] += 1;
                    let data = content(piece, versions[piece as usize]);
                    pg.write(piece * PIECE, &data, false).await.unwrap_or_else(|e| {
                        panic!(
                            "overwrite {turn}: {e}; {:?}, {} containers filled, {:?}",
                            store.space(),
                            store.status().cleaning.containers,
                            store.status().failure
                        )
                    });
                }
                verify(&pg, &versions).await;
                assert!(store.status().cleaning.containers > 0, "nothing was cleaned");
                let report = store.check(true, &mut |_| {}).await.expect("a check");
                assert_eq!(report.findings, Vec::new());
                if life == 1 {
                    store.close().await.expect("it closes");
                } else {
                    pg.flush().await.expect("durable");
                }
                versions
            })
            .expect("no crash was asked for");
        if life == 0 {
            host.host_crash();
        }
    }
}

/// Bytes that go to the disk for each byte that is written at random to a store that its volume fills to 70 %, after it was
/// written over three times by writers faster than any disk. All sizes are a 32nd of a store of 8 GiB and of the default limits.
/// The aim is 2.4 (docs/roadmap.md); this holds what there is.
#[test]
fn overwriting_at_random_does_not_fill_a_store_and_costs_what_it_did() {
    const SLOTS: u64 = 256;
    let host = Host::new(12);
    host.add_disk(&store(), (SLOTS + 1) * MIB);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let volume_bytes = SLOTS * MIB * 70 / 100 / PIECE * PIECE;
    let cost = runtime.run_sim(async move {
        let options = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
        Store::create(&io, Path::new("/store"), &options).await.expect("a new store");
        let limits = Limits {
            arena_bytes: 4 * MIB,
            overlay_bytes: 8 * MIB,
            node_cache_bytes: 16 * MIB,
            dirty_node_bytes: 16 * MIB,
            data_cache_bytes: MIB,
            checkpoint_log_bytes: 16 * MIB,
            fold_log_bytes: 6 * MIB,
            ..Limits::default()
        };
        let options = OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() };
        let (store, _) = Store::open(&io, Path::new("/store"), &options).await.expect("the store opens");
        let pg = NewVolume { name: "pg".into(), size_bytes: volume_bytes, compression: CompressionMode::Off };
        store.create_dot("shop", &[pg]).await.expect("a dot");
        let pg = store.volume("shop", "pg").expect("the volume");
        let (pieces, data) = (volume_bytes / PIECE, content(1, 1));
        for piece in 0..pieces {
            pg.write(piece * PIECE, &data, false).await.expect("the first time");
        }
        let (mut x, mut before) = (1u64, 0);
        for turn in 0..4 * pieces {
            if turn == 3 * pieces {
                before = host.stats().bytes_written;
            }
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let written = pg.write((x >> 33) % pieces * PIECE, &data, false).await;
            written.unwrap_or_else(|e| panic!("overwrite {turn}: {e}; {:?}, {:?}", store.space(), store.status()));
        }
        (host.stats().bytes_written - before) as f64 / volume_bytes as f64
    });
    let cost = cost.expect("no crash was asked for");
    assert!(cost <= 3.2, "{cost:.2} bytes for each byte");
}

/// One block in each segment is written for good, all others soon again. Containers fill up with pieces then, long before with
/// blocks; one of them beside a part of the next once made the cleaner say that nothing was to be gained, while nine tenths of the
/// store were dead and its writers waited.
#[test]
fn containers_full_of_pieces_do_not_keep_the_cleaner_from_all_others() {
    const COLD: u64 = 600;
    const BLOCK: u64 = 4096;
    let host = Host::new(13);
    host.add_disk(&store(), 40 * MIB);
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime
        .run_sim(async move {
            let options = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
            Store::create(&io, Path::new("/store"), &options).await.expect("a new store");
            let store = open(&io).await;
            let hot = MIB / PIECE;
            let size_bytes = hot * PIECE + COLD * BLOCK;
            let pg = NewVolume { name: "pg".into(), size_bytes, compression: CompressionMode::Off };
            store.create_dot("shop", &[pg]).await.expect("a dot");
            let pg = store.volume("shop", "pg").expect("the volume");
            let block = |cold: u64| content(cold, 0)[..BLOCK as usize].to_vec();
            for cold in 0..COLD {
                for piece in 0..hot {
                    let data = content(piece, cold);
                    pg.write(piece * PIECE, &data, false).await.unwrap_or_else(|e| {
                        panic!("round {cold}: {e}; {:?}, {:?}", store.space(), store.status().cleaning)
                    });
                }
                let at = hot * PIECE + cold * BLOCK;
                pg.write(at, &block(cold), false).await.expect("there is room for so little");
            }
            verify(&pg, &vec![COLD - 1; hot as usize]).await;
            for cold in 0..COLD {
                let found = pg.read(hot * PIECE + cold * BLOCK, BLOCK as usize).await.expect("it is readable");
                assert!(found[..] == block(cold)[..], "block {cold} is another");
            }
            let report = store.check(true, &mut |_| {}).await.expect("a check");
            assert_eq!(report.findings, Vec::new());
            store.close().await.expect("it closes");
        })
        .expect("no crash was asked for");
}
