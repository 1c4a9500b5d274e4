//! What went wrong, as a person and a script need it: one shape at the control socket and on the command line.
//!
//! `what` says what we were doing and what is wrong, with values; `evidence` holds lines to look at; `why` the rule behind the
//! refusal; `fix` a command that helps. The kind decides the exit code and the HTTP status, here and nowhere else.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use treering_engine::{CatalogError, CheckError, Failure, StoreError, VolumeError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Other,
    Usage,
    NotFound,
    Conflict,
    Busy,
    NoSpace,
    Damage,
    NotAllowed,
    Unreachable,
    TimedOut,
    NoDaemon,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Other => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Conflict => 4,
            Kind::Busy => 5,
            Kind::NoSpace => 6,
            Kind::Damage => 7,
            Kind::NotAllowed => 8,
            Kind::Unreachable => 9,
            Kind::TimedOut => 10,
            Kind::NoDaemon => 11,
        }
    }

    pub fn http_status(self) -> u16 {
        match self {
            Kind::Usage => 400,
            Kind::NotAllowed => 403,
            Kind::NotFound => 404,
            Kind::TimedOut => 408,
            Kind::Conflict => 409,
            Kind::Busy => 423,
            Kind::NoSpace => 507,
            Kind::Other | Kind::Damage | Kind::Unreachable | Kind::NoDaemon => 500,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub kind: Kind,
    pub what: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Trouble {
    pub fn new(kind: Kind, what: impl Into<String>) -> Trouble {
        Trouble { kind, what: what.into(), evidence: Vec::new(), why: None, fix: None }
    }

    /// Says in front what we were doing.
    pub fn doing(mut self, doing: impl fmt::Display) -> Trouble {
        self.what = format!("{doing}: {}", self.what);
        self
    }

    pub fn evidence(mut self, line: impl Into<String>) -> Trouble {
        self.evidence.push(line.into());
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> Trouble {
        self.why = Some(why.into());
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Trouble {
        self.fix = Some(fix.into());
        self
    }

    /// A store could not be made or opened.
    pub fn of_store(error: &StoreError, path: &Path) -> Trouble {
        let path = path.display();
        let text = error.to_string();
        match error {
            StoreError::Io { source, .. } => Trouble::new(kind_of_io(source), text),
            StoreError::NoSharedMemory { source, .. } => Trouble::new(kind_of_io(source), text)
                .why("what a client was told is written is kept there until the disk has it, so that it outlives this program.")
                .fix(
                    "treering serve --memory floor takes the least; a container gets more with --shm-size=256m, \
                     a host with mount -o remount,size=256M /dev/shm; --arena-dir names another folder in memory",
                ),
            StoreError::Locked { .. } => Trouble::new(Kind::Busy, text)
                .why("two programs that write to one store destroy it, so the first one locks it."),
            StoreError::NotAStore { .. } => Trouble::new(Kind::NotFound, text)
                .fix(format!("treering store init {path}     make a store there (refused if the file holds one)")),
            StoreError::AlreadyAStore { .. } => Trouble::new(Kind::Conflict, text)
                .why("making a store erases what is there; that must be asked for in so many words.")
                .fix(format!("treering store info {path}     see what it holds; remove the file to make it anew")),
            StoreError::Unsupported { .. } => Trouble::new(Kind::Other, text).fix("use the newest treering"),
            StoreError::TooSmall { .. } => {
                Trouble::new(Kind::Usage, text).fix(format!("treering store init {path} --size 1G"))
            }
            StoreError::Damaged { .. } => Trouble::new(Kind::Damage, text)
                .why("serving the store would silently drop data that a client was told is safe.")
                .fix(format!("treering store check {path} --repair --dry-run     what cutting the log there would give up")),
            StoreError::NoCheckpoint(_) | StoreError::Page(_) => Trouble::new(Kind::Damage, text)
                .fix(format!("treering store check {path} --repair --dry-run     what can be repaired; nothing on it was changed")),
            StoreError::BeyondRepair(_) => Trouble::new(Kind::Damage, text)
                .why("what is left of it could be part of something larger; nothing on it was changed.")
                .fix(format!(
                    "restore {path} from a copy; if everything in it had been deleted, remove it and make it anew: treering store init {path}"
                )),
            StoreError::AcknowledgedWritesMissing { arena, .. } => Trouble::new(Kind::Damage, text)
                .evidence(format!("shared memory expected at {}", arena.display()))
                .why("a client that still holds the volume would go on as if its last writes were there.")
                .fix(format!(
                    "treering --store {path} serve --accept-loss     go on without them (all that was flushed is there), \
                     or name the place of the shared memory with --arena-dir"
                )),
            StoreError::NeedsRecovery => Trouble::new(Kind::Other, text)
                .why("recovering writes to the store, and this command only reads.")
                .fix(format!("treering --store {path} serve     recovers it and serves it")),
            StoreError::Full => Trouble::new(Kind::NoSpace, text),
            StoreError::Shrinks { .. } => Trouble::new(Kind::Usage, text)
                .why("data may lie anywhere in a store; what would be cut off is not known to be free."),
            StoreError::OpenedForReading { .. } => {
                Trouble::new(Kind::NotAllowed, text).fix("serve the store without --read-only")
            }
            StoreError::Failed(_) => Trouble::new(Kind::Other, text),
        }
    }
}

/// What an error of the operating system is to the user.
pub fn kind_of_io(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Kind::NotAllowed,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        std::io::ErrorKind::AddrInUse | std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::WouldBlock => Kind::Busy,
        std::io::ErrorKind::TimedOut => Kind::TimedOut,
        _ => Kind::Other,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for line in &self.evidence {
            write!(f, "\n  {line}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\nwhy: {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\nfix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}

impl From<CatalogError> for Trouble {
    fn from(error: CatalogError) -> Trouble {
        let text = error.to_string();
        match error {
            CatalogError::InvalidName { .. } => Trouble::new(Kind::Usage, text),
            CatalogError::InvalidSize { .. } => Trouble::new(Kind::Usage, text),
            CatalogError::Exists { kind, .. } => {
                Trouble::new(Kind::Conflict, text).fix(format!("{}     what there is", listing(kind)))
            }
            CatalogError::NotFound { kind, .. } => {
                Trouble::new(Kind::NotFound, text).fix(format!("{}     what there is", listing(kind)))
            }
            CatalogError::InUse { .. } => Trouble::new(Kind::Busy, text)
                .why("a device that shrinks under its user loses what the user still believes to be there.")
                .fix("disconnect the clients first; treering status     lists them"),
            CatalogError::Protected { name } => Trouble::new(Kind::Conflict, text)
                .why("it was protected so that no verb removes it by mistake.")
                .fix(format!("treering snapshot set {name} --protect off")),
            CatalogError::Ambiguous { .. } | CatalogError::NoVolumes { .. } | CatalogError::TooMany { .. } => {
                Trouble::new(Kind::Usage, text)
            }
            CatalogError::SnapshotInUse { .. } | CatalogError::DotInUse { .. } => {
                Trouble::new(Kind::Busy, text).fix("disconnect the clients first; treering status     lists them")
            }
            CatalogError::Volume(error) => error.into(),
        }
    }
}

impl From<VolumeError> for Trouble {
    fn from(error: VolumeError) -> Trouble {
        let text = error.to_string();
        match error {
            VolumeError::OutOfRange { .. } => Trouble::new(Kind::Usage, text),
            VolumeError::NoSpace { .. } => {
                Trouble::new(Kind::NoSpace, text).fix("treering store df PATH     where the space is")
            }
            VolumeError::ReadOnly => Trouble::new(Kind::NotAllowed, text).fix("serve the store without --read-only"),
            VolumeError::Removed => Trouble::new(Kind::NotFound, text),
            VolumeError::Frozen => Trouble::new(Kind::NotAllowed, text),
            VolumeError::Failed(_) => failed(text),
            VolumeError::Damaged { .. } => Trouble::new(Kind::Damage, text),
        }
    }
}

impl From<CheckError> for Trouble {
    fn from(error: CheckError) -> Trouble {
        match error {
            CheckError::SpaceNeeded => Trouble::new(Kind::Busy, error.to_string())
                .why("a check keeps back what is freed while it runs, and writers do not wait for it.")
                .fix("check again when there is more room: delete snapshots, or trim volumes"),
            CheckError::Failed(failure) => failure.into(),
        }
    }
}

impl From<Rc<Failure>> for Trouble {
    fn from(failure: Rc<Failure>) -> Trouble {
        failed(failure.to_string())
    }
}

fn failed(text: String) -> Trouble {
    Trouble::new(Kind::Other, text)
        .why("after a failed write or sync nobody knows what the disk holds, so the store acknowledges nothing more.")
        .fix("look at the disk and its kernel messages; then stop the server and start it again: it recovers by itself")
}

fn listing(kind: &str) -> &'static str {
    match kind {
        "dot" => "treering ls",
        "snapshot" => "treering snapshot ls",
        _ => "treering volume ls",
    }
}
