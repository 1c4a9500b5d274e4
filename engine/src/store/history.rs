//! History as a caller sees it: snapshots of dots, forks of them, the way back.
//!
//! A snapshot of several dots is one cut: all their volumes are frozen at the same place of the one order. Every verb is
//! durable when it returns.

use std::time::Duration;

use treering_format::units::PublicId;

use super::Store;
use crate::error::CatalogError;
use crate::volume::Volume;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub id: PublicId,
    pub name: String,
    pub dot: String,
    /// Wall clock.
    pub created_ns: u64,
    /// Wall clock; it goes by itself after it, unless protected or in use.
    pub expires_ns: Option<u64>,
    pub protected: bool,
    /// Made by a reset of what it was reset from.
    pub reflog: bool,
    pub volumes: Vec<SnapshotVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotVolume {
    pub name: String,
    pub size_bytes: u64,
    /// Handles in use.
    pub users: usize,
}

/// A snapshot to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// None: `s-` and the time in UTC and four hex digits.
    pub name: Option<String>,
    pub protect: bool,
    pub ttl: Option<Duration>,
    pub reflog: bool,
}

/// How a caller names a snapshot of a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRef {
    Name(String),
    /// A name if there is one of these characters, else the first six or more hex digits of one snapshot's id.
    Prefix(String),
}

/// Bytes of a volume or a version, or their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// As clients see it.
    pub logical: u64,
    /// Stored data that it shows, whoever else shows it too.
    pub referenced: u64,
    /// What a removal would free.
    pub exclusive: u64,
    /// Stored data that is newer than what it was made from.
    pub dirty: u64,
    /// Nothing of it would be freed, for more than one is based on it.
    pub held_by_branching: u64,
}

impl From<&str> for SnapshotRef {
    fn from(text: &str) -> SnapshotRef {
        let prefix = (6..=32).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if prefix { SnapshotRef::Prefix(text.into()) } else { SnapshotRef::Name(text.into()) }
    }
}

impl SnapshotRef {
    pub fn text(&self) -> &str {
        match self {
            SnapshotRef::Name(text) | SnapshotRef::Prefix(text) => text,
        }
    }
}

impl Store {
    /// Freezes all volumes of these dots at one place of the order. One snapshot for each dot, all of one name.
    pub async fn create_snapshot(&self, dots: &[&str], new: &NewSnapshot) -> Result<Vec<SnapshotInfo>, CatalogError> {
        let _ = new;
        Err(not_yet(dots.first().copied().unwrap_or_default()))
    }

    /// The snapshots of a dot, oldest first.
    pub fn snapshots(&self, dot: &str) -> Result<Vec<SnapshotInfo>, CatalogError> {
        Err(not_yet(dot))
    }

    pub fn snapshot(&self, dot: &str, at: &SnapshotRef) -> Result<SnapshotInfo, CatalogError> {
        let _ = dot;
        Err(not_yet(at.text()))
    }

    /// Deletes snapshots, all or none of them if one is protected or in use. Their space comes back in the background.
    pub async fn delete_snapshots(&self, dot: &str, at: &[SnapshotRef]) -> Result<Vec<SnapshotInfo>, CatalogError> {
        let _ = at;
        Err(not_yet(dot))
    }

    /// Changes whether a snapshot is protected, and when it goes by itself (`Some(None)`: never).
    pub async fn configure_snapshot(
        &self,
        dot: &str,
        at: &SnapshotRef,
        protect: Option<bool>,
        ttl: Option<Option<Duration>>,
    ) -> Result<SnapshotInfo, CatalogError> {
        let _ = (dot, protect, ttl);
        Err(not_yet(at.text()))
    }

    /// Makes dots of these names whose volumes begin as they are in the snapshot.
    pub async fn fork(
        &self,
        dot: &str,
        at: &SnapshotRef,
        names: &[String],
        ttl: Option<Duration>,
    ) -> Result<(), CatalogError> {
        let _ = (dot, names, ttl);
        Err(not_yet(at.text()))
    }

    /// Makes a dot's volumes what they are in one of its snapshots. What they were is kept as a snapshot, which is returned,
    /// for seven days. Refused while a client uses one of the volumes.
    pub async fn reset(&self, dot: &str, to: &SnapshotRef) -> Result<SnapshotInfo, CatalogError> {
        let _ = dot;
        Err(not_yet(to.text()))
    }

    /// A handle of a volume as it is in a snapshot; it refuses to be written.
    pub fn open_snapshot(&self, dot: &str, volume: &str, at: &SnapshotRef) -> Result<Volume, CatalogError> {
        let _ = (dot, volume);
        Err(not_yet(at.text()))
    }

    /// What a dot or one of its volumes (`None`: all of them) takes, now or in a snapshot.
    pub async fn sizes(
        &self,
        dot: &str,
        volume: Option<&str>,
        at: Option<&SnapshotRef>,
    ) -> Result<Sizes, CatalogError> {
        let _ = (volume, at);
        Err(not_yet(dot))
    }
}

fn not_yet(name: &str) -> CatalogError {
    CatalogError::NotFound { kind: "snapshot", name: name.into() }
}
