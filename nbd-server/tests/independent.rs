//! The server beside an independent one: nbd-async 0.6. Both get the same requests and must give the same bytes back.
//!
//! nbd-async knows READ, WRITE, FLUSH and TRIM after the handshake, one at a time; within that it is a second opinion on
//! every field of the wire. The last test keeps the reasons why it is a judge here and not the foundation
//! (`docs/decisions/2026-11-22-nbd-async.md`): when one of them is repaired, it says so.

mod support;

use std::io;
use std::panic::AssertUnwindSafe;
use support::{Client, MIB, Terms, pattern, request, shop, simulate};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use treering_nbd_server::protocol::wire;
use treering_nbd_server::server::Options;

/// One request: its bytes, and how long the reply is.
type Exchange = (Vec<u8>, usize);

const SIMPLE: usize = 16;

#[test]
fn replies_equal_those_of_an_independent_server_byte_for_byte() {
    for seed in 0..20 {
        let exchanges = exchanges(seed);
        let theirs = ask_theirs(&exchanges);
        simulate(seed, |io| async move {
            let (_server, _) = shop(&io, MIB, Options::default());
            let mut client = Client::attach(&io, "shop.pg", Terms::default()).await;
            for (number, ((bytes, reply), theirs)) in exchanges.iter().zip(&theirs).enumerate() {
                client.send(bytes).await;
                let ours = client.take(*reply).await.expect("a reply");
                assert!(ours == *theirs, "seed {seed}: replies to request {number} differ");
            }
        });
    }
}

#[test]
fn the_reasons_not_to_build_on_the_independent_server_still_hold() {
    let disconnect = request(0, wire::CMD_DISC, 1, 0, 0);
    let ended =
        std::panic::catch_unwind(AssertUnwindSafe(|| with_theirs(async |mut wire| wire.write_all(&disconnect).await)));
    assert!(ended.is_err(), "it no longer panics on DISC");
    let read = request(0, wire::CMD_READ, 1, 0, 512);
    let ended = with_theirs(async |mut wire| {
        wire.write_all(&read[..9]).await?;
        tokio::task::yield_now().await;
        wire.write_all(&read[9..]).await?;
        wire.read_exact(&mut [0; SIMPLE + 512]).await.map(drop)
    });
    assert!(ended.is_err(), "it no longer ends the connection at a request that arrives in two parts");
}

/// Requests inside the device, seeded.
fn exchanges(seed: u64) -> Vec<Exchange> {
    let mut state = seed;
    let mut roll = move |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut exchange = |cookie: u64| {
        let len = roll(40_000) + 1;
        let offset = roll(MIB - len);
        let cookie = cookie << 32 | roll(1 << 31);
        match roll(4) {
            0 => (request(0, wire::CMD_FLUSH, cookie, 0, 0), SIMPLE),
            1 => (request(0, wire::CMD_READ, cookie, offset, len as u32), SIMPLE + len as usize),
            2 => (request(0, wire::CMD_TRIM, cookie, offset, len as u32), SIMPLE),
            _ => {
                let mut bytes = request(0, wire::CMD_WRITE, cookie, offset, len as u32);
                bytes.extend(pattern(len as usize, cookie as u8));
                (bytes, SIMPLE)
            }
        }
    };
    (0..200).map(&mut exchange).collect()
}

fn ask_theirs(exchanges: &[Exchange]) -> Vec<Vec<u8>> {
    let asked = with_theirs(async |mut wire| {
        let mut replies = Vec::new();
        for (bytes, reply) in exchanges {
            wire.write_all(bytes).await?;
            let mut received = vec![0; *reply];
            wire.read_exact(&mut received).await?;
            replies.push(received);
        }
        Ok(replies)
    });
    asked.expect("the independent server answers")
}

/// Runs `ask` against nbd-async over a stream in memory.
fn with_theirs<T>(ask: impl AsyncFnOnce(DuplexStream) -> io::Result<T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 20);
        let device = Bytes(vec![0; MIB as usize]);
        let (asked, _) = tokio_join(ask(client), nbd_async::serve_nbd(device, server)).await;
        asked
    })
}

/// Both to their ends, on one thread.
async fn tokio_join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut a, mut b) = (None, None);
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if a.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            a = Some(done);
        }
        if b.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            b = Some(done);
        }
        if a.is_some() && b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (a.expect("done"), b.expect("done"))
}

struct Bytes(Vec<u8>);

#[async_trait::async_trait(?Send)]
impl nbd_async::BlockDevice for Bytes {
    async fn read(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }

    async fn write(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0[offset as usize..offset as usize + buf.len()].copy_from_slice(buf);
        Ok(())
    }

    async fn trim(&mut self, offset: u64, size: usize) -> io::Result<()> {
        self.0[offset as usize..offset as usize + size].fill(0);
        Ok(())
    }
}
