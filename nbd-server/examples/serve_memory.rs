//! Serves volumes of plain memory: what the tests with real programs run against, and the floor for measurements of the
//! server without a store.
//!
//! `serve_memory SOCKET [NAME=BYTES]… [--read-only] [--shared] [--tcp ADDRESS] [--backend posix|uring]`
//!
//! Prints `serving` (and the TCP address) when it listens, and the counters when it has stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use treering_io::{BackendChoice, Runtime};
use treering_nbd_server::export::MemoryCatalog;
use treering_nbd_server::server::{Options, Server};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve_memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = MemoryCatalog::default();
    let mut options = Options::default();
    let mut backend = BackendChoice::Auto;
    let (mut socket, mut tcp) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--read-only" => options.access.read_only = true,
            "--shared" => options.access.shared = true,
            "--connections" => options.connections = value()?.parse()?,
            "--tcp" => tcp = Some(value()?.parse::<SocketAddr>()?),
            "--backend" => {
                backend = match value()?.as_str() {
                    "posix" => BackendChoice::Posix,
                    "uring" => BackendChoice::Uring,
                    other => return Err(format!("no back end is named {other}").into()),
                }
            }
            _ => match argument.split_once('=') {
                Some((name, size)) => {
                    let (dot, volume) = name.split_once('.').unwrap_or((name, "main"));
                    catalog.add(dot, volume, size.parse()?);
                }
                None => socket = Some(PathBuf::from(argument)),
            },
        }
    }
    let socket = socket.ok_or("the socket's path is missing")?;
    let mut runtime = Runtime::new(backend)?;
    let io = runtime.io();
    runtime.block_on(async move {
        let server = Server::new(&io, catalog, options);
        server.listen_unix(&socket, 0o600)?;
        match tcp {
            Some(address) => println!("serving {}", server.listen_tcp(address, false)?),
            None => println!("serving"),
        }
        io.terminated().await;
        let drained = server.stop().await;
        println!("{drained:?} {:?}", server.counts());
        Ok(())
    })
}
