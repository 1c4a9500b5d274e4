//! The journal: everything published since the store was last opened, in order; what of it must survive which crash; and the
//! search for the position that a recovery came back to.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Block, Change, Piece, State, UNNAMED, VolumeKey};

mod difference;

use difference::{Differ, differences, in_range};

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
    /// Snapshots that nobody was told of yet, by dot and name.
    frozen: BTreeMap<(String, String), Position>,
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
        let here = Position(self.entries.len() + 1);
        match &piece {
            Piece::Change(Change::CreateVolume { volume, .. }) => drop(self.created.insert(*volume, here)),
            Piece::Change(Change::Fork { volumes, .. } | Change::Reset { volumes, .. }) => {
                self.created.extend(volumes.iter().map(|volume| (*volume, here)));
            }
            Piece::Change(Change::Snapshot { dots, name, .. }) => {
                self.frozen.extend(dots.iter().map(|dot| ((dot.clone(), name.clone()), here)));
            }
            _ => {}
        }
        self.entries.push(Entry { operation, piece });
        self.position()
    }

    /// The verb that published up to here was answered: volumes it made are there for everybody.
    pub fn announce(&mut self, up_to: Position) {
        self.created.retain(|_, position| *position > up_to);
        self.frozen.retain(|_, position| *position > up_to);
    }

    pub fn is_announced(&self, volume: VolumeKey) -> bool {
        !self.created.contains_key(&volume)
    }

    pub fn is_snapshot_announced(&self, dot: &str, name: &str) -> bool {
        !self.frozen.contains_key(&(dot.to_owned(), name.to_owned()))
    }

    /// A reset was answered: what the dot was is kept under this name.
    pub fn name_reflog(&mut self, dot: &str, kept: &OnceCell<String>, name: &str) {
        if kept.set(name.to_owned()).is_ok() {
            self.now.name_reflog(dot, name);
        }
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
        let unnamed = self.unnamed(found);
        for entry in kept.into_iter().take(position.0) {
            self.base.apply(&entry.piece);
        }
        if let Some((dot, name)) = unnamed {
            self.base.name_reflog(&dot, &name);
        }
        self.entries.clear();
        self.created.clear();
        self.frozen.clear();
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
        let mut found = found.clone();
        if let Some((dot, name)) = self.unnamed(&found) {
            found.rename(&dot, &name, UNNAMED);
        }
        let found = &found;
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

    /// What a reset that was not answered has kept: a snapshot whose name the order does not tell.
    fn unnamed(&self, found: &State) -> Option<(String, String)> {
        let told = |key: &(String, String)| {
            self.base.snapshots.contains_key(key)
                || self.entries.iter().any(|entry| match &entry.piece {
                    Piece::Change(Change::Reset { to, kept, .. }) => to.dot == key.0 && kept.get() == Some(&key.1),
                    Piece::Change(Change::Snapshot { dots, name, .. }) => dots.contains(&key.0) && *name == key.1,
                    _ => false,
                })
        };
        let reflog = found.snapshots.iter().filter(|(_, snapshot)| snapshot.reflog);
        reflog.map(|(key, _)| key).find(|key| !told(key)).cloned()
    }

    fn find_in(&self, entries: &[Entry], found: &State, floor: Position) -> Result<Position, String> {
        let mut state = self.base.clone();
        for entry in &entries[..floor.0] {
            state.apply(&entry.piece);
        }
        let mut differ = Differ::new(found);
        let mut differences = differ.count(&state);
        let mut best = (differences, floor.0);
        for position in floor.0..=entries.len() {
            if position > floor.0 {
                let piece = &entries[position - 1].piece;
                match piece.range() {
                    None => {
                        state.apply(piece);
                        differences = differ.count(&state);
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
        let Some(history) = &mut self.history else { return };
        let (keys, range) = match (piece, piece.range()) {
            // A fork's blocks are old under a new name.
            (Piece::Change(Change::Fork { volumes, .. } | Change::Reset { volumes, .. }), _) => {
                (volumes.clone(), 0..u64::MAX)
            }
            (_, Some((volume, range))) => (vec![volume], range),
            (_, None) => return,
        };
        for volume in keys.iter().filter_map(|key| self.now.volumes.get(key)) {
            for number in range.start..range.end.min(volume.blocks.len() as u64) {
                let held = history.entry((volume.full_name(), number)).or_default();
                held.insert(hash(volume.blocks[number as usize].bytes()));
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
