//! One writing client group per volume.
//!
//! Two clients that both believe a volume is theirs destroy the filesystem on it, and neither sees an error. So the first
//! request that modifies a volume takes it for its client's *group*; as long as a connection of that group stays, a
//! modifying request of another group is refused with EPERM and told who holds the volume. Reading is never refused, and
//! connecting takes nothing: tools that open for writing and only look (nbdinfo, qemu-img) do not get in the way.
//!
//! A group is a client as far as we can tell it from its neighbours, so that its many connections count as one. Why groups
//! are cut this way: `docs/decisions/2026-11-22-writer-groups.md`.
//!
//! What it keeps true: a group must hold the volume before any of its modifications reaches the device, and must keep it
//! until the last of them was answered (a [`Claim`] lives as long as its connection's requests).

use crate::protocol::{Errno, Refusal};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use treering_io::{Io, Notify};

/// A client that just died may not have been noticed yet: so long a newcomer waits before it is refused.
const GRACE: Duration = Duration::from_secs(1);

/// Connections that count as one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientGroup {
    /// A process, together with ancestors and descendants that run the same program.
    Process { pid: u32, started: u64, program: String, uid: u32 },
    /// Processes of one user that we cannot see, because they live in another PID namespace.
    User { uid: u32 },
    /// All that connect from one address.
    Address(IpAddr),
}

impl fmt::Display for ClientGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientGroup::Process { pid, program, uid, .. } if program.is_empty() => write!(f, "pid {pid}, uid {uid}"),
            ClientGroup::Process { pid, program, uid, .. } => write!(f, "{program}, pid {pid}, uid {uid}"),
            ClientGroup::User { uid } => write!(f, "a process in another PID namespace, uid {uid}"),
            ClientGroup::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Who may write to one volume. Clones are the same.
#[derive(Clone)]
pub struct Writers {
    inner: Rc<Inner>,
}

struct Inner {
    io: Io,
    volume: String,
    /// Everybody may write: the clients have their own way to agree.
    shared: bool,
    holder: RefCell<Option<Holder>>,
    /// Counts changes of the holder, so that one refused by it is not made to wait for it again.
    generation: Cell<u64>,
    released: Notify,
}

struct Holder {
    group: ClientGroup,
    since: u64,
    connections: usize,
}

/// One connection's right to write, taken when first needed and given back when dropped.
pub struct Claim {
    writers: Writers,
    group: ClientGroup,
    held: Cell<bool>,
    refused_by: Cell<Option<u64>>,
}

impl Writers {
    pub fn new(io: &Io, volume: impl Into<String>, shared: bool) -> Writers {
        Writers {
            inner: Rc::new(Inner {
                io: io.clone(),
                volume: volume.into(),
                shared,
                holder: RefCell::new(None),
                generation: Cell::new(0),
                released: Notify::new(),
            }),
        }
    }

    pub fn claim(&self, group: ClientGroup) -> Claim {
        Claim { writers: self.clone(), group, held: Cell::new(false), refused_by: Cell::new(None) }
    }

    /// The group that writes to the volume now.
    pub fn holder(&self) -> Option<ClientGroup> {
        self.inner.holder.borrow().as_ref().map(|held| held.group.clone())
    }

    fn try_take(&self, group: &ClientGroup) -> bool {
        let inner = &self.inner;
        let mut holder = inner.holder.borrow_mut();
        match &mut *holder {
            Some(held) if held.group == *group => held.connections += 1,
            Some(_) => return false,
            None => {
                *holder = Some(Holder { group: group.clone(), since: inner.io.now(), connections: 1 });
                inner.generation.set(inner.generation.get() + 1);
            }
        }
        true
    }

    fn refusal(&self, group: &ClientGroup) -> Refusal {
        let holder = self.inner.holder.borrow();
        let volume = &self.inner.volume;
        let text = match &*holder {
            Some(held) => {
                let seconds = self.inner.io.now().saturating_sub(held.since) / 1_000_000_000;
                format!(
                    "{volume} is being written by another client ({}, for {seconds} s); you ({group}) may read; \
                     serve it with --shared if both know what they do",
                    held.group
                )
            }
            None => format!("{volume} was held by another client"),
        };
        Refusal::new(Errno::NotPermitted, text)
    }
}

impl Claim {
    pub fn group(&self) -> &ClientGroup {
        &self.group
    }

    /// No need to [`take`](Claim::take) it (again).
    pub fn is_held(&self) -> bool {
        self.held.get() || self.writers.inner.shared
    }

    /// Takes the volume for this connection's group, waiting a moment for a holder that is about to leave.
    pub async fn take(&self) -> Result<(), Refusal> {
        let inner = &self.writers.inner;
        let io = inner.io.clone();
        let deadline = io.now() + GRACE.as_nanos() as u64;
        loop {
            let released = inner.released.notified();
            // Another request of this connection may have got it while this one waited.
            if self.is_held() {
                return Ok(());
            }
            if self.writers.try_take(&self.group) {
                self.held.set(true);
                return Ok(());
            }
            let left = deadline.saturating_sub(io.now());
            if self.refused_by.get() == Some(inner.generation.get()) || left == 0 {
                break;
            }
            let _ = io.timeout(Duration::from_nanos(left), released).await;
        }
        let refusal = self.writers.refusal(&self.group);
        let holder = inner.generation.get();
        if self.refused_by.replace(Some(holder)) != Some(holder) {
            tracing::warn!(volume = %inner.volume, client = %self.group, "write refused: {}", refusal.text);
        }
        Err(refusal)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.held.get() {
            return;
        }
        let inner = &self.writers.inner;
        let mut holder = inner.holder.borrow_mut();
        if let Some(held) = &mut *holder {
            held.connections -= 1;
            if held.connections == 0 {
                *holder = None;
                inner.released.notify_all();
            }
        }
    }
}
