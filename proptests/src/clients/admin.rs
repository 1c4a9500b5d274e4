//! The client that also changes the catalog: it makes, resizes and removes dots and volumes while others use them.

use treering_engine::{CatalogError, CompressionMode, NewVolume, VolumeError};

use super::Client;
use crate::content::BLOCK;
use crate::model::{Change, Piece, VolumeKey, resize_pieces};
use crate::scenario::Temper;
use crate::world::Broken;

/// A store holds at most so many volumes here.
const VOLUMES_MAX: usize = 4;

impl Client {
    pub(super) async fn administrate(&mut self) -> Result<(), Broken> {
        let now = self.world.journal.borrow().now().clone();
        let volumes: Vec<_> =
            now.volumes.iter().map(|(key, v)| (*key, v.dot.clone(), v.name.clone(), v.size)).collect();
        let dots: Vec<String> = now.dots.into_iter().collect();
        let chosen = |random: &mut crate::random::Random| random.pick(&volumes).clone();
        match self.random.below(10) {
            _ if dots.is_empty() => self.create_dot().await,
            0 if dots.len() < 3 => self.create_dot().await,
            1 if self.random.chance(30) => {
                let dot = self.random.pick(&dots).clone();
                self.remove_dot(&dot).await
            }
            2..4 if !volumes.is_empty() => {
                let (key, dot, name, _) = chosen(&mut self.random);
                self.remove_volume(key, &dot, &name).await
            }
            4..8 if !volumes.is_empty() => {
                let (key, dot, name, size) = chosen(&mut self.random);
                self.resize(key, &dot, &name, size).await
            }
            _ if volumes.len() < VOLUMES_MAX => {
                let dot = self.random.pick(&dots).clone();
                self.add_volume(&dot).await
            }
            _ => {
                let (key, dot, name, size) = chosen(&mut self.random);
                self.resize(key, &dot, &name, size).await
            }
        }
    }

    pub async fn create_dot(&mut self) -> Result<(), Broken> {
        let name = format!("dot-{}", self.random.below(5));
        if self.world.journal.borrow().now().dots.contains(&name) {
            let result = self.store.create_dot(&name, &[]).await;
            return match result {
                Err(CatalogError::Exists { .. } | CatalogError::Volume(VolumeError::NoSpace { .. })) => Ok(()),
                Err(CatalogError::Volume(VolumeError::Failed(_))) if self.world.temper != Temper::Sound => Ok(()),
                other => Err(format!("creating {name} once more: {other:?}")),
            };
        }
        let taken = self.world.journal.borrow().now().volumes.len();
        let count = self.random.between(0, (VOLUMES_MAX.saturating_sub(taken)).min(2) as u64);
        let volumes: Vec<NewVolume> = (0..count).map(|i| self.new_volume(format!("v{i}"))).collect();
        let mut pieces = vec![Piece::Change(Change::CreateDot { name: name.clone() })];
        pieces.extend(volumes.iter().map(|v| self.creation(&name, v)));
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: create dot {name} with {volumes:?}"));
        let verb = self.store.create_dot(&name, &volumes);
        let (result, last) = self.world.observe(&self.store, operation, pieces, verb).await;
        self.verb(result, last, true)
    }

    async fn add_volume(&mut self, dot: &str) -> Result<(), Broken> {
        let name = format!("v{}", self.random.below(6));
        if self.world.journal.borrow().now().named(dot, &name).is_some() {
            return Ok(());
        }
        let volume = self.new_volume(name);
        let piece = self.creation(dot, &volume);
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: add {volume:?} to {dot}"));
        let (result, last) =
            self.world.observe(&self.store, operation, vec![piece], self.store.add_volume(dot, &volume)).await;
        self.verb(result, last, true)
    }

    async fn resize(&mut self, key: VolumeKey, dot: &str, name: &str, from: u64) -> Result<(), Broken> {
        let size = self.size();
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: resize v{} from {from} to {size}", key.0));
        let verb = self.store.resize_volume(dot, name, size);
        let (result, last) = self.world.observe(&self.store, operation, resize_pieces(key, from, size), verb).await;
        match result {
            Err(CatalogError::InUse { .. }) if size < from => Ok(()),
            other => self.verb(other, last, true),
        }
    }

    async fn remove_volume(&mut self, volume: VolumeKey, dot: &str, name: &str) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: remove v{}", volume.0));
        let piece = Piece::Change(Change::RemoveVolume { volume });
        let (result, last) =
            self.world.observe(&self.store, operation, vec![piece], self.store.remove_volume(dot, name)).await;
        self.verb(result, last, false)
    }

    async fn remove_dot(&mut self, dot: &str) -> Result<(), Broken> {
        let operation = self.world.new_operation();
        self.world.note(|| format!("operation {operation}: remove {dot}"));
        let protected = {
            let journal = self.world.journal.borrow();
            journal.now().snapshots.iter().any(|((of, _), snapshot)| of == dot && snapshot.protected)
        };
        let pieces = vec![Piece::Change(Change::RemoveDot { name: dot.into() })];
        let (result, last) = self.world.observe(&self.store, operation, pieces, self.store.remove_dot(dot)).await;
        match result {
            Err(CatalogError::Protected { .. }) if protected => Ok(()),
            Err(CatalogError::SnapshotInUse { .. }) if self.scenario.clients > 1 => Ok(()),
            Ok(()) if protected => Err(format!("{dot} was removed with a protected snapshot")),
            other => self.verb(other, last, false),
        }
    }

    fn new_volume(&mut self, name: String) -> NewVolume {
        let compression = *self.random.pick(&[CompressionMode::Auto, CompressionMode::Lz4, CompressionMode::Off]);
        NewVolume { name, size_bytes: self.size(), compression }
    }

    fn creation(&self, dot: &str, volume: &NewVolume) -> Piece {
        Piece::Change(Change::CreateVolume {
            volume: self.world.journal.borrow_mut().new_volume(),
            dot: dot.into(),
            name: volume.name.clone(),
            size: volume.size_bytes,
            compression: volume.compression,
        })
    }

    fn size(&mut self) -> u64 {
        let blocks = self.random.between(1, self.scenario.volume_blocks);
        if self.random.chance(20) { blocks * BLOCK - 512 * self.random.below(8) } else { blocks * BLOCK }
    }

    /// A verb is durable when it returns; one that removes always finds room.
    pub(super) fn verb(
        &self,
        result: Result<(), CatalogError>,
        last: crate::model::Position,
        needs_room: bool,
    ) -> Result<(), Broken> {
        match result {
            _ if self.world.crashed() => {}
            Ok(()) => {
                self.world.make_durable(last);
                self.world.journal.borrow_mut().announce(last);
            }
            Err(CatalogError::Volume(VolumeError::NoSpace { .. })) if needs_room => {
                self.world.coverage.borrow_mut().no_space += 1;
            }
            Err(CatalogError::Volume(VolumeError::Failed(_) | VolumeError::Damaged { .. }))
                if self.world.temper != Temper::Sound => {}
            Err(error) => return Err(format!("a change of the catalog: {error}")),
        }
        Ok(())
    }
}
