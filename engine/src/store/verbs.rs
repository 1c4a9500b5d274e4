//! Changes of the catalog: validated against what is published, published as one cut each, durable when they return.

use std::rc::Rc;

use treering_format::catalog::valid_name;
use treering_format::record::Descriptor;
use treering_format::superblock::VERSIONS;
use treering_format::units::{DotId, LineId, OrderNumber, VersionId, VolumeId};

use super::{DotInfo, NewVolume, Store, VolumeInfo};
use crate::catalog::Snapshot;
use crate::disk::BLOCK;
use crate::error::{CatalogError, VolumeError};
use crate::fold::Cut;
use crate::limits::VOLUME_BYTES_MAX;
use crate::log::Published;
use crate::volume::Volume;

impl Store {
    /// Makes a dot with these volumes. If the host dies before this returns, some of them may be there.
    pub async fn create_dot(&self, name: &str, volumes: &[NewVolume]) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        check_name(name)?;
        for (i, volume) in volumes.iter().enumerate() {
            check_volume(volume)?;
            if volumes[..i].iter().any(|v| v.name == volume.name) {
                return Err(CatalogError::Exists { kind: "volume", name: volume.name.clone() });
            }
        }
        self.admit_change().await?;
        let dot = {
            let catalog = self.core.catalog.borrow();
            if catalog.dots.contains_key(name) {
                return Err(CatalogError::Exists { kind: "dot", name: name.into() });
            }
            DotId(catalog.next.dot)
        };
        self.publish(Descriptor::CreateDot { dot, name: name.into() });
        for volume in volumes {
            self.admit_change().await?;
            self.publish_volume(name, dot, volume)?;
        }
        self.persist().await
    }

    /// Removes a dot with all its volumes and snapshots, as one. Clients that use its volumes get errors from then on. Refused
    /// if a snapshot of it is protected or in use.
    pub async fn remove_dot(&self, name: &str) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        self.admit_change().await?;
        self.need_versions().await?;
        let change = {
            let catalog = self.core.catalog.borrow();
            let dot = catalog.dots.get(name).ok_or_else(|| not_found("dot", name))?;
            dot.snapshots.values().try_for_each(|id| check_deletable(name, &catalog.snapshots[id]))?;
            Descriptor::RemoveDot { dot: dot.id, first_version: VersionId(catalog.next.version) }
        };
        self.publish(change);
        self.persist().await
    }

    /// Adds a volume to a dot.
    pub async fn add_volume(&self, dot: &str, volume: &NewVolume) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        check_volume(volume)?;
        self.admit_change().await?;
        let id = self.core.catalog.borrow().dots.get(dot).ok_or_else(|| not_found("dot", dot))?.id;
        self.publish_volume(dot, id, volume)?;
        self.persist().await
    }

    /// Changes a volume's size in bytes. Growing is seen by clients that negotiate anew; shrinking zeroes what is cut off and
    /// is refused while a client uses the volume.
    pub async fn resize_volume(&self, dot: &str, volume: &str, size_bytes: u64) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        check_size(volume, size_bytes)?;
        self.core.admit(0).await?;
        self.admit_change().await?;
        let (id, state) = {
            let catalog = self.core.catalog.borrow();
            let found = catalog.volume(dot, volume).ok_or_else(|| not_found("volume", &format!("{dot}.{volume}")))?;
            (found.id, Rc::clone(&found.state))
        };
        let (from, users) = (state.size.get(), state.users.get());
        if size_bytes < from {
            if users > 0 {
                let name = format!("{dot}.{volume}");
                return Err(CatalogError::InUse { name, from, to: size_bytes, users });
            }
            // Growing again must show zeros, so the cut tail becomes a hole. A block that is cut in two keeps its first part.
            let keep = size_bytes.next_multiple_of(BLOCK);
            if keep > size_bytes {
                let tail = Volume::new(Rc::clone(&self.core), Rc::clone(&state));
                let len = keep.min(from) - size_bytes;
                tail.zero(size_bytes, len, crate::volume::Zeroing::Hole, false).await?;
                self.core.admit(0).await?;
            }
            // A client may have come while the tail was zeroed.
            let (users, name) = (state.users.get(), format!("{dot}.{volume}"));
            if users > 0 {
                return Err(CatalogError::InUse { name, from, to: size_bytes, users });
            }
            let end = from.div_ceil(BLOCK);
            if keep / BLOCK < end {
                self.core.log.publish_blank(state.head()?, keep / BLOCK, end - keep / BLOCK, false);
            }
        }
        let change = Descriptor::ResizeVolume { volume: id, line: state.head()?.id, size_bytes };
        if size_bytes < from {
            self.publish(change);
            return self.persist().await;
        }
        // Clients see the new end only once it is durable: what they write there must have a place after any crash.
        let at = self.append(change.clone());
        self.persist().await?;
        self.take_effect(&change, at);
        Ok(())
    }

    /// Removes a volume. Clients that use it get errors from then on.
    pub async fn remove_volume(&self, dot: &str, volume: &str) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        self.admit_change().await?;
        self.need_versions().await?;
        let change = {
            let catalog = self.core.catalog.borrow();
            let found = catalog.volume(dot, volume).ok_or_else(|| not_found("volume", &format!("{dot}.{volume}")))?;
            Descriptor::RemoveVolume { volume: found.id, version: VersionId(catalog.next.version) }
        };
        self.publish(change);
        self.persist().await
    }

    /// All dots by name, each with its volumes by name.
    pub fn dots(&self) -> Vec<DotInfo> {
        let catalog = self.core.catalog.borrow();
        let info = |name: &String, v: &crate::catalog::NamedVolume| VolumeInfo {
            name: name.clone(),
            size_bytes: v.state.size.get(),
            compression: v.compression,
            users: v.state.users.get(),
        };
        let dot = |(name, dot): (&String, &crate::catalog::Dot)| DotInfo {
            name: name.clone(),
            volumes: dot.volumes.iter().map(|(name, v)| info(name, v)).collect(),
        };
        catalog.dots.iter().map(dot).collect()
    }

    /// A handle of a volume, if there is one of that name whose creation is durable.
    pub fn volume(&self, dot: &str, volume: &str) -> Option<Volume> {
        let catalog = self.core.catalog.borrow();
        let found = catalog.volume(dot, volume).filter(|found| self.is_durable(found.published_at))?;
        Some(Volume::new(Rc::clone(&self.core), Rc::clone(&found.state)))
    }

    pub(super) fn is_durable(&self, order: OrderNumber) -> bool {
        order <= self.core.log.durable().order
    }

    fn publish_volume(&self, dot_name: &str, dot: DotId, volume: &NewVolume) -> Result<(), CatalogError> {
        let change = {
            let catalog = self.core.catalog.borrow();
            if catalog.volume(dot_name, &volume.name).is_some() {
                return Err(CatalogError::Exists { kind: "volume", name: format!("{dot_name}.{}", volume.name) });
            }
            Descriptor::CreateVolume {
                volume: VolumeId(catalog.next.volume),
                dot,
                line: LineId(catalog.next.line),
                size_bytes: volume.size_bytes,
                compression: volume.compression.to_format(),
                name: volume.name.clone(),
            }
        };
        self.publish(change);
        Ok(())
    }

    /// Publishes a change: it takes effect and has its place in the log in one step.
    pub(super) fn publish(&self, change: Descriptor) -> Published {
        let io = self.core.disk.io();
        let begun = io.now();
        let at = self.append(change.clone());
        self.take_effect(&change, at);
        self.core.holds.note(io.now() - begun);
        at
    }

    pub(super) fn append(&self, change: Descriptor) -> Published {
        let at = self.core.log.publish_cut(change.clone());
        let mut fold = self.core.fold.borrow_mut();
        fold.cuts.push(Cut { at, change }, self.core.disk.io().now());
        self.core.pressure.pending_cuts.set(fold.cuts.maps());
        if fold.cuts.maps() >= self.core.limits.fold_cuts {
            self.core.pressure.ask_fold();
        }
        at
    }

    pub(super) fn take_effect(&self, change: &Descriptor, at: Published) {
        self.core.catalog.borrow_mut().publish(change, at, &self.core.lines, &self.core.versions);
    }

    /// For snapshots and what is made of them: they make a map's pages be written once more, so they leave the reserve alone.
    pub(super) async fn admit_new(&self) -> Result<(), CatalogError> {
        if self.core.read_only {
            return Err(VolumeError::ReadOnly.into());
        }
        self.core.room.admit_verb().await?;
        Ok(())
    }

    pub(super) async fn admit_change(&self) -> Result<(), CatalogError> {
        if self.core.read_only {
            return Err(VolumeError::ReadOnly.into());
        }
        self.core.room.admit_cut().await?;
        Ok(())
    }

    /// Says in the superblock that the store needs a program that knows versions, before the first one is made.
    pub(super) async fn need_versions(&self) -> Result<(), CatalogError> {
        if self.core.superblock.current().has_feature(VERSIONS) {
            return Ok(());
        }
        let committed = self.core.superblock.commit(&self.core.disk, |s| s.add_feature(VERSIONS)).await;
        let required = self.core.health.require("naming a feature in the superblock", committed);
        required.map_err(|failure| VolumeError::from(failure).into())
    }

    async fn persist(&self) -> Result<(), CatalogError> {
        self.persist_up_to(self.core.log.published()).await
    }

    pub(super) async fn persist_up_to(&self, order: OrderNumber) -> Result<(), CatalogError> {
        self.core.log.persist(order).await.map_err(VolumeError::from)?;
        Ok(())
    }
}

/// Whether a snapshot may go now.
pub(super) fn check_deletable(dot: &str, snapshot: &Snapshot) -> Result<(), CatalogError> {
    let (name, users) = (format!("{dot}@{}", snapshot.name), snapshot.users());
    if snapshot.protected {
        return Err(CatalogError::Protected { name });
    }
    if users > 0 { Err(CatalogError::SnapshotInUse { name, users }) } else { Ok(()) }
}

pub(super) fn check_name(name: &str) -> Result<(), CatalogError> {
    if valid_name(name) { Ok(()) } else { Err(CatalogError::InvalidName { name: name.into() }) }
}

fn check_volume(volume: &NewVolume) -> Result<(), CatalogError> {
    check_name(&volume.name)?;
    check_size(&volume.name, volume.size_bytes)
}

fn check_size(name: &str, size: u64) -> Result<(), CatalogError> {
    if (512..=VOLUME_BYTES_MAX).contains(&size) && size.is_multiple_of(512) {
        Ok(())
    } else {
        Err(CatalogError::InvalidSize { name: name.into(), size })
    }
}

pub(super) fn not_found(kind: &'static str, name: &str) -> CatalogError {
    CatalogError::NotFound { kind, name: name.into() }
}
