//! Who holds the lock of a store, as far as the kernel tells.
//!
//! A lock may outlive its process: the kernel keeps the file open until the last write of a killed server is done, which is
//! what makes it safe to recover the store afterwards. Such a lock goes by itself within moments.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// None for a process that has ended.
    pub program: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.program {
            Some(program) => write!(f, "{program}, pid {}", self.pid),
            None => write!(f, "the last writes of pid {}, which has ended", self.pid),
        }
    }
}

/// The processes that hold a lock on the file. Empty if none can be seen, as across namespaces.
pub fn holders(path: &Path) -> Vec<Holder> {
    let Ok(file) = fs::metadata(path) else { return Vec::new() };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Vec::new() };
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let mut pids: Vec<u32> = locks.lines().filter_map(|line| holder(line, device, file.ino())).collect();
    pids.dedup();
    pids.into_iter().map(|pid| Holder { pid, program: program(pid) }).collect()
}

/// `1: FLOCK  ADVISORY  WRITE 4121 fe:00:1052 0 EOF`; waiters have an arrow behind their number.
fn holder(line: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let pid = fields.nth(2)?.parse().ok().filter(|pid| *pid > 0)?;
    let mut place = fields.next()?.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    let found: u64 = place.next()?.parse().ok()?;
    (found == inode && (major, minor) == device).then_some(pid)
}

/// The name of a process that runs.
fn program(pid: u32) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (front, fields) = stat.rsplit_once(") ")?;
    let ended = fields.starts_with(['Z', 'X']);
    let (_, name) = front.split_once(" (")?;
    (!ended).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_has_no_name() {
        assert!(program(std::process::id()).is_some());
        let mut child = std::process::Command::new("true").spawn().expect("true starts");
        let zombie = std::iter::repeat_with(|| program(child.id())).take(100_000).any(|name| name.is_none());
        assert!(zombie, "a process that nobody waited for has ended all the same");
        child.wait().expect("it ends");
        assert_eq!(program(child.id()), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_named_and_a_waiter_is_not() {
        let line = "3: FLOCK  ADVISORY  WRITE 4121 fe:00:1052 0 EOF";
        assert_eq!(holder(line, (0xfe, 0), 1052), Some(4121));
        assert_eq!(holder(line, (0xfe, 0), 1053), None);
        assert_eq!(holder("3: -> FLOCK  ADVISORY  WRITE 4121 fe:00:1052 0 EOF", (0xfe, 0), 1052), None);
        assert_eq!(holder("3: POSIX  ADVISORY  WRITE 4121 fe:00:1052 0 EOF", (0xfe, 0), 1052), None);
        assert_eq!(holder("", (0, 0), 0), None);
    }
}
