//! Others that take snapshots while they serve: what is compared is not their speed but what a snapshot each second costs them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::peer::{GIB, MIB};
use crate::server::Server;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPeer {
    /// qemu-storage-daemon on a qcow2 image; internal snapshots.
    Qcow2,
    /// nbdkit on a file of a btrfs; snapshots are reflinks of the file.
    Btrfs,
    /// The same on XFS.
    Xfs,
}

pub const SNAPSHOT_PEERS: &[SnapshotPeer] = &[SnapshotPeer::Qcow2, SnapshotPeer::Btrfs, SnapshotPeer::Xfs];

/// A running peer. Dropping it ends it and takes its filesystem down.
pub struct Running {
    peer: SnapshotPeer,
    folder: PathBuf,
    server: Option<Server>,
    mounted: bool,
}

impl SnapshotPeer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2 internal snapshots",
            Self::Btrfs => "nbdkit on a btrfs file, reflinks",
            Self::Xfs => "nbdkit on an XFS file, reflinks",
        }
    }

    /// Starts it with one volume. An error says what this machine lacks.
    pub fn start(self, folder: &Path, volume_mib: u64) -> Result<Running> {
        fs::create_dir_all(folder)?;
        let mut running = Running { peer: self, folder: folder.to_path_buf(), server: None, mounted: false };
        let command = match self {
            Self::Qcow2 => running.qcow2(volume_mib)?,
            Self::Btrfs => running.nbdkit("btrfs", volume_mib)?,
            Self::Xfs => running.nbdkit("xfs", volume_mib)?,
        };
        running.server = Some(Server::start(vec![command], vec![running.uri()], None)?);
        Ok(running)
    }
}

impl Running {
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.folder.join("nbd.sock").display())
    }

    pub fn snapshot(&self, name: &str) -> Result<()> {
        if self.peer == SnapshotPeer::Qcow2 {
            return self.qmp("blockdev-snapshot-internal-sync", json!({ "device": "disk", "name": name }));
        }
        let mount = self.folder.join("mount");
        let mut copy = Command::new("cp");
        copy.arg("--reflink=always").arg(mount.join("image")).arg(mount.join(name));
        succeed(copy)
    }

    fn qcow2(&self, volume_mib: u64) -> Result<Command> {
        let image = self.folder.join("image.qcow2");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2"]).arg(&image).arg(format!("{volume_mib}M"));
        succeed(create)?;
        let (nbd, qmp) = (self.folder.join("nbd.sock"), self.folder.join("qmp.sock"));
        let mut command = Command::new("qemu-storage-daemon");
        command.args([
            "--blockdev",
            &format!("file,node-name=file,filename={},cache.direct=on,aio=io_uring", image.display()),
        ]);
        command.args(["--blockdev", "qcow2,node-name=disk,file=file,cache.direct=on"]);
        command.args(["--nbd-server", &format!("addr.type=unix,addr.path={}", nbd.display())]);
        command.args(["--export", "nbd,id=export,node-name=disk,name=,writable=on"]);
        command.args(["--chardev", &format!("socket,id=qmp,server=on,wait=off,path={}", qmp.display())]);
        command.args(["--monitor", "chardev=qmp"]);
        Ok(command)
    }

    fn nbdkit(&mut self, filesystem: &str, volume_mib: u64) -> Result<Command> {
        let (disk, mount) = (self.folder.join("disk"), self.folder.join("mount"));
        File::create(&disk)?.set_len(16 * GIB)?;
        fs::create_dir_all(&mount)?;
        let mut make = Command::new(format!("mkfs.{filesystem}"));
        make.arg(if filesystem == "xfs" { "-q" } else { "--quiet" }).arg(&disk);
        succeed(make)?;
        let mut attach = Command::new("mount");
        attach.args(["-t", filesystem, "-o", "loop"]).arg(&disk).arg(&mount);
        succeed(attach)?;
        self.mounted = true;
        File::create(mount.join("image"))?.set_len(volume_mib * MIB)?;
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-U"]).arg(self.folder.join("nbd.sock")).arg("file").arg(mount.join("image"));
        Ok(command)
    }

    fn qmp(&self, verb: &str, arguments: Value) -> Result<()> {
        let stream = UnixStream::connect(self.folder.join("qmp.sock")).context("connecting to qemu's monitor")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        for (verb, arguments) in [("qmp_capabilities", json!({})), (verb, arguments)] {
            writeln!(&stream, "{}", json!({ "execute": verb, "arguments": arguments }))?;
            loop {
                let line: Value = serde_json::from_str(&lines.next().context("qemu's monitor hung up")??)?;
                if let Some(error) = line.get("error") {
                    bail!("{verb}: {error}");
                }
                if line.get("return").is_some() {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server = None;
        if self.mounted {
            // What is left mounted shows in the next run, whose folder is another.
            let _ = Command::new("umount").arg(self.folder.join("mount")).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn succeed(mut command: Command) -> Result<()> {
    let said = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !said.status.success() {
        bail!("{command:?}: {}: {}", said.status, String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(())
}
