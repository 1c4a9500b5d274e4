//! The store through its door, on a simulated host: one promise each. Histories with crashes at every step are in `proptests`.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use treering_engine::{CreateOptions, Limits, OpenOptions, Store, VolumeError, Zeroing};
use treering_io::sim::Host;

mod support;

use support::{MIB, create, host, is_clean, life, noise, open, options, store, volume};

#[test]
fn what_was_written_is_read_back_before_and_after_the_fold() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("shop", &[volume("pg", 8 * MIB)]).await.unwrap();
        let pg = store.volume("shop", "pg").unwrap();
        let data = noise(1, 100_000);
        pg.write(12_345, &data, false).await.unwrap();
        assert_eq!(&pg.read(12_345, data.len()).await.unwrap()[..], &data[..]);
        store.fold().await.unwrap();
        assert_eq!(&pg.read(12_345, data.len()).await.unwrap()[..], &data[..]);
        store.checkpoint().await.unwrap();
        assert_eq!(&pg.read(12_345, data.len()).await.unwrap()[..], &data[..]);
        assert!(pg.read(0, 12_345).await.unwrap().iter().all(|b| *b == 0), "what was never written reads as zeros");
        is_clean(&store).await;
    });
}

#[test]
fn a_closed_store_opens_with_everything_in_it() {
    let host = host(64 * MIB);
    let data = noise(2, 300_000);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("shop", &[volume("pg", 8 * MIB), volume("redis", MIB)]).await.unwrap();
        store.volume("shop", "pg").unwrap().write(4096, &data, false).await.unwrap();
        store.volume("shop", "redis").unwrap().write(0, b"hello", false).await.unwrap();
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let (store, report) = Store::open(&io, &store(), &options()).await.unwrap();
        assert!(report.clean && report.replayed_records == 0, "{report:?}");
        assert_eq!(&store.volume("shop", "pg").unwrap().read(4096, data.len()).await.unwrap()[..], &data[..]);
        assert_eq!(&store.volume("shop", "redis").unwrap().read(0, 5).await.unwrap()[..], b"hello");
        is_clean(&store).await;
    });
}

#[test]
fn an_acknowledged_write_survives_the_death_of_the_process_unflushed() {
    let host = host(64 * MIB);
    let data = noise(3, 50_000);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", 8 * MIB)]).await.unwrap();
        store.volume("d", "main").unwrap().write(0, &data, false).await.unwrap();
    });
    host.process_crash();
    life(&host, async |io| {
        let (store, report) = Store::open(&io, &store(), &options()).await.unwrap();
        assert!(!report.incarnation_changed && report.republished > 0, "{report:?}");
        assert_eq!(&store.volume("d", "main").unwrap().read(0, data.len()).await.unwrap()[..], &data[..]);
        is_clean(&store).await;
    });
}

#[test]
fn a_flushed_write_survives_power_loss_and_the_incarnation_changes() {
    let host = host(64 * MIB);
    let data = noise(4, 50_000);
    let before = life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", 8 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        main.write(0, &data, false).await.unwrap();
        main.flush().await.unwrap();
        store.incarnation()
    });
    host.host_crash();
    life(&host, async |io| {
        let store = open(&io).await;
        assert_ne!(store.incarnation(), before);
        assert_eq!(&store.volume("d", "main").unwrap().read(0, data.len()).await.unwrap()[..], &data[..]);
        is_clean(&store).await;
    });
}

#[test]
fn trims_of_any_size_read_as_zeros_and_cost_one_descriptor() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", 4 << 50)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        main.write(MIB, &noise(5, 20_000), false).await.unwrap();
        let records = store.status().log.records;
        main.zero(1000, (4 << 50) - 2000, Zeroing::Hole, true).await.unwrap();
        assert!(store.status().log.records - records <= 2, "a trim of 4 PiB is one descriptor");
        assert!(main.read(MIB, 20_000).await.unwrap().iter().all(|b| *b == 0));
        store.fold().await.unwrap();
        assert!(main.read(MIB, 20_000).await.unwrap().iter().all(|b| *b == 0));
        let extents = main.extents(0, 4 << 50, 16).await.unwrap();
        assert!(extents.iter().all(|e| e.zero || e.len <= 8192), "{extents:?}");
        is_clean(&store).await;
    });
}

#[test]
fn a_full_store_says_so_before_it_acknowledges_and_stays_whole() {
    let host = host(16 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        let mut written = Vec::new();
        for i in 0..16u64 {
            let data = noise(i + 10, MIB as usize);
            match main.write(i * MIB, &data, true).await {
                Ok(()) => written.push((i, data)),
                Err(VolumeError::NoSpace { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        assert!((2..16).contains(&written.len()), "{} MiB fitted", written.len());
        for (i, data) in &written {
            assert_eq!(&main.read(i * MIB, data.len()).await.unwrap()[..], &data[..]);
        }
        is_clean(&store).await;
        store.close().await.expect("a full store closes");
    });
}

#[test]
fn wholly_dead_segments_come_back() {
    let host = host(32 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", 2 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        for round in 0..200u64 {
            main.write(0, &noise(round, 2 * MIB as usize), false).await.unwrap();
        }
        assert_eq!(&main.read(0, 2 * MIB as usize).await.unwrap()[..], &noise(199, 2 * MIB as usize)[..]);
        is_clean(&store).await;
    });
}

#[test]
fn a_volume_that_grows_shows_zeros_and_one_in_use_does_not_shrink() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("main", MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        main.write(MIB - 4096, &noise(1, 4096), false).await.unwrap();
        assert!(store.resize_volume("d", "main", 512 * 1024).await.is_err(), "a client holds it");
        store.resize_volume("d", "main", 2 * MIB).await.unwrap();
        assert_eq!(main.size(), 2 * MIB);
        drop(main);
        store.resize_volume("d", "main", 4096 + 512).await.unwrap();
        store.resize_volume("d", "main", MIB).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        assert!(main.read(0, MIB as usize).await.unwrap().iter().all(|b| *b == 0), "what was cut off is gone");
        is_clean(&store).await;
    });
}

#[test]
fn a_store_is_opened_once() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let _held = open(&io).await;
        let second = Store::open(&io, Path::new("/store"), &options()).await;
        assert!(matches!(second, Err(treering_engine::StoreError::Locked { .. })));
    });
}

#[test]
fn a_closed_store_can_be_opened_again_at_once() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        for _ in 0..3 {
            open(&io).await.close().await.unwrap();
        }
    });
}

#[test]
fn recovery_does_not_read_what_a_long_sync_covered() {
    let host = host(64 * MIB);
    let limits = Limits { unsynced_bytes: 64 << 10, record_bytes: 64 << 10, ..options().limits };
    let options = OpenOptions { limits, ..options() };
    life(&host, async |io| {
        create(&io).await;
        let (store, _) = Store::open(&io, &store(), &options).await.unwrap();
        store.create_dot("d", &[volume("main", 8 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        for n in 0..16 {
            main.write(n << 16, &noise(n, 64 << 10), false).await.unwrap();
        }
        main.flush().await.unwrap();
        io.sleep(Duration::from_millis(50)).await;
    });
    host.process_crash();
    life(&host, async |io| {
        let (_store, report) = Store::open(&io, &store(), &options).await.unwrap();
        assert!(report.replayed_records >= 16 && report.verified_records == 0, "{report:?}");
    });
}

const SLOT: usize = 256 * 4096;

/// Slots of the store's file that hold nothing but zeros.
fn zeroed_slots(host: &Host) -> usize {
    let image = host.disk_image(&store());
    image[1 << 20..].chunks_exact(SLOT).filter(|slot| slot.iter().all(|byte| *byte == 0)).count()
}

#[test]
fn slots_are_zeroed_ahead_while_nobody_reads_or_writes() {
    for client in ["rests", "reads", "writes"] {
        let host = host(256 * MIB);
        host.set_disk_image(&store(), vec![0xA5; 256 << 20]);
        life(&host, async |io| {
            let options = CreateOptions { size: None, sparse: false, segment_blocks: 256 };
            Store::create(&io, &store(), &options).await.expect("a new store");
        });
        let made = zeroed_slots(&host);
        life(&host, async |io| {
            let store = open(&io).await;
            store.create_dot("d", &[volume("v", MIB)]).await.expect("a dot");
            let v = store.volume("d", "v").expect("there it is");
            for _ in 0..100 {
                io.sleep(Duration::from_millis(100)).await;
                match client {
                    "reads" => drop(v.read(0, 4096).await.expect("zeros")),
                    "writes" => v.write(0, &noise(1, 4096), false).await.expect("there is room"),
                    _ => {}
                }
            }
        });
        let zeroed = zeroed_slots(&host);
        if client == "rests" {
            assert!(zeroed >= 14, "{zeroed} slots are zeroed");
        } else {
            assert!(zeroed <= made, "client {client}: {zeroed} slots are zeroed, {made} were when the store was made");
        }
    }
}

#[test]
fn where_clients_flush_the_way_of_the_log_is_zeroed_too() {
    let host = host(256 * MIB);
    host.set_disk_image(&store(), vec![0xA5; 256 << 20]);
    life(&host, async |io| {
        let options = CreateOptions { size: None, sparse: false, segment_blocks: 256 };
        Store::create(&io, &store(), &options).await.expect("a new store");
    });
    life(&host, async |io| {
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", 16 * MIB)]).await.expect("a dot");
        let v = store.volume("d", "v").expect("there it is");
        // Past the slots that were zeroed when the store was made.
        for n in 0..16 {
            v.write(n << 20, &noise(n, 512 << 10), false).await.expect("there is room");
        }
        v.flush().await.expect("written");
        for n in 0..100 {
            v.write(4096 * n, &noise(n, 4096), true).await.expect("there is room");
            io.sleep(Duration::from_millis(5)).await;
        }
    });
    let image = host.disk_image(&store());
    let is = |block: &[u8], byte| block.iter().all(|b| *b == byte);
    let log = image[1 << 20..].chunks_exact(SLOT).skip(5);
    let kinds: String = log
        .map(|slot| {
            let untouched = slot.chunks_exact(4096).filter(|block| is(block, 0xA5)).count();
            match (is(&slot[..4096], 0), is(&slot[SLOT - 4096..], 0)) {
                (true, true) if untouched == 0 => '0',
                (false, true) if untouched <= 256 / 16 => 'o',
                _ if untouched == 256 => '.',
                _ => 'l',
            }
        })
        .collect();
    let open = kinds.find('o').unwrap_or_else(|| panic!("the rest of the open slot is zeroed: {kinds}"));
    let zeroed = kinds[open..].matches('0').count();
    assert!(zeroed > Limits::default().zeroed_slots, "the next slot, and some after it, are zeroed: {kinds}");
}

/// Nanoseconds that a fold of many scattered blocks takes while a client reads now and then, or none does.
fn fold_takes(client: bool) -> u64 {
    let host = host(256 * MIB);
    host.faults().latency_ns = (1_000, 1_000);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", 128 * MIB)]).await.expect("a dot");
        let v = store.volume("d", "v").expect("there it is");
        for n in 0..10_000 {
            v.write(8192 * n, &noise(n, 4096), false).await.expect("there is room");
        }
        v.flush().await.expect("written");
        let began = io.now();
        let reads = async {
            loop {
                io.sleep(Duration::from_micros(1)).await;
                if client {
                    v.read(0, 4096).await.expect("sound");
                }
            }
        };
        let mut reads = pin!(reads);
        let mut fold = pin!(store.fold());
        poll_fn(|context| {
            assert!(reads.as_mut().poll(context).is_pending());
            fold.as_mut().poll(context)
        })
        .await
        .expect("sound");
        io.now() - began
    })
}

#[test]
fn a_fold_leaves_most_of_the_thread_to_clients_at_work_and_is_quick_without() {
    let (quiet, beside_a_client) = (fold_takes(false), fold_takes(true));
    // Three microseconds behind each slice of one, by the clock of a simulated machine: twenty slices of 512 changes, and around the merge
    // nine of 1,024 pieces when the layer is read, when liveness is set, and when the layer's memory is freed.
    assert!(beside_a_client >= (20 + 9 + 9 + 9) * 3_000, "{beside_a_client} ns beside a client");
    assert!(beside_a_client > 2 * quiet, "{quiet} ns without a client, {beside_a_client} ns beside one");
}
