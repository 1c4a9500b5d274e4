//! Which client group a connection belongs to. The reasons are in `docs/decisions/2026-11-22-writer-groups.md`.
//!
//! Over a unix socket: the process that connected, or rather the topmost of its ancestors that run the same program one below
//! the other, so that the forked jobs of one fio are one client, while two fio started from one shell are two. Programs are
//! compared by name (`/proc/PID/comm`, readable for everybody). Over TCP: the address.
//!
//! What cannot be seen makes a coarser group, never a finer one: a finer one could refuse a client its own connections.

use crate::export::writers::ClientGroup;
use std::fs;
use treering_io::{Io, Peer};

/// More relatives than anybody has; a bound against a process table that changes under us.
const GENERATIONS: usize = 16;

pub fn group_of(io: &Io, peer: Peer) -> ClientGroup {
    match peer {
        Peer::Tcp(address) => ClientGroup::Address(address.ip().to_canonical()),
        Peer::Unix { pid: 0, uid, .. } => ClientGroup::User { uid },
        // Simulated processes are in no process table.
        Peer::Unix { pid, uid, .. } if io.backend() == "simulator" => {
            ClientGroup::Process { pid, started: 0, program: String::new(), uid }
        }
        Peer::Unix { pid, uid, .. } => process_group(pid, uid),
    }
}

fn process_group(pid: u32, uid: u32) -> ClientGroup {
    let Some(mut process) = Process::read(pid) else {
        // It is gone already: alone, as nobody can be its kin any more.
        return ClientGroup::Process { pid, started: 0, program: String::new(), uid };
    };
    for _ in 0..GENERATIONS {
        match Process::read(process.parent) {
            Some(parent) if parent.program == process.program && parent.started <= process.started => process = parent,
            _ => break,
        }
    }
    ClientGroup::Process { pid: process.pid, started: process.started, program: process.program, uid }
}

#[derive(Debug)]
struct Process {
    pid: u32,
    parent: u32,
    /// Clock ticks after boot: tells two processes with one pid apart.
    started: u64,
    program: String,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Process::parse(pid, &String::from_utf8_lossy(&text))
    }

    /// `PID (PROGRAM) STATE PARENT …`, where the program's name may hold anything, parentheses too.
    fn parse(pid: u32, stat: &str) -> Option<Process> {
        let (front, fields) = stat.rsplit_once(") ")?;
        let (_, program) = front.split_once(" (")?;
        let mut fields = fields.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Process { pid, parent, started, program: program.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_names_with_parentheses_and_spaces_are_read() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 200";
        let process = Process::parse(42, stat).expect("well-formed");
        assert_eq!((process.program.as_str(), process.parent, process.started), ("a) b (c", 7, 123_456));
        assert!(Process::parse(42, "42 (a").is_none());
        assert!(Process::parse(42, "42 (a) S 7").is_none());
    }

    #[test]
    fn a_process_belongs_to_the_topmost_relative_that_runs_the_same_program() {
        let me = std::process::id();
        let mine = process_group(me, 0);
        // `sleep` is another program than this test, so the two never make one group; its group is itself.
        let mut child = std::process::Command::new("sleep").arg("5").spawn().expect("sleep starts");
        // The child carries our name until it has exchanged itself for `sleep`.
        let theirs = loop {
            match process_group(child.id(), 0) {
                group @ ClientGroup::Process { .. } if group != mine => break group,
                _ => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        };
        assert!(
            matches!(theirs, ClientGroup::Process { pid, ref program, .. } if pid == child.id() && program == "sleep")
        );
        child.kill().expect("sleep is ours");
        child.wait().expect("sleep ends");
    }
}
