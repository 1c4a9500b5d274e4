//! The served store a case works on: one dot `bench` with equal volumes, its control socket, and fio beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::control::Control;
use crate::fio::{self, Seen};
use crate::memory_limit::MemoryLimit;
use crate::peer::{GIB, MIB};
use crate::server::Server;

pub struct Stand {
    folder: PathBuf,
    volumes: u64,
    server: Option<Server>,
}

impl Stand {
    /// A fresh store of `store_mib` with `volumes` volumes of `volume_mib` in the dot `bench`, served.
    pub fn new(folder: &Path, store_mib: u64, volumes: u64, volume_mib: u64) -> Result<Stand> {
        Stand::with_volumes(folder, store_mib, &vec![volume_mib; volumes as usize])
    }

    /// The same with volumes `v0`, `v1`, ... of these sizes in MiB.
    pub fn with_volumes(folder: &Path, store_mib: u64, volumes_mib: &[u64]) -> Result<Stand> {
        fs::create_dir_all(folder)?;
        let mut init = treering();
        init.args(["store", "init"]).arg(folder.join("store")).args(["--size", &format!("{store_mib}M")]);
        succeed(init)?;
        let mut dot = treering();
        dot.arg("--store").arg(folder.join("store")).args(["init", "bench"]);
        for (n, mib) in volumes_mib.iter().enumerate() {
            dot.args(["--volume", &format!("v{n}={mib}M")]);
        }
        succeed(dot)?;
        let mut stand = Stand { folder: folder.to_path_buf(), volumes: volumes_mib.len() as u64, server: None };
        stand.serve()?;
        Ok(stand)
    }

    /// Serves it (again), and gives the time from the start of the process to the first byte read.
    pub fn serve(&mut self) -> Result<f64> {
        let mut command = treering();
        command.arg("--store").arg(self.folder.join("store")).args(["serve", "--shared", "--socket"]);
        command.arg(self.folder.join("nbd.sock")).arg("--control").arg(self.folder.join("control.sock"));
        let uris = (0..self.volumes).map(|n| self.uri(n)).collect();
        let server = Server::start(vec![command], uris, Some(MemoryLimit::new("2g", 2 * GIB)?))?;
        let first_read = server.first_read.as_secs_f64();
        self.server = Some(server);
        Ok(first_read)
    }

    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    pub fn uri(&self, volume: u64) -> String {
        format!("nbd+unix:///bench.v{volume}?socket={}", self.folder.join("nbd.sock").display())
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        Control { socket: self.folder.join("control.sock") }.ask(method, path, body)
    }

    /// Takes a snapshot; seconds it took.
    pub fn snapshot(&self, name: &str) -> Result<f64> {
        let started = Instant::now();
        self.ask("POST", "/v1/snapshots", &json!({ "dots": ["bench"], "name": name }))?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Removes snapshots and waits until their space is back.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.ask("DELETE", &format!("/v1/dots/bench/snapshots/{name}"), &Value::Null)?;
        }
        while self.sweeps_pending()? > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Versions in deletion.
    pub fn sweeps_pending(&self) -> Result<u64> {
        let status = self.ask("GET", "/v1/status", &Value::Null)?;
        status["sweeps_pending"].as_u64().with_context(|| format!("the status does not count sweeps: {status}"))
    }

    /// Runs a job file to its end.
    pub fn fio(&self, workload: &str, settings: &[(&str, String)]) -> Result<Seen> {
        fio::run(workload, &self.settings(settings))
    }

    /// The same, beside whatever the caller does meanwhile.
    pub fn fio_beside(&self, workload: &'static str, settings: &[(&str, String)]) -> JoinHandle<Result<Seen>> {
        let settings = self.settings(settings);
        std::thread::spawn(move || fio::run(workload, &settings))
    }

    fn settings(&self, more: &[(&str, String)]) -> Vec<(String, String)> {
        let mut settings = vec![("URI".to_owned(), self.uri(0))];
        settings.extend((0..self.volumes).map(|n| (format!("URI{n}"), self.uri(n))));
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        settings
    }

    /// Resident memory of the server, shared memory included, in bytes.
    pub fn memory_bytes(&self) -> Result<u64> {
        let server = self.server.as_ref().context("nothing is served")?;
        server.resident_bytes().context("reading the server's memory")
    }

    /// Volumes filled from front to back, and all of it on the disk.
    pub fn prefill(&self, volume_mib: u64) -> Result<()> {
        (0..self.volumes).try_for_each(|n| self.prefill_one(n, volume_mib))
    }

    pub fn prefill_one(&self, volume: u64, mib: u64) -> Result<()> {
        fio::run("prefill", &[("URI".into(), self.uri(volume)), ("SIZE".into(), (mib * MIB).to_string())])?;
        crate::device::sync()
    }

    /// kill -9, every cache dropped, served again; seconds to the first byte read.
    pub fn serve_cold(&mut self) -> Result<f64> {
        self.kill();
        crate::device::drop_caches()?;
        self.serve()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.kill();
        // A folder left behind is only room lost; the run's scratch is cleared at its end.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn treering() -> Command {
    let binary =
        std::env::var_os("TREERING_BIN").map_or_else(|| PathBuf::from("target/release/treering"), PathBuf::from);
    Command::new(binary)
}

fn succeed(mut command: Command) -> Result<()> {
    let said = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !said.status.success() {
        bail!("{command:?}: {}: {}", said.status, String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}
