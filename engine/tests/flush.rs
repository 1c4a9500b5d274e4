//! Clients that flush each write, on a simulated host whose syncs take their time.

use std::time::Duration;

use futures_util::future::join_all;
use treering_engine::Store;
use treering_io::sim::Host;
use treering_io::{Io, Task};

mod support;

use support::{MIB, create, host, life, noise, open, volume};

const CLIENTS: usize = 8;
const FLUSHES: u64 = 100;

/// A disk each of whose operations takes so long.
fn disk_that_takes(ns: u64) -> Host {
    let host = host(64 * MIB);
    host.faults().latency_ns = (ns, ns);
    host
}

/// A new store with one volume.
async fn shop(io: &Io) -> Store {
    create(io).await;
    let store = open(io).await;
    store.create_dot("shop", &[volume("pg", 8 * MIB)]).await.unwrap();
    store
}

/// Writes a block and flushes it, again and again, with a handle of its own.
fn client(io: &Io, store: &Store, number: usize, think: Duration) -> Task<()> {
    let (handle, io_of_client) = (store.volume("shop", "pg").unwrap(), io.clone());
    io.spawn(async move {
        let data = noise(number as u64, 4096);
        for i in 0..FLUSHES {
            handle.write((number as u64 * FLUSHES + i) % 1024 * 4096, &data, false).await.unwrap();
            handle.flush().await.unwrap();
            io_of_client.sleep(think).await;
        }
    })
}

#[test]
fn two_halves_of_clients_out_of_step_are_soon_served_by_one_sync() {
    let host = disk_that_takes(400_000);
    let syncs = life(&host, async |io| {
        let store = shop(&io).await;
        let before = store.status().log.syncs;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            // The second half comes while the first one's sync is under way.
            if number == CLIENTS / 2 {
                io.sleep(Duration::from_micros(500)).await;
            }
            clients.push(client(&io, &store, number, Duration::from_micros(50)));
        }
        join_all(clients).await;
        store.status().log.syncs - before
    });
    assert!(syncs <= FLUSHES + FLUSHES / 10, "{syncs} syncs for {FLUSHES} flushes of each of {CLIENTS} clients");
}

#[test]
fn a_client_with_much_to_do_between_its_flushes_costs_another_little() {
    let host = disk_that_takes(400_000);
    let took = life(&host, async |io| {
        let store = shop(&io).await;
        let slow = client(&io, &store, 1, Duration::from_millis(7));
        let begun = io.now();
        client(&io, &store, 0, Duration::from_micros(50)).await;
        let took = io.now() - begun;
        slow.await;
        took
    });
    // Each waits for a record, a sync and at times for the other's sync.
    assert!(took <= FLUSHES * 900_000, "{FLUSHES} flushes took {took} ns");
}
