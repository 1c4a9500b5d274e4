//! What one client may rely on.

mod support;

use std::time::Duration;
use support::device::GatedDevice;
use support::{Client, MIB, STRUCTURED, Terms, pattern, request, serve, shop, simulate};
use treering_nbd_server::export::DeviceError;
use treering_nbd_server::protocol::wire;
use treering_nbd_server::server::Options;

#[test]
fn what_was_written_is_read_back_at_sizes_around_every_edge() {
    let sizes = [1, 511, 512, 513, 4095, 4096, 16384, 16385, 65507, 65508, 65509, 65536, 65537, 1 << 20];
    for terms in [STRUCTURED, Terms::default()] {
        simulate(1, |io| async move {
            let (_server, _) = shop(&io, 64 * MIB, Options::default());
            let mut client = Client::attach(&io, "shop.pg", terms).await;
            for (salt, len) in sizes.into_iter().enumerate() {
                for offset in [0, 12_345, 64 * MIB - len as u64] {
                    client.echo(offset, &pattern(len, salt as u8)).await;
                }
            }
            client.echo(12_345, &pattern(32 << 20, 7)).await;
            let past = client.ask_write(64 * MIB - 511, &[0; 512]).await;
            assert_eq!(past.errno, 28);
            assert_eq!(client.ask(0, wire::CMD_READ, 64 * MIB - 511, 512).await.errno, 22);
        });
    }
}

#[test]
fn a_stream_cut_at_any_byte_means_the_same() {
    let mut stream = request(0, wire::CMD_WRITE, 1, 4096, 20);
    stream.extend_from_slice(&pattern(20, 7));
    stream.extend(request(0, wire::CMD_WRITE, 2, MIB - 1, 3)); // past the end: its payload passes by
    stream.extend_from_slice(b"xyz");
    stream.extend(request(0, wire::CMD_FLUSH, 3, 0, 0));
    stream.extend(request(0, wire::CMD_READ, 4, 4095, 22));
    for cut in 0..=stream.len() {
        let stream = stream.clone();
        simulate(cut as u64, |io| async move {
            let (_server, _) = shop(&io, MIB, Options::default());
            let mut client = Client::attach(&io, "shop", STRUCTURED).await;
            for part in [&stream[..cut], &stream[cut..]] {
                client.send(part).await;
                io.sleep(Duration::from_millis(10)).await;
            }
            let mut read = vec![0];
            read.extend(pattern(20, 7));
            read.push(0);
            for (cookie, errno, data) in [(1, 0, vec![]), (2, 28, vec![]), (3, 0, vec![]), (4, 0, read)] {
                let reply = client.reply().await.expect("a reply");
                assert_eq!((reply.cookie, reply.errno, reply.data), (cookie, errno, data), "cut at {cut}");
            }
        });
    }
}

#[test]
fn zeroing_trimming_and_block_status_agree() {
    simulate(2, |io| async move {
        let (_server, _) = shop(&io, MIB, Options::default());
        let terms = Terms { structured: true, allocation: true, blocks: true };
        let mut client = Client::attach(&io, "shop.pg", terms).await;
        client.ask_write(0, &pattern(65536, 1)).await;
        assert_eq!(client.ask(wire::CMD_FLAG_FUA, wire::CMD_TRIM, 4096, 8192).await.errno, 0);
        let zeroes = wire::CMD_FLAG_NO_HOLE | wire::CMD_FLAG_FAST_ZERO;
        assert_eq!(client.ask(zeroes, wire::CMD_WRITE_ZEROES, 16384, 4096).await.errno, 0);
        assert!(client.ask(0, wire::CMD_READ, 4096, 8192).await.data.iter().all(|byte| *byte == 0));
        assert!(client.ask(wire::CMD_FLAG_DF, wire::CMD_READ, 16384, 4096).await.data.iter().all(|byte| *byte == 0));
        let status = client.ask(0, wire::CMD_BLOCK_STATUS, 0, MIB as u32).await.data;
        let descriptors: Vec<(u32, u32)> = status
            .chunks(8)
            .map(|d| (u32::from_be_bytes([d[0], d[1], d[2], d[3]]), u32::from_be_bytes([d[4], d[5], d[6], d[7]])))
            .collect();
        assert_eq!(descriptors, [(4096, 0), (8192, 3), (53248, 0), (983_040, 3)]);
        let one = client.ask(wire::CMD_FLAG_REQ_ONE, wire::CMD_BLOCK_STATUS, 0, MIB as u32).await.data;
        assert_eq!(one.len(), 8);
        assert_eq!(client.ask(0, wire::CMD_CACHE, 0, 4096).await.errno, 0);
        assert_eq!(client.ask(0, wire::CMD_READ, 1, 512).await.errno, 22, "agreed to blocks");
    });
}

#[test]
fn requests_of_no_bytes_do_nothing_and_succeed() {
    for terms in [STRUCTURED, Terms::default()] {
        simulate(3, |io| async move {
            let (_server, _) = shop(&io, MIB, Options::default());
            let mut client = Client::attach(&io, "", terms).await;
            for command in [wire::CMD_READ, wire::CMD_WRITE, wire::CMD_TRIM, wire::CMD_WRITE_ZEROES, wire::CMD_CACHE] {
                let reply = client.ask(0, command, MIB, 0).await;
                assert_eq!((reply.errno, reply.data.len()), (0, 0), "command {command}");
            }
        });
    }
}

#[test]
fn replies_leave_in_the_order_in_which_requests_complete() {
    simulate(4, |io| async move {
        let device = GatedDevice::new(MIB);
        let _server = serve(&io, device.clone(), Options::default());
        let mut client = Client::attach(&io, "shop.pg", STRUCTURED).await;
        device.hold_from(4096);
        client.write(1, 8192, b"late").await;
        client.request(0, wire::CMD_READ, 2, 4096, 4).await;
        client.request(0, wire::CMD_READ, 3, 0, 4).await;
        client.request(0, wire::CMD_FLUSH, 4, 0, 0).await;
        for cookie in [3, 4] {
            assert_eq!(client.reply().await.expect("a reply").cookie, cookie);
        }
        device.hold_from(8192);
        assert_eq!(client.reply().await.expect("a reply").cookie, 2);
        device.release();
        assert_eq!(client.reply().await.expect("a reply").cookie, 1);
    });
}

#[test]
fn every_one_of_many_requests_in_flight_is_answered_once_and_rightly() {
    for seed in 100..120 {
        simulate(seed, |io| async move {
            let device = GatedDevice::new(64 * MIB);
            let _server = serve(&io, device.clone(), Options::default());
            let terms = Terms { structured: seed % 2 == 0, ..Terms::default() };
            let mut client = Client::attach(&io, "shop.pg", terms).await;
            let count = 120;
            let len = |cookie: u64| [512, 4096, 16_384, 70_000, 300_000][(cookie * 7 + seed) as usize % 5];
            let shake = io.spawn({
                let (io, device) = (io.clone(), device.clone());
                async move {
                    loop {
                        device.hold_from(io.random_u64() % (64 * MIB));
                        io.sleep(Duration::from_micros(io.random_u64() % 500)).await;
                        device.release();
                    }
                }
            });
            for cookie in 0..count {
                client.write(cookie, cookie * MIB / 2, &pattern(len(cookie), cookie as u8)).await;
            }
            let mut written = std::collections::BTreeSet::new();
            while written.len() < count as usize {
                let reply = client.reply().await.expect("an answer");
                assert_eq!(reply.errno, 0);
                assert!(written.insert(reply.cookie), "answered twice");
            }
            for cookie in 0..count {
                client.request(0, wire::CMD_READ, cookie, cookie * MIB / 2, len(cookie) as u32).await;
            }
            let mut read = std::collections::BTreeSet::new();
            while read.len() < count as usize {
                let reply = client.reply().await.expect("an answer");
                let cookie = reply.cookie;
                assert!(reply.data == pattern(len(cookie), cookie as u8), "seed {seed}: read {cookie} is wrong");
                assert!(read.insert(cookie), "answered twice");
            }
            drop(shake);
        });
    }
}

#[test]
fn a_few_bytes_of_options_do_not_make_the_server_hold_many_of_replies() {
    simulate(10, |io| async move {
        let (server, catalog) = shop(&io, MIB, Options::default());
        for number in 0..500 {
            catalog.add("many", &format!("v{number}"), MIB);
        }
        let list = [&wire::OPTION_MAGIC.to_be_bytes()[..], &wire::OPT_LIST.to_be_bytes(), &[0; 4]].concat();
        let mut client = Client::connect(&io).await;
        client.send(&list.repeat(50)).await;
        let mut acknowledged = 0;
        while acknowledged < 50 {
            let header = client.take(20).await.expect("an option reply");
            acknowledged += u32::from(header[12..16] == wire::REP_ACK.to_be_bytes());
            client.take(u32::from_be_bytes([header[16], header[17], header[18], header[19]]) as usize).await;
        }
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn requests_in_flight_finish_whatever_way_the_client_leaves() {
    for farewell in [true, false] {
        simulate(5, |io| async move {
            let device = GatedDevice::new(MIB);
            let server = serve(&io, device.clone(), Options::default());
            let mut client = Client::attach(&io, "shop.pg", STRUCTURED).await;
            device.hold_from(0);
            client.write(1, 0, b"whole").await;
            if farewell {
                client.request(0, wire::CMD_DISC, 2, 0, 0).await;
                io.sleep(Duration::from_secs(1)).await;
                device.release();
                assert_eq!(client.reply().await.expect("the write is answered").cookie, 1);
                assert!(client.is_closed().await);
            } else {
                io.sleep(Duration::from_secs(1)).await;
                drop(client);
                io.sleep(Duration::from_secs(1)).await;
                assert_eq!(device.waiting(), 1);
                device.release();
            }
            io.sleep(Duration::from_secs(1)).await;
            assert_eq!((device.memory.writes(), server.connections()), (1, 0));
        });
    }
}

#[test]
fn a_write_cut_off_in_its_payload_is_never_applied() {
    let len = 100_000;
    for received in [0, 1, 4096, 65508, 65509, len - 1] {
        simulate(6, |io| async move {
            let (server, catalog) = shop(&io, MIB, Options::default());
            let client = Client::attach(&io, "shop.pg", STRUCTURED).await;
            let mut bytes = request(0, wire::CMD_WRITE, 1, 0, len as u32);
            bytes.extend(pattern(received, 9));
            client.send(&bytes).await;
            io.sleep(Duration::from_secs(1)).await;
            drop(client);
            io.sleep(Duration::from_secs(1)).await;
            let mut reader = Client::attach(&io, "shop.pg", STRUCTURED).await;
            let reply = reader.ask(0, wire::CMD_READ, 0, len as u32).await;
            assert!(reply.data.iter().all(|byte| *byte == 0), "{received} bytes of a write were applied");
            assert_eq!((server.counts().writes, server.connections()), (0, 1));
            assert_eq!(server.request_memory(), 0);
            drop(catalog);
        });
    }
}

#[test]
fn silence_is_allowed_once_haggling_is_done_and_not_before() {
    simulate(7, |io| async move {
        let (server, _) = shop(&io, MIB, Options::default());
        let mut idle = Client::attach(&io, "shop.pg", STRUCTURED).await;
        let mut silent = Client::connect(&io).await;
        let mut dripping = Client::connect(&io).await;
        for byte in wire::OPTION_MAGIC.to_be_bytes() {
            dripping.send(&[byte]).await;
            io.sleep(Duration::from_secs(5)).await;
        }
        assert!(silent.is_closed().await);
        assert!(dripping.is_closed().await);
        io.sleep(Duration::from_secs(600)).await;
        assert_eq!(server.connections(), 1);
        assert_eq!(idle.ask(0, wire::CMD_FLUSH, 0, 0).await.errno, 0);
    });
}

#[test]
fn a_lost_place_in_the_stream_ends_that_connection_only() {
    simulate(8, |io| async move {
        let (_server, _) = shop(&io, MIB, Options::default());
        let mut good = Client::attach(&io, "shop.pg", STRUCTURED).await;
        let mut bad = Client::attach(&io, "shop.pg", STRUCTURED).await;
        bad.request(0, wire::CMD_FLUSH, 5, 0, 0).await;
        bad.send(&[0x55; 28]).await;
        assert_eq!(bad.reply().await.expect("what came before is answered").cookie, 5);
        assert!(bad.is_closed().await);
        let mut endless = Client::attach(&io, "shop.pg", STRUCTURED).await;
        endless.request(0, wire::CMD_WRITE, 1, 0, u32::MAX).await;
        assert!(endless.is_closed().await);
        assert_eq!(good.ask(0, wire::CMD_FLUSH, 0, 0).await.errno, 0);
    });
}

#[test]
fn errors_of_the_device_arrive_with_their_errno_and_words() {
    simulate(9, |io| async move {
        let (_server, catalog) = shop(&io, MIB, Options::default());
        let device = catalog.open_for_test();
        let mut wordy = Client::attach(&io, "shop.pg", STRUCTURED).await;
        let mut terse = Client::attach(&io, "shop.pg", Terms::default()).await;
        let cases = [
            (DeviceError::NoSpace("the store is full".into()), 28),
            (DeviceError::ReadOnly("opened for reading".into()), 1),
            (DeviceError::OutOfRange("it has shrunk".into()), 22),
            (DeviceError::Io("segment 7 is damaged".into()), 5),
            (DeviceError::Removed("the volume was removed".into()), 5),
        ];
        for (error, errno) in cases {
            device.fail_with(Some(error.clone()));
            for reply in [wordy.ask(0, wire::CMD_READ, 0, 512).await, wordy.ask_write(0, b"x").await] {
                assert_eq!((reply.errno, reply.text), (errno, error.to_string()));
            }
            assert_eq!(terse.ask(0, wire::CMD_READ, 0, 512).await.errno, errno);
            assert_eq!(terse.ask(0, wire::CMD_FLUSH, 0, 0).await.errno, errno);
        }
        device.fail_with(None);
        assert_eq!(terse.ask(0, wire::CMD_FLUSH, 0, 0).await.errno, 0);
    });
}

trait OpenForTest {
    fn open_for_test(&self) -> treering_nbd_server::export::MemoryDevice;
}

impl OpenForTest for treering_nbd_server::export::MemoryCatalog {
    fn open_for_test(&self) -> treering_nbd_server::export::MemoryDevice {
        use treering_nbd_server::export::Catalog;
        let entry = self.volumes().into_iter().find(|entry| entry.to_string() == "shop.pg");
        self.open(&entry.expect("it is there")).expect("it is there")
    }
}
