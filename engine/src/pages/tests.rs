//! The life of a page, and how pages are read.

use std::path::Path;
use std::rc::Rc;

use futures_util::future::join_all;
use treering_format::checkpoint::PageMap;
use treering_format::node::{NODE_BYTES, NodeHeader, NodeRef, NodeWriter, TreeKind};
use treering_format::units::{LogAddress, PageIndex, SlotIndex};
use treering_io::sim::Host;
use treering_io::{Buffer, FileOptions};

use super::space::PageSpace;
use super::*;

fn space(slot_pages: u32, slots: u64) -> PageSpace {
    let mut space = PageSpace::new(256, slot_pages);
    (0..slots).for_each(|slot| space.add_slot(SlotIndex(slot)));
    space
}

fn checkpoint(space: &mut PageSpace) -> Vec<PageMap> {
    let maps = space.seal_window();
    space.window_durable(false);
    maps
}

#[test]
fn a_released_page_is_handed_out_again_only_after_the_second_checkpoint() {
    let mut space = space(64, 1);
    let pages: Vec<_> = (0..64).map(|_| space.allocate().expect("64 pages are free")).collect();
    assert_eq!(space.allocate(), None);
    checkpoint(&mut space);

    assert!(space.release(pages[9]));
    assert_eq!((space.available(), space.used_pages()), (0, 63));
    let maps = space.seal_window();
    assert_eq!((maps[0].used[1], maps[0].quarantined[1]), (0xfd, 0x02));
    assert!(space.release(pages[10]));
    space.window_durable(false);
    assert_eq!(space.allocate(), None, "the older checkpoint still needs it");

    let maps = checkpoint(&mut space);
    assert_eq!((maps[0].used[1], maps[0].quarantined[1]), (0xf9, 0x04));
    assert_eq!(space.allocate(), Some(pages[9]));
    assert_eq!(space.allocate(), None);
    checkpoint(&mut space);
    assert_eq!(space.allocate(), Some(pages[10]));
}

#[test]
fn what_a_checkpoint_recorded_is_what_is_loaded() {
    let mut before = space(100, 3);
    let pages: Vec<_> = (0..150).map(|_| before.allocate().expect("free")).collect();
    before.add_slot(SlotIndex(7));
    checkpoint(&mut before);
    pages.iter().step_by(3).for_each(|page| assert!(before.release(*page)));
    let maps = before.seal_window();

    let mut after = PageSpace::new(256, 100);
    after.load(maps.clone());
    assert_eq!((after.available(), after.used_pages(), after.slot_count()), (250, 100, 4));
    assert_eq!(after.used_page_list(), before.used_page_list());
    assert_eq!(maps.len(), after.seal_window().len());
    after.window_durable(false);
    assert_eq!(after.available(), 300, "its quarantine ends with the next checkpoint");
}

#[test]
fn a_page_that_is_released_twice_or_was_never_handed_out_is_refused() {
    let mut space = space(64, 1);
    let page = space.allocate().expect("free");
    assert!(space.release(page));
    assert!(!space.release(page), "released twice");
    assert!(!space.release(PageIndex(256)), "never handed out");
}

#[test]
fn a_run_is_contiguous_and_within_one_slot() {
    let mut space = space(100, 2);
    (0..70).for_each(|_| assert!(space.allocate().is_some()));
    let run = space.allocate_run(90).expect("the other slot is empty");
    let taken = space.used_page_list();
    assert!((run.0..run.0 + 90).all(|page| taken.contains(&PageIndex(page))));
    assert_eq!((run.0 - 256) / 100, (run.0 + 89 - 256) / 100);
    assert_eq!(space.available(), 40);
    assert_eq!(space.allocate_run(31), None);
    assert!(space.allocate_run(30).is_some());
    assert_eq!(space.allocate_run(0), None);
    assert_eq!(space.allocate_run(1 << 40), None);
}

#[test]
fn pages_are_handed_out_in_neighbouring_places() {
    let mut space = space(512, 4);
    let pages: Vec<_> = (0..512).map(|_| space.allocate().expect("free")).collect();
    assert!(pages.is_sorted_by(|a, b| a.0 + 1 == b.0));
}

fn leaf(page: PageIndex, value: &[u8]) -> (Page, NodeRef) {
    let mut writer = NodeWriter::default();
    writer.push(1, value);
    let mut node = writer.finish(Buffer::with_len(NODE_BYTES));
    node.set_header(&NodeHeader { kind: TreeKind::Catalog, level: 0, owner: 0, birth: LogAddress(1), page });
    let reference = NodeRef { page, checksum: node.checksum(), level: 0, birth: LogAddress(1) };
    (node.map(PageBytes::from), reference)
}

fn on_host(test: impl AsyncFnOnce(Host, Pages)) {
    let host = Host::new(3);
    host.add_disk(Path::new("/disk"), 8 << 20);
    let mut runtime = host.runtime();
    let io = runtime.io();
    let options = FileOptions { write: true, ..FileOptions::default() };
    let file = io.open_file(Path::new("/disk"), &options).expect("the disk is there");
    let pages = Pages::new(io, file, 1 << 20, 64, 0);
    pages.add_slot(SlotIndex(0));
    runtime.block_on(test(host, pages));
}

async fn written(pages: &Pages, count: usize) -> Vec<NodeRef> {
    let mut writer = PageWriter::new(pages, "catalog");
    let mut references = Vec::new();
    for value in 0..count {
        let (page, reference) = leaf(pages.allocate().expect("free"), &[value as u8]);
        writer.push(reference.page, page).await.expect("sound");
        references.push(reference);
    }
    writer.finish().await.expect("sound");
    references
}

/// One of the pages that the small cache of these tests has no room for.
fn one_on_disk(pages: &Pages, references: &[NodeRef]) -> NodeRef {
    *references.iter().find(|reference| pages.cached(reference).is_none()).expect("the cache is too small for all")
}

#[test]
fn neighbouring_pages_are_written_as_one() {
    on_host(async |host, pages| {
        let before = host.stats().writes;
        written(&pages, 60).await;
        assert_eq!(host.stats().writes - before, 1);
    });
}

#[test]
fn a_page_that_many_want_is_read_once() {
    on_host(async |host, pages| {
        let references = written(&pages, 60).await;
        let wanted = one_on_disk(&pages, &references);
        let before = host.stats().reads;
        let all = join_all((0..20).map(|_| pages.read(TreeKind::Catalog, wanted))).await;
        assert!(all.into_iter().all(|page| page.expect("sound").checksum() == wanted.checksum));
        assert_eq!(host.stats().reads - before, 1);
    });
}

#[test]
fn a_reader_that_goes_away_leaves_no_one_waiting() {
    on_host(async |host, pages| {
        host.faults().latency_ns = (1_000, 2_000);
        let references = written(&pages, 60).await;
        let wanted = one_on_disk(&pages, &references);
        let mut leader = Box::pin(pages.read(TreeKind::Catalog, wanted));
        assert!(futures_util::FutureExt::now_or_never(leader.as_mut()).is_none());
        let mut follower = Box::pin(pages.read(TreeKind::Catalog, wanted));
        assert!(futures_util::FutureExt::now_or_never(follower.as_mut()).is_none());
        drop(leader);
        follower.await.expect("it reads by itself");
    });
}

#[test]
fn a_bit_that_flips_on_the_way_is_read_again() {
    on_host(async |host, pages| {
        let references = written(&pages, 60).await;
        host.faults().bit_flip_on_read = 0.3;
        let mut failed = 0;
        for reference in &references[..40] {
            failed += usize::from(pages.read(TreeKind::Catalog, *reference).await.is_err());
        }
        // 0.3² of 40, not 0.3 of 40.
        assert!(failed < 10, "{failed} of 40 reads failed");
    });
}

#[test]
fn a_page_of_another_tree_level_or_birth_is_refused() {
    on_host(async |_, pages| {
        let reference = one_on_disk(&pages, &written(&pages, 60).await);
        let error = pages.read(TreeKind::Liveness, reference).await.expect_err("it is a page of the catalog");
        assert!(error.to_string().contains("kind, level and birth is catalog level 0"), "{error}");
        let error = pages.read(TreeKind::Catalog, NodeRef { level: 1, ..reference }).await;
        assert!(error.is_err_and(|error| matches!(error, PageError::Content { .. })));
        let error = pages.read(TreeKind::Catalog, NodeRef { birth: LogAddress(2), ..reference }).await;
        assert!(error.is_err_and(|error| matches!(error, PageError::Content { .. })));
    });
}

#[test]
fn the_cache_holds_what_its_bytes_allow() {
    let mut cache = NodeCache::new(400 * 4256);
    let references: Vec<_> = (0..2_000)
        .map(|place| {
            let (page, reference) = leaf(PageIndex(place), &[1]);
            cache.insert(reference.page, page);
            reference
        })
        .collect();
    let held = references.iter().filter(|reference| cache.get(reference).is_some()).count();
    assert!((300..=400).contains(&held), "{held} pages");
    let stale = NodeRef { checksum: 1, ..references[1_999] };
    assert!(cache.get(&stale).is_none(), "an older page of the same place is not a hit");
    drop(Rc::new(cache));
}
