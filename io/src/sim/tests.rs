//! The simulator's own promises. If one of these fails, no test above it means anything.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::{Buffer, Durability, File, FileOptions, Io, WriteBuffer};

use super::{Crashed, Deadlock, Host};

const DISK: &str = "/disk";
const SECTOR: usize = 512;

fn host(seed: u64) -> Host {
    let host = Host::new(seed);
    host.add_disk(Path::new(DISK), 1 << 20);
    host
}

fn open(io: &Io) -> File {
    let options = FileOptions { write: true, lock: true, ..FileOptions::default() };
    io.open_file(Path::new(DISK), &options).expect("the disk opens")
}

fn filled(len: usize, byte: u8) -> Vec<WriteBuffer> {
    let mut buffer = Buffer::with_len(len);
    buffer.fill(byte);
    vec![buffer.into()]
}

#[test]
fn one_seed_gives_one_run() {
    let run = |seed| {
        let host = host(seed);
        host.faults().short_transfer = 0.2;
        let mut runtime = host.runtime();
        let io = runtime.io();
        let trace = runtime.block_on(async {
            let file = open(&io);
            let mut tasks = Vec::new();
            let order = Rc::new(std::cell::RefCell::new(Vec::new()));
            for number in 0..50u8 {
                let (io, file, order) = (io.clone(), file.clone(), order.clone());
                tasks.push(io.clone().spawn(async move {
                    io.write_at(&file, u64::from(number % 7) * 4096, filled(8192, number), Durability::Volatile)
                        .await
                        .unwrap();
                    order.borrow_mut().push((number, io.now(), io.random_u64()));
                }));
            }
            for task in tasks {
                task.await;
            }
            order.take()
        });
        host.host_crash();
        (trace, host.disk_image(Path::new(DISK)), host.stats())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

#[test]
fn host_crash_keeps_any_subset_of_unsynced_sectors_and_all_synced_ones() {
    let (mut some_kept, mut some_lost, mut mixed) = (false, false, false);
    for seed in 0..200 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(8192, 1), Durability::Volatile).await.unwrap();
            io.sync_data(&file).await.unwrap();
            io.write_at(&file, 4096, filled(8192, 2), Durability::Volatile).await.unwrap();
            io.write_at(&file, 8192, filled(4096, 3), Durability::Volatile).await.unwrap();
        });
        drop(runtime);
        host.host_crash();
        let image = host.disk_image(Path::new(DISK));
        let sectors: Vec<u8> = image[..12288].chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(
            image[..12288].chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])),
            "seed {seed}"
        );
        assert!(sectors[..8].iter().all(|byte| *byte == 1), "seed {seed}: a synced sector was lost: {sectors:?}");
        assert!(sectors[8..16].iter().all(|byte| [1, 2].contains(byte)), "seed {seed}: {sectors:?}");
        assert!(sectors[16..].iter().all(|byte| [0, 2, 3].contains(byte)), "seed {seed}: {sectors:?}");
        some_kept |= sectors[8..16].contains(&2);
        some_lost |= sectors[8..16].contains(&1);
        mixed |= sectors[16..].contains(&2) && sectors[16..].contains(&3);
    }
    assert!(some_kept && some_lost && mixed);
}

#[test]
fn every_subset_of_pending_sectors_can_be_chosen_and_nothing_else_survives() {
    let trace = || {
        let host = host(3);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(1024, 1), Durability::Volatile).await.unwrap();
            io.write_at(&file, 512, filled(1024, 2), Durability::Volatile).await.unwrap();
            drop(io.write_at(&file, 4096, filled(512, 3), Durability::Volatile));
        });
        (host, runtime)
    };
    for subset in 0..32u32 {
        let (host, _runtime) = trace();
        assert_eq!(host.pending_sectors(), 4, "and one in flight");
        let (mut asked, mut expected) = (0, vec![0u8; 9]);
        host.host_crash_keeping(&mut |sector| {
            let keep = subset & (1 << asked) != 0;
            asked += 1;
            assert_eq!(sector.disk, Path::new(DISK));
            assert_eq!(sector.in_flight, sector.offset == 4096);
            if keep {
                expected[sector.offset as usize / SECTOR] = sector.write as u8 + 1;
            }
            keep
        });
        assert_eq!(asked, 5);
        let image = host.disk_image(Path::new(DISK));
        let sectors: Vec<u8> = image.chunks(SECTOR).map(|sector| sector[0]).take(9).collect();
        assert_eq!(sectors, expected, "subset {subset:05b}");
        assert!(image[9 * SECTOR..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn write_in_flight_at_a_process_crash_arrives_whole_in_part_or_not() {
    let (mut whole, mut part, mut nothing) = (0, 0, 0);
    for seed in 0..200 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            drop(io.write_at(&file, 0, filled(8192, 1), Durability::Volatile));
        });
        host.process_crash();
        assert_eq!(runtime.run_sim(async {}), Err(Crashed), "a dead process runs no more");
        match host.disk_image(Path::new(DISK)).iter().filter(|byte| **byte == 1).count() {
            0 => nothing += 1,
            8192 => whole += 1,
            bytes => {
                assert_eq!(bytes % SECTOR, 0);
                part += 1;
            }
        }
    }
    assert!(whole > 20 && part > 20 && nothing > 20, "{whole} whole, {part} in part, {nothing} not at all");
}

#[test]
fn write_from_shared_memory_takes_the_bytes_as_they_are_when_it_takes_effect() {
    let host = host(1);
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime.block_on(async {
        let file = open(&io);
        let memory = io.open_shared_memory(Path::new("/arena"), 4096).unwrap();
        memory.copy_in(0, &[1; 4096]);
        let write = io.write_at(&file, 0, vec![memory.slice(0, 4096).into()], Durability::Volatile);
        memory.copy_in(0, &[2; 4096]);
        write.await.unwrap();
    });
    assert_eq!(
        host.disk_image(Path::new(DISK))[0],
        2,
        "whoever reuses an arena before its write ends must be found out"
    );
}

#[test]
fn failed_sync_leaves_what_it_covered_to_chance_and_no_later_sync_covers_it() {
    let (mut durable, mut lost) = (0, 0);
    for seed in 0..100 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(512, 1), Durability::Volatile).await.unwrap();
            host.faults().sync_error = 1.0;
            io.sync_data(&file).await.unwrap_err();
            host.faults().sync_error = 0.0;
            // Another handle has not seen the error; its sync succeeds and proves nothing.
            let other = io.open_file(Path::new(DISK), &FileOptions::default()).unwrap();
            io.sync_data(&other).await.unwrap();
        });
        host.host_crash();
        match host.disk_image(Path::new(DISK))[0] {
            1 => durable += 1,
            _ => lost += 1,
        }
    }
    assert!(durable > 20 && lost > 20, "{durable} durable, {lost} lost");
}

#[test]
fn sync_covers_only_what_had_completed_when_it_was_submitted() {
    let mut lost = 0;
    for seed in 0..100 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            let write = io.write_at(&file, 0, filled(4096, 9), Durability::Volatile);
            let sync = io.sync_data(&file);
            write.await.unwrap();
            sync.await.unwrap();
        });
        host.host_crash();
        lost += usize::from(host.disk_image(Path::new(DISK))[..4096].contains(&0));
    }
    assert!(lost > 20, "a sync submitted with its write must not cover it: lost in {lost} of 100 crashes");
}

#[test]
fn durable_write_is_durable_alone_and_older_writes_do_not_come_back_over_it() {
    for seed in 0..100 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(8192, 1), Durability::Volatile).await.unwrap();
            io.write_at(&file, 4096, filled(4096, 2), Durability::Durable).await.unwrap();
        });
        host.host_crash();
        assert!(host.disk_image(Path::new(DISK))[4096..8192].iter().all(|byte| *byte == 2), "seed {seed}");
    }
}

#[test]
fn process_crash_keeps_completed_writes_and_frees_the_lock() {
    for seed in 0..50 {
        let host = host(seed);
        let mut runtime = host.runtime();
        let io = runtime.io();
        let result = runtime.run_sim(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(4096, 1), Durability::Volatile).await.unwrap();
            host.crash_after(Some(1 + seed % 4));
            loop {
                io.write_at(&file, 4096, filled(8192, 2), Durability::Volatile).await.unwrap();
            }
        });
        assert_eq!(result, Err::<(), _>(Crashed));
        host.process_crash();
        drop(runtime);
        let mut next = host.runtime();
        let io = next.io();
        let first = next.block_on(async { io.read_at(&open(&io), 0, Buffer::with_len(4096)).await.1[0] });
        assert_eq!(first, 1, "seed {seed}");
    }
}

#[test]
fn crash_stops_the_process_at_every_event_and_shared_memory_survives_it() {
    let path = Path::new("/arena");
    for events in 1..20 {
        let host = host(events);
        let mut runtime = host.runtime();
        let io = runtime.io();
        host.crash_after(Some(events));
        let result = runtime.run_sim(async {
            let memory = io.open_shared_memory(path, 8192).unwrap();
            let file = open(&io);
            for round in 1..=5u8 {
                memory.copy_in(0, &[round]);
                io.write_at(&file, 0, vec![memory.slice(0, 4096).into()], Durability::Volatile).await.unwrap();
                io.sync_data(&file).await.unwrap();
            }
        });
        assert_eq!(result, Err(Crashed), "there are 20 events, crash at {events}");
        assert_eq!(host.events(), events);
        drop(runtime);
        let next = host.runtime();
        let memory = next.io().existing_shared_memory(path).unwrap().expect("it survived");
        let mut round = [0];
        memory.copy_out(0, &mut round);
        assert_eq!(u64::from(round[0]), 1 + (events - 1) / 4);
        host.host_crash();
        let next = host.runtime();
        assert!(next.io().existing_shared_memory(path).unwrap().is_none());
    }
}

#[test]
fn crashed_process_changes_shared_memory_no_more() {
    let host = host(1);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let result = runtime.run_sim(async {
        let memory = io.open_shared_memory(Path::new("/arena"), 4096).unwrap();
        host.crash_after_copies(Some(2));
        memory.copy_in(0, &[1; 100]);
        memory.copy_in(0, &[2; 100]);
        memory.copy_in(0, &[3; 100]);
        std::future::pending::<()>().await;
    });
    assert_eq!(result, Err(Crashed));
    let next = host.runtime();
    let mut bytes = [0; 100];
    next.io().existing_shared_memory(Path::new("/arena")).unwrap().expect("it survived").copy_out(0, &mut bytes);
    assert!(bytes.iter().all(|byte| [1, 2].contains(byte)) && bytes.is_sorted_by(|a, b| a >= b));
}

#[test]
fn waiting_for_nothing_is_a_deadlock_also_beside_a_ticking_task() {
    let host = host(1);
    let mut runtime = host.runtime();
    let io = runtime.io();
    assert_eq!(runtime.run_sim(std::future::pending::<()>()), Err(Deadlock));
    let ticking = io.clone();
    io.spawn(async move {
        loop {
            ticking.sleep(Duration::from_secs(1)).await;
        }
    })
    .detach();
    assert_eq!(runtime.run_sim(std::future::pending::<()>()), Err(Deadlock));
}

#[test]
fn crash_drops_all_tasks_without_running_them() {
    struct Dropped(Rc<Cell<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let host = host(3);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let bell = crate::Notify::new();
    for _ in 0..10 {
        let (guard, bell, own) = (Dropped(dropped.clone()), bell.clone(), bell.clone());
        io.spawn(async move {
            let (_guard, _own) = (guard, own);
            bell.notified().await;
            unreachable!("the bell never rings");
        })
        .detach();
    }
    host.crash_after(Some(2));
    let result = runtime.run_sim(async {
        let file = open(&io);
        io.sync_data(&file).await
    });
    assert!(matches!(result, Err(Crashed)));
    assert_eq!(dropped.get(), 10);
}

#[test]
fn lying_sync_loses_what_it_acknowledged() {
    let mut lost = 0;
    for seed in 0..50 {
        let host = host(seed);
        host.faults().lying_sync = true;
        let mut runtime = host.runtime();
        let io = runtime.io();
        runtime.block_on(async {
            let file = open(&io);
            io.write_at(&file, 0, filled(4096, 1), Durability::Volatile).await.unwrap();
            io.sync_data(&file).await.unwrap();
        });
        host.host_crash();
        lost += usize::from(host.disk_image(Path::new(DISK))[..4096].contains(&0));
    }
    assert!(lost > 10, "the canary must ring: lost {lost} of 50");
}

#[test]
fn every_fault_strikes_and_does_what_its_name_says() {
    let image_after = |set: &dyn Fn(&mut super::Faults)| {
        let host = host(11);
        let mut runtime = host.runtime();
        let io = runtime.io();
        let outcome = runtime.block_on(async {
            let file = open(&io);
            set(&mut host.faults());
            let write = io.write_at(&file, 65536, filled(4096, 0xff), Durability::Volatile).await;
            let sync = io.sync_data(&file).await;
            let (read, buffer) = io.read_at(&file, 65536, Buffer::zeroed(4096)).await;
            (write.is_ok(), sync.is_ok(), read.is_ok(), buffer.iter().map(|byte| byte.count_ones()).sum::<u32>())
        });
        (outcome, host.disk_image(Path::new(DISK)).iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>())
    };
    const ALL: u32 = 4096 * 8;
    assert_eq!(image_after(&|_| {}), ((true, true, true, ALL), u64::from(ALL)));
    assert_eq!(image_after(&|faults| faults.lost_write = 1.0), ((true, true, true, 0), 0));
    assert_eq!(image_after(&|faults| faults.misdirected_write = 1.0), ((true, true, true, 0), u64::from(ALL)));
    assert_eq!(image_after(&|faults| faults.bit_flip_on_read = 1.0), ((true, true, true, ALL - 1), u64::from(ALL)));
    assert_eq!(image_after(&|faults| faults.bit_flip_on_write = 1.0).1, u64::from(ALL) - 1);
    assert!(image_after(&|faults| faults.torn_write = 1.0).1 < u64::from(ALL));
    assert!(!image_after(&|faults| faults.read_error = 1.0).0.2);
    assert!(!image_after(&|faults| faults.write_error = 1.0).0.0);
    assert!(!image_after(&|faults| faults.sync_error = 1.0).0.1);
    assert!(!image_after(&|faults| faults.disk_full = true).0.0);
}

#[test]
fn two_thousand_operations_take_a_few_milliseconds() {
    let start = std::time::Instant::now();
    let host = Host::new(5);
    host.add_disk(Path::new(DISK), 1 << 30);
    let mut runtime = host.runtime();
    let io = runtime.io();
    runtime.block_on(async {
        let file = open(&io);
        for number in 0..500u64 {
            let offset = number * 12288;
            io.write_at(&file, offset, filled(12288, 1), Durability::Volatile).await.unwrap();
            io.sync_data(&file).await.unwrap();
            io.read_at(&file, offset, Buffer::with_len(12288)).await.0.unwrap();
            io.read_at(&file, (number * 7919) << 16 & 0x3fff_f000, Buffer::with_len(4096)).await.0.unwrap();
        }
    });
    host.host_crash();
    let elapsed = start.elapsed();
    println!("2,000 simulated operations: {elapsed:?}");
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
}
