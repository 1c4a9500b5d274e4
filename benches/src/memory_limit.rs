//! A process group with a limit on its memory, page cache and shared memory included (control groups, version 1 or 2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub struct MemoryLimit {
    /// Where this kernel lets us make one; a machine that does not is measured without a limit, and the report says so.
    group: Option<PathBuf>,
    version_2: bool,
}

impl MemoryLimit {
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let (root, version_2) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            (Path::new("/sys/fs/cgroup"), true)
        } else {
            (Path::new("/sys/fs/cgroup/memory"), false)
        };
        let group = root.join(format!("treering-bench-{}-{name}", std::process::id()));
        if fs::create_dir(&group).is_err() {
            return Ok(Self { group: None, version_2 });
        }
        let limit = Self { group: Some(group.clone()), version_2 };
        let file = group.join(if version_2 { "memory.max" } else { "memory.limit_in_bytes" });
        fs::write(&file, bytes.to_string()).with_context(|| format!("limiting memory through {}", file.display()))?;
        Ok(limit)
    }

    /// The same command, which enters the group before it becomes itself.
    pub fn wrap(&self, command: &Command) -> Command {
        let Some(group) = &self.group else {
            return copy(command);
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args());
        shell
    }

    /// The most memory the group ever held.
    pub fn peak_bytes(&self) -> Option<u64> {
        let file = self.group.as_ref()?.join(if self.version_2 { "memory.peak" } else { "memory.max_usage_in_bytes" });
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // A group still busy with its last process is left to the next reboot rather than waited for.
            let _ = fs::remove_dir(group);
        }
    }
}

fn copy(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same
}
