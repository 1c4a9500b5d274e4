//! A store on a simulated host, as the tests through its door set it up.
#![allow(dead_code)] // Each test file uses its part.

use std::path::PathBuf;

use treering_engine::{CompressionMode, CreateOptions, Limits, NewVolume, OpenOptions, Store};
use treering_io::Io;
use treering_io::sim::Host;

pub const MIB: u64 = 1 << 20;

pub fn store() -> PathBuf {
    PathBuf::from("/store")
}

pub fn host(bytes: u64) -> Host {
    let host = Host::new(7);
    host.add_disk(&store(), bytes);
    host
}

pub fn options() -> OpenOptions {
    let limits = Limits { arena_bytes: 4 * MIB, arena_entries: 4096, data_cache_bytes: MIB, ..Limits::default() };
    OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() }
}

pub async fn create(io: &Io) {
    let options = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
    Store::create(io, &store(), &options).await.expect("a new store");
}

pub async fn open(io: &Io) -> Store {
    Store::open(io, &store(), &options()).await.expect("the store opens").0
}

pub fn volume(name: &str, size_bytes: u64) -> NewVolume {
    NewVolume { name: name.into(), size_bytes, compression: CompressionMode::Auto }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut x = seed | 1;
    let mut step = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) as u8
    };
    (0..bytes).map(|_| step()).collect()
}

pub async fn is_clean(store: &Store) {
    let report = store.check(true, &mut |_| {}).await.expect("a check");
    assert_eq!(report.findings, Vec::new());
}

/// Runs one life of a process on the host.
pub fn life<T>(host: &Host, body: impl AsyncFnOnce(Io) -> T) -> T {
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime.run_sim(async move { body(io).await }).expect("no crash was asked for")
}
