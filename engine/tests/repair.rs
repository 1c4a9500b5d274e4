//! Repairs of chosen damage; `treering-sim repairs` does it at random, against everything that was there.

use treering_engine::{Damaged, NewSnapshot, RepairReport, SnapshotRef, Store, StoreError, Volume, Zeroing};
use treering_format::node::{Node, TreeKind};
use treering_format::segment::SegmentHeader;
use treering_format::superblock::Superblock;
use treering_format::units::LogAddress;
use treering_io::sim::Host;

mod support;

use support::{MIB, create, host, is_clean, life, noise, open, options, store as path, volume};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 600;

/// Block `block` as generation `generation` writes it.
fn content(generation: u64, block: u64) -> Vec<u8> {
    noise(generation * 10_000 + block, BLOCK)
}

/// A volume of single blocks that no extent joins, a snapshot of it, and a head that wrote over every third block since.
fn prepared() -> Vec<u8> {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", 16 * MIB)]).await.expect("there is room");
        let v = store.volume("d", "v").expect("it was made");
        for block in 0..BLOCKS {
            v.write(block * 2 * BLOCK as u64, &content(1, block), false).await.expect("there is room");
        }
        let new = NewSnapshot { name: Some("s".into()), ..NewSnapshot::default() };
        store.create_snapshot(&["d"], &new).await.expect("there is room");
        for block in (0..BLOCKS).step_by(3) {
            v.write(block * 2 * BLOCK as u64, &content(2, block), false).await.expect("there is room");
        }
        store.close().await.expect("a clean end");
    });
    host.disk_image(&path())
}

/// Ruins all checkpoints, and says where the fold was at the newest.
fn without_checkpoints(image: &mut [u8]) -> LogAddress {
    let superblocks = image[..32 * BLOCK].chunks(BLOCK).filter_map(|block| Superblock::decode(block).ok());
    let checkpoints = superblocks.max_by_key(|superblock| superblock.generation).expect("one is whole").checkpoints;
    for checkpoint in checkpoints.iter().filter(|checkpoint| !checkpoint.is_absent()) {
        image[checkpoint.blob_page.0 as usize * BLOCK + 50] ^= 1;
    }
    checkpoints[0].fold
}

/// Ruins the pages that `choose` picks by tree and level.
fn ruined(mut image: Vec<u8>, choose: impl Fn(TreeKind, u8) -> bool) -> Host {
    let mut pages = 0;
    for at in (MIB as usize..image.len()).step_by(BLOCK) {
        let Ok(node) = Node::decode(&image[at..at + BLOCK]) else { continue };
        if choose(node.header().kind, node.header().level) {
            image[at + 100] ^= 4;
            pages += 1;
        }
    }
    assert!(pages > 0, "there is something to ruin");
    let host = host(64 * MIB);
    host.set_disk_image(&path(), image);
    host
}

fn repair(host: &Host, dry_run: bool) -> RepairReport {
    life(host, async |io| Store::repair(&io, &path(), &options(), dry_run).await.expect("it can be repaired"))
}

fn reads_as_before(host: &Host) {
    life(host, async |io| {
        let store = open(&io).await;
        is_clean(&store).await;
        let head = store.volume("d", "v").expect("it is there");
        let cut = store.open_snapshot("d", "v", &SnapshotRef::Name("s".into())).expect("it is there");
        for block in 0..BLOCKS {
            let newest = if block % 3 == 0 { 2 } else { 1 };
            for (volume, generation) in [(&head, newest), (&cut, 1)] {
                let found = volume.read(block * 2 * BLOCK as u64, BLOCK).await.expect("it can be read");
                assert!(found[..] == content(generation, block)[..], "block {block} of generation {generation}");
            }
        }
        store.close().await.expect("a clean end");
    });
}

#[test]
fn all_maps_are_rebuilt_from_the_log_each_up_to_its_cut() {
    let host = ruined(prepared(), |kind, _| kind == TreeKind::Map);
    let before = host.disk_image(&path());
    let planned = repair(&host, true);
    assert!(host.disk_image(&path()) == before, "a dry run changes nothing");
    let report = repair(&host, false);
    assert_eq!(report, planned);
    let nothing: (Vec<Damaged>, Vec<Damaged>) = Default::default();
    assert_eq!((report.lost, report.doubtful), nothing, "every record is there");
    assert_eq!(report.actions.len(), 2, "{:?}", report.actions);
    reads_as_before(&host);
    assert_eq!(repair(&host, false), RepairReport::default(), "nothing is left to be done");
}

#[test]
fn liveness_is_computed_from_the_maps() {
    let host = ruined(prepared(), |kind, _| kind == TreeKind::Liveness);
    let report = repair(&host, false);
    assert_eq!((report.lost.len(), report.doubtful.len(), report.actions.len()), (0, 0, 1), "{report:?}");
    reads_as_before(&host);
}

#[test]
fn leaves_and_liveness_together_are_rebuilt() {
    let host = ruined(prepared(), |kind, level| kind == TreeKind::Liveness || kind == TreeKind::Map && level == 0);
    let report = repair(&host, false);
    assert_eq!((report.lost.len(), report.doubtful.len()), (0, 0), "{report:?}");
    reads_as_before(&host);
}

/// The dot is removed and swept, and no block lives any more.
async fn everything_comes_back(store: Store) {
    store.remove_dot("d").await.expect("it goes");
    for _ in 0..200 {
        store.fold().await.expect("it is swept");
    }
    store.checkpoint().await.expect("it is written");
    let report = store.check(false, &mut |_| {}).await.expect("a check");
    assert_eq!((report.findings, report.live_blocks), (Vec::new(), 0));
    store.close().await.expect("a clean end");
}

#[test]
fn what_a_repaired_store_frees_comes_back() {
    let host = ruined(prepared(), |kind, level| kind == TreeKind::Map && level == 0);
    repair(&host, false);
    life(&host, async |io| {
        let store = open(&io).await;
        everything_comes_back(store).await;
    });
}

#[test]
fn a_damaged_log_is_cut_and_says_what_went() {
    let mut image = prepared();
    // Of a store that crashed: the record behind the checkpoint is damaged, one behind it attests it.
    let host = host(64 * MIB);
    host.set_disk_image(&path(), image);
    life(&host, async |io| {
        let store = open(&io).await;
        let v = store.volume("d", "v").expect("it is there");
        for round in 0..3 {
            v.write(0, &content(9, round), true).await.expect("there is room");
        }
        // The process ends without a close.
    });
    host.process_crash();
    image = host.disk_image(&path());
    let wanted = content(9, 0);
    let at = (MIB as usize..image.len()).step_by(BLOCK).find(|at| image[*at..at + BLOCK] == wanted[..]);
    let header = at.expect("the first of them is in the log") - BLOCK;
    image[header + 40] ^= 1;
    let host = support::host(64 * MIB);
    host.set_disk_image(&path(), image);
    life(&host, async |io| {
        assert!(Store::open(&io, &path(), &options()).await.is_err(), "acknowledged data is missing");
    });
    let report = repair(&host, false);
    assert!(!report.lost.is_empty(), "{report:?}");
    reads_as_before(&host);
}

/// Found by seeds 1277, 2174, 2175, 3103 and 3363 of `treering-sim repairs`. A snapshot that the log made above the checkpoint
/// showed what was only a guess of its volume, and the report named the volume alone.
#[test]
fn what_is_doubtful_of_a_volume_is_doubtful_of_its_later_snapshots_and_their_forks() {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", MIB)]).await.expect("there is room");
        let v = store.volume("d", "v").expect("it was made");
        let at = |block: u64| block * 2 * BLOCK as u64;
        v.write(at(1), &content(1, 1), true).await.expect("there is room");
        let new = |name: &str| NewSnapshot { name: Some(name.into()), ..NewSnapshot::default() };
        store.create_snapshot(&["d"], &new("s")).await.expect("there is room");
        // Its record will be gone: it is not known what was hidden since the snapshot.
        v.write(at(5), &content(1, 5), true).await.expect("there is room");
        v.write(at(0), &content(2, 0), true).await.expect("there is room");
        store.checkpoint().await.expect("it is written");
        store.create_snapshot(&["d"], &new("t")).await.expect("there is room");
        let at = SnapshotRef::Name("t".into());
        store.fork("d", &at, &["f".to_owned()], None).await.expect("there is room");
        // The process ends without a close.
    });
    host.host_crash();
    let mut image = host.disk_image(&path());
    let blocks = || (MIB as usize..host.disk_image(&path()).len()).step_by(BLOCK);
    let lost = blocks().find(|at| image[*at..at + BLOCK] == content(1, 5)[..]).expect("it is in the log");
    image[lost - BLOCK + 40] ^= 1;
    let leaves = blocks().filter_map(|at| {
        let node = Node::decode(&image[at..at + BLOCK]).ok()?;
        (node.header().kind == TreeKind::Map).then_some((node.header().birth, at))
    });
    let (_, newest) = leaves.max().expect("the head has a map");
    image[newest + 100] ^= 4;
    host.set_disk_image(&path(), image);
    let report = repair(&host, true);
    let mut names: Vec<&str> = report.doubtful.iter().map(|doubt| doubt.name.as_str()).collect();
    names.dedup();
    assert_eq!(names, ["d.v", "f.v", "d.v@t"], "{report:?}");
    assert_eq!(report, repair(&host, false));
}

/// A store whose volume has one map page of its own. `ruined` is the content of a block whose record is damaged, then that page is.
fn ruined_head(live: impl AsyncFnOnce(&Store, &Volume), ruined: &[u8]) -> Host {
    let host = host(64 * MIB);
    life(&host, async |io| {
        create(&io).await;
        let store = open(&io).await;
        store.create_dot("d", &[volume("v", MIB)]).await.expect("there is room");
        let v = store.volume("d", "v").expect("it was made");
        live(&store, &v).await;
        drop(v);
        store.close().await.expect("a clean end");
    });
    let mut image = host.disk_image(&path());
    let blocks: Vec<usize> = (MIB as usize..image.len()).step_by(BLOCK).collect();
    let lost = blocks.iter().find(|at| image[**at..**at + BLOCK] == *ruined).expect("it is in the log");
    image[lost - BLOCK + 40] ^= 1;
    let leaves = blocks.iter().filter_map(|at| {
        let node = Node::decode(&image[*at..*at + BLOCK]).ok()?;
        (node.header().kind == TreeKind::Map).then_some((node.header().birth, *at))
    });
    let (_, newest) = leaves.max().expect("the head has a map");
    image[newest + 100] ^= 4;
    host.set_disk_image(&path(), image);
    host
}

async fn read_block(io: &treering_io::Io, block: u64) -> Vec<u8> {
    let store = open(io).await;
    is_clean(&store).await;
    let v = store.volume("d", "v").expect("it is there");
    let found = v.read(block * BLOCK as u64, BLOCK).await.expect("it can be read").to_vec();
    drop(v);
    store.close().await.expect("a clean end");
    found
}

/// Found by seed 2453 of `treering-sim repairs`. The record of a trim is lost, and an older snapshot still shows the block: it was
/// taken for the newest, though the snapshot that the volume goes on from knows of the trim.
#[test]
fn a_volume_shows_nothing_old_that_its_last_snapshot_does_not_show() {
    let host = ruined_head(
        async |store, v| {
            let new = |name: &str| NewSnapshot { name: Some(name.into()), ..NewSnapshot::default() };
            v.write(0, &content(1, 0), true).await.expect("there is room");
            store.create_snapshot(&["d"], &new("s")).await.expect("there is room");
            // One record: the trim and a block behind it.
            v.zero(0, BLOCK as u64, Zeroing::Hole, false).await.expect("there is room");
            v.write(9 * BLOCK as u64, &content(1, 9), true).await.expect("there is room");
            store.create_snapshot(&["d"], &new("t")).await.expect("there is room");
            v.write(5 * BLOCK as u64, &content(2, 5), true).await.expect("there is room");
        },
        &content(1, 9),
    );
    let report = repair(&host, false);
    assert_eq!(report.doubtful, Vec::new(), "all since the last snapshot is known");
    life(&host, async |io| assert!(read_block(&io, 0).await == vec![0; BLOCK]));
}

/// Found by seed 5969 of `treering-sim repairs`. One block of two that were compressed together is trimmed, and the record of the
/// trim is lost: what the other block keeps alive was taken for certain at both.
#[test]
fn compressed_data_that_lives_is_not_certain_at_each_of_its_blocks() {
    let host = ruined_head(
        async |_, v| {
            v.write(0, &vec![7; 2 * BLOCK], true).await.expect("there is room");
            v.zero(BLOCK as u64, BLOCK as u64, Zeroing::Hole, false).await.expect("there is room");
            v.write(9 * BLOCK as u64, &content(1, 9), true).await.expect("there is room");
            v.write(9 * BLOCK as u64, &content(2, 9), true).await.expect("there is room");
        },
        &content(1, 9),
    );
    let report = repair(&host, false);
    let trimmed =
        |doubt: &Damaged| doubt.bytes.is_some_and(|(from, to)| from <= BLOCK as u64 && BLOCK as u64 * 2 <= to);
    assert!(report.doubtful.iter().any(trimmed), "{report:?}");
}

#[test]
fn without_a_checkpoint_the_catalog_is_found_among_the_pages() {
    let mut image = prepared();
    without_checkpoints(&mut image);
    let host = host(64 * MIB);
    host.set_disk_image(&path(), image.clone());
    life(&host, async |io| {
        let error = Store::open(&io, &path(), &options()).await.map(drop).expect_err("no checkpoint is whole");
        assert!(matches!(error, StoreError::NoCheckpoint(_)), "{error}");
    });
    let planned = repair(&host, true);
    assert!(host.disk_image(&path()) == image, "a dry run changes nothing");
    let report = repair(&host, false);
    assert_eq!(report, planned);
    assert_eq!((report.lost.len(), report.doubtful.len()), (0, 0), "{report:?}");
    assert!(report.actions[0].contains("the catalog is found in page"), "{report:?}");
    reads_as_before(&host);
    assert_eq!(repair(&host, false), RepairReport::default(), "nothing is left to be done");
}

#[test]
fn without_checkpoint_leaves_and_liveness_all_comes_from_the_log() {
    let mut image = prepared();
    without_checkpoints(&mut image);
    let host = ruined(image, |kind, level| kind == TreeKind::Liveness || kind == TreeKind::Map && level == 0);
    let report = repair(&host, false);
    assert_eq!((report.lost.len(), report.doubtful.len()), (0, 0), "{report:?}");
    reads_as_before(&host);
}

#[test]
fn without_the_newest_catalog_the_one_before_and_the_log_say_the_same() {
    let mut image = prepared();
    let fold = without_checkpoints(&mut image);
    for at in (MIB as usize..image.len()).step_by(BLOCK) {
        let newest = Node::decode(&image[at..at + BLOCK]).is_ok_and(|node| {
            let header = node.header();
            header.kind == TreeKind::Catalog && header.birth == fold
        });
        // Nothing is left that says what it was.
        image[at..at + BLOCK / 8].iter_mut().filter(|_| newest).for_each(|byte| *byte = 0);
    }
    let host = host(64 * MIB);
    host.set_disk_image(&path(), image);
    let report = repair(&host, false);
    assert_eq!((report.lost.len(), report.doubtful.len()), (0, 0), "{report:?}");
    reads_as_before(&host);
}

/// Found by seed 6779 of `treering-sim repairs`. Everything was deleted, and what was left of the catalog from before its end was taken
/// for it: that cannot be told from part of a catalog that is lost.
#[test]
fn a_catalog_in_which_nothing_has_a_name_is_not_believed() {
    let host = host(64 * MIB);
    host.set_disk_image(&path(), prepared());
    life(&host, async |io| {
        let store = open(&io).await;
        store.remove_dot("d").await.expect("it goes");
        store.checkpoint().await.expect("it is written");
        store.checkpoint().await.expect("it is written");
        store.close().await.expect("a clean end");
    });
    let mut image = host.disk_image(&path());
    without_checkpoints(&mut image);
    host.set_disk_image(&path(), image.clone());
    for dry_run in [true, false] {
        life(&host, async |io| {
            let refused = Store::repair(&io, &path(), &options(), dry_run).await;
            assert!(matches!(refused, Err(StoreError::BeyondRepair(_))), "{refused:?}");
        });
    }
    assert!(host.disk_image(&path()) == image, "a repair that is refused changes nothing");
}

/// Where it is not known what lives, nothing else tells of a block whose record is gone.
#[test]
fn a_record_that_cannot_be_read_leaves_doubt_where_it_is_not_known_what_lives() {
    let host = ruined_head(
        async |_, v| {
            for block in [0, 9, 3] {
                v.write(block * BLOCK as u64, &content(1, block), true).await.expect("there is room");
            }
        },
        &content(1, 9),
    );
    for checkpoints in [true, false] {
        let mut image = host.disk_image(&path());
        if !checkpoints {
            without_checkpoints(&mut image);
        }
        let host = ruined(image, |kind, _| kind == TreeKind::Liveness);
        let report = repair(&host, false);
        let gone =
            |doubt: &Damaged| doubt.bytes.is_some_and(|(from, to)| from <= 9 * BLOCK as u64 && BLOCK as u64 * 10 <= to);
        assert!(report.doubtful.iter().any(gone), "{report:?}");
    }
}

/// Found by reading: what no slot holds stayed in the maps, and the fold of a write over it stopped the store.
#[test]
fn what_is_lost_becomes_holes_that_can_be_written_and_deleted() {
    let mut image = prepared();
    let fold = without_checkpoints(&mut image);
    let superblocks = image[..32 * BLOCK].chunks(BLOCK).filter_map(|block| Superblock::decode(block).ok());
    let geometry = superblocks.max_by_key(|superblock| superblock.generation).expect("one is whole");
    let slot_len = geometry.segment_blocks as usize * BLOCK;
    let slots = (geometry.data_start as usize..image.len()).step_by(slot_len);
    let old = slots.filter_map(|at| {
        let header = SegmentHeader::decode(&image[at..at + BLOCK]).ok()?;
        (header.segment < fold.segment()).then_some((header.segment, at))
    });
    let (_, at) = old.min().expect("more than one segment was written");
    image[at..at + slot_len].fill(0xaa);
    let host = host(64 * MIB);
    host.set_disk_image(&path(), image.clone());
    let planned = repair(&host, true);
    assert!(host.disk_image(&path()) == image, "a dry run changes nothing");
    let report = repair(&host, false);
    assert_eq!(report, planned);
    assert!(report.actions.iter().any(|action| action.contains("become holes")), "{report:?}");
    let is_lost = |name: &str, block: u64| {
        let at = block * 2 * BLOCK as u64;
        let lost = |lost: &&Damaged| lost.name == name && lost.bytes.is_some_and(|(from, to)| from <= at && at < to);
        report.lost.iter().any(|damaged| lost(&damaged))
    };
    assert!((0..BLOCKS).any(|block| is_lost("d.v", block)) && (0..BLOCKS).any(|block| is_lost("d.v@s", block)));
    life(&host, async |io| {
        let store = open(&io).await;
        is_clean(&store).await;
        let head = store.volume("d", "v").expect("it is there");
        let cut = store.open_snapshot("d", "v", &SnapshotRef::Name("s".into())).expect("it is there");
        for block in 0..BLOCKS {
            let newest = if block % 3 == 0 { 2 } else { 1 };
            for (volume, name, generation) in [(&head, "d.v", newest), (&cut, "d.v@s", 1)] {
                let found = volume.read(block * 2 * BLOCK as u64, BLOCK).await.expect("it can be read");
                let wanted = if is_lost(name, block) { vec![0; BLOCK] } else { content(generation, block) };
                assert!(found[..] == wanted[..], "{name}: block {block}");
            }
        }
        for block in 0..BLOCKS {
            head.write(block * 2 * BLOCK as u64, &content(3, block), false).await.expect("it can be written");
        }
        store.fold().await.expect("what was lost is written over");
        is_clean(&store).await;
        drop((head, cut));
        everything_comes_back(store).await;
    });
    assert_eq!(repair(&host, false), RepairReport::default(), "nothing is left to be done");
}
