//! Sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use treering_io::{Buffer, Peer};

use crate::rules::connected;
use crate::stage::{Stage, filled};

pub fn bytes_arrive_in_order_and_close_is_seen(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        assert!(matches!(server.peer(), Peer::Unix { .. }));
        io.send(&client, vec![Buffer::from(&b"tree"[..]), Buffer::from(&b"ring"[..])]).await.unwrap();
        drop(client);
        let mut buffer = Buffer::zeroed(16);
        let mut received = 0;
        loop {
            let (count, back) = io.recv(&server, buffer, received).await;
            buffer = back;
            match count.unwrap() {
                0 => break,
                count => received += count,
            }
        }
        assert_eq!(&buffer[..received], b"treering");
    });
}

pub fn stale_socket_is_replaced_and_a_live_one_refused(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let first = io.listen_unix(&path, 0o600).unwrap();
        let second = io.listen_unix(&path, 0o600).map(drop);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        let third = io.listen_unix(&path, 0o660).expect("nobody listens any more");
        connected(&io, &third, &path).await;
    });
    if !stage.is_simulated() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
}

pub fn connect_to_nobody_is_refused(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        drop(io.listen_unix(&path, 0o600).unwrap());
        assert_eq!(io.connect_unix(&path).await.map(drop).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

pub fn shutdown_ends_a_receive_in_flight(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (_client, server) = connected(&io, &listener, &path).await;
        let (shared, receive) = (server.clone(), io.recv(&server, Buffer::with_len(100), 0));
        let waiting = io.spawn(receive);
        io.sleep(Duration::from_millis(2)).await;
        shared.shutdown();
        let (count, _) = waiting.await;
        assert_eq!(count.unwrap_or(0), 0);
    });
}

pub fn last_handle_dropped_closes_the_connection(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        // A receive in flight must not keep a connection that nobody holds.
        let receive = io.recv(&client, Buffer::with_len(100), 0);
        let waiting = io.spawn(receive);
        io.yield_now().await;
        drop(client);
        let (count, _) = io.recv(&server, Buffer::with_len(100), 0).await;
        assert_eq!(count.unwrap(), 0);
        assert_eq!(waiting.await.0.unwrap_or(0), 0);
    });
}

pub fn send_to_a_closed_peer_is_an_error_not_a_signal(mut stage: Stage) {
    let path = stage.path("socket");
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_unix(&path, 0o600).unwrap();
        let (client, server) = connected(&io, &listener, &path).await;
        drop(server);
        let error = io.send(&client, vec![filled(4096, 1)]).await.unwrap_err();
        assert!([ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()), "{error}");
    });
}

pub fn tcp_carries_the_same(mut stage: Stage) {
    let io = stage.io.clone();
    stage.runtime.block_on(async {
        let listener = io.listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.tcp_address().expect("it listens");
        let client = io.connect_tcp(address).await.unwrap();
        let server = io.accept(&listener).await.unwrap();
        io.send(&server, vec![filled(100_000, 7)]).await.unwrap();
        let mut received = 0;
        while received < 100_000 {
            let (count, buffer) = io.recv(&client, Buffer::with_len(4096), 0).await;
            let count = count.unwrap();
            assert!(count > 0 && buffer[..count].iter().all(|byte| *byte == 7));
            received += count;
        }
    });
}
