//! Names as arguments: of dots, of volumes, of snapshots. Form only; whether there is such a thing is for the store to say.

use std::fmt;
use std::str::FromStr;
use treering_nbd_server::reference::{Reference, Start};

/// `DOT`.
#[derive(Debug, Clone)]
pub struct DotName(pub String);

impl fmt::Display for DotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DotName {
    type Err = String;

    fn from_str(text: &str) -> Result<DotName, String> {
        let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
        if reference.namespace.is_some() || reference.volume.is_some() || reference.revision.is_some() {
            return Err(format!("{text} names more than a dot; a dot is DOT, as in {}", reference.dot));
        }
        Ok(DotName(reference.dot.to_string()))
    }
}

impl DotName {
    /// Its place at the control socket.
    pub fn path(&self) -> String {
        format!("/v1/dots/{}", self.0)
    }
}

/// `DOT.VOLUME`.
#[derive(Debug, Clone)]
pub struct VolumeName {
    pub dot: String,
    pub volume: String,
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dot, self.volume)
    }
}

impl FromStr for VolumeName {
    type Err = String;

    fn from_str(text: &str) -> Result<VolumeName, String> {
        let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
        if reference.namespace.is_some() || reference.revision.is_some() {
            return Err(format!("{text} names a namespace or a point in history; a volume is DOT.VOLUME"));
        }
        let volume =
            reference.volume.ok_or_else(|| format!("{text} is a dot; a volume is DOT.VOLUME, as in {text}.main"))?;
        Ok(VolumeName { dot: reference.dot.to_string(), volume: volume.to_string() })
    }
}

impl VolumeName {
    /// Its place at the control socket.
    pub fn path(&self) -> String {
        format!("/v1/dots/{}/volumes/{}", self.dot, self.volume)
    }
}

/// `DOT@SNAPSHOT`, the snapshot by its name or by the first digits of its id.
#[derive(Debug, Clone)]
pub struct SnapshotName {
    pub dot: String,
    pub at: String,
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dot, self.at)
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<SnapshotName, String> {
        let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
        if reference.namespace.is_some() || reference.volume.is_some() {
            return Err(format!("{text} names a namespace or a volume; a snapshot is of a whole dot: DOT@SNAPSHOT"));
        }
        let dot = reference.dot.to_string();
        match reference.revision.map(|revision| (revision.start, revision.steps)) {
            Some((Start::Name(name), steps)) if steps.is_empty() => Ok(SnapshotName { dot, at: name.to_string() }),
            Some(_) => {
                Err(format!("{text} is no snapshot: name it by its name or its id, as in {dot}@before-migration"))
            }
            None => Err(format!("{text} is a dot; a snapshot is DOT@SNAPSHOT: treering snapshot ls {dot}")),
        }
    }
}

impl SnapshotName {
    /// Its place at the control socket.
    pub fn path(&self) -> String {
        format!("/v1/dots/{}/snapshots/{}", self.dot, self.at)
    }
}
