//! The catalog: dots, volumes, snapshots, their names and sizes. A verb is validated and takes effect when it is published; its
//! descriptor travels in the log like everything else, and the same function applies it when it is replayed. What the fold has
//! reached is kept beside, for that is what a checkpoint stores.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Add;
use std::rc::{Rc, Weak};

use treering_format::catalog::SnapshotEntry;
use treering_format::record::{Descriptor, ForkCut, ResetCut, SnapshotCut};
use treering_format::units::{DotId, LineId, OrderNumber, PublicId, SnapshotId, VersionId, VolumeId};

use crate::compress::{Compression, CompressionMode};
use crate::line::{Line, Lines};
use crate::log::{CutCost, Keys, Published};
use crate::map::ExtentMap;
use crate::overlay::Layer;
use crate::versions::{FrozenView, Look, Source, Versions, tree::NodeId};
use crate::volume::VolumeState;

mod folded;

pub(crate) use folded::{Entries, Folded, keys_of, members_of};

/// The state of all names, as published and as folded.
pub(crate) struct Catalog {
    pub dots: BTreeMap<String, Dot>,
    dot_names: BTreeMap<DotId, String>,
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
    pub next: NextIds,
    pub folded: Folded,
}

/// The first ids that are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextIds {
    pub dot: u64,
    pub volume: u64,
    pub line: u64,
    pub version: u64,
    pub snapshot: u64,
}

pub(crate) struct Dot {
    pub id: DotId,
    pub volumes: BTreeMap<String, NamedVolume>,
    pub snapshots: BTreeMap<String, SnapshotId>,
    /// Wall clock; 0: never.
    pub expires_ns: u64,
}

pub(crate) struct NamedVolume {
    pub id: VolumeId,
    pub name: Rc<str>,
    pub compression: CompressionMode,
    pub state: Rc<VolumeState>,
    /// Only once this is durable may a client have it, for what a client is told must survive.
    pub published_at: OrderNumber,
}

pub(crate) struct Snapshot {
    pub dot: DotId,
    pub name: String,
    pub public: PublicId,
    pub created_ns: u64,
    /// Wall clock; 0: never.
    pub expires_ns: u64,
    pub protected: bool,
    pub reflog: bool,
    pub members: Vec<Member>,
    /// As of `NamedVolume`.
    pub published_at: OrderNumber,
}

/// One volume of a snapshot.
pub(crate) struct Member {
    pub version: VersionId,
    pub name: Rc<str>,
    /// Bytes.
    pub size: u64,
    pub compression: CompressionMode,
    /// Until the fold has reached the cut.
    pending: RefCell<Option<Rc<FrozenView>>>,
    /// While a client has it.
    open: RefCell<Weak<VolumeState>>,
}

impl Member {
    fn folded(version: VersionId, name: Rc<str>, size: u64, compression: CompressionMode) -> Member {
        Member { version, name, size, compression, pending: RefCell::default(), open: RefCell::default() }
    }

    /// What it shows. None if the fold has reached it and no version is there: the snapshot was made of nothing.
    fn look(&self, versions: &Versions, lines: &Lines) -> Option<Look> {
        match &*self.pending.borrow() {
            Some(view) => Some(view.look()),
            None => Some(Look { layers: Vec::new(), map: versions.map(NodeId::Frozen(self.version), lines)? }),
        }
    }

    /// The state that all handles of it share.
    pub(crate) fn state(&self, versions: &Versions, lines: &Lines) -> Option<Rc<VolumeState>> {
        if let Some(open) = self.open.borrow().upgrade() {
            return Some(open);
        }
        let view = match &*self.pending.borrow() {
            Some(view) => Rc::clone(view),
            None => FrozenView::folded(versions.map(NodeId::Frozen(self.version), lines)?),
        };
        let state = VolumeState::new(Source::Frozen(view), self.size);
        *self.open.borrow_mut() = Rc::downgrade(&state);
        Some(state)
    }

    /// Handles in use.
    pub(crate) fn users(&self) -> usize {
        self.open.borrow().upgrade().map_or(0, |state| state.users.get())
    }
}

impl Snapshot {
    pub(crate) fn users(&self) -> usize {
        self.members.iter().map(Member::users).sum()
    }
}

impl Catalog {
    pub(crate) fn new(next: NextIds) -> Catalog {
        let (dots, dot_names, snapshots) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Catalog { dots, dot_names, snapshots, next, folded: Folded::default() }
    }

    /// Takes entries of a checkpoint's catalog tree. The versions are loaded already.
    pub(crate) fn load(&mut self, entries: Entries, lines: &Lines, versions: &Versions) {
        for (id, entry) in entries.dots {
            self.put_dot(id, &entry.name, entry.expires_ns);
            self.folded.dots.insert(id, entry);
        }
        for (id, entry) in entries.volumes {
            let map = ExtentMap::open(entry.line.0, entry.root);
            let mode = CompressionMode::from_format(entry.compression);
            let line = Line::new(entry.line, map, Compression::new(mode));
            lines.insert(Rc::clone(&line));
            self.put_volume(id, entry.dot, entry.name.as_str().into(), line, entry.size_bytes, mode, OrderNumber(0));
            self.folded.volumes.insert(id, entry);
        }
        let last = entries.versions.last().map_or(0, |(id, _)| id.0);
        self.next.version = self.next.version.max(last + 1);
        for (id, entry) in entries.snapshots {
            let member = |id| {
                let version = versions.get(id)?;
                let mode = CompressionMode::from_format(version.compression);
                Some(Member::folded(id, version.name, version.size, mode))
            };
            let members = members_of(&entry).filter_map(member).collect();
            self.put_snapshot(id, Snapshot::of(&entry, members, OrderNumber(0)));
            self.folded.snapshots.insert(id, entry);
        }
    }

    /// Applies a change to what is published; called once for each, at publish or at replay.
    pub(crate) fn publish(&mut self, change: &Descriptor, at: Published, lines: &Lines, versions: &Versions) {
        match change {
            Descriptor::CreateDot { dot, name } => self.put_dot(*dot, name, 0),
            Descriptor::RemoveDot { dot, first_version } => self.remove_dot(*dot, *first_version),
            Descriptor::CreateVolume { volume, dot, line, size_bytes, compression, name } => {
                let mode = CompressionMode::from_format(*compression);
                let new = Line::new(*line, ExtentMap::empty(line.0), Compression::new(mode));
                lines.insert(Rc::clone(&new));
                self.put_volume(*volume, *dot, name.as_str().into(), new, *size_bytes, mode, at.order);
            }
            Descriptor::RemoveVolume { volume, version } => {
                for dot in self.dots.values_mut() {
                    for (_, gone) in dot.volumes.extract_if(.., |_, v| v.id == *volume) {
                        gone.state.mark_removed();
                    }
                }
                self.next.version = self.next.version.max(version.0 + 1);
            }
            Descriptor::ResizeVolume { volume, size_bytes, .. } => {
                if let Some(v) = self.volume_mut(*volume) {
                    v.state.size.set(*size_bytes);
                }
            }
            Descriptor::ConfigureVolume { volume, compression } => {
                if let Some(v) = self.volume_mut(*volume) {
                    v.compression = CompressionMode::from_format(*compression);
                    if let Source::Head(line) = &v.state.source {
                        *line.compression.borrow_mut() = Compression::new(v.compression);
                    }
                }
            }
            Descriptor::Snapshot(cut) => self.publish_snapshot(cut, at),
            Descriptor::Fork(cut) => self.publish_fork(cut, at, lines, versions),
            Descriptor::DeleteSnapshots { snapshots } => snapshots.iter().for_each(|id| self.remove_snapshot(*id)),
            Descriptor::ConfigureSnapshot(cut) => {
                if let Some(snapshot) = self.snapshots.get_mut(&cut.snapshot) {
                    snapshot.protected = cut.protected;
                    snapshot.expires_ns = cut.expires_ns;
                }
            }
            Descriptor::Reset(cut) => self.publish_reset(cut, at, lines, versions),
            Descriptor::Data(_) | Descriptor::Hole { .. } | Descriptor::Zero { .. } => {
                unreachable!("data is not a change of the catalog")
            }
        }
    }

    fn publish_snapshot(&mut self, cut: &SnapshotCut, at: Published) {
        let mut version = cut.first_version.0;
        for (i, part) in cut.dots.iter().enumerate() {
            let first = version;
            version += part.volumes.len() as u64;
            let by_id = self.volumes_by_id(part.dot);
            let named = part.volumes.iter().zip(first..).filter_map(|(id, v)| Some((*by_id.get(id)?, VersionId(v))));
            let members = named.map(|(volume, version)| volume.freeze(version, at)).collect();
            let snapshot = Snapshot {
                dot: part.dot,
                name: cut.name.clone(),
                public: part.public,
                created_ns: cut.time_ns,
                expires_ns: cut.expires_ns,
                protected: cut.protected,
                reflog: cut.reflog,
                members,
                published_at: at.order,
            };
            self.put_snapshot(SnapshotId(cut.first_snapshot.0 + i as u64), snapshot);
        }
        self.next.version = self.next.version.max(version);
    }

    fn publish_fork(&mut self, cut: &ForkCut, at: Published, lines: &Lines, versions: &Versions) {
        self.put_dot(cut.dot, &cut.name, cut.expires_ns);
        self.begin_heads(cut.dot, cut.source, cut.first_volume, cut.first_line, at, lines, versions);
    }

    fn publish_reset(&mut self, cut: &ResetCut, at: Published, lines: &Lines, versions: &Versions) {
        let old = self.volumes_by_id(cut.dot);
        let count = old.len() as u64;
        let freeze = |(volume, version): (&NamedVolume, u64)| volume.freeze(VersionId(version), at);
        let members: Vec<Member> = old.into_values().zip(cut.first_version.0..).map(freeze).collect();
        if let Some(dot) = self.dot_mut(cut.dot) {
            std::mem::take(&mut dot.volumes).values().for_each(|volume| volume.state.mark_removed());
        }
        let kept = Snapshot {
            dot: cut.dot,
            name: cut.name.clone(),
            public: cut.public,
            created_ns: cut.time_ns,
            expires_ns: cut.expires_ns,
            protected: false,
            reflog: true,
            members,
            published_at: at.order,
        };
        self.put_snapshot(cut.reflog_snapshot, kept);
        self.next.version = self.next.version.max(cut.first_version.0 + count);
        self.begin_heads(cut.dot, cut.source, cut.first_volume, cut.first_line, at, lines, versions);
    }

    /// Makes the volumes of a dot begin as the members of a snapshot.
    #[expect(clippy::too_many_arguments, reason = "two descriptors hold the same fields")]
    fn begin_heads(
        &mut self,
        dot: DotId,
        source: SnapshotId,
        first_volume: VolumeId,
        first_line: LineId,
        at: Published,
        lines: &Lines,
        versions: &Versions,
    ) {
        let Some(source) = self.snapshots.get(&source) else { return };
        let begin = |(i, member): (u64, &Member)| {
            let look = member.look(versions, lines)?;
            let line = Line::fork(LineId(first_line.0 + i), look, Compression::new(member.compression));
            lines.insert(Rc::clone(&line));
            Some((VolumeId(first_volume.0 + i), Rc::clone(&member.name), line, member.size, member.compression))
        };
        let begun: Vec<_> = (0..).zip(&source.members).filter_map(begin).collect();
        for (volume, name, line, size, compression) in begun {
            self.put_volume(volume, dot, name, line, size, compression, at.order);
        }
    }

    /// What a change that is about to be published takes, with all that follows from it: versions that are swept, neighbours that
    /// learn of it. Volumes are not counted: any checkpoint may write all of them.
    pub(crate) fn cost(&self, change: &Descriptor) -> CutCost {
        let deleted = |id: &SnapshotId| {
            let members = self.snapshots.get(id).map_or(0, |snapshot| snapshot.members.len() as u64);
            Keys { beside: 3 * members, scattered: 4 }
        };
        let keys = match change {
            Descriptor::Snapshot(cut) => Keys { beside: (cut.volume_count() + cut.dots.len()) as u64, scattered: 2 },
            Descriptor::Fork(cut) => Keys { beside: 2 * u64::from(cut.volume_count), scattered: 3 },
            Descriptor::Reset(cut) => {
                Keys { beside: 2 * u64::from(cut.volume_count) + u64::from(cut.old_count), scattered: 4 }
            }
            Descriptor::DeleteSnapshots { snapshots } => snapshots.iter().map(deleted).fold(Keys::default(), Keys::add),
            Descriptor::RemoveDot { dot, .. } => {
                let found = self.dot_names.get(dot).and_then(|name| self.dots.get(name));
                let volumes = found.map_or(0, |dot| dot.volumes.len() as u64);
                let snapshots = found.into_iter().flat_map(|dot| dot.snapshots.values());
                snapshots.map(deleted).fold(Keys { beside: 4 * volumes, scattered: 4 }, Keys::add)
            }
            Descriptor::RemoveVolume { .. } => Keys { beside: 0, scattered: 4 },
            _ => Keys { beside: 0, scattered: 1 },
        };
        CutCost { bytes: change.encoded_len(), keys }
    }

    /// The fold has reached a cut: the version shows this map, and no more the layers that are returned.
    pub(crate) fn folded_version(&self, snapshot: SnapshotId, version: VersionId, map: ExtentMap) -> Vec<Rc<Layer>> {
        let members = self.snapshots.get(&snapshot).map_or(&[][..], |snapshot| &snapshot.members);
        let index = members.binary_search_by_key(&version, |member| member.version).ok();
        let pending = index.and_then(|index| members[index].pending.take());
        pending.map(|view| view.fold(map)).unwrap_or_default()
    }

    pub(crate) fn volume(&self, dot: &str, volume: &str) -> Option<&NamedVolume> {
        self.dots.get(dot)?.volumes.get(volume)
    }

    /// A dot's volumes in the order in which cuts count them.
    pub(crate) fn volumes_by_id(&self, dot: DotId) -> BTreeMap<VolumeId, &NamedVolume> {
        let dot = self.dot_names.get(&dot).and_then(|name| self.dots.get(name));
        dot.into_iter().flat_map(|dot| dot.volumes.values()).map(|volume| (volume.id, volume)).collect()
    }

    pub(crate) fn dot_name(&self, dot: DotId) -> &str {
        self.dot_names.get(&dot).map_or("", String::as_str)
    }

    fn volume_mut(&mut self, id: VolumeId) -> Option<&mut NamedVolume> {
        self.dots.values_mut().flat_map(|d| d.volumes.values_mut()).find(|v| v.id == id)
    }

    fn dot_mut(&mut self, id: DotId) -> Option<&mut Dot> {
        self.dots.get_mut(self.dot_names.get(&id)?)
    }

    fn put_dot(&mut self, id: DotId, name: &str, expires_ns: u64) {
        let dot = Dot { id, volumes: BTreeMap::new(), snapshots: BTreeMap::new(), expires_ns };
        self.dots.insert(name.to_owned(), dot);
        self.dot_names.insert(id, name.to_owned());
        self.next.dot = self.next.dot.max(id.0 + 1);
    }

    fn remove_dot(&mut self, id: DotId, first_version: VersionId) {
        let Some(dot) = self.dot_names.remove(&id).and_then(|name| self.dots.remove(&name)) else { return };
        dot.volumes.values().for_each(|volume| volume.state.mark_removed());
        dot.snapshots.values().for_each(|snapshot| drop(self.snapshots.remove(snapshot)));
        self.next.version = self.next.version.max(first_version.0 + dot.volumes.len() as u64);
    }

    #[expect(clippy::too_many_arguments, reason = "all that a volume is")]
    fn put_volume(
        &mut self,
        id: VolumeId,
        dot: DotId,
        name: Rc<str>,
        line: Rc<Line>,
        size: u64,
        compression: CompressionMode,
        published_at: OrderNumber,
    ) {
        self.next.volume = self.next.volume.max(id.0 + 1);
        self.next.line = self.next.line.max(line.id.0 + 1);
        let state = VolumeState::new(Source::Head(line), size);
        if let Some(dot) = self.dot_mut(dot) {
            let volume = NamedVolume { id, name: Rc::clone(&name), compression, state, published_at };
            dot.volumes.insert(name.to_string(), volume);
        }
    }

    fn put_snapshot(&mut self, id: SnapshotId, snapshot: Snapshot) {
        self.next.snapshot = self.next.snapshot.max(id.0 + 1);
        if let Some(dot) = self.dot_mut(snapshot.dot) {
            dot.snapshots.insert(snapshot.name.clone(), id);
        }
        self.snapshots.insert(id, snapshot);
    }

    fn remove_snapshot(&mut self, id: SnapshotId) {
        let Some(snapshot) = self.snapshots.remove(&id) else { return };
        if let Some(dot) = self.dot_mut(snapshot.dot) {
            dot.snapshots.remove(&snapshot.name);
        }
    }
}

impl NamedVolume {
    /// What it shows now, as a version that the fold has not reached.
    fn freeze(&self, version: VersionId, at: Published) -> Member {
        let member = Member::folded(version, Rc::clone(&self.name), self.state.size.get(), self.compression);
        if let Source::Head(line) = &self.state.source {
            let mut overlay = line.overlay.borrow_mut();
            overlay.close_layer(at.order);
            let look = Look { layers: overlay.frozen(), map: line.map.borrow().clone() };
            *member.pending.borrow_mut() = Some(FrozenView::new(look));
        }
        member
    }
}

impl Snapshot {
    fn of(entry: &SnapshotEntry, members: Vec<Member>, published_at: OrderNumber) -> Snapshot {
        Snapshot {
            dot: entry.dot,
            name: entry.name.clone(),
            public: entry.public,
            created_ns: entry.created_ns,
            expires_ns: entry.expires_ns,
            protected: entry.protected,
            reflog: entry.reflog,
            members,
            published_at,
        }
    }
}

/// The catalog in the cell that the store keeps it in.
pub(crate) type SharedCatalog = RefCell<Catalog>;
