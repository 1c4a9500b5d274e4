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

/// How a change of the catalog is let in on a store that is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It makes something: the reserve is not for it.
    Make,
    /// It gives space back, or takes none.
    Release,
}

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
        let dot = {
            let catalog = self.core.catalog.borrow();
            if catalog.dots.contains_key(name) {
                return Err(CatalogError::Exists { kind: "dot", name: name.into() });
            }
            DotId(catalog.next.dot)
        };
        let create = || Ok(Descriptor::CreateDot { dot, name: name.into() });
        self.publish(self.admitted(Gate::Make, create).await?);
        for volume in volumes {
            self.publish_volume(name, dot, volume).await?;
        }
        self.persist().await
    }

    /// Removes a dot with all its volumes and snapshots, as one. Clients that use its volumes get errors from then on. Refused
    /// if a snapshot of it is protected or in use.
    pub async fn remove_dot(&self, name: &str) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        let remove = || {
            let catalog = self.core.catalog.borrow();
            let dot = catalog.dots.get(name).ok_or_else(|| not_found("dot", name))?;
            dot.snapshots.values().try_for_each(|id| check_deletable(name, &catalog.snapshots[id]))?;
            Ok(Descriptor::RemoveDot { dot: dot.id, first_version: VersionId(catalog.next.version) })
        };
        self.need_versions().await?;
        self.publish(self.admitted(Gate::Release, remove).await?);
        self.persist().await
    }

    /// Adds a volume to a dot.
    pub async fn add_volume(&self, dot: &str, volume: &NewVolume) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        check_volume(volume)?;
        let id = self.core.catalog.borrow().dots.get(dot).ok_or_else(|| not_found("dot", dot))?.id;
        self.publish_volume(dot, id, volume).await?;
        self.persist().await
    }

    /// Changes a volume's size in bytes. Growing is seen by clients that negotiate anew; shrinking zeroes what is cut off and
    /// is refused while a client uses the volume.
    pub async fn resize_volume(&self, dot: &str, volume: &str, size_bytes: u64) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        check_size(volume, size_bytes)?;
        let (id, state) = {
            let catalog = self.core.catalog.borrow();
            let found = catalog.volume(dot, volume).ok_or_else(|| not_found("volume", &format!("{dot}.{volume}")))?;
            (found.id, Rc::clone(&found.state))
        };
        let from = state.size.get();
        let resize = || {
            let users = state.users.get();
            if size_bytes < from && users > 0 {
                let name = format!("{dot}.{volume}");
                return Err(CatalogError::InUse { name, from, to: size_bytes, users });
            }
            Ok(Descriptor::ResizeVolume { volume: id, line: state.head()?.id, size_bytes })
        };
        if size_bytes >= from {
            // Clients see the new end only once it is durable: what they write there must have a place after any crash.
            let change = self.admitted(Gate::Make, resize).await?;
            let at = self.append(change.clone());
            self.persist().await?;
            self.take_effect(&change, at);
            return Ok(());
        }
        // Growing again must show zeros, so the cut tail becomes a hole. A block that is cut in two keeps its first part.
        let mut change = self.admitted(Gate::Release, resize).await?;
        let keep = size_bytes.next_multiple_of(BLOCK);
        if keep > size_bytes {
            let tail = Volume::new(Rc::clone(&self.core), Rc::clone(&state));
            tail.zero_within_block(size_bytes, keep.min(from) - size_bytes).await?;
            drop(tail);
            // A client may have come while the tail was zeroed.
            change = self.admitted(Gate::Release, resize).await?;
        }
        let end = from.div_ceil(BLOCK);
        if keep / BLOCK < end {
            self.core.log.publish_blank(state.head()?, keep / BLOCK, end - keep / BLOCK, false);
        }
        self.publish(change);
        self.persist().await
    }

    /// Removes a volume. Clients that use it get errors from then on.
    pub async fn remove_volume(&self, dot: &str, volume: &str) -> Result<(), CatalogError> {
        let _turn = self.core.verbs_turn.take().await;
        let remove = || {
            let catalog = self.core.catalog.borrow();
            let found = catalog.volume(dot, volume).ok_or_else(|| not_found("volume", &format!("{dot}.{volume}")))?;
            Ok(Descriptor::RemoveVolume { volume: found.id, version: VersionId(catalog.next.version) })
        };
        self.need_versions().await?;
        self.publish(self.admitted(Gate::Release, remove).await?);
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

    async fn publish_volume(&self, dot_name: &str, dot: DotId, volume: &NewVolume) -> Result<(), CatalogError> {
        let create = || {
            let catalog = self.core.catalog.borrow();
            if catalog.volume(dot_name, &volume.name).is_some() {
                return Err(CatalogError::Exists { kind: "volume", name: format!("{dot_name}.{}", volume.name) });
            }
            Ok(Descriptor::CreateVolume {
                volume: VolumeId(catalog.next.volume),
                dot,
                line: LineId(catalog.next.line),
                size_bytes: volume.size_bytes,
                compression: volume.compression.to_format(),
                name: volume.name.clone(),
            })
        };
        self.publish(self.admitted(Gate::Make, create).await?);
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
        let keys = self.core.catalog.borrow().cost(&change).keys;
        let at = self.core.log.publish_cut(change.clone());
        let mut fold = self.core.fold.borrow_mut();
        fold.cuts.push(Cut { at, change, keys }, self.core.disk.io().now());
        self.core.pressure.note_cut(keys, fold.cuts.maps());
        if fold.cuts.maps() >= self.core.limits.fold_cuts {
            self.core.pressure.ask_fold();
        }
        at
    }

    pub(super) fn take_effect(&self, change: &Descriptor, at: Published) {
        self.core.catalog.borrow_mut().publish(change, at, &self.core.lines, &self.core.versions);
    }

    /// Waits until the change that `build` gives may be published, and builds it once more: what clients hold may have changed
    /// meanwhile. The caller publishes it at once.
    pub(super) async fn admitted(
        &self,
        gate: Gate,
        build: impl Fn() -> Result<Descriptor, CatalogError>,
    ) -> Result<Descriptor, CatalogError> {
        if self.core.read_only {
            return Err(VolumeError::ReadOnly.into());
        }
        let change = build()?;
        let cost = self.core.catalog.borrow().cost(&change);
        match gate {
            Gate::Make => self.core.room.admit_verb(cost).await?,
            Gate::Release => self.core.room.admit_release(cost).await?,
        }
        build()
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
