//! Who holds the lock of a store, as far as the kernel tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `PROGRAM, pid N` for each process that holds a lock on the file. Empty if nothing can be seen, as across namespaces.
pub fn holders(path: &Path) -> Vec<String> {
    let Ok(file) = fs::metadata(path) else { return Vec::new() };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Vec::new() };
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let pids = locks.lines().filter_map(|line| holder(line, device, file.ino()));
    let mut named: Vec<String> = pids.map(|pid| format!("{}, pid {pid}", program(pid))).collect();
    named.dedup();
    named
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

fn program(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim().is_empty() { "a process".into() } else { name.trim().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
