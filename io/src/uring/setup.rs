//! Making a ring that this kernel can give, and saying why if it can give none.
//!
//! The modes that save most are tried first. What the driver can't do without (completions that are never dropped, waiting with
//! a time limit, its operations) is probed here, once, so that nothing fails later in the middle of a flush.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Submission entries; more than that in one turn takes more than one enter.
pub(super) const ENTRIES: u32 = 256;
/// Completions may outnumber one turn's submissions by far: everything in flight can end at once.
const COMPLETIONS_PER_ENTRY: u32 = 8;
/// Kernel threads for operations that block: files, and everything else.
const WORKERS: [u32; 2] = [4, 8];

const OPERATIONS: [(u8, &str); 10] = [
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Writev::CODE, "writev"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::AsyncCancel::CODE, "cancel"),
];

pub(super) fn ring(entries: u32) -> io::Result<IoUring> {
    let ring = [Mode::Deferred, Mode::Cooperative, Mode::Plain]
        .into_iter()
        .map(|mode| build(entries, mode))
        .find(|ring| !matches!(ring, Err(error) if error.raw_os_error() == Some(libc::EINVAL)))
        .unwrap_or_else(|| Err(io::Error::from_raw_os_error(libc::EINVAL)))?;
    check(&ring)?;
    // A kernel without this bound (before 5.15) has one of its own.
    let _ = ring.submitter().register_iowq_max_workers(&mut { WORKERS });
    Ok(ring)
}

enum Mode {
    /// Completion work runs only when we enter (Linux 6.1).
    Deferred,
    /// It runs at the next entry into the kernel, without an interrupt (Linux 5.19).
    Cooperative,
    Plain,
}

fn build(entries: u32, mode: Mode) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
    match mode {
        Mode::Deferred => builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
        Mode::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
        Mode::Plain => &mut builder,
    };
    builder.build(entries)
}

fn check(ring: &IoUring) -> io::Result<()> {
    let unsupported =
        |what: &str| Err(io::Error::new(io::ErrorKind::Unsupported, format!("no {what} in its io_uring")));
    if !ring.params().is_feature_nodrop() {
        return unsupported("completion queue without drops");
    }
    if !ring.params().is_feature_ext_arg() {
        return unsupported("waiting with a time limit");
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    match OPERATIONS.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => unsupported(name),
        None => Ok(()),
    }
}

/// What to tell an operator whose host gives us no ring.
pub(crate) fn why_unavailable(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here (see sysctl kernel.io_uring_disabled, or the container's seccomp profile)"
                .into()
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring".into(),
        Some(libc::ENOMEM) => "no locked memory for an io_uring (see ulimit -l)".into(),
        _ => format!("io_uring can't be used: {error}"),
    }
}
