//! Reaching a store: through the daemon that serves it, or, if nobody does, by opening it for the length of one command.
//!
//! The daemon is found by the store's path (see `daemon::Places`), or where `--control` says. The lock decides in doubt: a
//! store that is locked and whose control socket does not answer is busy, and its holder is named.

use crate::commands::Common;
use crate::control_client::ControlClient;
use std::path::{Path, PathBuf};
use treering_engine::{FullPolicy, Limits, OpenOptions, RecoveryReport, Store};
use treering_io::{BackendChoice, Io, Runtime};
use treering_nbd_server::control::{Kind, Trouble};
use treering_nbd_server::daemon::{self, Places};

pub enum Reach {
    Served(ControlClient),
    Unserved(PathBuf),
}

/// How a command opens a store for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Look,
    Change,
}

/// Who is to be asked about the store.
pub fn reach(common: &Common, path: Option<&Path>) -> Result<Reach, Trouble> {
    if let Some(control) = &common.control {
        return match ControlClient::find(control)? {
            Some(client) => Ok(Reach::Served(client)),
            None => Err(Trouble::new(Kind::NoDaemon, format!("nobody listens on {}", control.display()))
                .fix("treering --store PATH serve --control PATH")),
        };
    }
    let path = match path {
        Some(path) => path.to_owned(),
        None => common.store()?,
    };
    match ControlClient::find(&Places::of(&path)?.control)? {
        Some(client) => Ok(Reach::Served(client)),
        None => Ok(Reach::Unserved(path)),
    }
}

/// Opens a store that nobody serves, does `act`, and closes it.
pub fn with_store<T>(
    common: &Common,
    path: &Path,
    purpose: Purpose,
    act: impl AsyncFnOnce(&Io, &Store, &RecoveryReport) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut runtime = runtime(BackendChoice::Auto)?;
    let io = runtime.io();
    let options = OpenOptions {
        read_only: purpose == Purpose::Look,
        limits: Limits::floor(),
        arena_dir: common.arena_dir.clone(),
        full_policy: FullPolicy::Error,
        accept_loss: false,
    };
    runtime.block_on(async {
        let (store, recovery) = daemon::open(&io, path, &options).await.map_err(|trouble| busy(trouble, path))?;
        let result = act(&io, &store, &recovery).await;
        let closed = store.close().await;
        let value = result?;
        closed?;
        Ok(value)
    })
}

/// Does what needs a store that nobody has open.
pub fn with_unserved<T>(
    common: &Common,
    act: impl AsyncFnOnce(&Io, &OpenOptions) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut runtime = runtime(BackendChoice::Auto)?;
    let io = runtime.io();
    let options = OpenOptions {
        limits: Limits::floor(),
        arena_dir: common.arena_dir.clone(),
        full_policy: FullPolicy::Error,
        ..OpenOptions::default()
    };
    runtime.block_on(act(&io, &options))
}

pub fn runtime(choice: BackendChoice) -> Result<Runtime, Trouble> {
    Runtime::new(choice).map_err(|error| {
        Trouble::new(Kind::Other, format!("starting the I/O back end: {error}"))
            .fix("treering doctor     what this machine allows; --io posix works everywhere")
    })
}

fn busy(trouble: Trouble, path: &Path) -> Trouble {
    match trouble.kind {
        Kind::Busy => trouble.fix(format!(
            "treering --store {} status     as the user who serves it; or name its socket with --control",
            path.display()
        )),
        _ => trouble,
    }
}
