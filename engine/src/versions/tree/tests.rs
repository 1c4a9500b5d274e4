use treering_format::units::{LineId, LogAddress, VersionId};

use super::*;

fn head(line: u64) -> NodeId {
    NodeId::Head(LineId(line))
}

fn frozen(id: u64) -> NodeId {
    NodeId::Frozen(VersionId(id))
}

/// A head on line 1 with versions 1, 2, … at addresses 10, 20, ….
fn chain(versions: u64) -> VersionTree {
    let mut tree = VersionTree::default();
    tree.new_head(LineId(1), None);
    (1..=versions).for_each(|id| tree.snapshot(LineId(1), VersionId(id), LogAddress(10 * id)));
    tree
}

fn sweep(tree: &mut VersionTree) -> Swept {
    let id = tree.begin_sweep().expect("something is deleted");
    let swept = tree.finish_sweep(id);
    assert_eq!(tree.check(), Vec::<String>::new());
    swept
}

fn stored(tree: &VersionTree) -> Result<VersionTree, String> {
    VersionTree::load(tree.frozen().map(|(id, f)| (id, f.parent, f.position, f.life)), tree.heads())
}

#[test]
fn a_head_frees_what_it_wrote_since_its_last_snapshot() {
    let tree = chain(2);
    assert_eq!(tree.entry_floor(head(1), 0), LogAddress(20));
    assert_eq!(tree.page_floor(head(1)), Some(LogAddress(20)));
    assert_eq!(tree.entry_floor(frozen(1), 0), LogAddress::NONE);
    assert_eq!(tree.page_floor(frozen(1)), None);
    assert_eq!(tree.path(head(1)).collect::<Vec<_>>(), [VersionId(2), VersionId(1)]);
}

#[test]
fn below_the_cursor_a_child_goes_on_from_its_grandparent() {
    let mut tree = chain(2);
    assert_eq!(tree.delete(VersionId(2)), Deleted::Queued);
    assert_eq!(tree.entry_floor(head(1), 0), LogAddress(20), "nothing was swept");
    let id = tree.begin_sweep().expect("queued");
    tree.set_cursor(id, 50);
    assert_eq!(tree.entry_floor(head(1), 49), LogAddress(10));
    assert_eq!(tree.entry_floor(head(1), 50), LogAddress(20));
    assert_eq!(tree.page_floor(head(1)), Some(LogAddress(20)), "pages wait for the end");
    assert_eq!(tree.finish_sweep(id), Swept { adopted: Some(head(1)), queued: None });
    assert_eq!(tree.entry_floor(head(1), 50), LogAddress(10));
    assert_eq!(tree.page_floor(head(1)), Some(LogAddress(10)));
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn a_snapshot_of_the_child_in_the_middle_of_a_sweep_becomes_the_child() {
    let mut tree = chain(1);
    tree.delete(VersionId(1));
    let id = tree.begin_sweep().expect("queued");
    tree.set_cursor(id, 5);
    tree.snapshot(LineId(1), VersionId(2), LogAddress(30));
    assert_eq!(tree.only_child(id), Some(frozen(2)));
    assert_eq!(tree.entry_floor(frozen(2), 4), LogAddress::NONE);
    assert_eq!(tree.entry_floor(frozen(2), 5), LogAddress(10));
    assert_eq!(tree.entry_floor(head(1), 4), LogAddress(30));
    tree.finish_sweep(id);
    assert_eq!(tree.parent(frozen(2)), None);
    assert_eq!(tree.check(), Vec::<String>::new());
}

#[test]
fn a_branching_point_hides_until_one_child_is_left() {
    let mut tree = chain(1);
    tree.new_head(LineId(2), Some(VersionId(1)));
    assert_eq!(tree.delete(VersionId(1)), Deleted::Hidden);
    assert_eq!(tree.begin_sweep(), None);
    tree.freeze_head(LineId(2), VersionId(2), LogAddress(20));
    assert_eq!(tree.delete(VersionId(2)), Deleted::Queued);
    tree.set_thinned(VersionId(1));
    assert_eq!(sweep(&mut tree), Swept { adopted: None, queued: Some(VersionId(1)) });
    assert_eq!(tree.get(VersionId(1)).map(|v| v.life), Some(VersionLife::Deleting { cursor: 0, thinned: true }));
    assert_eq!(sweep(&mut tree), Swept { adopted: Some(head(1)), queued: None });
    assert_eq!(tree.frozen().count(), 0);
}

#[test]
fn a_child_that_goes_on_from_a_hidden_parent_does_not_wake_it() {
    let mut tree = chain(1);
    tree.new_head(LineId(2), Some(VersionId(1)));
    tree.snapshot(LineId(2), VersionId(2), LogAddress(20));
    tree.delete(VersionId(1));
    tree.delete(VersionId(2));
    assert_eq!(sweep(&mut tree), Swept { adopted: Some(head(2)), queued: None });
    assert_eq!(tree.children(VersionId(1)).collect::<Vec<_>>(), [head(1), head(2)]);
}

#[test]
fn a_removed_volume_leaves_nothing() {
    let mut tree = chain(0);
    tree.freeze_head(LineId(1), VersionId(1), LogAddress(10));
    tree.delete(VersionId(1));
    assert_eq!(sweep(&mut tree), Swept { adopted: None, queued: None });
    assert_eq!((tree.frozen().count(), tree.heads().count()), (0, 0));
}

#[test]
fn a_stored_tree_goes_on_where_it_was() {
    let mut tree = chain(4);
    for id in 1..=3 {
        assert_eq!(tree.delete(VersionId(id)), Deleted::Queued);
    }
    let id = tree.begin_sweep().expect("queued");
    tree.finish_sweep(id);
    let id = tree.begin_sweep().expect("queued");
    tree.set_cursor(id, 7);
    let mut back = stored(&tree).expect("whole");
    assert_eq!(back.begin_sweep(), Some(VersionId(2)), "the one with a cursor goes first");
    assert_eq!(back.entry_floor(frozen(3), 6), LogAddress::NONE);
    assert_eq!(back.waiting(), 2);
}

#[test]
fn entries_that_contradict_each_other_are_refused() {
    let visible = VersionLife::Visible;
    let version = |id, parent, at, life| (VersionId(id), parent, LogAddress(at), life);
    let refused = |frozen: Vec<_>, heads: Vec<_>| VersionTree::load(frozen, heads).expect_err("must be refused");
    assert!(refused(vec![], vec![(LineId(1), Some(VersionId(9)))]).contains("version 9"));
    let circle = vec![version(1, Some(VersionId(2)), 10, visible), version(2, Some(VersionId(1)), 20, visible)];
    assert!(refused(circle, vec![]).contains("at 0:20"));
    assert!(refused(vec![version(1, None, 10, VersionLife::Hidden { thinned: false })], vec![]).contains("hidden"));
    let deleting = VersionLife::Deleting { cursor: 3, thinned: false };
    let two = vec![version(1, None, 10, deleting), version(2, None, 20, deleting)];
    assert!(refused(two, vec![]).contains("half swept"));
    let heads = vec![(LineId(1), Some(VersionId(1))), (LineId(2), Some(VersionId(1)))];
    assert!(refused(vec![version(1, None, 10, deleting)], heads).contains("2 children"));
}

#[test]
#[should_panic(expected = "cursor")]
fn a_cursor_only_grows() {
    let mut tree = chain(1);
    tree.delete(VersionId(1));
    let id = tree.begin_sweep().expect("queued");
    tree.set_cursor(id, 7);
    tree.set_cursor(id, 7);
}
