//! The engine overwriting a volume over the simulated disk, the same in each run: for callgrind to count (`history/overwrite.rs`).
//!
//! After each snapshot an eighth of the volume is overwritten in random order, as often as the argument says: not at all, once, or twice.
//! A checkpoint is written after each time, whether something was written or not. So what `1` takes more than `0` is what first
//! overwrites cost, folding and checkpoint included, and what `2` takes more than `1` is what others do.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use treering_engine::{CompressionMode, CreateOptions, Limits, NewSnapshot, NewVolume, OpenOptions, Store};
use treering_io::Io;
use treering_io::sim::Host;

const MIB: u64 = 1 << 20;
const PIECE: u64 = 8192;
const PIECES: u64 = 512 * MIB / PIECE;
const ROUNDS: u64 = 3;
const TIMES: u64 = 2;

fn main() {
    let Some(times) = std::env::args().nth(1).and_then(|word| word.parse().ok()).filter(|times| *times <= TIMES) else {
        eprintln!("error: say how often to overwrite after each snapshot: 0, 1 or {TIMES}");
        exit(2)
    };
    let host = Host::new(1);
    host.add_disk(Path::new("/store"), 2048 * MIB);
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime.run_sim(async move { run(&io, times).await }).expect("no crash was asked for");
}

async fn run(io: &Io, times: u64) {
    let sizes = CreateOptions { sparse: true, ..CreateOptions::default() };
    Store::create(io, Path::new("/store"), &sizes).await.expect(WORKS);
    // Folds and checkpoints come when they are asked for, as many in each run.
    let limits = Limits { fold_log_bytes: 1 << 40, checkpoint_log_bytes: 1 << 40, ..Limits::default() };
    let options = OpenOptions { limits, arena_dir: Some("/shm".into()), ..OpenOptions::default() };
    let (store, _) = Store::open(io, Path::new("/store"), &options).await.expect(WORKS);
    let volume = NewVolume { name: "v".into(), size_bytes: PIECES * PIECE, compression: CompressionMode::Off };
    store.create_dot("dot", &[volume]).await.expect(WORKS);
    overwrite(io, &store, 0..PIECES).await;
    store.checkpoint().await.expect(WORKS);
    for round in 0..ROUNDS {
        let snapshot = NewSnapshot { name: Some(format!("n{round}")), ..NewSnapshot::default() };
        store.create_snapshot(&["dot"], &snapshot).await.expect(WORKS);
        for time in 0..TIMES {
            if time < times {
                overwrite(io, &store, round * PIECES / 8..(round + 1) * PIECES / 8).await;
            }
            store.checkpoint().await.expect(WORKS);
        }
    }
    store.close().await.expect(WORKS);
}

async fn overwrite(io: &Io, store: &Store, turns: Range<u64>) {
    let volume = store.volume("dot", "v").expect("it was made");
    let data = vec![1; PIECE as usize];
    for turn in turns {
        // An odd factor visits no piece twice.
        let piece = turn.wrapping_mul(0x9e37_79b1) % PIECES;
        volume.write(piece * PIECE, &data, false).await.expect(WORKS);
        // The fold gets its turns as it does with clients.
        io.sleep(Duration::from_micros(20)).await;
    }
}

const WORKS: &str = "the simulated disk does all it is asked to";
