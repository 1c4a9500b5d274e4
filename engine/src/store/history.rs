//! History as a caller sees it: snapshots of dots, forks of them, the way back.
//!
//! A snapshot of several dots is one cut: all their volumes are frozen at the same place of the one order. Every verb is
//! durable when it returns.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use treering_format::record::{
    ConfigureCut, DELETE_MAX, Descriptor, ForkCut, ResetCut, SNAPSHOT_VOLUMES_MAX, SnapshotCut, SnapshotDot,
};
use treering_format::units::{DotId, LineId, PublicId, SnapshotId, VersionId, VolumeId};

use super::Store;
use super::verbs::{Gate, check_deletable, check_name, not_found};
use crate::canary::{self, Canary};
use crate::catalog::{Catalog, Dot, NamedVolume, Snapshot};
use crate::disk::BLOCK;
use crate::error::{CatalogError, VolumeError};
use crate::log::Published;
use crate::pages::PageError;
use crate::versions::{Source, tree::NodeId};
use crate::volume::Volume;

/// For so long what a reset replaced is kept.
const REFLOG_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

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

impl Sizes {
    fn add(&mut self, other: Sizes) {
        self.logical += other.logical;
        self.referenced += other.referenced;
        self.exclusive += other.exclusive;
        self.dirty += other.dirty;
        self.held_by_branching += other.held_by_branching;
    }
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
        let turn = self.core.verbs_turn.take().await;
        let name = new.name.clone().unwrap_or_else(|| self.free_name("s", dots));
        check_name(&name)?;
        self.check_snapshot(dots, &name)?;
        self.need_versions().await?;
        // Most of what must be sealed is sealed here, so that little is left to do while nobody else may run.
        self.core.log.seal_now();
        self.core.disk.io().yield_now().await;
        let snapshot = || Ok(Descriptor::Snapshot(self.snapshot_cut(dots, &name, new)));
        let Descriptor::Snapshot(cut) = self.admitted(Gate::Make, snapshot).await? else { unreachable!() };
        let first = cut.first_snapshot.0;
        let count = cut.dots.len() as u64;
        let at = self.publish_snapshot(cut).await?;
        let made: Vec<SnapshotInfo> = {
            let catalog = self.core.catalog.borrow();
            (first..first + count)
                .filter_map(|id| Some(info(&catalog, catalog.snapshots.get(&SnapshotId(id))?)))
                .collect()
        };
        // Snapshots that are made meanwhile share the sync.
        drop(turn);
        self.persist_up_to(at.order).await?;
        Ok(made)
    }

    /// The snapshots of a dot, oldest first.
    pub fn snapshots(&self, dot: &str) -> Result<Vec<SnapshotInfo>, CatalogError> {
        let catalog = self.core.catalog.borrow();
        let found = catalog.dots.get(dot).ok_or_else(|| not_found("dot", dot))?;
        let ids: BTreeSet<SnapshotId> = found.snapshots.values().copied().collect();
        Ok(ids.iter().map(|id| info(&catalog, &catalog.snapshots[id])).collect())
    }

    pub fn snapshot(&self, dot: &str, at: &SnapshotRef) -> Result<SnapshotInfo, CatalogError> {
        let catalog = self.core.catalog.borrow();
        let id = resolve(&catalog, dot, at)?;
        Ok(info(&catalog, &catalog.snapshots[&id]))
    }

    /// Deletes snapshots, all or none of them if one is protected or in use. Their space comes back in the background.
    pub async fn delete_snapshots(&self, dot: &str, at: &[SnapshotRef]) -> Result<Vec<SnapshotInfo>, CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        if at.is_empty() {
            return Ok(Vec::new());
        }
        let delete = || {
            let catalog = self.core.catalog.borrow();
            let ids = at.iter().map(|at| resolve(&catalog, dot, at)).collect::<Result<BTreeSet<_>, _>>()?;
            let most = DELETE_MAX.min(self.cut_bytes_max() / 8 - 1);
            if ids.len() > most {
                return Err(CatalogError::TooMany { what: "snapshots", found: ids.len(), most });
            }
            ids.iter().try_for_each(|id| check_deletable(dot, &catalog.snapshots[id]))?;
            Ok(ids)
        };
        let change = || Ok(Descriptor::DeleteSnapshots { snapshots: delete()?.into_iter().collect() });
        let change = self.admitted(Gate::Release, change).await?;
        let gone = {
            let catalog = self.core.catalog.borrow();
            delete()?.iter().map(|id| info(&catalog, &catalog.snapshots[id])).collect()
        };
        let at = self.publish(change);
        self.persist_up_to(at.order).await?;
        Ok(gone)
    }

    /// Changes whether a snapshot is protected, and when it goes by itself (`Some(None)`: never).
    pub async fn configure_snapshot(
        &self,
        dot: &str,
        at: &SnapshotRef,
        protect: Option<bool>,
        ttl: Option<Option<Duration>>,
    ) -> Result<SnapshotInfo, CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        let id = resolve(&self.core.catalog.borrow(), dot, at)?;
        let configure = || {
            let catalog = self.core.catalog.borrow();
            let snapshot = &catalog.snapshots[&id];
            Ok(Descriptor::ConfigureSnapshot(ConfigureCut {
                snapshot: id,
                name: None,
                protected: protect.unwrap_or(snapshot.protected),
                expires_ns: ttl.map_or(snapshot.expires_ns, |ttl| self.expiry(ttl)),
            }))
        };
        let at = self.publish(self.admitted(Gate::Release, configure).await?);
        let now = {
            let catalog = self.core.catalog.borrow();
            info(&catalog, &catalog.snapshots[&id])
        };
        self.persist_up_to(at.order).await?;
        Ok(now)
    }

    /// Makes dots of these names whose volumes begin as they are in the snapshot. If the host dies before this returns, some
    /// of them may be there.
    pub async fn fork(
        &self,
        dot: &str,
        at: &SnapshotRef,
        names: &[String],
        ttl: Option<Duration>,
    ) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        let mut seen = BTreeSet::new();
        for name in names {
            check_name(name)?;
            if self.core.catalog.borrow().dots.contains_key(name) || !seen.insert(name) {
                return Err(CatalogError::Exists { kind: "dot", name: name.clone() });
            }
        }
        let mut last = self.core.log.published();
        for name in names {
            let fork = || {
                let catalog = self.core.catalog.borrow();
                let source = resolve(&catalog, dot, at)?;
                Ok(Descriptor::Fork(ForkCut {
                    name: name.clone(),
                    dot: DotId(catalog.next.dot),
                    source,
                    first_volume: VolumeId(catalog.next.volume),
                    first_line: LineId(catalog.next.line),
                    time_ns: self.core.disk.io().wall_clock(),
                    expires_ns: self.expiry(ttl),
                    volume_count: volume_count(dot, &catalog.snapshots[&source])?,
                }))
            };
            last = self.publish(self.admitted(Gate::Make, fork).await?).order;
        }
        self.persist_up_to(last).await
    }

    /// Makes a dot's volumes what they are in one of its snapshots. What they were is kept as a snapshot, which is returned,
    /// for seven days. Refused while a client uses one of the volumes.
    pub async fn reset(&self, dot: &str, to: &SnapshotRef) -> Result<SnapshotInfo, CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        self.core.log.seal_now();
        self.core.disk.io().yield_now().await;
        let name = self.free_name("before-reset", &[dot]);
        let reset = || {
            let catalog = self.core.catalog.borrow();
            let source = resolve(&catalog, dot, to)?;
            let found = &catalog.dots[dot];
            let users = found.volumes.values().map(|volume| volume.state.users.get()).sum();
            if users > 0 {
                return Err(CatalogError::DotInUse { name: dot.into(), users });
            }
            Ok(Descriptor::Reset(ResetCut {
                name: name.clone(),
                dot: found.id,
                source,
                reflog_snapshot: SnapshotId(catalog.next.snapshot),
                public: self.public_id(),
                first_version: VersionId(catalog.next.version),
                first_volume: VolumeId(catalog.next.volume),
                first_line: LineId(catalog.next.line),
                volume_count: volume_count(dot, &catalog.snapshots[&source])?,
                old_count: found.volumes.len() as u32,
                time_ns: self.core.disk.io().wall_clock(),
                expires_ns: self.expiry(Some(REFLOG_TTL)),
            }))
        };
        let change = self.admitted(Gate::Make, reset).await?;
        let kept = SnapshotId(self.core.catalog.borrow().next.snapshot);
        let at = self.publish(change);
        let kept = {
            let catalog = self.core.catalog.borrow();
            info(&catalog, &catalog.snapshots[&kept])
        };
        self.persist_up_to(at.order).await?;
        Ok(kept)
    }

    /// A handle of a volume as it is in a snapshot whose making is durable; it refuses to be written.
    pub fn open_snapshot(&self, dot: &str, volume: &str, at: &SnapshotRef) -> Result<Volume, CatalogError> {
        let catalog = self.core.catalog.borrow();

        let snapshot = &catalog.snapshots[&resolve(&catalog, dot, at)?];
        if !self.is_durable(snapshot.published_at) {
            return Err(not_found("snapshot", &format!("{dot}@{}", at.text())));
        }
        let member = snapshot.members.iter().find(|member| *member.name == *volume);
        let state = member.and_then(|member| member.state(&self.core.versions, &self.core.lines));
        let state = state.ok_or_else(|| not_found("volume", &format!("{dot}.{volume}@{}", at.text())))?;
        Ok(Volume::new(Rc::clone(&self.core), state))
    }

    /// What a dot or one of its volumes (`None`: all of them) takes, now or in a snapshot.
    pub async fn sizes(
        &self,
        dot: &str,
        volume: Option<&str>,
        at: Option<&SnapshotRef>,
    ) -> Result<Sizes, CatalogError> {
        drop(self.core.folded().await.map_err(VolumeError::Failed)?);
        let mut sum = Sizes::default();
        for (node, size) in self.nodes_of(dot, volume, at)? {
            let found = self.core.sizes_of(node, size).await;
            let damaged = |error: PageError| VolumeError::Damaged { block: 0, what: error.to_string() };
            sum.add(found.map_err(damaged)?);
        }
        Ok(sum)
    }

    /// The heads or versions that are meant, with their sizes in bytes.
    fn nodes_of(
        &self,
        dot: &str,
        volume: Option<&str>,
        at: Option<&SnapshotRef>,
    ) -> Result<Vec<(NodeId, u64)>, CatalogError> {
        let catalog = self.core.catalog.borrow();
        let found = catalog.dots.get(dot).ok_or_else(|| not_found("dot", dot))?;
        let meant = |name: &str| volume.is_none_or(|volume| volume == name);
        let nodes: Vec<(NodeId, u64)> = match at {
            Some(at) => {
                let members = catalog.snapshots[&resolve(&catalog, dot, at)?].members.iter();
                members.filter(|m| meant(&m.name)).map(|m| (NodeId::Frozen(m.version), m.size)).collect()
            }
            None => {
                let head = |volume: &NamedVolume| match &volume.state.source {
                    Source::Head(line) => Some((NodeId::Head(line.id), volume.state.size.get())),
                    Source::Frozen(_) => None,
                };
                found.volumes.values().filter(|v| meant(&v.name)).filter_map(head).collect()
            }
        };
        match volume {
            Some(volume) if nodes.is_empty() => Err(not_found("volume", &format!("{dot}.{volume}"))),
            _ => Ok(nodes),
        }
    }

    /// Removes what has lived as long as it was made for: snapshots that are neither protected nor in use, dots likewise.
    pub(super) async fn remove_expired(&self) -> Result<(), CatalogError> {
        let now = self.core.disk.io().wall_clock();
        let over = |expires_ns: u64| expires_ns != 0 && expires_ns <= now;
        let (snapshots, dots) = {
            let catalog = self.core.catalog.borrow();
            let free = |s: &Snapshot| over(s.expires_ns) && !s.protected && s.users() == 0;
            let named = |s: &Snapshot| (catalog.dot_name(s.dot).to_owned(), SnapshotRef::Name(s.name.clone()));
            let snapshots: Vec<_> = catalog.snapshots.values().filter(|s| free(s)).map(named).collect();
            let unused = |dot: &Dot| {
                let kept =
                    dot.snapshots.values().map(|id| &catalog.snapshots[id]).any(|s| s.protected || s.users() > 0);
                !kept && dot.volumes.values().all(|volume| volume.state.users.get() == 0)
            };
            let dots = catalog.dots.iter().filter(|(_, dot)| over(dot.expires_ns) && unused(dot));
            (snapshots, dots.map(|(name, _)| name.clone()).collect::<Vec<_>>())
        };
        for (dot, snapshot) in snapshots {
            self.delete_snapshots(&dot, &[snapshot]).await?;
        }
        for dot in dots {
            self.remove_dot(&dot).await?;
        }
        Ok(())
    }

    async fn publish_snapshot(&self, cut: SnapshotCut) -> Result<Published, CatalogError> {
        if canary::is(Canary::CutWhenWritten) {
            let change = Descriptor::Snapshot(cut);
            let at = self.append(change.clone());
            self.persist_up_to(at.order).await?;
            self.take_effect(&change, at);
            return Ok(at);
        }
        if canary::is(Canary::CutPerVolume) && cut.dots.len() > 1 {
            return self.publish_one_by_one(cut).await;
        }
        Ok(self.publish(Descriptor::Snapshot(cut)))
    }

    /// What must never happen: the dots of one snapshot are of several instants.
    async fn publish_one_by_one(&self, mut cut: SnapshotCut) -> Result<Published, CatalogError> {
        let mut at = None;
        for dot in std::mem::take(&mut cut.dots) {
            let volumes = dot.volumes.len() as u64;
            at = Some(self.publish(Descriptor::Snapshot(SnapshotCut { dots: vec![dot], ..cut.clone() })));
            cut.first_snapshot.0 += 1;
            cut.first_version.0 += volumes;
            // Time enough for a client to be answered and to write the next.
            self.core.disk.io().sleep(Duration::from_millis(1)).await;
            self.core.room.admit_again(0).await?;
        }
        Ok(at.expect("a snapshot is of one dot at least"))
    }

    fn check_snapshot(&self, dots: &[&str], name: &str) -> Result<(), CatalogError> {
        let catalog = self.core.catalog.borrow();
        let mut volumes = 0;
        for (i, dot) in dots.iter().enumerate() {
            let found = catalog.dots.get(*dot).ok_or_else(|| not_found("dot", dot))?;
            if found.snapshots.contains_key(name) || dots[..i].contains(dot) {
                return Err(CatalogError::Exists { kind: "snapshot", name: format!("{dot}@{name}") });
            }
            if found.volumes.is_empty() {
                return Err(CatalogError::NoVolumes { name: (*dot).into() });
            }
            volumes += found.volumes.len();
        }
        if dots.is_empty() {
            return Err(not_found("dot", ""));
        }
        let bytes = SnapshotCut::len_of(dots.len(), 0, name.len());
        let most = SNAPSHOT_VOLUMES_MAX.min(self.cut_bytes_max().saturating_sub(bytes) / 8);
        if volumes > most {
            return Err(CatalogError::TooMany { what: "volumes", found: volumes, most });
        }
        Ok(())
    }

    fn snapshot_cut(&self, dots: &[&str], name: &str, new: &NewSnapshot) -> SnapshotCut {
        let catalog = self.core.catalog.borrow();
        let part = |dot: &&str| {
            let id = catalog.dots[*dot].id;
            let volumes = catalog.volumes_by_id(id).into_keys().collect();
            SnapshotDot { dot: id, public: self.public_id(), volumes }
        };
        SnapshotCut {
            name: name.to_owned(),
            protected: new.protect,
            reflog: new.reflog,
            first_snapshot: SnapshotId(catalog.next.snapshot),
            first_version: VersionId(catalog.next.version),
            time_ns: self.core.disk.io().wall_clock(),
            expires_ns: self.expiry(new.ttl),
            dots: dots.iter().map(part).collect(),
        }
    }

    /// The longest descriptor of a cut: it and what is sealed with it must fit a fresh segment, and the footer repeats it.
    fn cut_bytes_max(&self) -> usize {
        let segment = u64::from(self.core.disk.geometry().segment_blocks);
        (segment / 8 * BLOCK).min(u64::from(u16::MAX) - 7) as usize
    }

    fn public_id(&self) -> PublicId {
        let mut id = [0; 16];
        self.core.disk.io().fill_random(&mut id);
        PublicId(id)
    }

    /// 0: never.
    fn expiry(&self, ttl: Option<Duration>) -> u64 {
        let ns = |ttl: Duration| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        ttl.map_or(0, |ttl| self.core.disk.io().wall_clock().saturating_add(ns(ttl)))
    }

    /// A name for a snapshot that none in these dots has: what it is, the time, and four digits by chance (more of them where
    /// chance hit a name that is taken).
    fn free_name(&self, what: &str, dots: &[&str]) -> String {
        let io = self.core.disk.io();
        let catalog = self.core.catalog.borrow();
        let found: Vec<_> = dots.iter().filter_map(|dot| catalog.dots.get(*dot)).collect();
        let stem = format!("{what}-{}", utc(io.wall_clock() / 1_000_000_000));
        let mut name = format!("{stem}-{:04x}", io.random_u64() & 0xffff);
        while found.iter().any(|dot| dot.snapshots.contains_key(&name)) {
            name = format!("{stem}-{:016x}", io.random_u64());
        }
        name
    }
}

fn info(catalog: &Catalog, snapshot: &Snapshot) -> SnapshotInfo {
    let volumes = snapshot.members.iter().map(|member| SnapshotVolume {
        name: member.name.to_string(),
        size_bytes: member.size,
        users: member.users(),
    });
    SnapshotInfo {
        id: snapshot.public,
        name: snapshot.name.clone(),
        dot: catalog.dot_name(snapshot.dot).to_owned(),
        created_ns: snapshot.created_ns,
        expires_ns: (snapshot.expires_ns != 0).then_some(snapshot.expires_ns),
        protected: snapshot.protected,
        reflog: snapshot.reflog,
        volumes: volumes.collect(),
    }
}

fn resolve(catalog: &Catalog, dot: &str, at: &SnapshotRef) -> Result<SnapshotId, CatalogError> {
    let found = catalog.dots.get(dot).ok_or_else(|| not_found("dot", dot))?;
    if let Some(id) = found.snapshots.get(at.text()) {
        return Ok(*id);
    }
    let SnapshotRef::Prefix(prefix) = at else { return Err(not_found("snapshot", &format!("{dot}@{}", at.text()))) };
    let public = |id: &SnapshotId| (catalog.snapshots[id].public.to_string(), *id);
    let mut matching: Vec<_> = found.snapshots.values().map(public).filter(|(id, _)| id.starts_with(prefix)).collect();
    matching.sort();
    match &matching[..] {
        [] => Err(not_found("snapshot", &format!("{dot}@{prefix}"))),
        [(_, only)] => Ok(*only),
        several => {
            let matches = several.iter().map(|(id, _)| id.clone()).collect();
            Err(CatalogError::Ambiguous { prefix: prefix.clone(), matches })
        }
    }
}

/// Volumes that begin from a snapshot: one at least.
fn volume_count(dot: &str, source: &Snapshot) -> Result<u32, CatalogError> {
    match source.members.len() {
        0 => Err(CatalogError::NoVolumes { name: format!("{dot}@{}", source.name) }),
        count => Ok(count as u32),
    }
}

/// Seconds since 1970 as `yyyymmdd-hhmmss`.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the leap day is the last of its year; 719,468 days from there to 1970.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_names_are_utc() {
        assert_eq!(utc(0), "19700101-000000");
        assert_eq!(utc(951_782_399), "20000228-235959");
        assert_eq!(utc(951_782_400), "20000229-000000");
        assert_eq!(utc(1_700_000_000), "20231114-221320");
    }

    #[test]
    fn text_of_hex_digits_may_be_an_id() {
        assert_eq!(SnapshotRef::from("c1f2a9"), SnapshotRef::Prefix("c1f2a9".into()));
        for name in ["c1f2a", "before", "C1F2A9", "s-20231114"] {
            assert_eq!(SnapshotRef::from(name), SnapshotRef::Name(name.into()));
        }
    }
}
