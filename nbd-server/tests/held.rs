//! A connection whose write is held, because the store is full: everything else on it goes on.

mod support;

use std::path::Path;
use std::time::Duration;
use support::{Client, MIB, Terms, serve};
use treering_engine::{CompressionMode, CreateOptions, FullPolicy, Limits, NewVolume, OpenOptions, Store};
use treering_io::Io;
use treering_io::sim::Host;
use treering_nbd_server::protocol::wire;
use treering_nbd_server::server::Options;

const STORE: &str = "/store";
const LEN: u64 = 16 << 10;
/// Longer than any write waits for a checkpoint.
const LONG: Duration = Duration::from_secs(60);

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut x = seed | 1 << 40;
    let mut step = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) as u8
    };
    (0..LEN).map(|_| step()).collect()
}

/// A store of 24 MiB with `shop.pg` of 64 MiB, whose writers wait when it is full.
async fn holding(io: &Io) -> Store {
    let path = Path::new(STORE);
    let create = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
    Store::create(io, path, &create).await.expect("a new store");
    let limits = Limits { arena_bytes: 4 * MIB, arena_entries: 4096, data_cache_bytes: MIB, ..Limits::default() };
    let full_policy = FullPolicy::Hold { at_most: None };
    let options = OpenOptions { limits, arena_dir: Some("/shm".into()), full_policy, ..OpenOptions::default() };
    let (store, _) = Store::open(io, path, &options).await.expect("the store opens");
    let volume = NewVolume { name: "pg".into(), size_bytes: 64 * MIB, compression: CompressionMode::Auto };
    store.create_dot("shop", &[volume]).await.expect("there is room");
    store
}

/// Writes one piece after another until one is held for good; gives which. All others are answered.
async fn fill(io: &Io, store: &Store, client: &mut Client) -> u64 {
    for piece in 0..64 * MIB / LEN {
        client.write(piece, piece * LEN, &noise(piece)).await;
        io.sleep(Duration::from_millis(20)).await;
        if store.status().held_writers > 0 {
            io.sleep(LONG).await;
        }
        if store.status().held_writers > 0 {
            return piece;
        }
        let reply = client.reply().await.expect("an answer");
        assert_eq!((reply.cookie, reply.errno), (piece, 0));
    }
    unreachable!("the store is smaller than the volume")
}

#[test]
fn reads_block_status_trims_and_flushes_go_on_beside_a_write_that_is_held() {
    let host = Host::new(44);
    host.add_disk(Path::new(STORE), 24 * MIB);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let test = async {
        let store = holding(&io).await;
        let _server = serve(&io, store.clone(), Options::default());
        let terms = Terms { structured: true, allocation: true, blocks: false };
        let mut client = Client::attach(&io, "shop.pg", terms).await;
        let held = fill(&io, &store, &mut client).await;
        // Every answer below is the next one of this connection, so none of them waited for the write.
        for (piece, len) in [(0, LEN), (held / 2, LEN), (held - 1, LEN)] {
            client.request(0, wire::CMD_READ, held + 1, piece * LEN, len as u32).await;
            let reply = client.reply().await.expect("an answer");
            assert_eq!((reply.cookie, reply.errno), (held + 1, 0));
            assert!(reply.data == noise(piece), "piece {piece}");
        }
        for (command, offset) in [(wire::CMD_BLOCK_STATUS, 0), (wire::CMD_TRIM, 63 * MIB), (wire::CMD_FLUSH, 0)] {
            let len = if command == wire::CMD_FLUSH { 0 } else { MIB as u32 };
            client.request(0, command, held + 2, offset, len).await;
            let reply = client.reply().await.expect("an answer");
            assert_eq!((reply.cookie, reply.errno), (held + 2, 0), "command {command}: {}", reply.text);
            assert_eq!(store.status().held_writers, 1, "command {command}");
        }
        // Trims of the same connection bring the space for its write.
        client.request(0, wire::CMD_TRIM, held + 3, 0, (12 * MIB) as u32).await;
        let mut answered = [client.reply().await, client.reply().await].map(|reply| reply.expect("an answer"));
        answered.sort_by_key(|reply| reply.cookie);
        assert_eq!(answered.map(|reply| (reply.cookie, reply.errno)), [(held, 0), (held + 3, 0)]);
        let reply = client.ask(0, wire::CMD_READ, held * LEN, LEN as u32).await;
        assert!(reply.errno == 0 && reply.data == noise(held), "what was held is written");
    };
    runtime.run_sim(test).expect("it ends");
}
