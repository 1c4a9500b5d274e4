//! One function for each thing the doctor looks at. Nothing is changed; what cannot be seen is a warning, not a failure.

use super::{Line, Verdict};
use crate::sizes::iec;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::Path;
use treering_engine::Limits;
use treering_io::{BackendChoice, Direct, FileOptions, Runtime};

/// Descriptors for the connections we accept by default, and some.
const OPEN_FILES: u64 = 2048;
/// What the default configuration takes in all, and the smallest one.
const MEMORY_DEFAULT: u64 = 2 << 30;
const MEMORY_FLOOR: u64 = 256 << 20;

fn ok(what: &'static str, found: impl Into<String>) -> Line {
    Line { verdict: Verdict::Ok, what, found: found.into(), fix: None }
}

fn warn(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Line {
    Line { verdict: Verdict::Warn, what, found: found.into(), fix: Some(fix.into()) }
}

fn fail(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Line {
    Line { verdict: Verdict::Fail, what, found: found.into(), fix: Some(fix.into()) }
}

pub fn io_uring() -> Line {
    let what = "io_uring";
    match Runtime::new(BackendChoice::Uring) {
        Ok(_) => ok(what, "allowed"),
        Err(error) => warn(
            what,
            format!("{error}; threads are used instead, which is slower"),
            "sysctl kernel.io_uring_disabled=0; in a container, a seccomp profile that allows io_uring_setup, io_uring_enter \
             and io_uring_register",
        ),
    }
}

pub fn direct_io(folder: &Path) -> Line {
    let what = "direct I/O";
    let fix = "keep the store on a filesystem with O_DIRECT (ext4, XFS, btrfs), or on a block device";
    let probe = match tempfile::Builder::new().prefix("treering-probe-").tempfile_in(folder) {
        Ok(probe) => probe,
        Err(error) => {
            return fail(
                what,
                format!("no file can be made in {}: {error}", folder.display()),
                "choose another folder",
            );
        }
    };
    let options = FileOptions { create_new: false, write: true, lock: false, direct: Direct::Auto };
    let opened = Runtime::new(BackendChoice::Posix).and_then(|runtime| runtime.io().open_file(probe.path(), &options));
    match opened {
        Ok(file) if file.is_direct() => ok(what, format!("offered in {}", folder.display())),
        Ok(_) => warn(what, format!("not offered in {}: data is kept in memory twice", folder.display()), fix),
        Err(error) => fail(what, format!("opening a file in {}: {error}", folder.display()), fix),
    }
}

pub fn free_space(folder: &Path) -> Line {
    let what = "free space";
    match available(folder) {
        Ok(bytes) if bytes >= 2 << 30 => ok(what, format!("{} in {}", iec(bytes), folder.display())),
        Ok(bytes) => {
            warn(what, format!("only {} in {}", iec(bytes), folder.display()), "choose another folder for the store")
        }
        Err(error) => warn(what, format!("cannot be read in {}: {error}", folder.display()), "choose another folder"),
    }
}

pub fn shared_memory(folder: &Path) -> Line {
    let what = "shared memory";
    let place = folder.display();
    if let Err(error) = tempfile::Builder::new().prefix("treering-probe-").tempfile_in(folder) {
        let found = format!("no file can be made in {place}: {error}; unflushed writes would go to the store's folder");
        return warn(what, found, "mount a tmpfs on /dev/shm, or name a folder in memory with --arena-dir");
    }
    let (needed, floor) = (Limits::default().arena_bytes, Limits::floor().arena_bytes);
    let fix = "in a container: --shm-size=256m; else mount -o remount,size=256M /dev/shm; or serve --memory floor";
    match available(folder) {
        Ok(bytes) if bytes >= needed * 2 => ok(what, format!("{} in {place}", iec(bytes))),
        Ok(bytes) if bytes >= floor * 2 => {
            warn(what, format!("{} in {place}, {} are better", iec(bytes), iec(needed * 2)), fix)
        }
        Ok(bytes) => fail(what, format!("{} in {place}, {} are needed", iec(bytes), iec(floor * 2)), fix),
        Err(error) => warn(what, format!("cannot be read in {place}: {error}"), fix),
    }
}

pub fn open_files() -> Line {
    let what = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES => warn(
            what,
            format!("at most {limit}: fewer connections than the {OPEN_FILES} we allow"),
            format!("ulimit -n {OPEN_FILES}, or LimitNOFILE= of the service"),
        ),
        Some(limit) => ok(what, format!("at most {limit}")),
        None => ok(what, "no limit"),
    }
}

pub fn locked_memory() -> Line {
    let what = "locked memory";
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < 8 << 20 => warn(
            what,
            format!("at most {}: kernels before 5.12 count io_uring's memory against it", iec(limit)),
            "ulimit -l 65536, or LimitMEMLOCK=64M of the service",
        ),
        Some(limit) => ok(what, format!("at most {}", iec(limit))),
        None => ok(what, "no limit"),
    }
}

/// The smallest limit of the control groups (version 2) that this process is in.
pub fn memory_limit() -> Line {
    let what = "memory limit";
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let base = Path::new("/sys/fs/cgroup");
    let limit = Path::new(own.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| fs::read_to_string(base.join(group).join("memory.max")).ok()?.trim().parse::<u64>().ok())
        .min();
    match limit {
        None => ok(what, "none for this process's group"),
        Some(bytes) if bytes >= MEMORY_DEFAULT => ok(what, iec(bytes)),
        Some(bytes) if bytes >= MEMORY_FLOOR => {
            let found = format!("{}; the default configuration may take {}", iec(bytes), iec(MEMORY_DEFAULT));
            warn(what, found, "treering serve --memory floor")
        }
        Some(bytes) => {
            fail(what, format!("{}, less than {}", iec(bytes), iec(MEMORY_FLOOR)), "raise memory.max of the group")
        }
    }
}

/// Only for `nbd-client` and the like: the server needs no module.
pub fn kernel_client() -> Line {
    let what = "kernel NBD client";
    if Path::new("/sys/module/nbd").exists() || Path::new("/dev/nbd0").exists() {
        return ok(what, "loaded");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    let listed = |file: &str| fs::read_to_string(modules.join(file)).is_ok_and(|text| text.contains("/nbd.ko"));
    let fix = "modprobe nbd; or mount volumes without it: nbdfuse (libnbd), qemu";
    match listed("modules.dep") || listed("modules.builtin") {
        true => warn(what, "there, not loaded (only needed to attach volumes as /dev/nbdX)", fix),
        false => warn(what, "this kernel has none (only needed to attach volumes as /dev/nbdX)", fix),
    }
}

fn available(folder: &Path) -> rustix::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail * found.f_frsize)
}
