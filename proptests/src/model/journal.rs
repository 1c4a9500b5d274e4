//! The journal: everything published since the store was last opened, in order; what of it must survive which crash; and the
//! search for the position that a recovery came back to.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Block, Change, Piece, State, VolumeKey};

/// A number of pieces from the journal's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub usize);

#[derive(Clone, Debug)]
pub struct Entry {
    pub operation: u64,
    pub piece: Piece,
}

#[derive(Clone, Debug, Default)]
pub struct Journal {
    base: State,
    entries: Vec<Entry>,
    /// With everything published.
    now: State,
    /// What a crash of the process must leave: everything acknowledged.
    acknowledged: Position,
    /// What a crash of the host must leave: everything that a flush, a durable write or a verb answered for.
    durable: Position,
    next_volume: u64,
    created: HashMap<VolumeKey, Position>,
    history: Option<History>,
}

/// Every content that each block ever had: for stores whose disk loses writes.
type History = HashMap<(String, u64), HashSet<u64>>;

/// Where a recovery came back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub position: Position,
    pub published: Position,
}

impl Journal {
    pub fn keep_history(&mut self) {
        self.history = Some(History::default());
    }

    pub fn now(&self) -> &State {
        &self.now
    }

    pub fn position(&self) -> Position {
        Position(self.entries.len())
    }

    pub fn new_volume(&mut self) -> VolumeKey {
        self.next_volume += 1;
        VolumeKey(self.next_volume)
    }

    /// A piece was published.
    pub fn publish(&mut self, operation: u64, piece: Piece) -> Position {
        self.now.apply(&piece);
        self.remember(&piece);
        if let Piece::Change(Change::CreateVolume { volume, .. }) = &piece {
            self.created.insert(*volume, Position(self.entries.len() + 1));
        }
        self.entries.push(Entry { operation, piece });
        self.position()
    }

    /// The verb that published up to here was answered: volumes it made are there for everybody.
    pub fn announce(&mut self, up_to: Position) {
        self.created.retain(|_, position| *position > up_to);
    }

    pub fn is_announced(&self, volume: VolumeKey) -> bool {
        !self.created.contains_key(&volume)
    }

    pub fn acknowledge(&mut self, up_to: Position) {
        self.acknowledged = self.acknowledged.max(up_to);
    }

    pub fn acknowledged(&self) -> Position {
        self.acknowledged
    }

    pub fn make_durable(&mut self, up_to: Position) {
        self.durable = self.durable.max(up_to);
        self.acknowledge(up_to);
    }

    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Whether a block may read so: as it was at `from`, or as any piece since then left it.
    pub fn may_read(
        &self,
        volume: VolumeKey,
        number: u64,
        at: &Block,
        from: Position,
        fits: impl Fn(&Block) -> bool,
    ) -> bool {
        let mut block = at.clone();
        if fits(&block) {
            return true;
        }
        for entry in &self.entries[from.0..] {
            if entry.piece.range().is_some_and(|(v, range)| v == volume && range.contains(&number)) {
                block = entry.piece.applied_to(number, &block);
                if fits(&block) {
                    return true;
                }
            }
        }
        false
    }

    /// Finds the position, not below `floor`, at which the model equals what was found, and goes on from there. With
    /// `cuts_may_be_lost`, changes of the catalog that nobody was told of may be missing, from some point on.
    pub fn settle(&mut self, found: &State, floor: Position, cuts_may_be_lost: bool) -> Result<Settled, String> {
        let (position, kept) = self.find(found, floor, cuts_may_be_lost)?;
        let settled = Settled { position, published: self.position() };
        for entry in kept.into_iter().take(position.0) {
            self.base.apply(&entry.piece);
        }
        self.entries.clear();
        self.created.clear();
        self.now = self.base.clone();
        self.acknowledged = Position(0);
        self.durable = Position(0);
        Ok(settled)
    }

    /// The position, and the order it is a position of.
    pub fn find(
        &self,
        found: &State,
        floor: Position,
        cuts_may_be_lost: bool,
    ) -> Result<(Position, Vec<Entry>), String> {
        let whole = self.find_in(&self.entries, found, floor);
        let mut entries = self.entries.clone();
        let mut floor = floor;
        while cuts_may_be_lost && whole.is_err() {
            let lost = entries.iter().rposition(|e| matches!(e.piece, Piece::Change(_)));
            let Some(lost) = lost.filter(|place| *place >= self.durable.0) else { break };
            entries.remove(lost);
            floor = Position(floor.0 - usize::from(lost < floor.0));
            if let Ok(position) = self.find_in(&entries, found, floor) {
                return Ok((position, entries));
            }
        }
        whole.map(|position| (position, entries))
    }

    fn find_in(&self, entries: &[Entry], found: &State, floor: Position) -> Result<Position, String> {
        let mut state = self.base.clone();
        for entry in &entries[..floor.0] {
            state.apply(&entry.piece);
        }
        let mut differences = count(&state, found);
        let mut best = (differences, floor.0);
        for position in floor.0..=entries.len() {
            if position > floor.0 {
                let piece = &entries[position - 1].piece;
                match piece.range() {
                    None => {
                        state.apply(piece);
                        differences = count(&state, found);
                    }
                    Some((volume, range)) => {
                        let range = range.start as usize..range.end as usize;
                        differences -= in_range(&state, found, volume, range.clone());
                        state.apply(piece);
                        differences += in_range(&state, found, volume, range);
                    }
                }
            }
            if differences == 0 {
                return Ok(Position(position));
            }
            best = best.min((differences, position));
        }
        Err(self.explain(found, floor, best.1))
    }

    /// The differences at the position that comes nearest, with the pieces around it.
    fn explain(&self, found: &State, floor: Position, nearest: usize) -> String {
        let mut state = self.base.clone();
        for entry in &self.entries[..nearest] {
            state.apply(&entry.piece);
        }
        let (floor, last) = (floor.0, self.entries.len());
        let mut text = format!(
            "no position in {floor}..={last} of the order gives what was recovered; the nearest is {nearest}, and differs:\n"
        );
        for line in differences(&state, found).into_iter().take(8) {
            text += &format!("    {line}\n");
        }
        text += "  the order around it:\n";
        for (i, entry) in self.entries.iter().enumerate().skip(nearest.saturating_sub(6)).take(12) {
            text += &format!("    {} operation {}: {}\n", i + 1, entry.operation, entry.piece.describe());
        }
        text
    }

    fn remember(&mut self, piece: &Piece) {
        let (Some(history), Some((key, range))) = (&mut self.history, piece.range()) else { return };
        let Some(volume) = self.now.volumes.get(&key) else { return };
        for number in range {
            if let Some(block) = volume.blocks.get(number as usize) {
                history.entry((volume.full_name(), number)).or_default().insert(hash(block.bytes()));
            }
        }
    }

    /// Whether a block of this name ever had this content.
    pub fn ever_held(&self, volume: &str, number: u64, bytes: &[u8]) -> bool {
        let known = self.history.as_ref().expect("a history is kept").get(&(volume.to_owned(), number));
        bytes.iter().all(|b| *b == 0) || known.is_some_and(|hashes| hashes.contains(&hash(bytes)))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn in_range(state: &State, found: &State, volume: VolumeKey, range: std::ops::Range<usize>) -> usize {
    let Some(expected) = state.volumes.get(&volume) else { return 0 };
    let Some(other) = found.named(&expected.dot, &expected.name) else { return 0 };
    let other = &found.volumes[&other];
    let blocks =
        range.filter(|n| matches!((expected.blocks.get(*n), other.blocks.get(*n)), (Some(a), Some(b)) if a != b));
    blocks.count()
}

/// How many things differ. Names and sizes weigh more than blocks.
fn count(state: &State, found: &State) -> usize {
    let dots = state.dots.symmetric_difference(&found.dots).count();
    let mut differing = dots * 1000;
    for (key, volume) in &state.volumes {
        match found.named(&volume.dot, &volume.name).map(|other| &found.volumes[&other]) {
            None => differing += 1000,
            Some(other) => {
                differing += 1000 * usize::from(volume.size != other.size || volume.compression != other.compression);
                differing += in_range(state, found, *key, 0..volume.blocks.len());
            }
        }
    }
    let surplus = found.volumes.values().filter(|v| state.named(&v.dot, &v.name).is_none());
    differing + 1000 * surplus.count()
}

fn differences(state: &State, found: &State) -> Vec<String> {
    let mut lines: Vec<String> =
        state.dots.symmetric_difference(&found.dots).map(|dot| format!("dot {dot}: only on one side")).collect();
    for volume in state.volumes.values() {
        let name = volume.full_name();
        let Some(other) = found.named(&volume.dot, &volume.name).map(|other| &found.volumes[&other]) else {
            lines.push(format!("volume {name} is missing"));
            continue;
        };
        if volume.size != other.size || volume.compression != other.compression {
            lines.push(format!(
                "volume {name} has {} bytes ({:?}), {} ({:?}) are due",
                other.size, other.compression, volume.size, volume.compression
            ));
        }
        for (number, (due, found)) in volume.blocks.iter().zip(&other.blocks).enumerate() {
            if due != found {
                lines.push(format!("{name} block {number}: {} is due, found {}", due.describe(), found.describe()));
            }
        }
    }
    for volume in found.volumes.values().filter(|v| state.named(&v.dot, &v.name).is_none()) {
        lines.push(format!("volume {} should not be there", volume.full_name()));
    }
    lines
}
