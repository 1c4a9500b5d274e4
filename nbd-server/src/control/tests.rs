//! What the control socket promises, on a simulated machine with a store on its simulated disk.

use super::api::{CheckResult, Dots, ErrorReply, Event, ScrubResult, StatusReport};
use super::{Control, Kind, Limits, REQUEST_BYTES_MAX, Served, door, verbs};
use crate::server::{Options, Server};
use serde::de::DeserializeOwned;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use treering_engine::{CreateOptions, OpenOptions, Store};
use treering_io::sim::Host;
use treering_io::{Buffer, Io, Peer, Socket};

const DISK: &str = "/disk";
const SOCKET: &str = "/run/control";

/// A served store, without volumes.
struct Scene {
    io: Io,
    store: Store,
    control: Control,
}

fn scene<F: Future<Output = ()>>(seed: u64, test: impl FnOnce(Scene) -> F) {
    let host = Host::new(seed);
    host.add_disk(Path::new(DISK), 16 << 20);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let whole = async {
        let create = CreateOptions { segment_blocks: 64, ..CreateOptions::default() };
        Store::create(&io, Path::new(DISK), &create).await.expect("a fresh disk takes a store");
        let mut options = OpenOptions { arena_dir: Some("/memory".into()), ..OpenOptions::default() };
        options.limits.arena_bytes = 4 << 20;
        options.limits.arena_entries = 1 << 10;
        let (store, recovery) = Store::open(&io, Path::new(DISK), &options).await.expect("it opens");
        let served = Served {
            io: io.clone(),
            store: store.clone(),
            server: Server::new(&io, store.clone(), Options::default()),
            path: DISK.into(),
            socket: "/run/nbd".into(),
            recovery: verbs::recovery(&recovery),
            since: io.now(),
        };
        let control = Control::listen(served, Path::new(SOCKET), 0, Limits::default()).expect("the address is free");
        test(Scene { io: io.clone(), store, control }).await;
    };
    runtime.run_sim(whole).unwrap_or_else(|stopped| panic!("seed {seed}: {stopped}"));
}

impl Scene {
    async fn connect(&self) -> Socket {
        self.io.connect_unix(Path::new(SOCKET)).await.expect("the server listens")
    }

    /// Everything until the server closes.
    async fn answer(&self, socket: &Socket) -> (u16, Vec<u8>) {
        let mut all = Vec::new();
        loop {
            let (received, buffer) = self.io.recv(socket, Buffer::with_len(4096), 0).await;
            match received {
                Ok(0) | Err(_) => break,
                Ok(bytes) => all.extend_from_slice(&buffer[..bytes]),
            }
        }
        let text = String::from_utf8_lossy(&all);
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no answer: {text}"));
        let body = text.split_once("\r\n\r\n").expect("an answer has a head").1.to_owned();
        (status, body.into_bytes())
    }

    async fn raw(&self, bytes: &[u8]) -> (u16, Vec<u8>) {
        let socket = self.connect().await;
        // The server may have refused us before it took everything.
        let _ = self.io.send(&socket, vec![Buffer::from(bytes)]).await;
        self.answer(&socket).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &str) -> (u16, T) {
        let request = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (status, body) = self.raw(request.as_bytes()).await;
        let document = serde_json::from_slice(&body);
        (status, document.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body))))
    }

    async fn refused(&self, method: &str, path: &str, body: &str) -> (u16, Kind, String) {
        let (status, reply) = self.ask::<ErrorReply>(method, path, body).await;
        assert_eq!(reply.schema, 1);
        (status, reply.error.kind, reply.error.what)
    }
}

#[test]
fn only_the_owner_and_root_get_answers() {
    let peer = |uid| Peer::Unix { pid: 7, uid, gid: 0 };
    assert!(door::admit(peer(1000), 1000).is_ok());
    assert!(door::admit(peer(0), 1000).is_ok());
    let refused = door::admit(peer(1001), 1000).expect_err("a stranger");
    assert_eq!(refused.kind.http_status(), 403);
    assert_eq!(refused.what, "uid 1001 may not control this server: it belongs to uid 1000");
    assert!(door::admit(Peer::Tcp(([127, 0, 0, 1], 1).into()), 1000).is_err());
}

#[test]
fn a_request_may_arrive_in_pieces_of_one_byte() {
    scene(1, |scene| async move {
        let socket = scene.connect().await;
        for byte in b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" {
            scene.io.send(&socket, vec![Buffer::from(&[*byte][..])]).await.expect("the server listens");
        }
        let (status, body) = scene.answer(&socket).await;
        assert_eq!(status, 200);
        let report: StatusReport = serde_json::from_slice(&body).expect("a status");
        assert_eq!((report.schema, report.backend.as_str(), report.exports.len()), (1, "simulator", 0));
    });
}

#[test]
fn what_is_not_http_gets_an_error_of_our_schema() {
    scene(2, |scene| async move {
        for bad in [
            &b"\x00\x01\x02\x03\r\n\r\n"[..],
            b"NBDMAGIC\0\0\x42",
            b"GET /v1/status HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            let (status, body) = scene.raw(bad).await;
            let reply: ErrorReply = serde_json::from_slice(&body).expect("an error of ours");
            assert_eq!(
                (status, reply.schema, reply.error.kind),
                (400, 1, Kind::Usage),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    });
}

#[test]
fn a_request_past_64_kib_is_refused_and_the_server_goes_on() {
    scene(3, |scene| async move {
        let head = format!("POST /v1/dots HTTP/1.1\r\nContent-Length: {}\r\n\r\n", REQUEST_BYTES_MAX);
        let body = vec![b' '; REQUEST_BYTES_MAX];
        let (status, _) = scene.raw(&[head.as_bytes(), &body].concat()).await;
        assert_eq!(status, 413);
        let endless = [b"GET /".to_vec(), vec![b'a'; 4 * REQUEST_BYTES_MAX]].concat();
        assert_eq!(scene.raw(&endless).await.0, 413);
        let (status, _) = scene.ask::<Dots>("GET", "/v1/dots", "").await;
        assert_eq!(status, 200);
    });
}

#[test]
fn a_client_that_says_nothing_is_let_go_and_keeps_nobody_waiting() {
    scene(4, |scene| async move {
        let silent = scene.connect().await;
        let begun = scene.io.now();
        let (status, _) = scene.ask::<Dots>("GET", "/v1/dots", "").await;
        assert_eq!(status, 200);
        assert!(scene.io.now() - begun < Duration::from_secs(1).as_nanos() as u64);
        let (status, _) = scene.answer(&silent).await;
        assert_eq!(status, 408);
    });
}

#[test]
fn over_the_limit_a_client_is_closed_and_may_come_again() {
    scene(5, |scene| async move {
        let mut silent = Vec::new();
        for _ in 0..Limits::default().connections {
            silent.push(scene.connect().await);
        }
        scene.io.sleep(Duration::from_millis(100)).await;
        let late = scene.connect().await;
        let (received, _) = scene.io.recv(&late, Buffer::with_len(16), 0).await;
        assert!(matches!(received, Ok(0) | Err(_)), "there is no place for it");
        drop(silent);
        scene.io.sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.ask::<Dots>("GET", "/v1/dots", "").await.0, 200);
    });
}

#[test]
fn volumes_come_and_go_and_refusals_have_a_kind() {
    scene(6, |scene| async move {
        let new = r#"{"name":"shop","volumes":[{"name":"pg","size_bytes":1048576}]}"#;
        let (status, _) = scene.ask::<serde_json::Value>("POST", "/v1/dots", new).await;
        assert_eq!(status, 201);
        assert_eq!(scene.refused("POST", "/v1/dots", new).await.1, Kind::Conflict);
        let (status, kind, _) =
            scene.refused("POST", "/v1/dots/none/volumes", r#"{"name":"a","size_bytes":4096}"#).await;
        assert_eq!((status, kind), (404, Kind::NotFound));
        let (status, kind, what) = scene.refused("POST", "/v1/dots", r#"{"name":"x","volumes":[],"sise":1}"#).await;
        assert_eq!((status, kind), (400, Kind::Usage));
        assert!(what.contains("unknown field `sise`"), "{what}");
        let volume = scene.store.volume("shop", "pg").expect("it was made");
        let (status, kind, _) = scene.refused("PATCH", "/v1/dots/shop/volumes/pg", r#"{"size_bytes":4096}"#).await;
        assert_eq!((status, kind), (423, Kind::Busy), "a volume in use does not shrink");
        let (status, _) =
            scene.ask::<serde_json::Value>("PATCH", "/v1/dots/shop/volumes/pg", r#"{"size_bytes":2097152}"#).await;
        assert_eq!((status, volume.size()), (200, 2 << 20));
        drop(volume);
        let (status, _) = scene.ask::<serde_json::Value>("DELETE", "/v1/dots/shop/volumes/pg", "").await;
        assert_eq!(status, 200);
        let (_, dots) = scene.ask::<Dots>("GET", "/v1/dots", "").await;
        assert!(dots.dots[0].volumes.is_empty());
        assert_eq!(scene.refused("GET", "/v2/dots", "").await.0, 404);
        assert_eq!(scene.refused("PUT", "/v1/dots", "").await.0, 405);
        assert_eq!(scene.refused("GET", "/v1/nothing", "").await.0, 404);
    });
}

#[test]
fn a_check_ends_with_its_report() {
    scene(7, |scene| async move {
        let (status, body) = scene.raw(b"POST /v1/check HTTP/1.1\r\n\r\n").await;
        assert_eq!(status, 200);
        let last = body.trim_ascii().rsplit(|b| *b == b'\n').next().expect("a line");
        match serde_json::from_slice::<Event<CheckResult>>(last).expect("an event") {
            Event::Report(report) => assert!(report.sound && report.findings.is_empty(), "{report:?}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_scrub_tells_how_far_it_is_and_keeps_to_its_rate() {
    scene(9, |scene| async move {
        scene.store.create_dot("shop", &[]).await.expect("there is room");
        let volume = treering_engine::NewVolume {
            name: "pg".into(),
            size_bytes: 1 << 20,
            compression: treering_engine::CompressionMode::Off,
        };
        scene.store.add_volume("shop", &volume).await.expect("there is room");
        let device = scene.store.volume("shop", "pg").expect("it was made");
        device.write(0, &[7; 1 << 20], false).await.expect("there is room");
        let begun = scene.io.now();
        let request = br#"POST /v1/scrub HTTP/1.1
Content-Length: 28

{"bytes_per_second": 262144}"#;
        let (status, body) = scene.raw(request).await;
        assert_eq!(status, 200);
        let lines: Vec<Event<ScrubResult>> = body
            .trim_ascii()
            .split(|b| *b == b'\n')
            .map(|line| serde_json::from_slice(line).expect("an event"))
            .collect();
        assert!(lines.len() > 3, "{lines:?}");
        match lines.last() {
            Some(Event::Report(report)) => {
                assert!(report.data_bytes == 1 << 20 && report.damaged.is_empty(), "{report:?}");
            }
            other => panic!("{other:?}"),
        }
        let seconds = (scene.io.now() - begun) / 1_000_000_000;
        assert!((4..6).contains(&seconds), "1 MiB at 256 KiB/s took {seconds} s");
        assert_eq!(scene.refused("POST", "/v1/scrub", "{}").await.0, 400);
    });
}

#[test]
fn a_closed_door_takes_nobody_in() {
    scene(8, |scene| async move {
        let Scene { io, store: _store, control } = scene;
        drop(control);
        io.sleep(Duration::from_millis(10)).await;
        assert!(io.connect_unix(Path::new(SOCKET)).await.is_err());
    });
}
