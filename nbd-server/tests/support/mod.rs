//! A client that says exactly what a test tells it to, and a device that takes its time.
#![allow(dead_code)] // Each test file uses its part.

pub mod background;
pub mod device;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use treering_io::sim::Host;
use treering_io::{Buffer, Io, Socket};
use treering_nbd_server::export::{Catalog, MemoryCatalog};
use treering_nbd_server::protocol::wire;
use treering_nbd_server::server::{Options, Server};

pub const SOCKET: &str = "/run/nbd";
pub const MIB: u64 = 1 << 20;

/// Runs a test on a simulated machine, so that hours pass in no time.
pub fn simulate<F: Future<Output = ()>>(seed: u64, test: impl FnOnce(Io) -> F) {
    let mut runtime = Host::new(seed).runtime();
    let io = runtime.io();
    runtime.run_sim(test(io)).unwrap_or_else(|stopped| panic!("seed {seed}: {stopped}"));
}

/// A server of one volume `shop.pg` in memory.
pub fn shop(io: &Io, size: u64, options: Options) -> (Server<MemoryCatalog>, MemoryCatalog) {
    let catalog = MemoryCatalog::default();
    catalog.add("shop", "pg", size);
    (serve(io, catalog.clone(), options), catalog)
}

pub fn serve<C: Catalog>(io: &Io, catalog: C, options: Options) -> Server<C> {
    let server = Server::new(io, catalog, options);
    server.listen_unix(Path::new(SOCKET), 0o600).expect("the address is free");
    server
}

/// What to agree on in the handshake.
#[derive(Clone, Copy, Default)]
pub struct Terms {
    pub structured: bool,
    pub allocation: bool,
    pub blocks: bool,
}

pub const STRUCTURED: Terms = Terms { structured: true, allocation: false, blocks: false };

#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub errno: u32,
    pub data: Vec<u8>,
    /// The words of a structured error.
    pub text: String,
}

pub struct Client {
    io: Io,
    socket: Socket,
    received: Vec<u8>,
    /// How much of it was taken.
    used: usize,
    structured: bool,
    /// Lengths of reads under way: a simple reply does not say its own.
    reads: HashMap<u64, u32>,
}

impl Client {
    /// Connects and reads the greeting.
    pub async fn connect(io: &Io) -> Client {
        let socket = io.connect_unix(Path::new(SOCKET)).await.expect("the server listens");
        Client::over(io, socket).await
    }

    pub async fn over(io: &Io, socket: Socket) -> Client {
        let mut client =
            Client { io: io.clone(), socket, received: Vec::new(), used: 0, structured: false, reads: HashMap::new() };
        assert_eq!(client.take(18).await.expect("a greeting"), b"NBDMAGICIHAVEOPT\x00\x03");
        client.send(&3_u32.to_be_bytes()).await;
        client
    }

    pub async fn attach(io: &Io, name: &str, terms: Terms) -> Client {
        let mut client = Client::connect(io).await;
        let answer = client.go(name, terms).await;
        assert_eq!(answer, Ok(()), "the export is served");
        client
    }

    /// The final reply to GO: nothing, or the error's type and words.
    pub async fn go(&mut self, name: &str, terms: Terms) -> Result<(), (u32, String)> {
        if terms.structured {
            self.option(wire::OPT_STRUCTURED_REPLY, b"").await?;
        }
        let mut named = (name.len() as u32).to_be_bytes().to_vec();
        named.extend_from_slice(name.as_bytes());
        if terms.allocation {
            let mut queries = named.clone();
            queries.extend_from_slice(b"\0\0\0\x01\0\0\0\x0fbase:allocation");
            self.option(wire::OPT_SET_META_CONTEXT, &queries).await?;
        }
        named.extend_from_slice(if terms.blocks { b"\0\x01\0\x03" } else { b"\0\0" });
        self.structured = terms.structured;
        self.option(wire::OPT_GO, &named).await
    }

    pub async fn option(&mut self, option: u32, payload: &[u8]) -> Result<(), (u32, String)> {
        let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        self.send(&bytes).await;
        loop {
            let header = self.take(20).await.expect("an option reply");
            let kind = u32_at(&header, 12);
            let payload = self.take(u32_at(&header, 16) as usize).await.expect("its payload");
            match kind {
                wire::REP_ACK => return Ok(()),
                kind if kind >= wire::REP_ERR_UNSUP => return Err((kind, String::from_utf8(payload).expect("text"))),
                _ => {}
            }
        }
    }

    pub async fn send(&self, bytes: &[u8]) {
        // A server that has closed the connection is noticed when reading.
        let _ = self.io.send(&self.socket, vec![Buffer::from(bytes)]).await;
    }

    pub async fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, len: u32) {
        if command == wire::CMD_READ {
            self.reads.insert(cookie, len);
        }
        self.send(&request(flags, command, cookie, offset, len)).await;
    }

    pub async fn write(&mut self, cookie: u64, offset: u64, data: &[u8]) {
        let mut bytes = request(0, wire::CMD_WRITE, cookie, offset, data.len() as u32);
        bytes.extend_from_slice(data);
        self.send(&bytes).await;
    }

    /// A request without payload, and its answer.
    pub async fn ask(&mut self, flags: u16, command: u16, offset: u64, len: u32) -> Reply {
        self.request(flags, command, 1, offset, len).await;
        self.reply().await.expect("an answer")
    }

    pub async fn ask_write(&mut self, offset: u64, data: &[u8]) -> Reply {
        self.write(1, offset, data).await;
        self.reply().await.expect("an answer")
    }

    /// Writes, reads back and compares.
    pub async fn echo(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(self.ask_write(offset, data).await.errno, 0);
        let reply = self.ask(0, wire::CMD_READ, offset, data.len() as u32).await;
        assert_eq!(reply.errno, 0);
        assert!(reply.data == data, "{} bytes at {offset} came back changed", data.len());
    }

    /// The next reply; nothing if the server closed the connection.
    pub async fn reply(&mut self) -> Option<Reply> {
        let magic = u32_at(&self.take(4).await?, 0);
        if magic == wire::SIMPLE_REPLY_MAGIC {
            let header = self.take(12).await?;
            let (errno, cookie) = (u32_at(&header, 0), u64_at(&header, 4));
            let len = self.reads.remove(&cookie).unwrap_or(0);
            let len = if errno == 0 && !self.structured { len as usize } else { 0 };
            return Some(Reply { cookie, errno, data: self.take(len).await?, text: String::new() });
        }
        assert_eq!(magic, wire::STRUCTURED_REPLY_MAGIC);
        let header = self.take(16).await?;
        assert_eq!(header[..2], wire::REPLY_FLAG_DONE.to_be_bytes());
        let (kind, cookie) = (u16::from_be_bytes([header[2], header[3]]), u64_at(&header, 4));
        let payload = self.take(u32_at(&header, 12) as usize).await?;
        let mut reply = Reply { cookie, errno: 0, data: Vec::new(), text: String::new() };
        match kind {
            wire::CHUNK_OFFSET_DATA => reply.data = payload[8..].to_vec(),
            wire::CHUNK_BLOCK_STATUS => reply.data = payload[4..].to_vec(),
            wire::CHUNK_NONE => {}
            _ => {
                let len = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
                reply.errno = u32_at(&payload, 0);
                reply.text = String::from_utf8(payload[6..6 + len].to_vec()).expect("text");
            }
        }
        Some(reply)
    }

    /// Exactly `count` bytes; nothing if the server closed the connection before.
    pub async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.received.len() - self.used < count {
            self.received.drain(..std::mem::take(&mut self.used));
            let room = Buffer::with_len((count - self.received.len()).clamp(4096, 1 << 20));
            let (received, buffer) = self.io.recv(&self.socket, room, 0).await;
            match received {
                Ok(0) | Err(_) => return None,
                Ok(some) => self.received.extend_from_slice(&buffer[..some]),
            }
        }
        let taken = self.received[self.used..self.used + count].to_vec();
        self.used += count;
        Some(taken)
    }

    /// The server has closed the connection, without a word more.
    pub async fn is_closed(&mut self) -> bool {
        self.take(1).await.is_none()
    }
}

pub fn request(flags: u16, command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = wire::REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}

/// Bytes that differ with their place.
pub fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8) ^ ((at >> 8) as u8).wrapping_mul(31) ^ salt).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
