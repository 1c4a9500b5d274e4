//! A server of our own in a folder of its own: what `demo` and `bench` run against.
//!
//! Everything it leaves lies in two temporary folders, one of them in the memory that outlives a process, and both go when this
//! is dropped; the process is killed first. It runs in a process group of its own, so a Ctrl-C reaches the command, which cleans up,
//! and not the server.

use crate::commands::Common;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use treering_nbd_server::control::{Kind, Trouble};

/// A server that is not ready by then will not be.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
/// The common home of memory that outlives a process.
const SHARED_MEMORY: &str = "/dev/shm";

pub struct Home {
    folder: TempDir,
    arena: TempDir,
}

pub struct ServerProcess {
    child: Child,
}

impl Home {
    pub fn new(parent: &Path) -> Result<Home, Trouble> {
        let make = |parent: &Path| {
            tempfile::Builder::new()
                .prefix("treering-")
                .tempdir_in(parent)
                .map_err(|error| Trouble::new(Kind::Other, format!("making a folder in {}: {error}", parent.display())))
        };
        let folder = make(parent)?;
        let shared = Path::new(SHARED_MEMORY);
        let arena = make(if shared.is_dir() { shared } else { folder.path() })?;
        Ok(Home { folder, arena })
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd.sock")
    }

    /// What commands of this process need to find the store and its server.
    pub fn common(&self, control: bool) -> Common {
        Common {
            store: Some(self.store()),
            control: control.then(|| self.folder.path().join("control.sock")),
            arena_dir: Some(self.arena.path().to_owned()),
            json: false,
            quiet: true,
        }
    }

    /// Starts a server and waits until it is ready.
    pub fn start(&self, options: &[&str]) -> Result<ServerProcess, Trouble> {
        let failed = |what: String| Trouble::new(Kind::Other, format!("starting a server: {what}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let log_path = self.folder.path().join("log");
        let log =
            File::options().create(true).append(true).open(&log_path).map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.arg("--store").arg(self.store()).arg("--arena-dir").arg(self.arena.path());
        command.arg("--control").arg(self.folder.path().join("control.sock"));
        command.arg("serve").arg("--socket").arg(self.socket()).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut server = ServerProcess { child };
        let out = server.child.stdout.take().expect("its output is ours");
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let begun = Instant::now();
        loop {
            match lines.recv_timeout(START.saturating_sub(begun.elapsed())) {
                Ok(line) if line == "ready" => return Ok(server),
                Ok(_) => {}
                Err(_) => {
                    let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                    let tail = log.lines().rev().take(8).collect::<Vec<_>>();
                    let trouble = failed("it did not become ready".into());
                    return Err(tail.into_iter().rev().fold(trouble, |t, line| t.evidence(line)));
                }
            }
        }
    }
}

impl ServerProcess {
    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Result<(), Trouble> {
        self.child.kill().map_err(|error| lost(&error.to_string()))?;
        self.child.wait().map_err(|error| lost(&error.to_string())).map(drop)
    }

    /// SIGTERM, and waits for a good end.
    pub fn stop(mut self) -> Result<(), Trouble> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| lost(&error.to_string()))?;
        let begun = Instant::now();
        while begun.elapsed() < STOP {
            match self.child.try_wait().map_err(|error| lost(&error.to_string()))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(lost(&format!("it ended with {status}"))),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(lost(&format!("it did not end within {STOP:?}")))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // After a good end there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lost(what: &str) -> Trouble {
    Trouble::new(Kind::Other, format!("ending the server: {what}"))
}
