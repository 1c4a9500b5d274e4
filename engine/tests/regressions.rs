//! Bugs that were found and mended, each with its smallest story.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::pin;
use std::task::Poll;

use treering_engine::{CompressionMode, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store, VolumeError};
use treering_io::Io;
use treering_io::sim::Host;

mod support;

use support::{MIB, create, life, open, options, store as path};

async fn new_store(io: &Io) -> Store {
    create(io).await;
    let store = open(io).await;
    let volume = NewVolume { name: "main".into(), size_bytes: 8 * MIB, compression: CompressionMode::Off };
    store.create_dot("d", &[volume]).await.expect("a dot");
    store
}

/// A flush wrote its record with RWF_DSYNC. A longer record was submitted behind it, plainly, and completed first. When the
/// durable one completed, "everything written" was taken as durable, and the next flush was answered without a sync: power
/// loss took the longer record. (Simulator, seed 3623.)
#[test]
fn a_record_written_beside_a_durable_one_is_not_durable() {
    for seed in 0..40 {
        let host = Host::new(seed);
        host.add_disk(&path(), 32 * MIB);
        life(&host, async |io| {
            let store = new_store(&io).await;
            let main = store.volume("d", "main").expect("it was made");
            io.sleep(std::time::Duration::from_millis(50)).await;
            main.write(0, &[1; 4096], false).await.unwrap();
            let flushing = main.clone();
            let flush = io.spawn(async move { flushing.flush().await });
            io.yield_now().await;
            main.write(MIB, &vec![2; MIB as usize], false).await.unwrap();
            flush.await.unwrap();
            main.flush().await.unwrap();
        });
        host.host_crash();
        life(&host, async |io| {
            let store = Store::open(&io, &path(), &options()).await.expect("the store opens").0;
            let main = store.volume("d", "main").expect("it was durable");
            let read = main.read(MIB, MIB as usize).await.unwrap();
            assert!(read.iter().all(|b| *b == 2), "seed {seed}: a flushed write is gone");
        });
    }
}

/// A server was started and killed before it wrote anything. The next one took the segment that the dead one had meant to
/// open as the end of the log; its checkpoint named that segment, which no slot held, and the store never opened again.
/// (Simulator, seeds 362 and 7369.)
#[test]
fn servers_that_wrote_nothing_leave_no_mark_on_the_log() {
    for host_dies in [false, true] {
        let host = Host::new(5);
        host.add_disk(&path(), 32 * MIB);
        life(&host, async |io| {
            let store = new_store(&io).await;
            store.volume("d", "main").expect("it was made").write(0, b"kept", true).await.unwrap();
        });
        for round in 0..5 {
            if host_dies {
                host.host_crash()
            } else {
                host.process_crash()
            }
            life(&host, async |io| {
                let store = Store::open(&io, &path(), &options()).await.expect("the store opens").0;
                let main = store.volume("d", "main").expect("it was durable");
                assert_eq!(&main.read(0, 4).await.unwrap()[..], b"kept");
                if round % 2 == 1 {
                    store.checkpoint().await.unwrap();
                }
            });
        }
    }
}

/// More operations waited in the dead server's memory than the overlay may hold, and recovery waited for a fold that nobody
/// had started. (Simulator, seed 151.)
#[test]
fn more_leftover_than_the_overlay_holds_is_published_again() {
    let host = Host::new(9);
    host.add_disk(&path(), 64 * MIB);
    life(&host, async |io| {
        let store = new_store(&io).await;
        let main = store.volume("d", "main").expect("it was made");
        for i in 0..200u64 {
            main.write(i * 4096, &[i as u8; 4096], false).await.unwrap();
        }
    });
    host.process_crash();
    life(&host, async |io| {
        let mut small = options();
        small.limits.overlay_bytes = 16 << 10;
        let store = Store::open(&io, &path(), &small).await.expect("the store opens").0;
        let main = store.volume("d", "main").expect("it was durable");
        assert_eq!(main.read(199 * 4096, 4096).await.unwrap()[0], 199);
    });
}

/// A write to part of a block waited behind another one that waited for space, while its volume was removed. It then read the
/// block from pages that belonged to somebody else, and told its client of damage. (Simulator, seed 41057150.)
#[test]
fn nothing_of_a_removed_volume_is_read_by_who_has_waited() {
    let host = Host::new(11);
    host.add_disk(&path(), 64 * MIB);
    life(&host, async |io| {
        let store = new_store(&io).await;
        let main = store.volume("d", "main").expect("it was made");
        for i in 0..4 {
            main.write(i * MIB, &vec![i as u8 + 1; MIB as usize], false).await.unwrap();
        }
        store.close().await.unwrap();
    });
    life(&host, async |io| {
        let store = open(&io).await;
        let main = store.volume("d", "main").expect("it was made");
        let reading = io.spawn(async move { main.prefetch(0, 4 * MIB).await });
        io.yield_now().await;
        store.remove_volume("d", "main").await.unwrap();
        assert!(matches!(reading.await, Err(VolumeError::Removed)), "the rest of it must not be looked for");
    });
}

/// Two resets in one second drew the same four digits: two snapshots had one name, and the deletion of one left the other to
/// come back when the store was opened. (Simulator, seed 41039644.)
#[test]
fn resets_within_one_second_keep_snapshots_of_different_names() {
    let host = Host::new(12);
    host.add_disk(&path(), 64 * MIB);
    life(&host, async |io| {
        let store = new_store(&io).await;
        let start = store.create_snapshot(&["d"], &Default::default()).await.unwrap().remove(0);
        let mut names = BTreeSet::new();
        for i in 0..1500 {
            let kept = store.reset("d", &SnapshotRef::Name(start.name.clone())).await.unwrap();
            assert!(names.insert(kept.name.clone()), "reset {i} called it {}, as another one had", kept.name);
        }
        assert_eq!(store.snapshots("d").unwrap().len(), 1501);
    });
}

/// A recovery that published operations again wrote a checkpoint meanwhile. It forgot the server whose shared memory they came
/// from, as no replay would meet its log again. The recovery died half-way, the next one took that memory for nobody's, and what
/// was left in it was gone. (Found by reading.)
#[test]
fn a_checkpoint_while_operations_are_published_again_forgets_no_shared_memory() {
    const PIECE: usize = 4 << 10;
    const PIECES: u64 = 30;
    let mut event = 1;
    loop {
        let host = Host::new(event);
        host.add_disk(&path(), 32 * MIB);
        life(&host, async |io| {
            let store = new_store(&io).await;
            store.checkpoint().await.expect("a checkpoint");
            let main = store.volume("d", "main").expect("it was made");
            for i in 0..PIECES {
                main.write(i * PIECE as u64, &vec![1 + i as u8; PIECE], false).await.expect("there is room");
            }
        });
        host.process_crash();
        let mut runtime = host.runtime();
        let io = runtime.io();
        let eager = Limits { overlay_bytes: 1 << 10, record_bytes: 4096, checkpoint_log_bytes: 1, ..options().limits };
        let eager = OpenOptions { limits: eager, ..options() };
        host.crash_after(Some(event));
        let opened = runtime.run_sim(async { Store::open(&io, &path(), &eager).await.map(drop) });
        drop(runtime);
        host.crash_after(None);
        host.process_crash();
        life(&host, async |io| {
            let store = open(&io).await;
            let main = store.volume("d", "main").expect("it was durable");
            for i in 0..PIECES {
                let read = main.read(i * PIECE as u64, PIECE).await.expect("the disk is sound");
                assert!(read.iter().all(|b| *b == 1 + i as u8), "event {event}: acknowledged write {i} is gone");
            }
        });
        if opened.is_ok() {
            break;
        }
        event += 1;
    }
    assert!(event > 20, "the recovery wrote checkpoints");
}

/// Somebody stopped a scrub of a busy store while it folded: the fold was given up with it. Pages that its merge had released were released
/// again by the next one, and a cut that it had taken from the queue was never applied: the next checkpoint forgot an acknowledged
/// snapshot. (Found by reading; a check and sizes did the same.)
#[test]
fn whoever_gives_up_waiting_for_a_fold_does_not_end_it() {
    for polls in 0..40 {
        for begins in [Work::Scrub, Work::Check, Work::Sizes, Work::Fold, Work::Checkpoint] {
            let host = Host::new(polls);
            host.add_disk(&path(), 64 * MIB);
            life(&host, async |io| {
                let store = new_store(&io).await;
                let main = store.volume("d", "main").expect("it was made");
                for n in 0..600 {
                    main.write(8192 * n, &[n as u8; 4096], false).await.unwrap();
                }
                let named = NewSnapshot { name: Some("kept".into()), ..NewSnapshot::default() };
                store.create_snapshot(&["d"], &named).await.unwrap();
                for n in 0..600 {
                    main.write(8192 * n, &[!n as u8; 4096], false).await.unwrap();
                }
                give_up_after(polls, begins.run(&store)).await;
                store
                    .close()
                    .await
                    .unwrap_or_else(|failure| panic!("{begins:?} given up after {polls} polls: {failure}"));
            });
            life(&host, async |io| {
                let store = open(&io).await;
                let kept = SnapshotRef::Name("kept".into());
                let kept = store.open_snapshot("d", "main", &kept);
                let kept = kept.unwrap_or_else(|error| panic!("{begins:?} given up after {polls} polls: {error}"));
                assert_eq!(kept.read(8192 * 7, 4096).await.unwrap()[..], [7; 4096]);
                support::is_clean(&store).await;
            });
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Scrub,
    Check,
    Sizes,
    Fold,
    Checkpoint,
}

impl Work {
    async fn run(self, store: &Store) {
        match self {
            Work::Scrub => drop(store.scrub(NonZeroU64::MAX, &mut |_| {}).await.expect("sound")),
            Work::Check => drop(store.check(false, &mut |_| {}).await.expect("sound")),
            Work::Sizes => drop(store.sizes("d", None, None).await.expect("sound")),
            Work::Fold => store.fold().await.expect("sound"),
            Work::Checkpoint => store.checkpoint().await.expect("sound"),
        }
    }
}

async fn give_up_after(mut polls: u64, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    poll_fn(|context| match polls {
        0 => Poll::Ready(()),
        _ => {
            polls -= 1;
            work.as_mut().poll(context)
        }
    })
    .await
}
