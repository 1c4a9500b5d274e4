//! A store that is full, or nearly: what is refused, what never fails, and that it goes on when space comes back.

use std::time::Duration;

use treering_engine::{
    CatalogError, FullPolicy, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store, StoreError, VolumeError,
    Zeroing,
};
use treering_io::Io;
use treering_io::sim::Host;

mod support;

use support::{MIB, create, host, is_clean, life, noise, options, store as path, volume};

/// Nothing makes a checkpoint due but what needs one.
fn lazy() -> OpenOptions {
    let limits = Limits { checkpoint_log_bytes: 1 << 40, fold_log_bytes: 1 << 40, ..options().limits };
    OpenOptions { limits, ..options() }
}

async fn open_lazy(io: &Io) -> Store {
    Store::open(io, &path(), &lazy()).await.expect("the store opens").0
}

fn snapshot(i: u64) -> NewSnapshot {
    NewSnapshot { name: Some(format!("{i:0>60}")), ..NewSnapshot::default() }
}

fn is_full(error: &CatalogError) -> bool {
    matches!(error, CatalogError::Volume(VolumeError::NoSpace { .. }))
}

/// Writes until the store is full. Gives how many blocks of 16 KiB fitted.
async fn fill(store: &Store, dot: &str, name: &str) -> u64 {
    let volume = store.volume(dot, name).expect("it was made");
    for i in 0.. {
        match volume.write(i * 16384, &noise(i, 16384), false).await {
            Ok(()) => {}
            Err(VolumeError::NoSpace { .. }) => return i,
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("the store is smaller than the volume")
}

/// Names as long as can be: the catalog grows by several pages with each snapshot, the log by less than one record.
async fn many_volumes(store: &Store) {
    let volumes: Vec<NewVolume> = (0..120).map(|i| volume(&format!("{i:0>60}"), MIB)).collect();
    store.create_dot("shop", &volumes).await.unwrap();
    for (i, volume) in volumes.iter().enumerate() {
        let volume = store.volume("shop", &volume.name).unwrap();
        volume.write(0, &noise(i as u64, 4096), false).await.unwrap();
    }
    store.create_dot("ballast", &[volume("main", 64 * MIB)]).await.unwrap();
}

/// The reserve counted what maps grow by and forgot the catalog: snapshots of many volumes between two checkpoints of a nearly
/// full store took the last pages, and the checkpoint that came at the end stopped the store.
#[test]
fn snapshots_of_many_volumes_on_a_nearly_full_store_are_refused_before_they_stop_it() {
    let host = host(24 * MIB);
    let made = life(&host, async |io| {
        create(&io).await;
        let store = open_lazy(&io).await;
        many_volumes(&store).await;
        // What is left is for the snapshots.
        let ballast = store.volume("ballast", "main").unwrap();
        for i in 0.. {
            if store.space().writable_bytes < 3 * MIB {
                break;
            }
            ballast.write(i * 65536, &noise(i, 65536), false).await.unwrap();
        }
        store.checkpoint().await.unwrap();
        let mut made = 0;
        for i in 0..10_000 {
            match store.create_snapshot(&["shop"], &snapshot(i)).await {
                Ok(_) => made += 1,
                Err(error) if is_full(&error) => break,
                Err(error) => panic!("snapshot {i}: {error}"),
            }
        }
        store.checkpoint().await.unwrap_or_else(|error| panic!("after {made} snapshots: {error}"));
        is_clean(&store).await;
        store.close().await.expect("a full store closes");
        made
    });
    assert!((10..10_000).contains(&made), "{made} snapshots were made");
    life(&host, async |io| {
        let store = open_lazy(&io).await;
        is_clean(&store).await;
        let snapshots = store.snapshots("shop").unwrap();
        assert_eq!(snapshots.len() as u64, made);
        for info in snapshots {
            let at = SnapshotRef::Name(info.name);
            store.delete_snapshots("shop", &[at]).await.expect("deleting works on a full store");
        }
        store.close().await.expect("it closes");
    });
}

#[test]
fn deleting_works_when_nothing_else_does() {
    let host = host(24 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open_lazy(&io).await;
        many_volumes(&store).await;
        store.create_dot("other", &[volume("main", MIB)]).await.unwrap();
        fill(&store, "ballast", "main").await;
        let (mut made, mut made_dots) = (0, 0);
        while store.create_snapshot(&["shop"], &snapshot(made)).await.is_ok() {
            made += 1;
        }
        let refused = loop {
            made_dots += 1;
            match store.create_dot(&format!("more-{made_dots}"), &[]).await {
                Ok(()) => assert!(made_dots < 1000, "a dot takes less than a snapshot, but not nothing"),
                Err(error) => break error,
            }
        };
        assert!(is_full(&refused), "{refused}");
        // Verbs that delete, one after another, with no help from a checkpoint that somebody else asked for.
        for i in (0..made).rev() {
            let at = SnapshotRef::Name(snapshot(i).name.unwrap());
            store.delete_snapshots("shop", &[at]).await.expect("deleting works on a full store");
        }
        for i in 0..120 {
            store.remove_volume("shop", &format!("{i:0>60}")).await.expect("deleting works on a full store");
        }
        store.remove_dot("other").await.unwrap();
        store.remove_dot("ballast").await.unwrap();
        while store.status().sweeps > 0 {
            store.checkpoint().await.unwrap();
        }
        for _ in 0..3 {
            store.checkpoint().await.unwrap();
        }
        store.create_dot("new", &[volume("main", 64 * MIB)]).await.unwrap();
        assert!(fill(&store, "new", "main").await > 8 * MIB / 16384, "what was deleted is free");
        is_clean(&store).await;
        store.close().await.unwrap();
    });
}

/// Whole blocks; what a trim of a full store leaves undone is no error, and shows what was there.
#[test]
fn trims_on_a_full_store_succeed_and_give_space_back() {
    let host = host(24 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open_lazy(&io).await;
        store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
        let filled = fill(&store, "d", "main").await;
        let main = store.volume("d", "main").unwrap();
        let mut zeroed = Ok(());
        for _ in 0..100 {
            zeroed = zeroed.and(main.zero(0, 65536, Zeroing::Allocated, false).await);
        }
        assert!(matches!(zeroed, Err(VolumeError::NoSpace { .. })), "write-zeroes is a write: {zeroed:?}");
        // More of them than there is log for, each with part of a block at its ends.
        for i in 4..filled {
            main.trim(i * 16384 + 100, 16384 - 200, false).await.expect("a trim succeeds on a full store");
            let inside = main.read(i * 16384 + 4096, 4096).await.unwrap();
            let as_it_was = inside[..] == noise(i, 16384)[4096..8192];
            assert!(as_it_was || inside.iter().all(|b| *b == 0), "block {i} is what it was, or zeros");
        }
        let mut tried = 0;
        while main.read(0, 65536).await.unwrap().iter().any(|b| *b != 0) {
            main.trim(0, 64 * MIB, true).await.unwrap();
            tried += 1;
            assert!(tried < 10, "trims go on giving space back");
        }
        assert!(fill(&store, "d", "main").await > filled / 2, "what was trimmed is free");
        is_clean(&store).await;
        store.close().await.unwrap();
    });
}

#[test]
fn a_full_store_that_grows_takes_writes_again_and_keeps_its_size_after_a_crash() {
    for crash in [false, true] {
        let host = host(24 * MIB);
        let (filled, more) = life(&host, async |io| {
            create(&io).await;
            let store = open_lazy(&io).await;
            store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
            let filled = fill(&store, "d", "main").await;
            let nothing = store.grow(None, false).await.expect("there is nothing to gain");
            assert_eq!(nothing.from, nothing.to);
            let smaller = store.grow(Some(8 * MIB), false).await;
            assert!(matches!(smaller, Err(StoreError::Shrinks { .. })), "{smaller:?}");
            let grown = store.grow(Some(40 * MIB + 4096), false).await.expect("the file may be longer");
            assert_eq!((grown.to - grown.from, grown.to), (16 * MIB, 40 * MIB), "by whole segments");
            let more = fill(&store, "d", "main").await;
            assert!(more > filled + 10 * MIB / 16384, "{more} after {filled}");
            store.flush().await.unwrap();
            if !crash {
                store.close().await.unwrap();
            }
            (filled, more)
        });
        if crash {
            host.host_crash();
        }
        life(&host, async |io| {
            let store = open_lazy(&io).await;
            assert_eq!(store.space().slots.total, 39, "crash: {crash}");
            let main = store.volume("d", "main").unwrap();
            for i in [0, filled - 1, filled, more - 1] {
                assert_eq!(main.read(i * 16384, 16384).await.unwrap()[..], noise(i, 16384)[..], "{i} of {more}");
            }
            is_clean(&store).await;
            store.close().await.unwrap();
        });
    }
}

/// Writes beyond what fits are held; reads go on, and what makes something is refused. A snapshot is deleted, and all of them are
/// answered, on the handles that they were asked on.
#[test]
fn held_writers_go_on_when_a_snapshot_is_deleted() {
    let host = host(24 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let hold = OpenOptions { full_policy: FullPolicy::Hold { at_most: None }, ..lazy() };
        let store = Store::open(&io, &path(), &hold).await.expect("the store opens").0;
        store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        for i in 0..512 {
            main.write(i * 16384, &noise(i, 16384), false).await.unwrap();
        }
        store.create_snapshot(&["d"], &snapshot(0)).await.unwrap();
        let writers: Vec<_> = (0..4u64)
            .map(|part| {
                let main = main.clone();
                io.spawn(async move {
                    for i in (0..850).filter(|i| i % 4 == part) {
                        main.write(i * 16384, &noise(i + 1000, 16384), i % 16 == 0).await.unwrap();
                    }
                })
            })
            .collect();
        while store.status().held_writers == 0 {
            io.sleep(Duration::from_millis(50)).await;
        }
        let published = store.status().log.published;
        io.sleep(Duration::from_secs(60)).await;
        assert_eq!(store.status().log.published, published, "nothing comes back by itself");
        let second = main.read(16384, 16384).await.unwrap();
        assert!(second[..] == noise(1001, 16384)[..], "reads go on");
        let mut made = 1;
        let refused = loop {
            match store.create_snapshot(&["d"], &snapshot(made)).await {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert!(is_full(&refused) && made < 100, "what is too little for a write goes to snapshots: {made}, {refused}");
        main.trim(63 * MIB, MIB, false).await.expect("trims go on");
        for i in 0..made {
            store.delete_snapshots("d", &[SnapshotRef::Name(snapshot(i).name.unwrap())]).await.unwrap();
        }
        for writer in writers {
            let done = io.timeout(Duration::from_secs(60), writer).await;
            assert!(done.is_some(), "a writer is held although the snapshot is gone: {:?}", store.space());
        }
        for i in 0..850 {
            assert!(main.read(i * 16384, 16384).await.unwrap()[..] == noise(i + 1000, 16384)[..], "block {i}");
        }
        is_clean(&store).await;
        store.close().await.unwrap();
    });
}

#[test]
fn a_writer_is_held_no_longer_than_it_was_told() {
    let host = host(24 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let full_policy = FullPolicy::Hold { at_most: Some(Duration::from_secs(5)) };
        let store = Store::open(&io, &path(), &OpenOptions { full_policy, ..lazy() }).await.expect("it opens").0;
        store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
        let begun = io.now();
        fill(&store, "d", "main").await;
        let waited = Duration::from_nanos(io.now() - begun);
        assert!((5..60).contains(&waited.as_secs()), "{waited:?}");
        is_clean(&store).await;
    });
}

#[test]
fn what_df_tells_adds_up_and_agrees_with_a_check() {
    let host = host(24 * MIB + 12345 / 4096 * 4096);
    life(&host, async |io| {
        create(&io).await;
        let store = open_lazy(&io).await;
        store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        let adds_up = async || {
            let usage = store.usage().await.unwrap();
            assert_eq!(usage.parts().iter().sum::<u64>(), usage.store_bytes);
            assert!(usage.writable_bytes + usage.reserve_bytes <= usage.open_bytes + usage.free_bytes, "{usage:?}");
            usage
        };
        adds_up().await;
        for i in 0..300 {
            main.write(i % 100 * 16384, &noise(i, 16384), false).await.unwrap();
            if i % 50 == 0 {
                store.create_snapshot(&["d"], &snapshot(i)).await.unwrap();
                adds_up().await;
            }
        }
        main.trim(0, MIB, false).await.unwrap();
        store.checkpoint().await.unwrap();
        let checked = store.check(false, &mut |_| {}).await.unwrap();
        let usage = adds_up().await;
        assert_eq!(usage.live_bytes, checked.live_blocks * 4096);
        assert_eq!(usage.pages_used_bytes, checked.pages * 4096);
        assert!(usage.dead_bytes > 0 && usage.pages_waiting_bytes > 0, "{usage:?}");
    });
}

#[test]
fn what_only_a_branching_point_holds_is_shown_and_comes_back_with_its_last_fork() {
    life(&host(64 * MIB), async |io| {
        create(&io).await;
        let store = open_lazy(&io).await;
        store.create_dot("d", &[volume("main", 16 * MIB)]).await.unwrap();
        let main = store.volume("d", "main").unwrap();
        main.write(0, &noise(1, 4 * MIB as usize), false).await.unwrap();
        store.create_snapshot(&["d"], &snapshot(0)).await.unwrap();
        let base = SnapshotRef::Name(snapshot(0).name.unwrap());
        store.fork("d", &base, &["fork".into()], None).await.unwrap();
        store.delete_snapshots("d", &[base]).await.unwrap();
        let fork = store.volume("fork", "main").unwrap();
        let held = async || {
            store.checkpoint().await.unwrap();
            let checked = store.check(false, &mut |_| {}).await.unwrap();
            let usage = store.usage().await.unwrap();
            assert_eq!(usage.live_bytes + usage.branching_bytes, checked.live_blocks * 4096);
            assert_eq!(usage.parts().iter().sum::<u64>(), usage.store_bytes);
            usage.branching_bytes
        };
        assert_eq!(held().await, 0, "both show all of it");
        main.write(0, &noise(2, 2 * MIB as usize), false).await.unwrap();
        assert_eq!(held().await, 0, "the fork shows all of it");
        fork.write(MIB, &noise(3, 2 * MIB as usize), false).await.unwrap();
        assert_eq!(held().await, MIB, "nobody shows the second MiB");
        drop(fork);
        store.remove_dot("fork").await.unwrap();
        while held().await > 0 {
            io.sleep(Duration::from_secs(1)).await;
        }
        is_clean(&store).await;
    });
}

#[test]
fn deleting_works_on_a_full_store_after_many_servers_died_on_it() {
    for trims in [false, true] {
        for crash in [Host::host_crash, Host::process_crash] {
            let host = host(24 * MIB);
            life(&host, async |io| {
                create(&io).await;
                let store = open_lazy(&io).await;
                store.create_dot("d", &[volume("main", 64 * MIB)]).await.unwrap();
                store.volume("d", "main").unwrap().write(0, &noise(9, 4096), false).await.unwrap();
                store.create_snapshot(&["d"], &snapshot(0)).await.unwrap();
                fill(&store, "d", "main").await;
                store.volume("d", "main").unwrap().flush().await.unwrap();
            });
            for i in 0..40u64 {
                crash(&host);
                life(&host, async |io| {
                    let store = open_lazy(&io).await;
                    let main = store.volume("d", "main").unwrap();
                    if trims {
                        main.trim((100 + i) * 4096, 4096, true).await.unwrap();
                    }
                    let _ = main.write(i * 4096, &noise(i, 4096), true).await;
                    store
                        .configure_snapshot("d", &SnapshotRef::Name(snapshot(0).name.unwrap()), Some(i % 2 == 0), None)
                        .await
                        .unwrap_or_else(|e| panic!("life {i}, trims {trims}: {e}"));
                });
            }
            crash(&host);
            life(&host, async |io| {
                let store = open_lazy(&io).await;
                let base = SnapshotRef::Name(snapshot(0).name.unwrap());
                store.configure_snapshot("d", &base, Some(false), None).await.unwrap();
                store.delete_snapshots("d", &[base]).await.unwrap();
                is_clean(&store).await;
            });
        }
    }
}
