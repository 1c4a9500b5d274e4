//! `Io`: what a program asks of its runtime. One handle per thread's runtime, cloned freely.
//!
//! Disk operations start when they are called; the future only waits. Dropping it neither stops the operation nor frees its
//! memory. Receives and accepts start when first polled and are cancelled when dropped, without losing what they brought.
//! All transfers are complete: a read past the end is `UnexpectedEof`, a send is all of it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::backend::Address;
use crate::buffer::Buffer;
use crate::executor::Task;
use crate::file::{File, FileOptions};
use crate::gather::{Gather, WriteBuffer};
use crate::memory::SharedMemory;
use crate::operation::Request;
use crate::runtime::Core;
use crate::socket::{Listener, Socket, SocketState};
use crate::timers::Sleep;
use crate::uring::RingCounts;

/// What a completed write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Durable after the next successful `sync_data` that starts later.
    Volatile,
    /// This write alone is durable.
    Durable,
}

#[derive(Clone)]
pub struct Io {
    core: Rc<Core>,
}

impl Io {
    pub(crate) fn new(core: Rc<Core>) -> Io {
        Io { core }
    }

    pub fn backend(&self) -> &'static str {
        self.core.with_backend(|backend| backend.name())
    }

    /// What the ring has done so far; None without a ring.
    pub fn ring_counts(&self) -> Option<RingCounts> {
        self.core.with_backend(|backend| backend.ring_counts())
    }

    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.core.executor().spawn(future)
    }

    /// Lets all other ready tasks, and completions, have a turn.
    pub fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        self.core.yield_now()
    }

    /// Nanoseconds of a clock that never goes back.
    pub fn now(&self) -> u64 {
        self.core.now()
    }

    /// Nanoseconds since the Unix epoch.
    pub fn wall_clock(&self) -> u64 {
        self.core.with_backend(|backend| backend.wall_clock())
    }

    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Sleep::until(self.core.clone(), self.now().saturating_add(nanoseconds))
    }

    /// The output of `future`, or None if it takes longer than `duration`; it is dropped then.
    pub async fn timeout<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut sleep = pin!(self.sleep(duration));
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub fn fill_random(&self, into: &mut [u8]) {
        self.core.with_backend(|backend| backend.fill_random(into));
    }

    /// Another one after each start of the host.
    pub fn boot_id(&self) -> [u8; 16] {
        self.core.with_backend(|backend| backend.boot_id())
    }

    pub fn open_file(&self, path: &Path, options: &FileOptions) -> io::Result<File> {
        self.core.with_backend(|backend| backend.open_file(path, options))
    }

    /// Fills the whole buffer from `offset` on.
    pub fn read_at(
        &self,
        file: &File,
        offset: u64,
        buffer: Buffer,
    ) -> impl Future<Output = (io::Result<()>, Buffer)> + 'static {
        let read = self.core.start(Request::Read { file: file.clone(), offset, buffer, done: 0 });
        async move {
            match read.await {
                (result, Request::Read { buffer, .. }) => (result.map(drop), buffer),
                _ => unreachable!("a read gives its own request back"),
            }
        }
    }

    /// Writes all pieces, one after the other, from `offset` on.
    pub fn write_at(
        &self,
        file: &File,
        offset: u64,
        pieces: Vec<WriteBuffer>,
        durability: Durability,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let durable = durability == Durability::Durable;
        let started = match file.failed_sync() {
            Some(error) if durable => Err(error),
            _ => {
                let data = Gather::new(pieces);
                Ok(self.core.start(Request::Write { file: file.clone(), offset, data, durable }))
            }
        };
        async move { started?.await.0.map(drop) }
    }

    /// Makes every write that has completed before this call durable. An error is for ever: see `File`.
    pub fn sync_data(&self, file: &File) -> impl Future<Output = io::Result<()>> + 'static {
        let file = file.clone();
        let started = match file.failed_sync() {
            Some(error) => Err(error),
            None => Ok(self.core.start(Request::Sync { file: file.clone() })),
        };
        async move {
            started?.await.0?;
            // Another sync of this file may have failed and taken our error with it.
            file.failed_sync().map_or(Ok(()), Err)
        }
    }

    /// Creates it zeroed if it is absent or has another length.
    pub fn open_shared_memory(&self, path: &Path, len: u64) -> io::Result<SharedMemory> {
        self.core.with_backend(|backend| backend.open_shared_memory(path, len))
    }

    pub fn existing_shared_memory(&self, path: &Path) -> io::Result<Option<SharedMemory>> {
        self.core.with_backend(|backend| backend.existing_shared_memory(path))
    }

    pub fn remove_shared_memory(&self, path: &Path) -> io::Result<()> {
        self.core.with_backend(|backend| backend.remove_shared_memory(path))
    }

    /// Replaces a socket file that nobody listens on; `AddrInUse` if somebody does.
    pub fn listen_unix(&self, path: &Path, mode: u32) -> io::Result<Listener> {
        self.core.with_backend(|backend| backend.listen(&Address::Unix(path.to_owned()), mode))
    }

    pub fn listen_tcp(&self, address: SocketAddr) -> io::Result<Listener> {
        self.core.with_backend(|backend| backend.listen(&Address::Tcp(address), 0))
    }

    pub fn accept(&self, listener: &Listener) -> impl Future<Output = io::Result<Socket>> + 'static {
        let core = self.core.clone();
        let listener = listener.state().clone();
        async move {
            loop {
                if let Some(handle) = listener.take_kept() {
                    return Ok(Socket::new(SocketState::new(handle)));
                }
                if listener.begin_accept() {
                    break;
                }
                listener.accept_over().notified().await;
            }
            match core.start(Request::Accept { listener, accepted: None }).await {
                (Ok(_), Request::Accept { accepted: Some(handle), .. }) => Ok(Socket::new(SocketState::new(handle))),
                (Err(error), _) => Err(error),
                _ => unreachable!("a successful accept has a socket"),
            }
        }
    }

    pub fn connect_unix(&self, path: &Path) -> impl Future<Output = io::Result<Socket>> + 'static {
        self.connect(Address::Unix(path.to_owned()))
    }

    pub fn connect_tcp(&self, address: SocketAddr) -> impl Future<Output = io::Result<Socket>> + 'static {
        self.connect(Address::Tcp(address))
    }

    fn connect(&self, address: Address) -> impl Future<Output = io::Result<Socket>> + 'static {
        let core = self.core.clone();
        async move {
            let handle = core.with_backend(|backend| backend.socket_for(&address))?;
            let state = SocketState::new(handle);
            let socket = Socket::new(state.clone());
            core.start(Request::connect(state, address)?).await.0?;
            Ok(socket)
        }
    }

    /// Receives at most `buffer.len() - from` bytes into `buffer[from..]`. `Ok(0)`: the peer has closed.
    pub fn recv(
        &self,
        socket: &Socket,
        mut buffer: Buffer,
        from: usize,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)> + 'static {
        assert!(from < buffer.len(), "a receive needs room: {} bytes from {from}", buffer.len());
        let core = self.core.clone();
        let socket = socket.state().clone();
        async move {
            loop {
                let kept = socket.take_kept(&mut buffer[from..]);
                if kept > 0 {
                    return (Ok(kept), buffer);
                }
                if socket.begin_receive() {
                    break;
                }
                socket.receive_over().notified().await;
            }
            match core.start(Request::Receive { socket, buffer, from }).await {
                (result, Request::Receive { buffer, .. }) => (result, buffer),
                _ => unreachable!("a receive gives its own request back"),
            }
        }
    }

    /// Sends all of it. One at a time per socket; also a dropped send runs to its end.
    pub fn send(&self, socket: &Socket, buffers: Vec<Buffer>) -> impl Future<Output = io::Result<()>> + 'static {
        let socket = socket.state().clone();
        socket.begin_send();
        let data = Gather::new(buffers.into_iter().map(WriteBuffer::from).collect());
        let send = self.core.start(Request::Send { socket, data });
        async move { send.await.0.map(drop) }
    }

    /// Ready once somebody asks this process to end, with SIGTERM or SIGINT.
    pub fn terminated(&self) -> impl Future<Output = ()> + 'static {
        let core = self.core.clone();
        async move {
            let (result, _) = core.start(Request::Terminated).await;
            if let Err(error) = result {
                panic!("waiting for a signal failed: {error}");
            }
        }
    }
}
