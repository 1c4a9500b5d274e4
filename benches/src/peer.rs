//! Who is compared, and how each is started on fresh storage.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::memory_limit::MemoryLimit;
use crate::server::Server;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const SMALL_VOLUMES: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Peer {
    Treering,
    /// Ours again, with small caches, in a process group that gets no more than 256 MiB.
    TreeringSmall,
    NbdkitFile,
    /// The same in a process group that gets as much memory as ours, page cache included.
    NbdkitFileLimited,
    NbdkitMemory,
    QemuRaw,
}

pub const PEERS: &[Peer] = &[
    Peer::Treering,
    Peer::TreeringSmall,
    Peer::NbdkitFile,
    Peer::NbdkitFileLimited,
    Peer::NbdkitMemory,
    Peer::QemuRaw,
];

/// Sizes of what the cases work on; `--quick` makes them small.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub volume: u64,
    pub small_volume: u64,
    pub warm: u64,
    pub store: u64,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Treering => "treering",
            Self::TreeringSmall => "treering-256m",
            Self::NbdkitFile => "nbdkit-file",
            Self::NbdkitFileLimited => "nbdkit-file-2g",
            Self::NbdkitMemory => "nbdkit-memory",
            Self::QemuRaw => "qemu-raw",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        let known = PEERS.iter().copied().find(|peer| peer.name() == name);
        known.with_context(|| {
            format!("no peer `{name}`; there are: {}", PEERS.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "))
        })
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Treering | Self::TreeringSmall)
    }

    /// Whether what it stores is still there after a restart.
    pub fn is_durable(self) -> bool {
        self != Self::NbdkitMemory
    }

    /// Whether it can serve eight volumes (a plain memory disk is one).
    pub fn has_volumes(self) -> bool {
        self != Self::NbdkitMemory
    }

    /// Makes its storage from nothing.
    pub fn create(self, folder: &Path, sizes: Sizes) -> Result<()> {
        fs::create_dir_all(folder)?;
        match self {
            Self::Treering | Self::TreeringSmall => create_store(&folder.join("store"), sizes),
            Self::NbdkitMemory => Ok(()),
            Self::NbdkitFile | Self::NbdkitFileLimited | Self::QemuRaw => {
                for (name, size) in volumes(sizes) {
                    File::create(folder.join(name))?.set_len(size)?;
                }
                Ok(())
            }
        }
    }

    /// Starts it on that storage. `extra` is for ours only.
    pub fn start(self, folder: &Path, sizes: Sizes, extra: &[&str]) -> Result<Server> {
        forget_sockets(folder)?;
        match self {
            Self::Treering => start_ours(folder, MemoryLimit::new("2g", 2 * GIB)?, extra),
            Self::TreeringSmall => {
                let small = ["--memory", "floor"];
                start_ours(folder, MemoryLimit::new("256m", 256 * MIB)?, &[&small, extra].concat())
            }
            Self::NbdkitFile => start_nbdkit_file(folder, None),
            Self::NbdkitFileLimited => start_nbdkit_file(folder, Some(MemoryLimit::new("peer-2g", 2 * GIB)?)),
            Self::NbdkitMemory => {
                let socket = folder.join("nbd.sock");
                let mut command = Command::new("nbdkit");
                command.args(["-f", "-U"]).arg(&socket).args(["memory", &sizes.volume.to_string()]);
                Server::start(vec![command], vec![uri(&socket, "")], None)
            }
            Self::QemuRaw => {
                let one = |name: String| {
                    let socket = folder.join(format!("{name}.sock"));
                    let mut command = Command::new("qemu-nbd");
                    command.args([
                        "--persistent",
                        "--shared=0",
                        "--format=raw",
                        "--cache=none",
                        "--aio=io_uring",
                        "--discard=unmap",
                    ]);
                    command.arg("--socket").arg(&socket).arg(folder.join(&name));
                    (command, uri(&socket, ""))
                };
                let (commands, uris) = names().map(one).unzip();
                Server::start(commands, uris, None)
            }
        }
    }
}

/// A killed server leaves its socket behind, and some refuse to start over it.
fn forget_sockets(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The big volume first, then the small ones.
fn volumes(sizes: Sizes) -> impl Iterator<Item = (String, u64)> {
    names().map(move |name| if name == "main" { (name, sizes.volume) } else { (name, sizes.small_volume) })
}

fn names() -> impl Iterator<Item = String> {
    std::iter::once("main".to_owned()).chain((0..SMALL_VOLUMES).map(|n| format!("small{n}")))
}

fn uri(socket: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket.display())
}

fn treering() -> Result<PathBuf> {
    let binary =
        std::env::var_os("TREERING_BIN").map_or_else(|| PathBuf::from("target/release/treering"), PathBuf::from);
    ensure!(
        binary.exists(),
        "no server at {}: `cargo xtask bench peers` builds it, or set TREERING_BIN",
        binary.display()
    );
    Ok(binary)
}

fn create_store(store: &Path, sizes: Sizes) -> Result<()> {
    let mut init = Command::new(treering()?);
    init.args(["store", "init"]).arg(store).args(["--size", &format!("{}M", sizes.store / MIB)]);
    succeed(init)?;
    let mut dot = Command::new(treering()?);
    dot.arg("--store").arg(store).args(["init", "bench"]);
    for (name, size) in volumes(sizes) {
        dot.args(["--volume", &format!("{name}={}M", size / MIB)]);
    }
    succeed(dot)
}

fn start_ours(folder: &Path, limit: MemoryLimit, extra: &[&str]) -> Result<Server> {
    let socket = folder.join("nbd.sock");
    let mut command = Command::new(treering()?);
    command.arg("--store").arg(folder.join("store")).args(["serve", "--shared", "--socket"]).arg(&socket);
    command.arg("--control").arg(folder.join("control.sock")).args(extra);
    Server::start(vec![command], names().map(|name| uri(&socket, &format!("bench.{name}"))).collect(), Some(limit))
}

fn start_nbdkit_file(folder: &Path, limit: Option<MemoryLimit>) -> Result<Server> {
    let socket = folder.join("nbd.sock");
    let mut command = Command::new("nbdkit");
    command.args(["-f", "-U"]).arg(&socket).arg("file").arg(format!("dir={}", folder.join(".").display()));
    Server::start(vec![command], names().map(|name| uri(&socket, &name)).collect(), limit)
}

fn succeed(mut command: Command) -> Result<()> {
    let said = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !said.status.success() {
        bail!("{command:?}: {}: {}", said.status, String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}
