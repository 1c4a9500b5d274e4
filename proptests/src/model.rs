//! The reference model: what a store holds, as plain arrays, and the pieces by which operations change it.
//!
//! A piece is what the engine publishes under one order number: some whole blocks, part of one block merged into it, a blank
//! range, one change of the catalog. Pieces are all or nothing, and a crash leaves a prefix of their order. The model is told
//! the order as it happens (`observe`), so that every state it may be compared with is exact.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use treering_engine::CompressionMode;

use crate::content::BLOCK;

mod history;
mod journal;
mod plan;

pub use history::{Ancestor, SnapshotModel, UNNAMED};
pub use journal::{Journal, Position, Settled};
pub use plan::{publish_blocks, resize_pieces, trim_pieces, write_pieces, zero_pieces};

/// A volume's identity in the model: names come back, these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeKey(pub u64);

/// One block of a volume: what it reads as and what its status says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    Hole,
    /// Zeros that count as allocated.
    Zero,
    Data(Rc<[u8]>),
}

const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

impl Block {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Block::Hole | Block::Zero => &ZEROS,
            Block::Data(bytes) => bytes,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Block::Hole => "a hole".into(),
            Block::Zero => "allocated zeros".into(),
            Block::Data(bytes) => format!("data ({})", crate::content::describe(bytes)),
        }
    }
}

#[derive(Clone, Debug)]
pub struct VolumeModel {
    pub dot: String,
    pub name: String,
    pub size: u64,
    pub compression: CompressionMode,
    pub blocks: Vec<Block>,
}

impl VolumeModel {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.dot, self.name)
    }
}

/// Everything a store holds at one position of the order.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub dots: BTreeSet<String>,
    pub volumes: BTreeMap<VolumeKey, VolumeModel>,
    /// By dot and name. Shared: what a snapshot holds never changes.
    pub snapshots: BTreeMap<(String, String), Rc<SnapshotModel>>,
}

/// What one order number does.
#[derive(Clone, Debug)]
pub enum Piece {
    Data {
        volume: VolumeKey,
        block: u64,
        blocks: Vec<Rc<[u8]>>,
    },
    /// Bytes inside one block, at a byte offset of the volume.
    Merge {
        volume: VolumeKey,
        offset: u64,
        bytes: Rc<[u8]>,
    },
    Blank {
        volume: VolumeKey,
        block: u64,
        count: u64,
        allocated: bool,
    },
    Change(Change),
}

#[derive(Clone, Debug)]
pub enum Change {
    CreateDot {
        name: String,
    },
    CreateVolume {
        volume: VolumeKey,
        dot: String,
        name: String,
        size: u64,
        compression: CompressionMode,
    },
    Resize {
        volume: VolumeKey,
        size: u64,
    },
    RemoveVolume {
        volume: VolumeKey,
    },
    /// With all its volumes and snapshots.
    RemoveDot {
        name: String,
    },
    /// All volumes of these dots, at one place of the order.
    Snapshot {
        dots: Vec<String>,
        name: String,
        protected: bool,
    },
    DeleteSnapshots {
        dot: String,
        names: Vec<String>,
    },
    Protect {
        dot: String,
        name: String,
        protected: bool,
    },
    /// A dot of this name begins as the snapshot is; its volumes get these keys.
    Fork {
        from: Ancestor,
        name: String,
        volumes: Vec<VolumeKey>,
    },
    /// A dot becomes what it was; what it was until now becomes a snapshot whose name only the engine knows.
    Reset {
        to: Ancestor,
        kept: Rc<OnceCell<String>>,
        volumes: Vec<VolumeKey>,
    },
}

impl Piece {
    /// The blocks it changes; none for a change of the catalog.
    pub fn range(&self) -> Option<(VolumeKey, Range<u64>)> {
        match self {
            Piece::Data { volume, block, blocks } => Some((*volume, *block..*block + blocks.len() as u64)),
            Piece::Merge { volume, offset, .. } => Some((*volume, offset / BLOCK..offset / BLOCK + 1)),
            Piece::Blank { volume, block, count, .. } => Some((*volume, *block..*block + *count)),
            Piece::Change(_) => None,
        }
    }

    /// What a block inside its range becomes.
    pub fn applied_to(&self, number: u64, old: &Block) -> Block {
        match self {
            Piece::Data { block, blocks, .. } => Block::Data(Rc::clone(&blocks[(number - block) as usize])),
            Piece::Merge { offset, bytes, .. } => {
                let mut whole: [u8; BLOCK as usize] = old.bytes().try_into().expect("a block");
                let within = (offset % BLOCK) as usize;
                whole[within..within + bytes.len()].copy_from_slice(bytes);
                Block::Data(Rc::from(&whole[..]))
            }
            Piece::Blank { allocated: true, .. } => Block::Zero,
            Piece::Blank { allocated: false, .. } => Block::Hole,
            Piece::Change(_) => old.clone(),
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Piece::Data { volume, block, blocks } => {
                format!("write v{} blocks {block}..{}", volume.0, block + blocks.len() as u64)
            }
            Piece::Merge { volume, offset, bytes } => {
                format!(
                    "merge v{} bytes {offset}..{} (block {})",
                    volume.0,
                    offset + bytes.len() as u64,
                    offset / BLOCK
                )
            }
            Piece::Blank { volume, block, count, allocated } => {
                let kind = if *allocated { "zero" } else { "hole" };
                format!("{kind} v{} blocks {block}..{}", volume.0, block + count)
            }
            Piece::Change(change) => format!("{change:?}"),
        }
    }
}

impl State {
    pub fn apply(&mut self, piece: &Piece) {
        match piece {
            Piece::Change(change) => self.change(change),
            other => {
                let (volume, range) = other.range().expect("it changes blocks");
                let Some(volume) = self.volumes.get_mut(&volume) else { return };
                for number in range {
                    if let Some(block) = volume.blocks.get_mut(number as usize) {
                        *block = other.applied_to(number, block);
                    }
                }
            }
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::CreateDot { name } => drop(self.dots.insert(name.clone())),
            Change::CreateVolume { volume, dot, name, size, compression } => {
                let blocks = vec![Block::Hole; size.div_ceil(BLOCK) as usize];
                let made = VolumeModel {
                    dot: dot.clone(),
                    name: name.clone(),
                    size: *size,
                    compression: *compression,
                    blocks,
                };
                self.volumes.insert(*volume, made);
            }
            Change::Resize { volume, size } => {
                if let Some(volume) = self.volumes.get_mut(volume) {
                    volume.size = *size;
                    volume.blocks.resize(size.div_ceil(BLOCK) as usize, Block::Hole);
                }
            }
            Change::RemoveVolume { volume } => drop(self.volumes.remove(volume)),
            Change::RemoveDot { name } => self.remove_dot(name),
            Change::Snapshot { dots, name, protected } => {
                dots.iter().for_each(|dot| self.freeze(dot, name, *protected, false));
            }
            Change::DeleteSnapshots { dot, names } => {
                names.iter().for_each(|name| drop(self.snapshots.remove(&(dot.clone(), name.clone()))));
            }
            Change::Protect { dot, name, protected } => self.protect(dot, name, *protected),
            Change::Fork { from, name, volumes } => self.fork(from, name, volumes),
            Change::Reset { to, kept, volumes } => self.reset(to, kept, volumes),
        }
    }

    pub fn named(&self, dot: &str, name: &str) -> Option<VolumeKey> {
        self.volumes.iter().find(|(_, v)| v.dot == dot && v.name == name).map(|(key, _)| *key)
    }
}
