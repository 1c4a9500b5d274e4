//! Repairs: a store with a history loses pages of its maps, of the liveness of segments, or of one tree of the catalog, and
//! sometimes both its checkpoints. After a repair every byte reads as it would have without the damage, but for those that the
//! report names; and a check is clean. Slots that are gone with their header are named block by block as lost; what is lost reads as
//! zeros, can be written over, and can be deleted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use treering_engine::{Damaged, Limits, OpenOptions, RepairReport, SnapshotRef, Store, Volume, VolumeError};
use treering_format::catalog::CatalogKey;
use treering_format::checkpoint::Checkpoint;
use treering_format::container::ContainerHeader;
use treering_format::node::{Node, TreeKind};
use treering_format::segment::SegmentHeader;
use treering_format::superblock::{CheckpointRef, DATA_START, Superblock};
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
/// How often, of those with the newest catalog, slots are gone as well.
const SLOTS_PERCENT: u64 = 40;

/// Enough to sweep everything that such a store can hold.
const FOLDS: usize = 400;

/// Content of every block, by the name of its volume or snapshot.
type Content = BTreeMap<(String, u64), Result<Vec<u8>, String>>;

#[derive(Default)]
struct Counts {
    repaired: u64,
    actions: u64,
    doubtful: u64,
    blocks: u64,
    blocks_doubtful: u64,
    lost: u64,
    overwritten: u64,
}

/// What was ruined.
#[derive(Default)]
struct Ruin {
    what: String,
    newest_is_gone: bool,
    slots_are_gone: bool,
    maps_are_ruined: bool,
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
        "{count} damaged stores in {:.1} s: {} needed a repair, {} actions; {} blocks compared, {} of them doubtful ({} ranges); {} ranges lost, {} blocks of them written over",
        began.elapsed().as_secs_f64(),
        counts.repaired,
        counts.actions,
        counts.blocks,
        counts.blocks_doubtful,
        counts.doubtful,
        counts.lost,
        counts.overwritten
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
    let Ruin { what, newest_is_gone, slots_are_gone, maps_are_ruined } = damage(&mut damaged, &mut random);
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
    if !done.lost.is_empty() && !slots_are_gone {
        return Err(format!("{what}: the log holds everything, and this is lost: {:?}", done.lost));
    }
    let found =
        on(seed, image.clone(), async |io| read(&io).await)?.1.map_err(|why| format!("{what}: {done:?}: {why}"))?;
    counts.repaired += u64::from(!done.actions.is_empty());
    counts.actions += done.actions.len() as u64;
    counts.doubtful += done.doubtful.len() as u64;
    counts.lost += done.lost.len() as u64;
    let compared = compare(&expected, &found, &done, counts).map_err(|why| format!("{what}: {done:?}: {why}"));
    if done.lost.is_empty() {
        // Only a page of a map that is ruined, too, showed what was in those slots: they cannot be told from free ones.
        return if slots_are_gone && maps_are_ruined { Ok(()) } else { compared };
    }
    compared?;
    let over = on(seed, image, async |io| write_over_and_delete(&io, &done.lost).await)?.1;
    counts.overwritten += over.map_err(|why| format!("{what}: {done:?}: after the repair: {why}"))?;
    Ok(())
}

/// Writes over all that volumes lost, and then removes everything. Returns how many blocks were written.
async fn write_over_and_delete(io: &Io, lost: &[Damaged]) -> Result<u64, Broken> {
    let (store, _) = Store::open(io, Path::new(STORE), &options()).await.map_err(|e| format!("opening: {e}"))?;
    let mut written = 0;
    for dot in store.dots() {
        for info in &dot.volumes {
            let name = format!("{}.{}", dot.name, info.name);
            let Some(volume) = store.volume(&dot.name, &info.name) else { continue };
            for (from, to) in lost.iter().filter(|lost| lost.name == name).filter_map(|lost| lost.bytes) {
                let bytes = content::bytes(u64::from(u16::MAX), (to - from) as usize, true);
                match volume.write(from, &bytes, true).await {
                    Err(VolumeError::NoSpace { .. }) => continue,
                    done => done.map_err(|e| format!("{name}: writing bytes {from} to {to}: {e}"))?,
                }
                store
                    .fold()
                    .await
                    .map_err(|e| format!("{name}: folding what was written over bytes {from} to {to}: {e}"))?;
                let read =
                    volume.read(from, (to - from) as usize).await.map_err(|e| format!("{name}: reading: {e}"))?;
                if read[..] != bytes[..] {
                    return Err(format!("{name}: bytes {from} to {to} are not what was written over them"));
                }
                written += (to - from).div_ceil(BLOCK);
            }
        }
    }
    for dot in store.dots() {
        for snapshot in store.snapshots(&dot.name).unwrap_or_default().into_iter().filter(|s| s.protected) {
            let at = SnapshotRef::Name(snapshot.name);
            let unprotected = store.configure_snapshot(&dot.name, &at, Some(false), None).await;
            unprotected.map_err(|e| format!("unprotecting {}@{}: {e}", dot.name, at.text()))?;
        }
        store.remove_dot(&dot.name).await.map_err(|e| format!("removing {}: {e}", dot.name))?;
    }
    for _ in 0..FOLDS {
        store.fold().await.map_err(|e| format!("sweeping: {e}"))?;
    }
    store.checkpoint().await.map_err(|e| format!("a checkpoint: {e}"))?;
    let report = store.check(false, &mut |_| {}).await.map_err(|e| format!("checking: {e}"))?;
    match report.findings.first() {
        Some(finding) => return Err(format!("a check finds {} things: {}", report.findings.len(), finding.what)),
        None if report.live_blocks > 0 => {
            return Err(format!("{} blocks live, and all is removed", report.live_blocks));
        }
        None => {}
    }
    let _ = store.close().await;
    Ok(written)
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
        let lost = report.lost.iter().any(named);
        let is_zeros = || after.as_ref().is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        if before == after || doubtful && after.is_ok() || lost && is_zeros() {
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

/// Ruins a few pages of trees; of the catalog, one tree alone. And perhaps all checkpoints, and with them the newest catalog or
/// a few slots.
fn damage(image: &mut [u8], random: &mut Random) -> Ruin {
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
    let mut maps_are_ruined = false;
    for _ in 0..random.between(1, 4) {
        let kind = *random.pick(&[TreeKind::Map, TreeKind::Map, TreeKind::Map, TreeKind::Liveness, TreeKind::Catalog]);
        let of_kind: Vec<_> = pages.iter().filter(|page| page.1 == kind).collect();
        if of_kind.is_empty() || kind == TreeKind::Catalog && std::mem::replace(&mut catalog, true) {
            continue;
        }
        let (at, kind, level) = **random.pick(&of_kind);
        image[at + 64 + random.below(64) as usize] ^= 1 << random.below(8);
        maps_are_ruined |= kind == TreeKind::Map;
        what.push(format!("page {} of the {kind}, level {level}", at / block));
    }
    let both = random.chance(BOTH_PERCENT);
    let Some(superblock) = newest_superblock(image).filter(|_| both) else {
        return Ruin { what: what.join(", "), maps_are_ruined, ..Ruin::default() };
    };
    let checkpoints = superblock.checkpoints;
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
    let gone =
        if !newest_is_gone && random.chance(SLOTS_PERCENT) { slots(image, &superblock, random) } else { Vec::new() };
    let slots_are_gone = !gone.is_empty();
    what.extend(gone);
    Ruin { what: what.join(", "), newest_is_gone, slots_are_gone, maps_are_ruined }
}

/// Ruins slots of segments that no checkpoint's log needs, or of containers, with all that they say of themselves.
fn slots(image: &mut [u8], superblock: &Superblock, random: &mut Random) -> Vec<String> {
    let block = BLOCK as usize;
    let len = superblock.segment_blocks as usize * block;
    let folds = superblock.checkpoints.iter().filter(|c| !c.is_absent()).map(|c| c.fold.segment());
    let folded = folds.min().unwrap_or_default();
    let starts = (0..superblock.slot_count as usize).map(|slot| superblock.data_start as usize + slot * len);
    let mut candidates: Vec<(usize, String)> = starts
        .filter_map(|at| {
            let first = image.get(at..at + len)?.get(..block)?;
            let segment = SegmentHeader::decode(first).ok().filter(|header| header.segment < folded);
            let segment = segment.map(|header| format!("segment {}", header.segment));
            let container = || Some(format!("container {}", ContainerHeader::decode(first).ok()?.container));
            Some((at, segment.or_else(container)?))
        })
        .collect();
    let mut gone = Vec::new();
    for _ in 0..random.between(1, 3).min(candidates.len() as u64) {
        let (at, what) = candidates.swap_remove(random.below(candidates.len() as u64) as usize);
        image[at..at + len].fill(0xaa);
        gone.push(what);
    }
    gone
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
