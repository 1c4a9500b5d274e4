//! The catalog: dots, volumes, their names and sizes. A verb is validated and takes effect when it is published; its
//! descriptor travels in the log like everything else, and the same function applies it when it is replayed. What the fold has
//! reached is kept beside, for that is what a checkpoint stores.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treering_format::catalog::{CatalogKey, DotEntry, VolumeEntry};
use treering_format::record::Descriptor;
use treering_format::units::{DotId, LineId, VolumeId};

use crate::compress::{Compression, CompressionMode};
use crate::line::{Line, Lines};
use crate::map::ExtentMap;
use crate::volume::VolumeState;

/// The state of all names, as published and as folded.
pub(crate) struct Catalog {
    pub dots: BTreeMap<String, Dot>,
    pub next_dot: u64,
    pub next_volume: u64,
    pub next_line: u64,
    pub folded: Folded,
}

pub(crate) struct Dot {
    pub id: DotId,
    pub volumes: BTreeMap<String, NamedVolume>,
}

pub(crate) struct NamedVolume {
    pub id: VolumeId,
    pub compression: CompressionMode,
    pub state: Rc<VolumeState>,
    /// Its creation is durable: only then may a client have it, for what a client is told must survive.
    pub durable: Cell<bool>,
}

/// The catalog as the fold has reached it, without the roots (the lines have those).
#[derive(Default)]
pub(crate) struct Folded {
    pub dots: BTreeMap<DotId, DotEntry>,
    pub volumes: BTreeMap<VolumeId, VolumeEntry>,
    /// Keys that differ from the last checkpoint.
    pub changed: BTreeSet<CatalogKey>,
}

impl Catalog {
    pub(crate) fn new(next_dot: u64, next_volume: u64, next_line: u64) -> Catalog {
        Catalog { dots: BTreeMap::new(), next_dot, next_volume, next_line, folded: Folded::default() }
    }

    /// Takes entries of a checkpoint's catalog tree.
    pub(crate) fn load(&mut self, dots: Vec<(DotId, DotEntry)>, volumes: Vec<(VolumeId, VolumeEntry)>, lines: &Lines) {
        for (id, entry) in dots {
            self.dots.insert(entry.name.clone(), Dot { id, volumes: BTreeMap::new() });
            self.folded.dots.insert(id, entry);
        }
        for (id, entry) in volumes {
            let map = ExtentMap::open(entry.line.0, entry.root);
            let mode = CompressionMode::from_format(entry.compression);
            let line = Line::new(entry.line, map, Compression::new(mode));
            lines.insert(Rc::clone(&line));
            self.put_volume(id, entry.dot, &entry.name, line, entry.size_bytes, mode);
            self.folded.volumes.insert(id, entry);
        }
    }

    /// Applies a change to what is published; called once for each, at publish or at replay.
    pub(crate) fn publish(&mut self, change: &Descriptor, lines: &Lines) {
        match change {
            Descriptor::CreateDot { dot, name } => {
                self.dots.insert(name.clone(), Dot { id: *dot, volumes: BTreeMap::new() });
                self.next_dot = self.next_dot.max(dot.0 + 1);
            }
            Descriptor::RemoveDot { dot, .. } => self.dots.retain(|_, d| d.id != *dot),
            Descriptor::CreateVolume { volume, dot, line, size_bytes, compression, name } => {
                let mode = CompressionMode::from_format(*compression);
                let new = Line::new(*line, ExtentMap::empty(line.0), Compression::new(mode));
                lines.insert(Rc::clone(&new));
                self.put_volume(*volume, *dot, name, new, *size_bytes, mode);
                self.next_volume = self.next_volume.max(volume.0 + 1);
                self.next_line = self.next_line.max(line.0 + 1);
            }
            Descriptor::RemoveVolume { volume, .. } => {
                for dot in self.dots.values_mut() {
                    dot.volumes.retain(|_, v| {
                        let gone = v.id == *volume;
                        if gone {
                            v.state.line.removed.set(true);
                        }
                        !gone
                    });
                }
            }
            Descriptor::ResizeVolume { volume, size_bytes, .. } => {
                if let Some(v) = self.volume_mut(*volume) {
                    v.state.size.set(*size_bytes);
                }
            }
            Descriptor::ConfigureVolume { volume, compression } => {
                if let Some(v) = self.volume_mut(*volume) {
                    v.compression = CompressionMode::from_format(*compression);
                    *v.state.line.compression.borrow_mut() = Compression::new(v.compression);
                }
            }
            Descriptor::Snapshot(_)
            | Descriptor::Fork(_)
            | Descriptor::DeleteSnapshots { .. }
            | Descriptor::ConfigureSnapshot(_)
            | Descriptor::Reset(_) => unreachable!("no verb publishes it"),
            Descriptor::Data(_) | Descriptor::Hole { .. } | Descriptor::Zero { .. } => {
                unreachable!("data is not a change of the catalog")
            }
        }
    }

    /// Applies a change to what is folded. Returns the line that goes with it, if one does.
    pub(crate) fn fold(&mut self, change: &Descriptor) -> Option<LineId> {
        let folded = &mut self.folded;
        match change {
            Descriptor::CreateDot { dot, name } => {
                folded.dots.insert(*dot, DotEntry { name: name.clone(), ..DotEntry::default() });
                folded.changed.insert(CatalogKey::Dot(*dot));
            }
            Descriptor::RemoveDot { dot, .. } => {
                folded.dots.remove(dot);
                folded.changed.insert(CatalogKey::Dot(*dot));
            }
            Descriptor::CreateVolume { volume, dot, line, size_bytes, compression, name } => {
                let entry = VolumeEntry {
                    dot: *dot,
                    line: *line,
                    name: name.clone(),
                    size_bytes: *size_bytes,
                    compression: *compression,
                    ..VolumeEntry::default()
                };
                folded.volumes.insert(*volume, entry);
                folded.changed.insert(CatalogKey::Volume(*volume));
            }
            Descriptor::RemoveVolume { volume, .. } => {
                folded.changed.insert(CatalogKey::Volume(*volume));
                return folded.volumes.remove(volume).map(|entry| entry.line);
            }
            Descriptor::ResizeVolume { volume, size_bytes, .. } => {
                if let Some(entry) = folded.volumes.get_mut(volume) {
                    entry.size_bytes = *size_bytes;
                    folded.changed.insert(CatalogKey::Volume(*volume));
                }
            }
            Descriptor::ConfigureVolume { volume, compression } => {
                if let Some(entry) = folded.volumes.get_mut(volume) {
                    entry.compression = *compression;
                    folded.changed.insert(CatalogKey::Volume(*volume));
                }
            }
            Descriptor::Snapshot(_)
            | Descriptor::Fork(_)
            | Descriptor::DeleteSnapshots { .. }
            | Descriptor::ConfigureSnapshot(_)
            | Descriptor::Reset(_) => unreachable!("no verb publishes it"),
            Descriptor::Data(_) | Descriptor::Hole { .. } | Descriptor::Zero { .. } => {
                unreachable!("data is not a change of the catalog")
            }
        }
        None
    }

    /// Everything published so far is durable.
    pub(crate) fn all_durable(&self) {
        self.dots.values().flat_map(|d| d.volumes.values()).for_each(|v| v.durable.set(true));
    }

    pub(crate) fn volume(&self, dot: &str, volume: &str) -> Option<&NamedVolume> {
        self.dots.get(dot)?.volumes.get(volume)
    }

    fn volume_mut(&mut self, id: VolumeId) -> Option<&mut NamedVolume> {
        self.dots.values_mut().flat_map(|d| d.volumes.values_mut()).find(|v| v.id == id)
    }

    fn put_volume(
        &mut self,
        id: VolumeId,
        dot: DotId,
        name: &str,
        line: Rc<Line>,
        size: u64,
        compression: CompressionMode,
    ) {
        let state = Rc::new(VolumeState { line, size: Cell::new(size), users: Cell::new(0) });
        if let Some(dot) = self.dots.values_mut().find(|d| d.id == dot) {
            dot.volumes.insert(name.to_owned(), NamedVolume { id, compression, state, durable: Cell::new(false) });
        }
    }
}

/// The catalog in the cell that the store keeps it in.
pub(crate) type SharedCatalog = RefCell<Catalog>;
