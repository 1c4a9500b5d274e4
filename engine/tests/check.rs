//! A check looks at the store as it was when it began, and holds nobody up.

use std::cell::Cell;
use std::rc::Rc;

use treering_engine::{CheckError, FullPolicy, NewSnapshot, OpenOptions, Store, VolumeError};

mod support;

use support::{MIB, create, host, is_clean, life, noise, open, options, store, volume};

#[test]
fn a_check_is_sound_while_writers_flush_and_checkpoints_are_made() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", 8 * MIB)]).await.expect("there is room");
        let v = store.volume("d", "v").expect("it was made");
        for block in 0..512 {
            v.write(block * 8192, &noise(block, 4096), false).await.expect("there is room");
        }
        let flushed = Rc::new(Cell::new(0));
        let writer = {
            let (store, v, flushed, io) = (store.clone(), v.clone(), Rc::clone(&flushed), io.clone());
            io.clone().spawn(async move {
                for round in 0..40 {
                    for block in 0..64 {
                        v.write((round * 7 + block) % 512 * 8192, &noise(block, 4096), false).await.expect("room");
                    }
                    v.flush().await.expect("it is made durable");
                    flushed.set(flushed.get() + 1);
                    let new = NewSnapshot { name: Some(format!("s{round}")), ..NewSnapshot::default() };
                    store.create_snapshot(&["d"], &new).await.expect("there is room");
                    store.checkpoint().await.expect("it is written");
                    io.sleep(std::time::Duration::from_millis(1)).await;
                }
            })
        };
        let mut during = 0;
        while flushed.get() < 40 {
            let before = flushed.get();
            let report = store.check(true, &mut |_| {}).await.expect("space is not short");
            assert_eq!(report.findings, Vec::new());
            during += u64::from(flushed.get() > before + 1);
        }
        writer.await;
        assert!(during > 0, "writers flushed while a check ran");
        is_clean(&store).await;
        store.close().await.expect("a clean end");
    });
}

/// Fills a store, and keeps writing over what is there: each write needs a slot that an earlier one freed.
#[test]
fn a_check_gives_way_to_writers_that_need_the_space_it_holds() {
    let host = host(12 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let options = OpenOptions { full_policy: FullPolicy::Hold { at_most: None }, ..options() };
        let (store, _) = Store::open(&io, &store(), &options).await.expect("the store opens");
        store.create_dot("d", &[volume("v", 2 * MIB)]).await.expect("there is room");
        let v = store.volume("d", "v").expect("it was made");
        v.write(0, &noise(1, 2 << 20), true).await.expect("there is room");
        let writing = Rc::new(Cell::new(true));
        let writer = {
            let (v, writing) = (v.clone(), Rc::clone(&writing));
            io.spawn(async move {
                for round in 0..24 {
                    let written: Result<(), VolumeError> = v.write(0, &noise(round, 1 << 20), true).await;
                    written.expect("what is dead comes back");
                }
                writing.set(false);
            })
        };
        // The longest check that there can be: it looks on until something ends it.
        let mut ended = 0;
        while writing.get() {
            match store.check(true, &mut |_| {}).await {
                Ok(report) => assert_eq!(report.findings, Vec::new()),
                Err(CheckError::SpaceNeeded) => ended += 1,
                Err(CheckError::Failed(failure)) => panic!("{failure}"),
            }
        }
        writer.await;
        assert!(ended > 0, "a check was in the way and gave way");
        is_clean(&store).await;
    });
}
