//! Writers that a full store holds: nothing is acknowledged for which there is no room, all that needs none goes on (reads, flushes,
//! trims, deleting), what is held goes on by itself when space has come back, and a crash meanwhile loses nothing acknowledged.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use treering_engine::{
    CompressionMode, CreateOptions, FullPolicy, Limits, NewSnapshot, NewVolume, OpenOptions, SnapshotRef, Store, Volume,
};
use treering_io::sim::Host;
use treering_io::{Io, Task};

use crate::content;
use crate::random::Random;
use crate::run;
use crate::world::Broken;

const STORE: &str = "/store";
const MIB: u64 = 1 << 20;
/// One write, in one piece of the log.
const PIECE: u64 = 16 << 10;
const WRITERS: u64 = 4;
const PIECES_EACH: u64 = 512;
const VOLUME: u64 = WRITERS * PIECES_EACH * PIECE;

/// Without an answer for so long, writers are held; and so long may anything else take.
const STILL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `count` stores; gives how many broke a promise.
pub fn all(first: u64, count: u64) -> u64 {
    let broken = (first..first + count)
        .filter_map(|seed| run::guarded(|| one(seed)).and_then(|lived| lived).err().map(|why| (seed, why)));
    let failed = broken.inspect(|(seed, why)| println!("held writers {seed} FAILED: {why}")).count() as u64;
    println!("{} passed, {failed} failed, 0 skipped", count - failed);
    failed
}

/// One store through three lives, each of which ends while its writers are held, or after they were let go.
pub fn one(seed: u64) -> Result<(), Broken> {
    let mut random = Random::new(seed);
    let host = Host::new(seed);
    host.add_disk(Path::new(STORE), random.between(20, 32) * MIB);
    let written = Rc::new(RefCell::new(Written::default()));
    for life in 0..3 {
        let mut runtime = host.runtime();
        let io = runtime.io();
        let holder = Holder { random: random.fork(), written: written.clone() };
        let lived = runtime.run_sim(holder.live(io, life == 0));
        lived.map_err(|stopped| stopped.to_string())??;
        drop(runtime);
        match random.below(3) {
            0 => {
                host.host_crash();
                written.borrow_mut().lose_unflushed();
            }
            1 => host.process_crash(),
            _ => {}
        }
    }
    Ok(())
}

/// What each piece of the volume may hold.
struct Written {
    pieces: Vec<Piece>,
    next: u64,
    acknowledged: u64,
    refused: Option<String>,
}

#[derive(Clone, Default)]
struct Piece {
    /// Operations in order: the last one that is durable, or none of them; and all that came behind it.
    candidates: Vec<u64>,
    /// The place in it of the last one that was acknowledged.
    acknowledged: usize,
}

impl Default for Written {
    fn default() -> Written {
        let piece = Piece { candidates: vec![0], acknowledged: 0 };
        let pieces = vec![piece; (WRITERS * PIECES_EACH) as usize];
        Written { pieces, next: 1, acknowledged: 0, refused: None }
    }
}

impl Written {
    /// What was acknowledged before a flush began is what a piece holds at least.
    fn flushed(&mut self, acknowledged: &[usize]) {
        for (piece, at) in self.pieces.iter_mut().zip(acknowledged) {
            piece.candidates.drain(..at);
            piece.acknowledged -= at;
        }
    }

    fn acknowledged_places(&self) -> Vec<usize> {
        self.pieces.iter().map(|piece| piece.acknowledged).collect()
    }

    fn lose_unflushed(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.acknowledged = 0);
    }

    /// Compares, and forgets the candidates that it was not.
    fn found(&mut self, piece: usize, bytes: &[u8]) -> Result<(), Broken> {
        let known = &mut self.pieces[piece];
        let holds = |op: u64| match op {
            0 => bytes.iter().all(|byte| *byte == 0),
            op => bytes == content::bytes(op, PIECE as usize, true),
        };
        let Some(op) = known.candidates[known.acknowledged..].iter().copied().find(|op| holds(*op)) else {
            let seen = content::describe(bytes);
            return Err(format!(
                "piece {piece} holds {seen}, not one of {:?}",
                &known.candidates[known.acknowledged..]
            ));
        };
        *known = Piece { candidates: vec![op], acknowledged: 0 };
        Ok(())
    }
}

struct Holder {
    random: Random,
    written: Rc<RefCell<Written>>,
}

impl Holder {
    async fn live(mut self, io: Io, new: bool) -> Result<(), Broken> {
        let say = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        if new {
            let create = CreateOptions { size: None, sparse: true, segment_blocks: 256 };
            Store::create(&io, Path::new(STORE), &create).await.map_err(|e| say("creating", &e))?;
        }
        let limits = Limits {
            arena_bytes: 4 * MIB,
            arena_entries: 4096,
            data_cache_bytes: MIB,
            checkpoint_log_bytes: 4 * MIB,
            fold_log_bytes: MIB,
            ..Limits::default()
        };
        let full_policy = FullPolicy::Hold { at_most: None };
        let options = OpenOptions { limits, arena_dir: Some("/arenas".into()), full_policy, ..OpenOptions::default() };
        let opened = Store::open(&io, Path::new(STORE), &options).await;
        let store = opened.map_err(|e| say("opening a full store", &e))?.0;
        if new {
            store.create_dot("busy", &[volume()]).await.map_err(|e| say("making a dot", &e))?;
            store.create_dot("old", &[volume()]).await.map_err(|e| say("making a dot", &e))?;
        }
        let busy = store.volume("busy", "main").ok_or("the dot is gone")?;
        self.compare(&busy).await?;
        for round in 0..self.random.between(1, 3) {
            self.make_old(&io, &store, round).await?;
            let writers = self.writers(&io, &busy);
            self.until_held(&io, &store).await?;
            self.what_goes_on(&io, &busy).await?;
            if self.random.chance(30) {
                // The next life begins behind writers that were held.
                return Ok(());
            }
            self.let_go(&io, &store).await?;
            for writer in writers {
                writer.cancel().await;
            }
        }
        let report = store.check(false, &mut |_| {}).await.map_err(|e| say("check", &e))?;
        if let Some(finding) = report.findings.first() {
            return Err(say("check", &finding.what));
        }
        Ok(())
    }

    async fn compare(&self, busy: &Volume) -> Result<(), Broken> {
        for piece in 0..WRITERS * PIECES_EACH {
            let bytes = busy.read(piece * PIECE, PIECE as usize).await.map_err(|error| format!("reading: {error}"))?;
            self.written.borrow_mut().found(piece as usize, &bytes)?;
        }
        // What is found here is what the next crash must leave.
        busy.flush().await.map_err(|error| format!("a flush: {error}"))
    }

    /// A few MiB that only a snapshot holds, for as long as there is room.
    async fn make_old(&mut self, io: &Io, store: &Store, round: u64) -> Result<(), Broken> {
        let old = store.volume("old", "main").ok_or("the dot is gone")?;
        for i in 0..self.random.between(64, 256) {
            if store.space().writable_bytes < 2 * MIB {
                break;
            }
            let data = content::bytes(self.random.below(1 << 40), PIECE as usize, true);
            let written = io.timeout(PATIENCE, old.write(i * PIECE, &data, false)).await;
            written.ok_or("a write is held though there is room")?.map_err(|error| format!("filling: {error}"))?;
        }
        let new = NewSnapshot { name: Some(format!("r{round}-{}", self.random.below(1 << 40))), ..Default::default() };
        // One for which there is no room is refused, not held.
        let made = io.timeout(PATIENCE, store.create_snapshot(&["old"], &new)).await;
        let _ = made.ok_or("a snapshot is neither made nor refused")?;
        Ok(())
    }

    /// Each writes to its own part of the volume, until it is cancelled.
    fn writers(&mut self, io: &Io, busy: &Volume) -> Vec<Task<()>> {
        let one = |writer: u64, mut random: Random| {
            let (busy, written) = (busy.clone(), self.written.clone());
            io.spawn(async move {
                loop {
                    let piece = writer * PIECES_EACH + random.below(PIECES_EACH);
                    let op = {
                        let mut written = written.borrow_mut();
                        written.next += 1;
                        let op = written.next;
                        written.pieces[piece as usize].candidates.push(op);
                        op
                    };
                    let result = busy.write(piece * PIECE, &content::bytes(op, PIECE as usize, true), false).await;
                    let mut written = written.borrow_mut();
                    if let Err(error) = result {
                        written.refused = Some(error.to_string());
                        return;
                    }
                    written.acknowledged += 1;
                    let piece = &mut written.pieces[piece as usize];
                    piece.acknowledged = piece.candidates.iter().position(|other| *other == op).expect("pushed above");
                }
            })
        };
        (0..WRITERS).map(|writer| one(writer, self.random.fork())).collect()
    }

    async fn until_held(&self, io: &Io, store: &Store) -> Result<(), Broken> {
        let begun = io.now();
        loop {
            let before = self.written.borrow().acknowledged;
            io.sleep(STILL).await;
            let written = self.written.borrow();
            if let Some(why) = &written.refused {
                return Err(format!("a write was refused though the policy is to hold it: {why}"));
            }
            if written.acknowledged == before {
                let held = store.status().held_writers;
                return if held > 0 { Ok(()) } else { Err("writers stand still, and nobody is held".into()) };
            }
            if io.now() - begun > 10 * PATIENCE.as_nanos() as u64 {
                // Writers overwrite a volume that fits: nothing has to be held.
                return Ok(());
            }
        }
    }

    async fn what_goes_on(&mut self, io: &Io, busy: &Volume) -> Result<(), Broken> {
        let acknowledged = self.written.borrow().acknowledged_places();
        let flushed = io.timeout(PATIENCE, busy.flush()).await.ok_or("a flush waits for those who are held")?;
        flushed.map_err(|error| format!("a flush: {error}"))?;
        self.written.borrow_mut().flushed(&acknowledged);
        for _ in 0..8 {
            let piece = self.random.below(WRITERS * PIECES_EACH);
            let read = io.timeout(PATIENCE, busy.read(piece * PIECE, PIECE as usize)).await;
            let bytes =
                read.ok_or("a read waits for those who are held")?.map_err(|error| format!("a read: {error}"))?;
            // Those under way may be there or not, so nothing is forgotten.
            let known = self.written.borrow().pieces[piece as usize].clone();
            let kept = self.written.borrow_mut().found(piece as usize, &bytes);
            self.written.borrow_mut().pieces[piece as usize] = known;
            kept?;
        }
        Ok(())
    }

    /// Trims and deletes all that is old: the writers go on by themselves.
    async fn let_go(&mut self, io: &Io, store: &Store) -> Result<(), Broken> {
        let before = self.written.borrow().acknowledged;
        let old = store.volume("old", "main").ok_or("the dot is gone")?;
        let trimmed = io.timeout(PATIENCE, old.trim(0, VOLUME, false)).await.ok_or("a trim is held on a full store")?;
        trimmed.map_err(|error| format!("a trim: {error}"))?;
        for snapshot in store.snapshots("old").map_err(|error| error.to_string())? {
            let at = [SnapshotRef::Name(snapshot.name)];
            let deleted = io.timeout(PATIENCE, store.delete_snapshots("old", &at)).await;
            deleted.ok_or("deleting is held on a full store")?.map_err(|error| format!("deleting: {error}"))?;
        }
        // What is old may be little: half of what the writers wrote goes, too.
        let half = VOLUME / PIECE / 2;
        self.written.borrow_mut().pieces[..half as usize].iter_mut().for_each(|piece| piece.candidates.push(0));
        let busy = store.volume("busy", "main").ok_or("the dot is gone")?;
        let trimmed = io.timeout(PATIENCE, busy.trim(0, half * PIECE, false)).await;
        trimmed.ok_or("a trim is held on a full store")?.map_err(|error| format!("a trim: {error}"))?;
        let begun = io.now();
        while self.written.borrow().acknowledged < before + WRITERS {
            if io.now() - begun > PATIENCE.as_nanos() as u64 {
                let space = store.space();
                return Err(format!("space has come back ({} bytes), and writers are held", space.writable_bytes));
            }
            io.sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

fn volume() -> NewVolume {
    NewVolume { name: "main".into(), size_bytes: VOLUME, compression: CompressionMode::Off }
}
