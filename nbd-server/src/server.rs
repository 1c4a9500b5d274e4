//! The server: listeners, connections, their limit, and the way down.
//!
//! A stop is bounded: listeners close, connections at rest are closed at once, requests in flight are finished and answered,
//! new ones get ESHUTDOWN, and when the time is over every connection is cut. Whatever was answered stays true; what was
//! not may or may not have happened, as with any device.
//!
//! Over the limit, a few clients are let in as far as to be told why there is no place; beyond those, connections are closed
//! without a word.

mod peer;
mod stats;

pub use peer::group_of;
pub use stats::{Counts, Stats};

use crate::export::{Access, Attachment, Catalog, Exports};
use crate::session::{self, Budget, Connection, Context, Limits, Phase, Welcome};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use treering_io::{Io, Listener, Notify, Socket, Task};

/// Clients over the limit that are told so, at a time.
const TURNED_AWAY: usize = 16;
/// A client that others wait for may take this long, and a second for each MiB.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    pub access: Access,
    pub limits: Limits,
    pub connections: usize,
    /// Bytes that the requests of all connections may hold together.
    pub request_memory: u64,
    /// How long a stop waits for requests in flight.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            access: Access::default(),
            limits: Limits::default(),
            connections: 1024,
            request_memory: 128 << 20,
            drain: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "listening on {0}: plain NBD has no encryption and no passwords, so it is only offered on loopback addresses; \
         use a unix socket, or force it on a network you trust"
    )]
    NotLoopback(SocketAddr),
    #[error("listening on {place}: {error}")]
    Io { place: String, error: io::Error },
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut with work unfinished because the time was over.
    pub cut: usize,
    /// Connections whose requests the device still has not finished.
    pub unfinished: usize,
}

/// Clones are the same server. It stops when told to, not when dropped.
#[derive(Clone)]
pub struct Server<C: Catalog> {
    inner: Rc<Inner<C>>,
}

struct Inner<C: Catalog> {
    context: Rc<Context<C>>,
    options: Options,
    listeners: RefCell<Vec<Task<()>>>,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    ended: Notify,
}

impl<C: Catalog> Server<C> {
    pub fn new(io: &Io, catalog: C, options: Options) -> Server<C> {
        let context = Context {
            io: io.clone(),
            exports: Exports::new(io, catalog, options.access),
            budget: Budget::new(options.request_memory),
            limits: options.limits.clone(),
            stats: Stats::default(),
            stopping: Cell::new(false),
        };
        let inner = Inner {
            context: Rc::new(context),
            options,
            listeners: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            ended: Notify::new(),
        };
        let server = Server { inner: Rc::new(inner) };
        let watch = io.spawn(server.clone().free_memory_of_the_stuck());
        server.inner.listeners.borrow_mut().push(watch);
        server
    }

    /// `mode`: the permissions of the socket file, 0o600 unless there is a reason.
    pub fn listen_unix(&self, path: &Path, mode: u32) -> Result<(), ListenError> {
        let place = path.display().to_string();
        let opened = self.io().listen_unix(path, mode);
        let listener = opened.map_err(|error| ListenError::Io { place: place.clone(), error })?;
        self.accept_from(listener, place);
        Ok(())
    }

    /// Returns the address with the port that was given if none was asked for.
    pub fn listen_tcp(&self, address: SocketAddr, force: bool) -> Result<SocketAddr, ListenError> {
        if !address.ip().is_loopback() && !force {
            return Err(ListenError::NotLoopback(address));
        }
        let place = address.to_string();
        let opened = self.io().listen_tcp(address);
        let listener = opened.map_err(|error| ListenError::Io { place: place.clone(), error })?;
        let address = listener.tcp_address().unwrap_or(address);
        self.accept_from(listener, place);
        Ok(address)
    }

    pub fn counts(&self) -> Counts {
        self.inner.context.stats.counts()
    }

    pub fn attachments(&self) -> Vec<Attachment> {
        self.inner.context.exports.attachments()
    }

    /// The client that writes to `DOT.VOLUME` now.
    pub fn holder(&self, name: &str) -> Option<String> {
        self.inner.context.exports.holder(name).map(|group| group.to_string())
    }

    pub fn connections(&self) -> usize {
        self.inner.connections.borrow().len()
    }

    /// Bytes that requests hold right now.
    pub fn request_memory(&self) -> u64 {
        self.inner.context.budget.used()
    }

    /// Takes no more clients, lets requests in flight finish, and returns when all connections have ended, or soon after
    /// the time for it is over.
    pub async fn stop(&self) -> Drained {
        let inner = &self.inner;
        inner.context.stopping.set(true);
        inner.listeners.borrow_mut().clear();
        let io = self.io();
        let deadline = io.now() + inner.options.drain.as_nanos() as u64;
        while io.now() < deadline && self.connections() > 0 {
            let ended = inner.ended.notified();
            self.cut(|connection| connection.phase() == Phase::Haggling || connection.is_idle());
            let _ = io.timeout(Duration::from_millis(5), ended).await;
        }
        let cut = self.cut(|_| true);
        if cut > 0 {
            tracing::warn!(connections = cut, "stop: cut connections that were not done in time");
            let deadline = io.now() + Duration::from_secs(1).as_nanos() as u64;
            while io.now() < deadline && self.connections() > 0 {
                let ended = inner.ended.notified();
                let _ = io.timeout(Duration::from_millis(100), ended).await;
            }
        }
        Drained { cut, unfinished: self.connections() }
    }

    /// Ends the connections that `choose` chooses, and counts them.
    fn cut(&self, choose: impl Fn(&Connection) -> bool) -> usize {
        let connections = self.inner.connections.borrow();
        let chosen = connections.values().filter(|connection| choose(connection));
        chosen.map(|connection| connection.socket().shutdown()).count()
    }

    fn io(&self) -> &Io {
        &self.inner.context.io
    }

    fn accept_from(&self, listener: Listener, place: String) {
        let server = self.clone();
        let task = self.io().spawn(async move {
            loop {
                match server.io().accept(&listener).await {
                    Ok(socket) => server.welcome(socket),
                    Err(error) => {
                        // Out of descriptors, most likely: those in use will come back.
                        tracing::warn!("accepting a client on {place}: {error}");
                        server.io().sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        self.inner.listeners.borrow_mut().push(task);
    }

    fn welcome(&self, socket: Socket) {
        let inner = &self.inner;
        let limit = inner.options.connections;
        let open = self.connections();
        let group = group_of(self.io(), socket.peer());
        let welcome = if open < limit {
            inner.context.stats.count_connection();
            Welcome::Open
        } else {
            inner.context.stats.count_turned_away();
            tracing::warn!(client = %group, limit, "a client was turned away: too many connections");
            if open >= limit + TURNED_AWAY {
                return;
            }
            Welcome::Full(format!("all {limit} connections of this server are taken: try again later"))
        };
        let connection = Connection::new(self.io(), socket, &inner.context.budget);
        let number = inner.next_connection.get();
        inner.next_connection.set(number + 1);
        inner.connections.borrow_mut().insert(number, connection.clone());
        let server = self.clone();
        let session = async move {
            let client = group.to_string();
            let ended = session::run(server.inner.context.clone(), connection, group, welcome).await;
            match ended {
                Ok(()) => tracing::debug!(client, "client left"),
                Err(error) => tracing::info!(client, "connection ended: {error}"),
            }
            server.inner.connections.borrow_mut().remove(&number);
            server.inner.ended.notify_all();
        };
        self.io().spawn(session).detach();
    }

    /// A client that neither takes its replies nor sends its payload keeps request memory from others. As long as nobody
    /// misses it, it may; when somebody waits, those who have been stuck too long are dropped.
    async fn free_memory_of_the_stuck(self) {
        loop {
            self.inner.context.budget.contended().await;
            self.io().sleep(Duration::from_secs(1)).await;
            if !self.inner.context.budget.is_contended() {
                continue;
            }
            let dropped = self.cut(|connection| {
                connection
                    .stalled()
                    .is_some_and(|(waited, bytes)| waited > PATIENCE.as_nanos() as u64 + (bytes >> 20) * 1_000_000_000)
            });
            if dropped > 0 {
                tracing::warn!(connections = dropped, "dropped clients that were stuck while others waited for memory");
            }
        }
    }
}
