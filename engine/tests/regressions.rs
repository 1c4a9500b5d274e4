//! Bugs that were found and mended, each with its smallest story.

use treering_engine::{CompressionMode, NewVolume, Store};
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
