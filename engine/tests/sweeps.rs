//! Deleted versions are swept in many slices; whatever interrupts them, nothing is given back twice and nothing is kept.

use treering_engine::{
    CheckReport, CompressionMode, CreateOptions, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store,
    Volume,
};
use treering_io::Io;
use treering_io::sim::Host;

mod support;

use support::{MIB, store as path};

const BLOCK: u64 = 4096;
const DISK_BYTES: u64 = 48 * MIB;

/// Compressed extents of 12 blocks, one after another with a gap.
const EXTENTS: u64 = 200;
/// Raw blocks that cannot join, from here on.
const RAW_FROM: u64 = 4000;
const RAW_BLOCKS: u64 = 500;

fn host(image: Option<&[u8]>) -> Host {
    let host = Host::new(11);
    host.add_disk(&path(), DISK_BYTES);
    if let Some(image) = image {
        host.set_disk_image(&path(), image.to_vec());
    }
    host
}

fn life<T>(host: &Host, body: impl AsyncFnOnce(Io) -> T) -> Option<T> {
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime.run_sim(async move { body(io).await }).ok()
}

async fn open(io: &Io) -> Store {
    let limits = Limits {
        arena_bytes: 4 * MIB,
        arena_entries: 4096,
        sweep_leaves: 1,
        sweep_rest: 1,
        hidden_waste_bytes: MIB,
        ..Limits::default()
    };
    let options = OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() };
    Store::open(io, &path(), &options).await.expect("the store opens").0
}

/// Bytes of one block that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    support::noise(seed.wrapping_mul(2), BLOCK as usize)
}

async fn fill(volume: &Volume, block: u64, bytes: &[u8]) {
    volume.write(block * BLOCK, bytes, false).await.expect("there is room");
}

/// What generation `generation` writes: a part of every `stride`-th extent and raw block.
async fn generation(volume: &Volume, number: u8, stride: u64) {
    for i in (0..EXTENTS).step_by(stride as usize) {
        let (skip, blocks) = if number == 1 { (0, 12) } else { (2 * u64::from(number), 3) };
        fill(volume, 13 * i + skip, &vec![number; (blocks * BLOCK) as usize]).await;
    }
    for i in (0..RAW_BLOCKS).step_by(stride as usize) {
        fill(volume, RAW_FROM + 2 * i, &noise(u64::from(number) * 1000 + i)).await;
    }
}

async fn shows(volume: &Volume, newest: u8) {
    let strides = [1, 2, 3, 5];
    for i in (0..RAW_BLOCKS).step_by(7) {
        let of = (1..=newest).rfind(|number| i % strides[usize::from(*number) - 1] == 0).expect("the first wrote all");
        let found = volume.read((RAW_FROM + 2 * i) * BLOCK, BLOCK as usize).await.expect("it can be read");
        assert!(found[..] == noise(u64::from(of) * 1000 + i)[..], "raw block {i} of generation {newest}");
    }
    for i in (0..EXTENTS).step_by(7) {
        let found = volume.read(13 * i * BLOCK, 12 * BLOCK as usize).await.expect("it can be read");
        let mut expected = vec![1; 12 * BLOCK as usize];
        for number in (2..=newest).filter(|number| i % strides[usize::from(*number) - 1] == 0) {
            expected[usize::from(2 * number) * BLOCK as usize..][..3 * BLOCK as usize].fill(number);
        }
        let cut = expected.len().min(found.len());
        assert!(found[..] == expected[..cut], "compressed extent {i} of generation {newest}");
    }
}

async fn snapshot(store: &Store, name: &str) {
    let new = NewSnapshot { name: Some(name.into()), ..NewSnapshot::default() };
    store.create_snapshot(&["d"], &new).await.expect("a snapshot");
}

fn at(name: &str) -> SnapshotRef {
    SnapshotRef::Name(name.into())
}

/// Three snapshots, the head ahead of them, all of it in a checkpoint.
fn prepared() -> Vec<u8> {
    let host = host(None);
    life(&host, async |io| {
        let options = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
        Store::create(&io, &path(), &options).await.expect("a new store");
        let store = open(&io).await;
        let volume = NewVolume { name: "v".into(), size_bytes: 32 * MIB, compression: CompressionMode::Lz4 };
        store.create_dot("d", &[volume]).await.expect("a dot");
        let v = store.volume("d", "v").expect("it was made");
        for (number, stride) in [(1, 1), (2, 2), (3, 3)] {
            generation(&v, number, stride).await;
            snapshot(&store, &format!("s{number}")).await;
        }
        drop(v);
        store.close().await.expect("a clean end");
    })
    .expect("nothing crashes");
    host.disk_image(&path())
}

/// Deletes the middle snapshot, then the first one, while the head writes on and is cut once more.
async fn delete_and_write(store: &Store) {
    let v = store.volume("d", "v").expect("it is there");
    store.delete_snapshots("d", &[at("s2")]).await.expect("nobody uses it");
    for i in 0..6 {
        store.checkpoint().await.expect("a checkpoint");
        generation_part(&v, i).await;
        store.fold().await.expect("a fold");
        if i == 2 {
            snapshot(store, "s4").await;
            store.delete_snapshots("d", &[at("s1")]).await.expect("nobody uses it");
        }
    }
}

/// A sixth of generation 4.
async fn generation_part(volume: &Volume, part: u64) {
    for i in (0..EXTENTS).step_by(5).filter(|i| i % 6 == part) {
        fill(volume, 13 * i + 8, &vec![4; 3 * BLOCK as usize]).await;
    }
    for i in (0..RAW_BLOCKS).step_by(5).filter(|i| i % 6 == part) {
        fill(volume, RAW_FROM + 2 * i, &noise(4000 + i)).await;
    }
}

async fn is_sound(io: &Io) {
    let store = open(io).await;
    check(&store, true).await;
    let kept = store.open_snapshot("d", "v", &at("s3")).expect("it was not deleted");
    shows(&kept, 3).await;
    drop(kept);
    for info in store.snapshots("d").expect("the dot is there") {
        store.delete_snapshots("d", &[SnapshotRef::Name(info.name)]).await.expect("nobody uses it");
    }
    store.remove_dot("d").await.expect("nobody uses it");
    let mut rounds = 0;
    while check(&store, false).await.extents > 0 {
        store.checkpoint().await.expect("a checkpoint");
        rounds += 1;
        assert!(rounds < 200, "something is never given back");
    }
}

async fn check(store: &Store, data: bool) -> CheckReport {
    let report = store.check(data, &mut |_| {}).await.expect("a check");
    assert_eq!(report.findings, Vec::new());
    report
}

#[test]
fn a_sweep_that_is_cut_anywhere_gives_everything_back_once() {
    let image = prepared();
    let mut event = 1;
    loop {
        let host = host(Some(&image));
        let whole = life(&host, async |io| {
            let store = open(&io).await;
            host.crash_after(Some(event));
            delete_and_write(&store).await;
        });
        let whole = whole.is_some();
        if event % 2 == 0 {
            host.process_crash()
        } else {
            host.host_crash()
        }
        life(&host, async |io| is_sound(&io).await).expect("nothing crashes any more");
        if whole {
            break;
        }
        event += 1 + event / 16;
    }
}

#[test]
fn a_hidden_version_gives_back_what_no_child_shows() {
    let host = host(Some(&prepared()));
    life(&host, async |io| {
        let store = open(&io).await;
        let name = String::from("fork");
        store.fork("d", &at("s1"), &[name], None).await.expect("a fork");
        store.delete_snapshots("d", &[at("s1")]).await.expect("nobody uses it");
        store.delete_snapshots("d", &[at("s2"), at("s3")]).await.expect("nobody uses them");
        let volumes = [store.volume("d", "v").unwrap(), store.volume("fork", "v").unwrap()];
        let settled = async || {
            for _ in 0..20 {
                store.checkpoint().await.expect("a checkpoint");
                io.sleep(std::time::Duration::from_secs(1)).await;
            }
            check(&store, true).await;
            store.space().slots.log
        };
        // Both go on from s1, and each overwrites all of it: one after the other.
        generation(&volumes[0], 1, 1).await;
        let one_left = settled().await;
        assert_eq!(store.usage().await.expect("sound").branching_bytes, 0, "the other one shows all of it");
        generation(&volumes[1], 1, 1).await;
        let none_left = settled().await;
        assert!(none_left <= one_left, "{none_left} segments with two copies, {one_left} with three");
        for dot in ["fork", "d"] {
            store.remove_dot(dot).await.expect("nobody uses it");
        }
        while check(&store, false).await.extents > 0 {
            store.checkpoint().await.expect("a checkpoint");
        }
    })
    .expect("nothing crashes");
}
