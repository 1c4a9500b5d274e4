//! History through the door of the store, on a simulated host: one promise each. Histories with crashes at every step are in
//! `proptests`.

use std::path::Path;
use std::time::Duration;

use treering_engine::{CatalogError, NewSnapshot, OpenOptions, SnapshotRef, Store, Volume, VolumeError, Zeroing};
use treering_io::Io;

mod support;

use support::{MIB, create, host, is_clean, life, noise, open, options, store, volume};

const BLOCK: u64 = 4096;

fn named(name: &str) -> NewSnapshot {
    NewSnapshot { name: Some(name.into()), ..NewSnapshot::default() }
}

fn at(name: &str) -> SnapshotRef {
    SnapshotRef::Name(name.into())
}

/// Bytes that do not compress, or with an even seed, that do.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    if seed.is_multiple_of(2) { vec![noise(seed, 1)[0]; bytes] } else { noise(seed, bytes) }
}

async fn fill(volume: &Volume, block: u64, blocks: u64, seed: u64) {
    volume.write(block * BLOCK, &content(seed, (blocks * BLOCK) as usize), false).await.expect("there is room");
}

async fn shows(volume: &Volume, block: u64, blocks: u64, seed: u64) {
    let found = volume.read(block * BLOCK, (blocks * BLOCK) as usize).await.expect("it can be read");
    assert!(found[..] == content(seed, (blocks * BLOCK) as usize)[..], "blocks {block} on are not of seed {seed}");
}

/// Everything that was deleted has been given back.
async fn settle(store: &Store) {
    for _ in 0..8 {
        store.checkpoint().await.expect("a checkpoint");
    }
}

async fn shop(io: &Io) -> (Store, Volume) {
    create(io).await;
    let store = open(io).await;
    store.create_dot("shop", &[volume("pg", 8 * MIB)]).await.unwrap();
    let pg = store.volume("shop", "pg").unwrap();
    (store, pg)
}

#[test]
fn a_snapshot_is_readable_before_and_after_the_fold_reaches_it() {
    life(&host(64 * MIB), async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 64, 1).await;
        store.fold().await.unwrap();
        fill(&pg, 10, 20, 2).await;
        let made = store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        assert_eq!((made.len(), made[0].volumes.len(), made[0].name.as_str()), (1, 1, "one"));
        fill(&pg, 0, 64, 3).await;
        let one = store.open_snapshot("shop", "pg", &at("one")).unwrap();
        for _ in 0..3 {
            shows(&one, 0, 10, 1).await;
            shows(&one, 10, 20, 2).await;
            shows(&pg, 0, 64, 3).await;
            assert!(matches!(one.write(0, &[0; 4096], false).await, Err(VolumeError::Frozen)));
            store.fold().await.unwrap();
            store.checkpoint().await.unwrap();
            is_clean(&store).await;
        }
        let found = one.read(30 * BLOCK, BLOCK as usize).await.unwrap();
        assert_eq!(found[..], content(1, 64 * BLOCK as usize)[30 * BLOCK as usize..][..BLOCK as usize]);
    });
}

#[test]
fn a_snapshot_of_three_volumes_is_one_instant() {
    life(&host(64 * MIB), async |io| {
        let (store, pg) = shop(&io).await;
        store.create_dot("blog", &[volume("a", MIB), volume("b", MIB)]).await.unwrap();
        let (a, b) = (store.volume("blog", "a").unwrap(), store.volume("blog", "b").unwrap());
        for volume in [&pg, &a, &b] {
            fill(volume, 0, 8, 1).await;
        }
        store.create_snapshot(&["shop", "blog"], &named("both")).await.unwrap();
        for volume in [&b, &a, &pg] {
            fill(volume, 0, 8, 3).await;
        }
        for (dot, name) in [("shop", "pg"), ("blog", "a"), ("blog", "b")] {
            shows(&store.open_snapshot(dot, name, &at("both")).unwrap(), 0, 8, 1).await;
        }
        is_clean(&store).await;
    });
}

#[test]
fn a_snapshot_survives_power_loss_when_it_returned() {
    let host = host(64 * MIB);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let done = runtime.run_sim(async {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 32, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        fill(&pg, 0, 32, 3).await;
        io.sleep(Duration::from_millis(1)).await;
    });
    done.expect("no crash was asked for");
    drop(runtime);
    host.host_crash();
    for _ in 0..2 {
        life(&host, async |io| {
            let store = open(&io).await;
            let one = store.open_snapshot("shop", "pg", &at("one")).unwrap();
            shows(&one, 0, 32, 1).await;
            drop(one);
            is_clean(&store).await;
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_map_that_only_a_snapshot_wrote_out_is_in_the_checkpoint() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 32, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let store = open(&io).await;
        shows(&store.volume("shop", "pg").unwrap(), 0, 32, 1).await;
        is_clean(&store).await;
    });
}

#[test]
fn a_fork_of_a_pending_snapshot_reads_and_writes() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 64, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        store.fork("shop", &at("one"), &["test-1".into(), "test-2".into()], None).await.unwrap();
        let forks = ["test-1", "test-2"].map(|dot| store.volume(dot, "pg").unwrap());
        fill(&pg, 0, 8, 3).await;
        fill(&forks[0], 8, 8, 4).await;
        for _ in 0..3 {
            shows(&pg, 0, 8, 3).await;
            shows(&forks[0], 8, 8, 4).await;
            shows(&forks[1], 0, 64, 1).await;
            store.fold().await.unwrap();
            is_clean(&store).await;
            store.checkpoint().await.unwrap();
        }
        store.clone().remove_dot("shop").await.unwrap();
        settle(&store).await;
        is_clean(&store).await;
        shows(&forks[1], 0, 64, 1).await;
        drop(forks);
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let store = open(&io).await;
        shows(&store.volume("test-2", "pg").unwrap(), 0, 64, 1).await;
        shows(&store.volume("test-1", "pg").unwrap(), 8, 8, 4).await;
        is_clean(&store).await;
        for dot in ["test-1", "test-2"] {
            store.remove_dot(dot).await.unwrap();
        }
        settle(&store).await;
        is_clean(&store).await;
        assert_eq!(store.check(false, &mut |_| {}).await.unwrap().live_blocks, 0, "nothing is left");
    });
}

#[test]
fn reset_keeps_the_old_head() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 64, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        fill(&pg, 0, 64, 3).await;
        assert!(matches!(store.reset("shop", &at("one")).await, Err(CatalogError::DotInUse { users: 1, .. })));
        drop(pg);
        let kept = store.reset("shop", &at("one")).await.unwrap();
        assert!(kept.reflog && kept.expires_ns.is_some());
        for _ in 0..3 {
            shows(&store.volume("shop", "pg").unwrap(), 0, 64, 1).await;
            shows(&store.open_snapshot("shop", "pg", &at(&kept.name)).unwrap(), 0, 64, 3).await;
            store.checkpoint().await.unwrap();
            is_clean(&store).await;
        }
        fill(&store.volume("shop", "pg").unwrap(), 0, 8, 5).await;
        store.reset("shop", &at(&kept.name)).await.unwrap();
        shows(&store.volume("shop", "pg").unwrap(), 0, 64, 3).await;
        assert_eq!(store.snapshots("shop").unwrap().len(), 3);
        is_clean(&store).await;
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let store = open(&io).await;
        shows(&store.volume("shop", "pg").unwrap(), 0, 64, 3).await;
        is_clean(&store).await;
    });
}

#[test]
fn a_removed_volume_keeps_its_snapshots_and_a_deleted_snapshot_gives_its_space_back() {
    life(&host(64 * MIB), async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 64, 1).await;
        for (name, seed) in [("one", 3), ("two", 4), ("three", 5)] {
            store.create_snapshot(&["shop"], &named(name)).await.unwrap();
            fill(&pg, seed * 8, 16, seed).await;
            pg.zero(seed * 4 * BLOCK, 3 * BLOCK, Zeroing::Hole, false).await.unwrap();
        }
        drop(pg);
        store.remove_volume("shop", "pg").await.unwrap();
        settle(&store).await;
        is_clean(&store).await;
        shows(&store.open_snapshot("shop", "pg", &at("one")).unwrap(), 0, 64, 1).await;
        for name in ["two", "three", "one"] {
            store.delete_snapshots("shop", &[at(name)]).await.unwrap();
            settle(&store).await;
            is_clean(&store).await;
        }
        assert_eq!(store.check(false, &mut |_| {}).await.unwrap().live_blocks, 0, "nothing is left");
    });
}

#[test]
fn write_snapshot_remove_in_one_round() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 32, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        fill(&pg, 0, 32, 3).await;
        store.create_snapshot(&["shop"], &named("two")).await.unwrap();
        fill(&pg, 16, 32, 5).await;
        store.delete_snapshots("shop", &[at("one")]).await.unwrap();
        drop(pg);
        store.remove_volume("shop", "pg").await.unwrap();
        is_clean(&store).await;
        shows(&store.open_snapshot("shop", "pg", &at("two")).unwrap(), 0, 32, 3).await;
        settle(&store).await;
        is_clean(&store).await;
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let store = open(&io).await;
        shows(&store.open_snapshot("shop", "pg", &at("two")).unwrap(), 0, 32, 3).await;
        store.remove_dot("shop").await.unwrap();
        settle(&store).await;
        is_clean(&store).await;
        assert_eq!(store.check(false, &mut |_| {}).await.unwrap().live_blocks, 0);
    });
}

#[test]
fn names_are_unique_and_ids_resolve_by_prefix() {
    life(&host(64 * MIB), async |io| {
        let (store, _pg) = shop(&io).await;
        let made = store.create_snapshot(&["shop"], &named("one")).await.unwrap().remove(0);
        assert!(matches!(
            store.create_snapshot(&["shop"], &named("one")).await,
            Err(CatalogError::Exists { kind: "snapshot", .. })
        ));
        let id = made.id.to_string();
        assert_eq!(store.snapshot("shop", &SnapshotRef::from(&id[..8])).unwrap(), made);
        assert!(matches!(store.snapshot("shop", &at(&id[..8])), Err(CatalogError::NotFound { .. })));
        store.create_snapshot(&["shop"], &named(&id[..8])).await.unwrap();
        assert_eq!(store.snapshot("shop", &SnapshotRef::from(&id[..8])).unwrap().name, id[..8], "a name wins");
        let unnamed = store.create_snapshot(&["shop"], &NewSnapshot::default()).await.unwrap().remove(0);
        assert!(unnamed.name.starts_with("s-"), "{}", unnamed.name);
        assert_eq!(store.snapshots("shop").unwrap().len(), 3);
    });
}

#[test]
fn a_snapshot_that_is_protected_or_in_use_stays() {
    life(&host(64 * MIB), async |io| {
        let (store, _pg) = shop(&io).await;
        store.create_snapshot(&["shop"], &NewSnapshot { protect: true, ..named("one") }).await.unwrap();
        store.create_snapshot(&["shop"], &named("two")).await.unwrap();
        let both = [at("two"), at("one")];
        assert!(matches!(store.delete_snapshots("shop", &both).await, Err(CatalogError::Protected { .. })));
        assert!(matches!(store.remove_dot("shop").await, Err(CatalogError::Protected { .. })));
        store.configure_snapshot("shop", &at("one"), Some(false), None).await.unwrap();
        let one = store.open_snapshot("shop", "pg", &at("one")).unwrap();
        assert!(matches!(
            store.delete_snapshots("shop", &both).await,
            Err(CatalogError::SnapshotInUse { users: 1, .. })
        ));
        assert_eq!(store.snapshots("shop").unwrap().len(), 2, "all or none");
        drop(one);
        store.delete_snapshots("shop", &both).await.unwrap();
        assert_eq!(store.snapshots("shop").unwrap(), []);
    });
}

#[test]
fn snapshots_and_forks_go_when_their_time_is_over() {
    life(&host(64 * MIB), async |io| {
        let (store, _pg) = shop(&io).await;
        let ttl = Some(Duration::from_secs(10));
        store.create_snapshot(&["shop"], &NewSnapshot { ttl, ..named("one") }).await.unwrap();
        store.create_snapshot(&["shop"], &NewSnapshot { ttl, protect: true, ..named("kept") }).await.unwrap();
        store.fork("shop", &at("kept"), &["test".into()], ttl).await.unwrap();
        io.sleep(Duration::from_secs(5)).await;
        assert_eq!((store.snapshots("shop").unwrap().len(), store.dots().len()), (2, 2));
        io.sleep(Duration::from_secs(10)).await;
        assert_eq!((store.snapshots("shop").unwrap().len(), store.dots().len()), (1, 1));
        is_clean(&store).await;
    });
}

#[test]
fn a_page_shared_with_a_snapshot_is_not_released() {
    life(&host(128 * MIB), async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("shop", &[volume("pg", 64 * MIB)]).await.unwrap();
        let pg = store.volume("shop", "pg").unwrap();
        for i in 0..40 {
            fill(&pg, i * 100, 3, 2 * i + 1).await;
        }
        for round in 0..6u64 {
            store.create_snapshot(&["shop"], &named(&format!("s{round}"))).await.unwrap();
            fill(&pg, round * 100, 2, 1001 + 2 * round).await;
            store.checkpoint().await.unwrap();
        }
        for round in 0..6u64 {
            let snapshot = store.open_snapshot("shop", "pg", &at(&format!("s{round}"))).unwrap();
            for i in 0..40 {
                if i >= round {
                    shows(&snapshot, i * 100, 3, 2 * i + 1).await;
                } else {
                    shows(&snapshot, i * 100, 2, 1001 + 2 * i).await;
                }
            }
        }
        is_clean(&store).await;
    });
}

#[test]
fn a_damaged_page_of_the_catalog_is_made_up_for_by_its_second_tree() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 32, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        store.close().await.unwrap();
    });
    let image = host.disk_image(&store());
    let is_catalog = |page: &[u8]| page.starts_with(b"TRNODEPG") && page[12] == 3;
    let pages: Vec<usize> = (0..image.len()).step_by(BLOCK as usize).filter(|at| is_catalog(&image[*at..])).collect();
    assert!(pages.len() >= 2, "{pages:?}");
    for page in pages {
        let mut damaged = image.clone();
        damaged[page + 100] ^= 1;
        host.set_disk_image(&store(), damaged);
        life(&host, async |io| {
            let (store, report) = Store::open(&io, &store(), &options()).await.expect("the other tree is whole");
            assert_eq!(report.older_checkpoint, None);
            shows(&store.open_snapshot("shop", "pg", &at("one")).unwrap(), 0, 32, 1).await;
            shows(&store.volume("shop", "pg").unwrap(), 0, 32, 1).await;
        });
    }
}

#[test]
fn read_only_open_with_unfolded_snapshots_writes_nothing() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        let (store, pg) = shop(&io).await;
        fill(&pg, 0, 32, 1).await;
        store.create_snapshot(&["shop"], &named("one")).await.unwrap();
        store.fork("shop", &at("one"), &["test".into()], None).await.unwrap();
        fill(&pg, 0, 32, 3).await;
        store.flush().await.unwrap();
    });
    host.host_crash();
    life(&host, async |io| {
        let before = host.disk_image(Path::new("/store"));
        let options = OpenOptions { read_only: true, ..options() };
        let (store, _) = Store::open(&io, &store(), &options).await.expect("it opens for reading");
        shows(&store.open_snapshot("shop", "pg", &at("one")).unwrap(), 0, 32, 1).await;
        shows(&store.volume("test", "pg").unwrap(), 0, 32, 1).await;
        store.fold().await.unwrap();
        shows(&store.volume("test", "pg").unwrap(), 0, 32, 1).await;
        shows(&store.open_snapshot("shop", "pg", &at("one")).unwrap(), 0, 32, 1).await;
        assert!(host.disk_image(Path::new("/store")) == before, "nothing was written");
    });
}
