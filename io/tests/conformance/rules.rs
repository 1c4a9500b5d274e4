//! The rules for ring drivers, each from a bug that somebody shipped; they bind the other back ends, too.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use treering_io::{Buffer, Durability, FileOptions, Io, Listener, Socket, WriteBuffer};

use crate::stage::{Stage, filled, pattern};

pub async fn connected(io: &Io, listener: &Listener, path: &Path) -> (Socket, Socket) {
    let client = io.connect_unix(path).await.expect("somebody listens");
    (client, io.accept(listener).await.expect("somebody connected"))
}

/// Many buffers of one size, all filled with `byte`: they reuse whatever memory was given back too early.
fn decoys(len: usize, byte: u8) -> Vec<Buffer> {
    (0..64).map(|_| filled(len, byte)).collect()
}

fn untouched(decoys: &[Buffer], byte: u8) -> bool {
    decoys.iter().all(|decoy| decoy.iter().all(|found| *found == byte))
}

pub fn buffer_of_a_dropped_read_stays_with_the_kernel(mut stage: Stage) {
    let file = stage.file("disk", 4 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        io.write_at(&file, 0, vec![filled(4 << 20, 0x11).into()], Durability::Volatile).await.unwrap();
        for round in 0..20 {
            for block in 0..32 {
                drop(io.read_at(&file, block * 65536, Buffer::with_len(65536)));
            }
            let decoys = decoys(65536, 0x22);
            if round % 2 == 0 {
                io.yield_now().await;
            }
            io.sleep(Duration::from_millis(2)).await;
            assert!(untouched(&decoys, 0x22), "a read wrote into memory that was given back in round {round}");
        }
    });
}

pub fn buffer_of_a_cancelled_receive_stays_with_the_kernel(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        for round in 0..20 {
            let receive = io.recv(&server, Buffer::with_len(65536), 0);
            assert!(io.timeout(Duration::from_millis(1), receive).await.is_none());
            let decoys = decoys(65536, 0x22);
            let send = io.send(&client, vec![filled(65536, 0x33)]);
            io.sleep(Duration::from_millis(1)).await;
            assert!(untouched(&decoys, 0x22), "a receive wrote into memory that was given back in round {round}");
            let mut received = 0;
            while received < 65536 {
                let (count, buffer) = io.recv(&server, Buffer::with_len(65536), 0).await;
                let count = count.unwrap();
                assert!(buffer[..count].iter().all(|byte| *byte == 0x33));
                received += count;
            }
            send.await.unwrap();
        }
    });
}

/// Polls once, so that the operation starts.
async fn started<F: Future>(future: &mut Pin<&mut F>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "there was nothing to wait for yet");
        Poll::Ready(())
    })
    .await;
}

pub fn dropped_receive_loses_no_bytes(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for round in 0..100u32 {
            let number = Buffer::from(&round.to_le_bytes()[..]);
            sent.extend_from_slice(&number);
            {
                let mut receive = pin!(io.recv(&server, Buffer::with_len(64), 0));
                started(&mut receive).await;
                let send = io.send(&client, vec![number]);
                // Dropped before the bytes come, while they come, or when they have come and nobody has looked.
                match round % 3 {
                    0 => {}
                    1 => io.yield_now().await,
                    _ => io.sleep(Duration::from_millis(1)).await,
                }
                drop(send);
            }
            io.sleep(Duration::from_micros(300)).await;
            while received.len() < sent.len() {
                let receive = io.recv(&server, Buffer::with_len(64), 0);
                let (count, buffer) = io.timeout(Duration::from_secs(2), receive).await.expect("its bytes still come");
                received.extend_from_slice(&buffer[..count.unwrap()]);
            }
            assert_eq!(received, sent, "round {round}");
        }
    });
}

pub fn dropped_accept_loses_no_connection(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        for round in 0..30 {
            let client = {
                let mut accept = pin!(io.accept(&listener));
                started(&mut accept).await;
                let client = io.connect_unix(&path).await.unwrap();
                if round % 2 == 0 {
                    io.sleep(Duration::from_millis(1)).await;
                }
                client
            };
            let accept = io.timeout(Duration::from_secs(2), io.accept(&listener)).await;
            let server = accept.expect("the connection is still there").unwrap();
            io.send(&client, vec![filled(1, round)]).await.unwrap();
            let (count, buffer) = io.recv(&server, Buffer::with_len(16), 0).await;
            assert_eq!((count.unwrap(), buffer[0]), (1, round));
        }
    });
}

pub fn dropped_write_runs_to_its_end(mut stage: Stage) {
    let file = stage.file("disk", 1 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        for block in 0..16 {
            drop(io.write_at(&file, block * 65536, vec![filled(65536, block as u8 + 1).into()], Durability::Volatile));
        }
        io.sleep(Duration::from_millis(200)).await;
        let (read, buffer) = io.read_at(&file, 0, Buffer::with_len(1 << 20)).await;
        read.unwrap();
        assert!(
            buffer.chunks(65536).enumerate().all(|(block, bytes)| bytes.iter().all(|byte| *byte == block as u8 + 1))
        );
    });
}

pub fn short_disk_transfers_are_resumed(mut stage: Stage) {
    // One call takes 1024 pieces, so this write is short in every back end; the simulator cuts others, too.
    stage.host.faults().short_transfer = 0.7;
    let file = stage.file("disk", 3000 * 4096);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let pieces: Vec<WriteBuffer> = (0..3000u32).map(|number| filled(4096, number as u8).into()).collect();
        io.write_at(&file, 0, pieces, Durability::Volatile).await.unwrap();
        let (read, buffer) = io.read_at(&file, 0, Buffer::with_len(3000 * 4096)).await;
        read.unwrap();
        assert!(buffer.chunks(4096).enumerate().all(|(number, bytes)| bytes.iter().all(|byte| *byte == number as u8)));
    });
}

pub fn short_sends_and_receives_are_resumed(mut stage: Stage) {
    const BYTES: usize = 6 << 20;
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        let sent = pattern(BYTES);
        let pieces = sent.chunks(50_000).map(Buffer::from).collect();
        let sending = io.send(&client, pieces);
        let mut received = Vec::new();
        while received.len() < BYTES {
            let (count, buffer) = io.recv(&server, Buffer::with_len(100_000), 0).await;
            received.extend_from_slice(&buffer[..count.unwrap()]);
        }
        sending.await.unwrap();
        assert!(received == sent[..]);
    });
}

pub fn second_send_in_flight_on_one_socket_is_refused(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, _server) = connected(&io, &listener, &path).await;
        let first = io.send(&client, vec![filled(4 << 20, 1)]);
        let second = catch_unwind(AssertUnwindSafe(|| drop(io.send(&client, vec![filled(1, 2)]))));
        assert!(second.is_err(), "two sends in flight could interleave");
        drop(first);
    });
}

pub fn dropped_send_does_not_leave_half_a_message(mut stage: Stage) {
    const BYTES: usize = 4 << 20;
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        let given_up = io.timeout(Duration::from_millis(1), io.send(&client, vec![filled(BYTES, 1)])).await;
        assert!(given_up.is_none(), "nobody received, so it can't have ended");
        let mut received = 0;
        while received < BYTES {
            received += io.recv(&server, Buffer::with_len(1 << 20), 0).await.0.unwrap();
        }
        assert_eq!(received, BYTES);
    });
}

/// Keeps itself ready for ever, without ever yielding to completions on purpose.
async fn always_ready() {
    poll_fn(|context| {
        context.waker().wake_by_ref();
        Poll::<()>::Pending
    })
    .await;
}

pub fn ring_is_entered_while_another_task_is_always_ready(mut stage: Stage) {
    let file = stage.file("disk", 1 << 20);
    let io = stage.io.clone();
    let busy = io.spawn(always_ready());
    stage.runtime.block_on(async {
        let start = io.now();
        for block in 0..20 {
            io.read_at(&file, block * 4096, Buffer::with_len(4096)).await.0.unwrap();
        }
        let each = Duration::from_nanos((io.now() - start) / 20);
        assert!(each < Duration::from_millis(50), "a read took {each:?} beside a busy task");
    });
    drop(busy);
}

pub fn timer_fires_while_another_task_is_always_ready(mut stage: Stage) {
    let io = stage.io.clone();
    let busy = io.spawn(always_ready());
    stage.runtime.block_on(async {
        let start = io.now();
        io.sleep(Duration::from_millis(5)).await;
        let slept = Duration::from_nanos(io.now() - start);
        assert!(slept >= Duration::from_millis(5) && slept < Duration::from_millis(500), "{slept:?}");
    });
    drop(busy);
}

pub fn runtime_drains_its_writes_before_it_goes(mut stage: Stage) {
    let file = stage.file("disk", 8 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        for block in 0..64u64 {
            drop(io.write_at(&file, block << 17, vec![filled(1 << 17, block as u8 + 1).into()], Durability::Volatile));
        }
    });
    drop(io);
    drop(file);
    let mut stage = stage.restart();
    let file = stage.io.open_file(&stage.path("disk"), &FileOptions::default()).unwrap();
    let (read, buffer) = stage.runtime.block_on(stage.io.read_at(&file, 0, Buffer::with_len(8 << 20)));
    read.unwrap();
    assert!(buffer.chunks(1 << 17).enumerate().all(|(block, bytes)| bytes.iter().all(|byte| *byte == block as u8 + 1)));
}

pub fn runtime_ends_although_receives_and_accepts_wait(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    let (client, server, listener) = stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        let (task_io, receive) = (io.clone(), io.recv(&server, Buffer::with_len(4096), 0));
        io.spawn(async move { drop(receive.await) }).detach();
        io.spawn(async move { task_io.terminated().await }).detach();
        let accept = io.accept(&listener);
        io.spawn(async move { drop(accept.await) }).detach();
        // Nobody receives at the other end: this send can't end.
        drop(io.send(&client, vec![filled(4 << 20, 1)]));
        io.sleep(Duration::from_millis(5)).await;
        (client, server, listener)
    });
    let start = std::time::Instant::now();
    drop(stage);
    drop(io);
    assert!(start.elapsed() < Duration::from_secs(5), "the end took {:?}", start.elapsed());
    drop((client, server, listener));
}

pub fn failed_sync_is_sticky(mut stage: Stage) {
    let (path, options) = if stage.is_simulated() {
        drop(stage.file("disk", 8192));
        stage.host.faults().sync_error = 1.0;
        (stage.path("disk"), FileOptions { write: true, ..FileOptions::default() })
    } else {
        // A device that takes writes and can't be synced.
        ("/dev/null".into(), FileOptions { write: true, direct: treering_io::Direct::Never, ..FileOptions::default() })
    };
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let file = io.open_file(&path, &options).unwrap();
        io.write_at(&file, 0, vec![filled(4096, 1).into()], Durability::Volatile).await.unwrap();
        let first = io.sync_data(&file).await.expect_err("this file can't be synced");
        stage.host.faults().sync_error = 0.0;
        let second = io.sync_data(&file.clone()).await.expect_err("a failed sync is for ever");
        assert!(second.to_string().contains("after a failed sync"), "{first} then {second}");
        let durable = io.write_at(&file, 0, vec![filled(4096, 2).into()], Durability::Durable).await;
        assert!(durable.is_err());
        io.write_at(&file, 0, vec![filled(4096, 3).into()], Durability::Volatile).await.unwrap();
    });
}

pub fn more_operations_than_the_ring_holds_all_complete(mut stage: Stage) {
    let file = stage.file("disk", 4 << 20);
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let write =
            |block: u64| io.write_at(&file, block * 4096, vec![filled(4096, block as u8).into()], Durability::Volatile);
        let writes: Vec<_> = (0..1000).map(write).collect();
        for write in writes {
            write.await.unwrap();
        }
        let reads: Vec<_> = (0..1000).map(|block| io.read_at(&file, block * 4096, Buffer::with_len(4096))).collect();
        for (block, read) in reads.into_iter().enumerate() {
            let (result, buffer) = read.await;
            result.unwrap();
            assert!(buffer.iter().all(|byte| *byte == block as u8), "block {block}");
        }
    });
}
