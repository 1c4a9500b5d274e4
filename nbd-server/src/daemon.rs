//! The daemon: one store, opened and recovered, served over NBD, controlled over a socket, and closed in good order.
//!
//! It holds the store's lock from the first step to the last, so its sockets are its own: a second daemon on the same store
//! stops at the lock, and is told who holds it. A stop drains the clients within a bound, then closes the store; if a client's
//! request is still under way by then, the store is made durable and left to be recovered instead of marked as closed.

mod holder;
mod places;

pub use holder::{Holder, holders};
pub use places::{Places, SOCKET_PATH_MAX, check_socket_path};

use crate::control::{self, Control, Served, Trouble, trouble, verbs};
use crate::export::{Catalog, unix_uri};
use crate::server::{Drained, ListenError, Options as ServerOptions, Server};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use treering_engine::{OpenOptions, RecoveryReport, Store, StoreError};
use treering_io::Io;

/// How long the writes of a process that was killed may take to end.
const DEAD_HOLDER: Duration = Duration::from_secs(30);
const UNSEEN_HOLDER: Duration = Duration::from_secs(1);

pub struct Options {
    pub store: PathBuf,
    pub open: OpenOptions,
    pub server: ServerOptions,
    /// The NBD socket.
    pub socket: PathBuf,
    pub control: PathBuf,
    pub tcp: Option<Tcp>,
}

#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    pub address: SocketAddr,
    /// Also on an address that is not loopback.
    pub force: bool,
}

pub struct Daemon {
    store: Store,
    server: Server<Store>,
    control: Control,
    sockets: [PathBuf; 2],
    tcp: Option<SocketAddr>,
    recovery: RecoveryReport,
}

impl Daemon {
    /// Opens the store and listens. When this returns, clients are served.
    pub async fn start(io: &Io, options: Options) -> Result<Daemon, Trouble> {
        check_socket_path(&options.socket)?;
        check_socket_path(&options.control)?;
        let (store, recovery) = open(io, &options.store, &options.open).await?;
        let server = Server::new(io, store.clone(), options.server.clone());
        match listen(io, &options, &store, &server, &recovery) {
            Ok((control, tcp)) => {
                let sockets = [options.socket, options.control];
                Ok(Daemon { store, server, control, sockets, tcp, recovery })
            }
            Err(trouble) => {
                server.stop().await;
                store.close().await?;
                Err(trouble)
            }
        }
    }

    /// Names and addresses of what is served.
    pub fn exports(&self) -> Vec<(String, String)> {
        let names = self.store.volumes().into_iter().map(|v| format!("{}.{}", v.dot, v.volume));
        names.map(|name| (name.clone(), unix_uri(&self.sockets[0], &name))).collect()
    }

    /// The TCP address that is listened on.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Drains the clients, writes a checkpoint, and marks the store as closed.
    pub async fn stop(self) -> Result<Drained, Trouble> {
        drop(self.control);
        let drained = self.server.stop().await;
        for socket in &self.sockets {
            // It may be gone already; it is ours while the store is locked.
            let _ = fs::remove_file(socket);
        }
        if drained.unfinished == 0 {
            self.store.close().await?;
        } else {
            tracing::warn!(
                connections = drained.unfinished,
                "requests did not end in time: the store stays open on disk"
            );
            self.store.flush().await?;
        }
        Ok(drained)
    }
}

/// Opens a store. Waits for the last writes of a server that died; if a living process has the store, says which.
pub async fn open(io: &Io, path: &Path, options: &OpenOptions) -> Result<(Store, RecoveryReport), Trouble> {
    let begun = io.now();
    loop {
        let error = match Store::open(io, path, options).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if !matches!(error, StoreError::Locked { .. }) {
            return Err(Trouble::of_store(&error, path));
        }
        let holders = holders(path);
        let alive = holders.iter().any(|holder| holder.program.is_some());
        // Whom we cannot see may be alive; it may also have let go between the two looks.
        let patience = if holders.is_empty() { UNSEEN_HOLDER } else { DEAD_HOLDER };
        if alive || io.now() - begun > patience.as_nanos() as u64 {
            let trouble = Trouble::of_store(&error, path);
            return Err(holders.iter().fold(trouble, |t, who| t.evidence(format!("held by  {who}"))));
        }
        io.sleep(Duration::from_millis(5)).await;
    }
}

fn listen(
    io: &Io,
    options: &Options,
    store: &Store,
    server: &Server<Store>,
    recovery: &RecoveryReport,
) -> Result<(Control, Option<SocketAddr>), Trouble> {
    let refused = |error: ListenError| {
        let kind = match &error {
            ListenError::NotLoopback(_) => control::Kind::NotAllowed,
            ListenError::Io { error, .. } => trouble::kind_of_io(error),
        };
        let trouble = Trouble::new(kind, error.to_string());
        match error {
            ListenError::NotLoopback(_) => trouble.fix("--tcp 127.0.0.1:10809, or --tcp-force"),
            ListenError::Io { .. } => trouble,
        }
    };
    server.listen_unix(&options.socket, 0o600).map_err(refused)?;
    let tcp = options.tcp.map(|tcp| server.listen_tcp(tcp.address, tcp.force)).transpose().map_err(refused)?;
    let served = Served {
        io: io.clone(),
        store: store.clone(),
        server: server.clone(),
        path: fs::canonicalize(&options.store).unwrap_or_else(|_| options.store.clone()),
        socket: options.socket.clone(),
        recovery: verbs::recovery(recovery),
        since: io.now(),
    };
    let owner = rustix::process::geteuid().as_raw();
    let control = Control::listen(served, &options.control, owner, control::Limits::default());
    let control = control.map_err(|error| {
        Trouble::new(trouble::kind_of_io(&error), format!("listening on {}: {error}", options.control.display()))
    })?;
    Ok((control, tcp))
}
