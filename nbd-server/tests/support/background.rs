//! A server on a thread of its own, over the real network of this host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use treering_io::{BackendChoice, Runtime};
use treering_nbd_server::export::MemoryCatalog;
use treering_nbd_server::server::{Counts, Options, Server};

pub struct Background {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    counted: Arc<Mutex<Counts>>,
    thread: Option<JoinHandle<Counts>>,
}

/// How long a machine with other things to do may take to start a client.
const PATIENCE: Duration = Duration::from_secs(60);

impl Background {
    pub fn start(volumes: &[(&str, u64)], change: impl FnOnce(&mut Options)) -> Background {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("nbd");
        let stopping = Arc::new(AtomicBool::new(false));
        let mut options = Options::default();
        change(&mut options);
        let volumes: Vec<(String, u64)> = volumes.iter().map(|(name, size)| (name.to_string(), *size)).collect();
        let (ready, listening) = mpsc::channel();
        let stop = stopping.clone();
        let counted = Arc::new(Mutex::new(Counts::default()));
        let count = counted.clone();
        let thread = std::thread::spawn(move || {
            let catalog = MemoryCatalog::default();
            for (name, size) in volumes {
                let (dot, volume) = name.split_once('.').expect("DOT.VOLUME");
                catalog.add(dot, volume, size);
            }
            let mut runtime = Runtime::new(BackendChoice::Auto).expect("a runtime");
            let io = runtime.io();
            runtime.block_on(async move {
                let server = Server::new(&io, catalog, options);
                server.listen_unix(&socket, 0o600).expect("the socket is free");
                let loopback = "127.0.0.1:0".parse().expect("an address");
                ready.send(server.listen_tcp(loopback, false).expect("a port is free")).expect("the test waits");
                while !stop.load(Ordering::Relaxed) {
                    io.sleep(Duration::from_millis(10)).await;
                    *count.lock().expect("nobody panicked with it") = server.counts();
                }
                let drained = server.stop().await;
                assert_eq!(drained.unfinished, 0);
                server.counts()
            })
        });
        let address = listening.recv().expect("the server listens");
        Background { folder, address, stopping, counted, thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd")
    }

    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    pub fn tcp_uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.address)
    }

    /// What was counted, 10 ms ago at most.
    pub fn counts(&self) -> Counts {
        *self.counted.lock().expect("nobody panicked with it")
    }

    /// Waits until the counts are so.
    pub fn until(&self, so: impl Fn(&Counts) -> bool) {
        let since = Instant::now();
        while !so(&self.counts()) {
            assert!(since.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {:?}", self.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drains and stops; what was counted.
    pub fn stop(mut self) -> Counts {
        self.join().expect("it was running")
    }

    fn join(&mut self) -> Option<Counts> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().expect("the server ends well"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}
