//! Documents of snapshots, forks and resets.

use super::Compression;
use serde::{Deserialize, Deserializer, Serialize};

/// Freeze these dots, all at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    pub dots: Vec<String>,
    /// The same in each dot; made from the time if there is none.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub protect: bool,
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    pub schema: u32,
    pub snapshots: Vec<Snapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub dot: String,
    pub name: String,
    /// 32 hex digits; the first six or more name it too, if they are of one snapshot of the dot only.
    pub id: String,
    /// RFC 3339, UTC.
    pub created: String,
    pub age_seconds: u64,
    /// When it goes by itself.
    pub expires: Option<String>,
    pub protected: bool,
    /// Kept by a reset: what the dot was before.
    pub reflog: bool,
    pub volumes: Vec<SnapshotVolume>,
}

impl Snapshot {
    /// `DOT@NAME`.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.dot, self.name)
    }

    pub fn logical_bytes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.size_bytes).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVolume {
    pub name: String,
    pub size_bytes: u64,
    /// Connections that have it open.
    pub users: usize,
}

/// Bytes of a volume, now or in a snapshot, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// As clients see it.
    pub logical_bytes: u64,
    /// Stored data that it shows, whoever else shows it too.
    pub referenced_bytes: u64,
    /// What removing it would free.
    pub exclusive_bytes: u64,
    /// Stored data that is newer than the snapshot before it.
    pub dirty_bytes: u64,
    /// Would not be freed although nothing else shows it: several are based on it.
    pub held_by_branching_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeShow {
    pub name: String,
    pub size_bytes: u64,
    /// Of a volume in a snapshot: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    pub users: usize,
    pub sizes: Sizes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotShow {
    pub schema: u32,
    pub snapshot: Snapshot,
    pub volumes: Vec<VolumeShow>,
    /// Of all its volumes together.
    pub sizes: Sizes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DotShow {
    pub schema: u32,
    pub name: String,
    pub volumes: Vec<VolumeShow>,
    /// Of all its volumes together.
    pub sizes: Sizes,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
}

/// Fields that are not there stay as they are; `"ttl_seconds": null` means that it never goes by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigureSnapshot {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub ttl_seconds: Option<Option<u64>>,
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Of the snapshots that are at most `age_seconds` old, keep the newest of each `every_seconds`; of 0, keep each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    pub age_seconds: u64,
    pub every_seconds: u64,
}

/// Delete the snapshots of a dot that no rule keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    pub keep: Vec<Keep>,
    /// Only tell which.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub schema: u32,
    pub dot: String,
    pub dry_run: bool,
    /// How many are still there.
    pub kept: usize,
    pub removed: Vec<Snapshot>,
    /// No rule keeps them, but a client has them open.
    pub in_use: Vec<Snapshot>,
}

/// Make dots that begin as a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Name or id of the snapshot.
    pub at: String,
    /// Of the new dots.
    pub names: Vec<String>,
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    pub schema: u32,
    /// `DOT@NAME` of the snapshot.
    pub from: String,
    pub dots: Vec<String>,
    /// `DOT.VOLUME` of all of them.
    pub volumes: Vec<String>,
}

/// Make the volumes of a dot what they are in one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// Name or id of the snapshot.
    pub to: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetDone {
    pub schema: u32,
    /// `DOT@NAME` of the snapshot.
    pub to: String,
    /// What the dot was before, for seven days.
    pub kept: Snapshot,
}
