//! A running server: its processes, its addresses, and what it cost. Dropping it kills it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::first_read::first_read;
use crate::memory_limit::MemoryLimit;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Clock ticks per second in /proc; fixed in the kernel's interface.
const TICKS: f64 = 100.0;

pub struct Server {
    children: Vec<Child>,
    uris: Vec<String>,
    limit: Option<MemoryLimit>,
    /// From the start of the process to the first byte read.
    pub first_read: Duration,
}

impl Server {
    pub fn start(commands: Vec<Command>, uris: Vec<String>, limit: Option<MemoryLimit>) -> Result<Self> {
        let started = Instant::now();
        let mut server = Self { children: Vec::new(), uris, limit, first_read: Duration::ZERO };
        for command in commands {
            let mut command = server.limit.as_ref().map_or(command_itself(&command), |limit| limit.wrap(&command));
            // What it complains about is ours to see.
            command.env("RUST_LOG", "warn");
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
            server.children.push(child.with_context(|| format!("starting {command:?}"))?);
        }
        for n in 0..server.uris.len() {
            while let Err(error) = first_read(&server.uris[n]) {
                server.must_live(&error)?;
                if started.elapsed() > START_LIMIT {
                    return Err(error.context(format!("no read from {} within {START_LIMIT:?}", server.uris[n])));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            if n == 0 {
                server.first_read = started.elapsed();
            }
        }
        Ok(server)
    }

    fn must_live(&mut self, error: &anyhow::Error) -> Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended while starting ({status}); last answer: {error:#}");
            }
        }
        Ok(())
    }

    /// The big volume's address.
    pub fn uri(&self) -> &str {
        &self.uris[0]
    }

    pub fn small_uris(&self) -> &[String] {
        &self.uris[1..]
    }

    /// Processor time of all its processes so far, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        self.children.iter().filter_map(|child| cpu_ticks(child.id())).sum::<f64>() / TICKS
    }

    pub fn peak_memory_bytes(&self) -> Option<u64> {
        self.limit.as_ref()?.peak_bytes()
    }

    /// Resident memory of the first process, shared memory included.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.children.first()?.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    /// TERM and a bounded wait: everything is on the disk afterwards.
    pub fn stop(mut self) -> Result<()> {
        for child in &self.children {
            Command::new("kill").arg(child.id().to_string()).status().context("sending TERM")?;
        }
        let end = Instant::now() + STOP_LIMIT;
        for child in &mut self.children {
            while child.try_wait()?.is_none() {
                if Instant::now() > end {
                    bail!("process {} did not leave within {STOP_LIMIT:?} of TERM", child.id());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// kill -9.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command_itself(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same
}

fn cpu_ticks(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields 14 and 15 are counted after it.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}
