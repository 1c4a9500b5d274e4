//! Runs the built program, and servers of it that end with the test.
#![allow(dead_code)] // Each test file uses its part.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treering"));
    for variable in ["TREERING_STORE", "TREERING_CONTROL", "TREERING_ARENA_DIR", "TREERING_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Ran {
    ran(program().args(arguments))
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// The standard output of a command that succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(&self.good()).expect("one document");
        assert_eq!(value["schema"], 1);
        value
    }
}

/// A store of 512 MiB in a folder of its own, and perhaps a server.
pub struct Shop {
    pub folder: TempDir,
    pub server: Option<Child>,
}

impl Shop {
    /// With a dot `shop` of two volumes.
    pub fn new() -> Shop {
        let shop = Shop::empty();
        shop.run(&["init", "shop", "--volume", "pg=64M", "--volume", "redis=1.5M,compression=off"]).good();
        shop
    }

    pub fn empty() -> Shop {
        let shop = Shop { folder: tempfile::tempdir().expect("a temporary folder"), server: None };
        run(&["store", "init", shop.path(), "--size", "512M", "--sparse"]).good();
        shop
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn path(&self) -> &'static str {
        // A test's few paths may live as long as the test.
        Box::leak(self.store().to_str().expect("plain").to_owned().into_boxed_str())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd.sock")
    }

    pub fn control(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// The program with this store named; the server is asked if there is one.
    pub fn command(&self) -> Command {
        let mut command = program();
        command.arg("--store").arg(self.store()).arg("--arena-dir").arg(self.folder.path());
        if self.server.is_some() {
            command.arg("--control").arg(self.control());
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command().args(arguments))
    }

    /// Starts a server and returns what it printed until it was ready.
    pub fn serve(&mut self, arguments: &[&str]) -> Vec<String> {
        let mut command = self.command();
        command.arg("--control").arg(self.control()).arg("serve").arg("--socket").arg(self.socket());
        command.args(["--memory", "floor"]).args(arguments);
        let mut server = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut out = BufReader::new(server.stdout.take().expect("it is piped"));
        self.server = Some(server);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).expect("it prints text") > 0, "the server ended: {lines:?}");
            let ready = line.contains("ready");
            lines.push(line.trim_end().to_owned());
            if ready {
                return lines;
            }
        }
    }

    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("there is a server");
        server.kill().expect("it is ours");
        server.wait().expect("it ends");
    }

    /// SIGTERM; returns the exit code.
    pub fn stop(&mut self) -> i32 {
        let mut server = self.server.take().expect("there is a server");
        terminate(&server);
        server.wait().expect("it ends").code().unwrap_or(-1)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}

pub fn terminate(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM)
        .expect("it is ours");
}

/// Replaces what differs from run to run.
pub fn without_path(text: &str, path: &Path) -> String {
    text.replace(path.to_str().expect("plain"), "FOLDER")
}
