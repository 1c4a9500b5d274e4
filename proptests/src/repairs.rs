//! Repairs: a store with a history loses pages of its maps, of the liveness of segments, or of one tree of the catalog, and
//! sometimes both its checkpoints. After a repair every byte reads as it would have without the damage, but for those that the
//! report names; and a check is clean.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use treering_engine::{Damaged, Limits, OpenOptions, RepairReport, SnapshotRef, Store, Volume};
use treering_format::catalog::CatalogKey;
use treering_format::checkpoint::Checkpoint;
use treering_format::node::{Node, TreeKind};
use treering_format::superblock::{CheckpointRef, DATA_START};
use treering_format::units::LogAddress;
use treering_io::Io;
use treering_io::sim::Host;

use crate::content::{self, BLOCK};
use crate::life::{self, STORE, newest_superblock};
use crate::random::Random;
use crate::run;
use crate::scenario::Scenario;
use crate::world::Broken;

/// Virtual time in which opening, repair or reading must end.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often no checkpoint is left.
const BOTH_PERCENT: u64 = 30;
/// How often, of those, the catalog of the newest is not left either.
const NEWEST_PERCENT: u64 = 25;

/// Content of every block, by the name of its volume or snapshot.
type Content = BTreeMap<(String, u64), Result<Vec<u8>, String>>;

#[derive(Default)]
struct Counts {
    repaired: u64,
    actions: u64,
    doubtful: u64,
    blocks: u64,
    blocks_doubtful: u64,
}

/// Runs seeds `first..first + count`; gives how many were not repaired rightly.
pub fn run(first: u64, count: u64) -> u64 {
    run::catch_panics();
    let began = Instant::now();
    let (mut counts, mut failed) = (Counts::default(), 0);
    for seed in first..first + count {
        if let Err(why) = run::guarded(|| repaired(seed, &mut counts)).unwrap_or_else(Err) {
            failed += 1;
            println!("repair {seed} FAILED: {why}");
            println!("  again: treering-sim repairs --first {seed} --seeds 1\n");
        }
    }
    println!(
        "{count} damaged stores in {:.1} s: {} needed a repair, {} actions; {} blocks compared, {} of them doubtful ({} ranges)",
        began.elapsed().as_secs_f64(),
        counts.repaired,
        counts.actions,
        counts.blocks,
        counts.blocks_doubtful,
        counts.doubtful
    );
    println!("{} passed, {failed} failed, 0 skipped", count - failed);
    failed
}

/// One seed, for canaries.
pub fn seed(seed: u64) -> Result<(), Broken> {
    run::guarded(|| repaired(seed, &mut Counts::default())).unwrap_or_else(Err)
}

fn repaired(seed: u64, counts: &mut Counts) -> Result<(), Broken> {
    let mut random = Random::new(seed ^ 0x5eed);
    let shape = |scenario: Scenario, random: &mut Random| {
        let wide = random.chance(60);
        Scenario {
            segment_blocks: 64,
            slots: random.between(24, 64),
            volume_blocks: if wide { 600 } else { 60 },
            operations: random.between(100, 500),
            long_writes: !wide,
            history_percent: 10,
            admin_percent: 2,
            ..scenario.historic()
        }
    };
    let (_, image) = life::left_behind_as(seed, |scenario| shape(scenario, &mut random))?;
    let expected = on(seed, image.clone(), async |io| read(&io).await)?.1?;
    let mut damaged = image.clone();
    let (what, newest_is_gone) = damage(&mut damaged, &mut random);
    let may_refuse = names_nothing(&image, newest_is_gone);
    let planned = on(seed, damaged.clone(), async |io| repair(&io, true).await)?;
    if planned.0 != damaged {
        return Err(format!("{what}: a dry run changed the store"));
    }
    if may_refuse && planned.1.is_err() {
        let (image, done) = on(seed, damaged.clone(), async |io| repair(&io, false).await)?;
        let refused = done.is_err() && image == damaged;
        return refused.then_some(()).ok_or(format!("{what}: a dry run is refused, and the repair says {done:?}"));
    }
    let planned = planned.1.map_err(|why| format!("{what}: {why}"))?;
    let (image, done) = on(seed, damaged, async |io| repair(&io, false).await)?;
    let done = done.map_err(|why| format!("{what}: {why}"))?;
    if planned != done {
        return Err(format!("{what}: a dry run says {planned:?}, the repair {done:?}"));
    }
    if !done.lost.is_empty() {
        return Err(format!("{what}: the log holds everything, and this is lost: {:?}", done.lost));
    }
    let found = on(seed, image, async |io| read(&io).await)?.1.map_err(|why| format!("{what}: {done:?}: {why}"))?;
    counts.repaired += u64::from(!done.actions.is_empty());
    counts.actions += done.actions.len() as u64;
    counts.doubtful += done.doubtful.len() as u64;
    compare(&expected, &found, &done, counts).map_err(|why| format!("{what}: {done:?}: {why}"))
}

fn compare(expected: &Content, found: &Content, report: &RepairReport, counts: &mut Counts) -> Result<(), Broken> {
    for (key, before) in expected {
        let (name, block) = key;
        let named = |damaged: &Damaged| {
            let inside = |(from, to): (u64, u64)| from <= block * BLOCK && block * BLOCK < to;
            damaged.name == *name && damaged.bytes.is_none_or(inside)
        };
        counts.blocks += 1;
        let doubtful = report.doubtful.iter().any(named);
        counts.blocks_doubtful += u64::from(doubtful);
        let after = found.get(key).ok_or_else(|| format!("{name} is gone"))?;
        if before == after || doubtful && after.is_ok() {
            continue;
        }
        let say = |content: &Result<Vec<u8>, String>| match content {
            Ok(bytes) => content::describe(bytes),
            Err(error) => error.clone(),
        };
        return Err(format!("{name} block {block}: {} was there, {} is now", say(before), say(after)));
    }
    if expected.len() != found.len() {
        return Err(format!("{} blocks were there, {} are now", expected.len(), found.len()));
    }
    Ok(())
}

/// Whether no checkpoint's catalog names anything, or only the newest one's: what is left of such a one cannot be told from a
/// part of one that is lost.
fn names_nothing(image: &[u8], only_older: bool) -> bool {
    let block = BLOCK as usize;
    let names = |checkpoint: &CheckpointRef| {
        let blob = &image[checkpoint.blob_page.0 as usize * block..][..checkpoint.blob_bytes as usize];
        let mut next = Checkpoint::decode(blob).ok()?.header.catalog_root;
        while let Some(root) = next {
            let node = Node::decode(&image[root.page.0 as usize * block..][..block]).ok()?;
            next = (root.level > 0).then(|| node.child(0));
            // Dots come first.
            if root.level == 0 && matches!(CatalogKey::decode(node.key(0)), Ok(CatalogKey::Dot(_))) {
                return Some(());
            }
        }
        None
    };
    let checkpoints = newest_superblock(image).map(|superblock| superblock.checkpoints);
    let left = checkpoints.into_iter().flatten().skip(usize::from(only_older));
    left.filter(|checkpoint| !checkpoint.is_absent()).all(|checkpoint| names(&checkpoint).is_none())
}

/// Runs one process on a host with this disk; gives the disk that it leaves, too.
fn on<T>(
    seed: u64,
    image: Vec<u8>,
    body: impl AsyncFnOnce(Io) -> Result<T, Broken>,
) -> Result<(Vec<u8>, Result<T, Broken>), Broken> {
    // Another host than the one that the store lived on: what shared memory held is gone for all alike.
    let host = Host::new(!seed);
    host.set_disk_image(Path::new(STORE), image);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let result = runtime.run_sim(async {
        let patience = io.clone();
        patience.timeout(PATIENCE, body(io)).await.unwrap_or_else(|| Err("it does not end".into()))
    });
    let result = result.map_err(|stopped| stopped.to_string())?;
    Ok((host.disk_image(Path::new(STORE)), result))
}

fn options() -> OpenOptions {
    let limits = Limits { arena_bytes: 256 * BLOCK, arena_entries: 256, ..Limits::floor() };
    OpenOptions { limits, arena_dir: Some("/arenas".into()), ..OpenOptions::default() }
}

async fn repair(io: &Io, dry_run: bool) -> Result<RepairReport, Broken> {
    let report = Store::repair(io, Path::new(STORE), &options(), dry_run).await;
    report.map_err(|error| format!("the repair failed: {error}"))
}

/// Checks the store and reads everything in it.
async fn read(io: &Io) -> Result<Content, Broken> {
    let (store, _) = Store::open(io, Path::new(STORE), &options()).await.map_err(|e| format!("opening: {e}"))?;
    let report = store.check(true, &mut |_| {}).await.map_err(|e| format!("checking: {e}"))?;
    if let Some(finding) = report.findings.first() {
        return Err(format!("a check finds {} things: {}", report.findings.len(), finding.what));
    }
    let mut content = Content::new();
    for dot in store.dots() {
        for info in &dot.volumes {
            let Some(volume) = store.volume(&dot.name, &info.name) else { continue };
            blocks_of(&volume, format!("{}.{}", dot.name, info.name), &mut content).await;
        }
        for snapshot in store.snapshots(&dot.name).unwrap_or_default() {
            let at = SnapshotRef::Name(snapshot.name.clone());
            for info in snapshot.volumes {
                let Ok(volume) = store.open_snapshot(&dot.name, &info.name, &at) else { continue };
                let name = format!("{}.{}@{}", dot.name, info.name, snapshot.name);
                blocks_of(&volume, name, &mut content).await;
            }
        }
    }
    let _ = store.close().await;
    Ok(content)
}

async fn blocks_of(volume: &Volume, name: String, content: &mut Content) {
    let size = volume.size();
    for number in 0..size.div_ceil(BLOCK) {
        let len = (size - number * BLOCK).min(BLOCK);
        let read = volume.read(number * BLOCK, len as usize).await;
        content.insert((name.clone(), number), read.map(|b| b.to_vec()).map_err(|e| e.to_string()));
    }
}

/// Ruins a few pages of trees; of the catalog, one tree alone. And perhaps all checkpoints, and with them the newest catalog:
/// says whether.
fn damage(image: &mut [u8], random: &mut Random) -> (String, bool) {
    let block = BLOCK as usize;
    // A disk that grew may end within a block.
    let pages: Vec<(usize, TreeKind, u8)> = (DATA_START as usize..image.len() / block * block)
        .step_by(block)
        .filter_map(|at| {
            let node = Node::decode(&image[at..at + block]).ok()?;
            Some((at, node.header().kind, node.header().level))
        })
        .collect();
    let mut what = Vec::new();
    let mut catalog = false;
    for _ in 0..random.between(1, 4) {
        let kind = *random.pick(&[TreeKind::Map, TreeKind::Map, TreeKind::Map, TreeKind::Liveness, TreeKind::Catalog]);
        let of_kind: Vec<_> = pages.iter().filter(|page| page.1 == kind).collect();
        if of_kind.is_empty() || kind == TreeKind::Catalog && std::mem::replace(&mut catalog, true) {
            continue;
        }
        let (at, kind, level) = **random.pick(&of_kind);
        image[at + 64 + random.below(64) as usize] ^= 1 << random.below(8);
        what.push(format!("page {} of the {kind}, level {level}", at / block));
    }
    let both = random.chance(BOTH_PERCENT);
    let Some(checkpoints) = newest_superblock(image).map(|s| s.checkpoints).filter(|_| both) else {
        return (what.join(", "), false);
    };
    let newest_is_gone = checkpoints[0].fold > checkpoints[1].fold && random.chance(NEWEST_PERCENT);
    if newest_is_gone {
        let newest: Vec<(usize, u8)> = catalog_born_at(image, checkpoints[0].fold);
        let top = newest.iter().map(|(_, level)| *level).max();
        let gone = newest.iter().filter(|(_, level)| Some(*level) == top || random.chance(50));
        gone.for_each(|(at, _)| image[*at..*at + block].fill(0));
        what.push("the newest catalog".into());
    }
    for checkpoint in checkpoints.into_iter().filter(|c| !c.is_absent()) {
        image[checkpoint.blob_page.0 as usize * block + 64] ^= 1;
        what.push(format!("checkpoint {}", checkpoint.sequence));
    }
    (what.join(", "), newest_is_gone)
}

/// Pages of the catalog, with their levels.
fn catalog_born_at(image: &[u8], birth: LogAddress) -> Vec<(usize, u8)> {
    let block = BLOCK as usize;
    let page = |at: usize| {
        let node = Node::decode(image.get(at..at + block)?).ok()?;
        let header = node.header();
        (header.kind == TreeKind::Catalog && header.birth == birth).then_some((at, header.level))
    };
    (DATA_START as usize..image.len()).step_by(block).filter_map(page).collect()
}
