//! What clients may rely on beside each other, and an operator beside them all.

mod support;

use std::time::Duration;
use support::device::GatedDevice;
use support::{Client, MIB, SOCKET, STRUCTURED, pattern, request, serve, shop, simulate};
use treering_nbd_server::export::writers::{ClientGroup, Writers};
use treering_nbd_server::export::{Access, MemoryCatalog};
use treering_nbd_server::protocol::wire;
use treering_nbd_server::server::{ListenError, Options, Server};
use treering_nbd_server::session::Budget;

#[test]
fn two_hundred_fifty_six_clients_are_served_side_by_side() {
    simulate(20, |io| async move {
        let (server, _) = shop(&io, 256 * MIB, Options::default());
        let mut clients = Vec::new();
        for number in 0..256_u64 {
            let io = io.clone();
            clients.push(io.clone().spawn(async move {
                let mut client = Client::attach(&io, "shop.pg", STRUCTURED).await;
                for round in 0..8 {
                    let data = pattern(4096 + round * 3000, number as u8);
                    assert_eq!(client.ask_write(number * MIB, &data).await.errno, 0);
                    let reply = client.ask(0, wire::CMD_READ, number * MIB, data.len() as u32).await;
                    assert!(reply.data == data, "client {number} read something else than it wrote");
                }
            }));
        }
        for client in clients {
            client.await;
        }
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!((server.counts().connections, server.connections(), server.request_memory()), (256, 0, 0));
    });
}

#[test]
fn a_client_over_the_limit_is_told_why_and_may_come_when_another_has_left() {
    simulate(21, |io| async move {
        let (_server, _) = shop(&io, MIB, Options { connections: 2, ..Options::default() });
        let first = Client::attach(&io, "shop", STRUCTURED).await;
        let _second = Client::attach(&io, "shop", STRUCTURED).await;
        let mut third = Client::connect(&io).await;
        let (kind, text) = third.go("shop", STRUCTURED).await.expect_err("there is no place");
        assert_eq!(kind, wire::REP_ERR_POLICY);
        assert!(text.contains("all 2 connections"), "{text}");
        drop((first, third));
        io.sleep(Duration::from_secs(1)).await;
        Client::attach(&io, "shop", STRUCTURED).await;
    });
}

#[test]
fn a_client_that_does_not_read_costs_bounded_memory_and_disturbs_nobody() {
    simulate(22, |io| async move {
        let options = Options { request_memory: Budget::MINIMUM, ..Options::default() };
        let (server, _) = shop(&io, 64 * MIB, options);
        let mut greedy = Client::attach(&io, "shop.pg", STRUCTURED).await;
        for cookie in 0..200 {
            greedy.request(0, wire::CMD_READ, cookie, 0, MIB as u32).await;
        }
        io.sleep(Duration::from_secs(1)).await;
        let held = server.request_memory();
        assert!(held < 10 * MIB, "{held} bytes are held by one client");
        let mut modest = Client::attach(&io, "shop.pg", STRUCTURED).await;
        assert_eq!(modest.ask_write(0, &pattern(MIB as usize, 1)).await.errno, 0);
        for cookie in 0..200 {
            assert_eq!(greedy.reply().await.expect("all reads are answered at last").cookie, cookie);
        }
        assert_eq!(server.counts().reads, 200);
    });
}

#[test]
fn large_writes_wait_for_memory_while_small_requests_go_on() {
    simulate(23, |io| async move {
        let limit = Budget::MINIMUM;
        let (server, _) = shop(&io, 64 * MIB, Options { request_memory: limit, ..Options::default() });
        let header = request(0, wire::CMD_WRITE, 1, 0, wire::MAXIMUM_PAYLOAD);
        let mut large = Vec::new();
        for _ in 0..2 {
            let client = Client::attach(&io, "shop.pg", STRUCTURED).await;
            client.send(&header).await;
            large.push(client);
        }
        io.sleep(Duration::from_secs(1)).await;
        assert_eq!(server.request_memory(), 32 * MIB, "one large write at a time");
        let mut small = Client::attach(&io, "shop.pg", STRUCTURED).await;
        for _ in 0..10 {
            assert_eq!(small.ask_write(40 * MIB, &pattern(65536, 2)).await.errno, 0);
            assert_eq!(small.ask(0, wire::CMD_READ, 40 * MIB, 65536).await.errno, 0);
            assert!(server.request_memory() <= limit);
        }
        let payload = pattern(32 << 20, 3);
        for client in &mut large {
            client.send(&payload).await;
            assert_eq!(client.reply().await.expect("its turn has come").errno, 0);
        }
    });
}

#[test]
fn a_stuck_client_is_dropped_only_when_others_wait_for_its_memory() {
    simulate(24, |io| async move {
        let options = Options { request_memory: Budget::MINIMUM, ..Options::default() };
        let (server, _) = shop(&io, 64 * MIB, options);
        let header = request(0, wire::CMD_WRITE, 1, 0, wire::MAXIMUM_PAYLOAD);
        let mut stuck = Client::attach(&io, "shop.pg", STRUCTURED).await;
        stuck.send(&header).await;
        io.sleep(Duration::from_secs(600)).await;
        assert_eq!(server.connections(), 1, "nobody missed the memory");
        let mut waiting = Client::attach(&io, "shop.pg", STRUCTURED).await;
        waiting.write(2, 0, &pattern(32 << 20, 4)).await;
        assert_eq!(waiting.reply().await.expect("served in the end").errno, 0);
        assert!(stuck.is_closed().await);
    });
}

#[test]
fn a_stop_answers_what_is_in_flight_refuses_what_is_new_and_closes_what_is_idle() {
    simulate(25, |io| async move {
        let device = GatedDevice::new(MIB);
        let server = serve(&io, device.clone(), Options::default());
        let mut busy = Client::attach(&io, "shop.pg", STRUCTURED).await;
        let mut idle = Client::attach(&io, "shop.pg", STRUCTURED).await;
        let mut haggling = Client::connect(&io).await;
        device.hold_from(0);
        busy.write(1, 0, b"in flight").await;
        io.sleep(Duration::from_millis(100)).await;
        let stop = io.spawn({
            let server = server.clone();
            async move { server.stop().await }
        });
        assert!(idle.is_closed().await);
        assert!(haggling.is_closed().await);
        let refused = busy.ask(0, wire::CMD_READ, 0, 512).await;
        assert_eq!((refused.errno, refused.text.as_str()), (108, "the server is shutting down"));
        assert!(io.connect_unix(std::path::Path::new(SOCKET)).await.is_err());
        device.release();
        let answered = busy.reply().await.expect("the write in flight is answered");
        assert_eq!((answered.cookie, answered.errno), (1, 0));
        assert!(busy.is_closed().await);
        let drained = stop.await;
        assert_eq!((drained.cut, drained.unfinished), (0, 0));
    });
}

#[test]
fn a_stop_is_bounded_even_if_the_device_hangs() {
    simulate(26, |io| async move {
        let device = GatedDevice::new(MIB);
        let server = serve(&io, device.clone(), Options::default());
        let mut client = Client::attach(&io, "shop.pg", STRUCTURED).await;
        device.hold_from(0);
        client.write(1, 0, b"held").await;
        io.sleep(Duration::from_millis(100)).await;
        let before = io.now();
        let drained = server.stop().await;
        assert_eq!((drained.cut, drained.unfinished), (1, 1));
        assert!(io.now() - before < Duration::from_secs(12).as_nanos() as u64);
        assert!(client.is_closed().await);
        device.release();
    });
}

#[test]
fn a_second_group_reads_on_but_may_not_write_until_the_first_has_left() {
    simulate(27, |io| async move {
        let writers = Writers::new(&io, "shop.pg", false);
        let process = |pid| ClientGroup::Process { pid, started: 0, program: "nbdfuse".into(), uid: 0 };
        let (first, again) = (writers.claim(process(7)), writers.claim(process(7)));
        let second = writers.claim(process(8));
        assert_eq!(first.take().await, Ok(()));
        assert_eq!(first.take().await, Ok(()), "taking twice is taking once");
        assert_eq!(again.take().await, Ok(()), "many connections of one client write together");
        let refusal = second.take().await.expect_err("held by another");
        assert!(refusal.text.contains("nbdfuse, pid 7, uid 0"), "{}", refusal.text);
        let before = io.now();
        assert!(second.take().await.is_err());
        assert_eq!(io.now(), before, "refused at once the second time");
        drop(first);
        assert!(second.take().await.is_err(), "one connection of the holder is left");
        drop(again);
        assert_eq!(second.take().await, Ok(()));
        let shared = Writers::new(&io, "shop.pg", true);
        assert!(shared.claim(process(7)).is_held() && shared.claim(process(8)).is_held());
    });
}

#[test]
fn a_newcomer_waits_for_a_holder_that_is_about_to_leave() {
    simulate(28, |io| async move {
        let writers = Writers::new(&io, "shop.pg", false);
        let address = |last| ClientGroup::Address([10, 0, 0, last].into());
        let leaving = writers.claim(address(1));
        leaving.take().await.expect("it is free");
        let wait = io.clone();
        io.spawn(async move {
            wait.sleep(Duration::from_millis(500)).await;
            drop(leaving);
        })
        .detach();
        assert_eq!(writers.claim(address(2)).take().await, Ok(()));
    });
}

#[test]
fn a_read_only_server_shows_it_and_lets_nobody_write() {
    simulate(29, |io| async move {
        let access = Access { read_only: true, shared: false };
        let (_server, _) = shop(&io, MIB, Options { access, ..Options::default() });
        let mut client = Client::attach(&io, "shop.pg", STRUCTURED).await;
        assert_eq!(client.ask_write(0, b"no").await.errno, 1);
        assert_eq!(client.ask(0, wire::CMD_WRITE_ZEROES, 0, 512).await.errno, 1);
        assert_eq!(client.ask(0, wire::CMD_READ, 0, 512).await.errno, 0);
    });
}

#[test]
fn names_lead_to_volumes_as_the_product_says() {
    simulate(30, |io| async move {
        let catalog = MemoryCatalog::default();
        let server = serve(&io, catalog.clone(), Options::default());
        let mut client = Client::connect(&io).await;
        let mut ask = async |name: &str| client.option(wire::OPT_INFO, &named(name)).await.map_err(|(_, text)| text);
        assert!(ask("").await.expect_err("nothing yet").contains("no volume yet"));
        catalog.add("shop", "pg", MIB);
        for name in ["", "shop", "shop.pg"] {
            assert_eq!(ask(name).await, Ok(()), "{name}");
        }
        catalog.add("shop", "redis", MIB);
        assert!(ask("").await.expect_err("two").contains("shop.pg, shop.redis"));
        assert!(ask("shop").await.expect_err("two").contains("name one of shop.pg, shop.redis"));
        catalog.add("shop", "main", MIB);
        assert_eq!(ask("shop").await, Ok(()));
        assert!(ask("shop.nothing").await.expect_err("unknown").contains("no volume nothing"));
        assert!(ask("nothing").await.expect_err("unknown").contains("no dot is named nothing"));
        assert!(ask("Shop").await.expect_err("no name").contains("a-z"));
        assert!(ask("acme/shop.pg").await.expect_err("namespace").contains("not served yet"));
        assert!(ask("shop.pg@tag:v1").await.expect_err("history").contains("only snapshots, by name or id, and @HEAD"));
        assert!(ask("shop.pg@v1~1").await.expect_err("history").contains("@v1~1 is not served yet"));
        assert!(ask("shop.pg@v1").await.expect_err("no such snapshot").contains("no snapshot v1"));
        assert_eq!(ask("shop.pg@HEAD").await, Ok(()));
        let _attached = Client::attach(&io, "shop.redis", STRUCTURED).await;
        assert_eq!(server.attachments().iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["shop.redis"]);
    });
}

#[test]
fn a_snapshot_is_read_beside_its_writer_and_written_by_nobody() {
    simulate(33, |io| async move {
        let (server, catalog) = shop(&io, MIB, Options::default());
        let then = catalog.add_snapshot("shop", "pg", "monday", MIB);
        treering_nbd_server::export::Device::write(&then, 0, &[7; 512], false).await.expect("it is memory");
        let mut writer = Client::attach(&io, "shop.pg", STRUCTURED).await;
        assert_eq!(writer.ask_write(0, &[1; 512]).await.errno, 0);
        for name in ["shop@monday", "shop.pg@monday", "shop@monday.pg"] {
            let mut reader = Client::attach(&io, name, STRUCTURED).await;
            assert_eq!(reader.ask(0, wire::CMD_READ, 0, 512).await.data, [7; 512], "{name}");
            assert_eq!(reader.ask_write(0, b"no").await.errno, 1, "{name}");
            assert_eq!(reader.ask(0, wire::CMD_TRIM, 0, 512).await.errno, 1, "{name}");
            assert_eq!(server.attachments().last().map(|a| a.name.clone()).as_deref(), Some("shop.pg@monday"));
        }
        assert_eq!(server.holder("shop.pg@monday"), None);
        assert!(server.holder("shop.pg").is_some());
    });
}

#[test]
fn a_volume_that_grew_is_seen_by_those_who_connect_anew() {
    simulate(31, |io| async move {
        let catalog = MemoryCatalog::default();
        let device = catalog.add("shop", "pg", MIB);
        let _server = serve(&io, catalog, Options::default());
        let mut old = Client::attach(&io, "shop", STRUCTURED).await;
        device.resize(2 * MIB);
        let mut new = Client::attach(&io, "shop", STRUCTURED).await;
        assert_eq!(new.ask(0, wire::CMD_READ, MIB, 4096).await.errno, 0);
        assert_eq!(old.ask(0, wire::CMD_READ, MIB, 4096).await.errno, 22);
    });
}

#[test]
fn plain_tcp_is_offered_on_loopback_only_unless_forced() {
    simulate(32, |io| async move {
        let server = Server::new(&io, MemoryCatalog::default(), Options::default());
        let everywhere = "0.0.0.0:10809".parse().expect("an address");
        assert!(matches!(server.listen_tcp(everywhere, false), Err(ListenError::NotLoopback(_))));
        assert!(server.listen_tcp(everywhere, true).is_ok());
        assert!(server.listen_tcp("127.0.0.1:10810".parse().expect("an address"), false).is_ok());
        assert!(server.listen_tcp("[::1]:10811".parse().expect("an address"), false).is_ok());
    });
}

fn named(name: &str) -> Vec<u8> {
    let mut payload = (name.len() as u32).to_be_bytes().to_vec();
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload
}
