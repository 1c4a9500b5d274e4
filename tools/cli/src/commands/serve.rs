//! `treering serve`: the daemon in the foreground.

use super::Common;
use crate::output::print;
use crate::{reach, sizes};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use treering_engine::{FullPolicy, Limits, OpenOptions, RecoveryReport};
use treering_io::BackendChoice;
use treering_nbd_server::control::api::SCHEMA;
use treering_nbd_server::control::{Kind, Trouble};
use treering_nbd_server::daemon::{self, Daemon, Places, Tcp};
use treering_nbd_server::export::Access;
use treering_nbd_server::server;

const EXAMPLES: &str = "\
Examples:
  treering --store /var/lib/treering/store serve
  treering --store /tmp/try serve --socket /tmp/try.sock --tcp     also on 127.0.0.1:10809
  nbdinfo 'nbd+unix:///shop.pg?socket=/tmp/try.sock'               use the address that serve prints

Prints a line `serving DOT.VOLUME  ADDRESS` for each volume, then `ready`. SIGTERM or SIGINT drains the clients within a
bound, writes a checkpoint and exits with 0. Killed in any other way it loses nothing that it acknowledged: start it again.

Exit codes: 5 the store is served already (the holder is named) · 7 acknowledged data is damaged or missing ·
8 not allowed, as TCP beyond loopback without --tcp-force";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// The NBD socket, if it is not to be in the runtime folder
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on TCP too (loopback only; plain NBD has neither encryption nor passwords)
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:10809")]
    tcp: Option<SocketAddr>,
    /// Listen on an address that is not loopback all the same
    #[arg(long)]
    tcp_force: bool,
    /// Let nobody write, and do not write to the store either
    #[arg(long)]
    read_only: bool,
    /// Let several clients write to one volume at a time
    #[arg(long)]
    shared: bool,
    /// How to do I/O
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    io: Backend,
    /// What a write gets when the store is full: it is held until space comes back (`hold`), or so many seconds and then ENOSPC
    /// (`hold:SECONDS`), or ENOSPC at once (`error`)
    #[arg(long, value_name = "hold[:SECONDS]|error", default_value = "hold", value_parser = full_policy)]
    full: FullPolicy,
    /// Memory for data that is read
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    data_cache: Option<u64>,
    /// Memory for pages of maps
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    node_cache: Option<u64>,
    /// Log after which a checkpoint is written: bounds the time to recover
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    checkpoint_log: Option<u64>,
    /// Memory as a whole: 2 GiB, or a floor that fits 256 MiB
    #[arg(long, value_enum, default_value_t = Memory::Default)]
    memory: Memory,
    /// Go on although writes that were acknowledged and not flushed are missing from shared memory
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    Uring,
    Posix,
    Auto,
}

fn full_policy(text: &str) -> Result<FullPolicy, String> {
    match text.split_once(':') {
        None if text == "error" => Ok(FullPolicy::Error),
        None if text == "hold" => Ok(FullPolicy::Hold { at_most: None }),
        Some(("hold", seconds)) => match seconds.parse() {
            Ok(seconds) => Ok(FullPolicy::Hold { at_most: Some(Duration::from_secs(seconds)) }),
            Err(_) => Err(format!("{seconds:?} is not a number of seconds")),
        },
        _ => Err("hold, hold:SECONDS or error".into()),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Memory {
    Floor,
    Default,
}

impl Memory {
    /// The allocator asks for huge pages, and one small block alive keeps 2 MiB of them: more than the floor has to spare.
    fn prepare(self) {
        if let Memory::Floor = self
            && let Err(error) = rustix::thread::disable_transparent_huge_pages(true)
        {
            tracing::warn!("huge pages stay on, so memory may grow past 256 MiB: {error}");
        }
    }
}

impl Serve {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let path = common.store()?;
        let named = |trouble: Trouble| trouble.doing(format!("serving {}", path.display()));
        let options = self.options(common, &path).map_err(named)?;
        self.memory.prepare();
        let mut runtime = reach::runtime(match self.io {
            Backend::Auto => BackendChoice::Auto,
            Backend::Uring => BackendChoice::Uring,
            Backend::Posix => BackendChoice::Posix,
        })?;
        if let Some(reason) = runtime.fallback_reason() {
            tracing::warn!("io_uring is not used: {reason}");
        }
        let io = runtime.io();
        runtime.block_on(async {
            // From here on a signal is a wish to end in good order, also during recovery.
            let asked_to_end = io.spawn(io.terminated());
            let daemon = Daemon::start(&io, options).await.map_err(|trouble| named(with_way_out(trouble, &path)))?;
            tell_recovery(daemon.recovery());
            announce(&daemon, common);
            asked_to_end.await;
            let drained = daemon.stop().await.map_err(named)?;
            if drained.cut > 0 {
                tracing::warn!(connections = drained.cut, "connections were cut when the time to drain was over");
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    fn options(&self, common: &Common, path: &std::path::Path) -> Result<daemon::Options, Trouble> {
        let places = Places::of(path)?;
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|e| Trouble::new(Kind::Usage, format!("path {}: {e}", path.display())))
        };
        let socket = self.socket.as_ref().map(absolute).transpose()?;
        let control = common.control.as_ref().map(absolute).transpose()?;
        if socket.is_none() || control.is_none() {
            places.make()?;
        }
        let tcp = self.tcp.map(|address| Tcp { address, force: self.tcp_force });
        let access = Access { read_only: self.read_only, shared: self.shared };
        Ok(daemon::Options {
            store: path.to_owned(),
            open: OpenOptions {
                read_only: self.read_only,
                limits: self.limits(),
                arena_dir: common.arena_dir.clone(),
                full_policy: self.full,
                accept_loss: self.accept_loss,
            },
            server: server::Options { access, ..server::Options::default() },
            socket: socket.unwrap_or(places.nbd),
            control: control.unwrap_or(places.control),
            tcp,
        })
    }

    fn limits(&self) -> Limits {
        let base = match self.memory {
            Memory::Floor => Limits::floor(),
            Memory::Default => Limits::default(),
        };
        Limits {
            data_cache_bytes: self.data_cache.unwrap_or(base.data_cache_bytes),
            node_cache_bytes: self.node_cache.unwrap_or(base.node_cache_bytes),
            checkpoint_log_bytes: self.checkpoint_log.unwrap_or(base.checkpoint_log_bytes),
            ..base
        }
    }
}

fn announce(daemon: &Daemon, common: &Common) {
    let exports = daemon.exports();
    for (name, uri) in &exports {
        match (common.json, common.quiet) {
            (true, _) => print(&json!({"schema": SCHEMA, "event": "serving", "name": name, "uri": uri}).to_string()),
            (false, true) => print(uri),
            (false, false) => print(&format!("serving {name}  {uri}")),
        }
    }
    if let Some(address) = daemon.tcp() {
        match common.json {
            true => {
                print(&json!({"schema": SCHEMA, "event": "listening", "uri": format!("nbd://{address}")}).to_string())
            }
            false if !common.quiet => print(&format!("listening nbd://{address}")),
            false => {}
        }
    }
    match common.json {
        true => print(&json!({"schema": SCHEMA, "event": "ready"}).to_string()),
        false => print("ready"),
    }
}

fn tell_recovery(recovery: &RecoveryReport) {
    if recovery.clean {
        return;
    }
    let took_ms = recovery.took_ns / 1_000_000;
    let (records, republished) = (recovery.replayed_records, recovery.republished);
    tracing::info!(records, republished, took_ms, "recovered: the store had not been closed");
    if let Some(why) = &recovery.older_checkpoint {
        tracing::warn!("the newest checkpoint could not be read, so the one before it was used: {why}");
    }
    if let Some(cut) = &recovery.cut {
        tracing::warn!(at = %cut.address, beyond = cut.records_beyond, "a tail of the log was not accepted: {}", cut.why);
    }
    if recovery.incarnation_changed {
        tracing::warn!(
            "acknowledged writes may be missing: clients of the time before must not go on with the volumes"
        );
    }
}

fn with_way_out(trouble: Trouble, path: &std::path::Path) -> Trouble {
    match (trouble.kind, &trouble.fix) {
        (Kind::Busy, None) => {
            trouble.fix(format!("treering --store {} status     how the server that has it does", path.display()))
        }
        _ => trouble,
    }
}
