//! The tree of single keys against an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treering_format::node::TreeKind;

use super::store::TestStore;
use crate::map::Tree;

fn changes() -> impl Strategy<Value = BTreeMap<u64, Option<Vec<u8>>>> {
    let key = prop_oneof![3 => 0u64..2_000, 1 => any::<u64>().prop_map(|key| key - u64::from(key == u64::MAX))];
    let length = prop_oneof![3 => 0usize..40, 1 => 0usize..=1200];
    let value = (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    let change = prop_oneof![3 => value.prop_map(Some), 2 => Just(None)];
    proptest::collection::btree_map(key, change, 0..700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_holds_what_was_set_and_not_removed(batches in proptest::collection::vec((changes(), any::<bool>()), 1..8)) {
        let mut store = TestStore::new(0);
        let mut tree = Tree::empty(TreeKind::Liveness, 0);
        let mut model = BTreeMap::new();
        for (batch, reopen) in batches {
            let pages = store.pages.clone();
            let changes: Vec<_> = batch.into_iter().collect();
            store.run(tree.apply(&pages, &changes)).expect("the disk is sound");
            for (key, value) in changes {
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            let root = if reopen {
                let root = store.write_out(&mut tree);
                store.reopen();
                tree = Tree::open(TreeKind::Liveness, 0, root);
                root
            } else {
                store.checkpoint(&mut tree)
            };
            let pages = store.pages.clone();
            let all = store.run(tree.scan(&pages, 0, usize::MAX)).expect("sound");
            prop_assert_eq!(&all, &model.clone().into_iter().collect::<Vec<_>>());
            let some = store.run(tree.scan(&pages, 1_000, 5)).expect("sound");
            prop_assert_eq!(some, model.range(1_000..).take(5).map(|(k, v)| (*k, v.clone())).collect::<Vec<_>>());
            for key in [0, 500, 501, u64::MAX - 1] {
                prop_assert_eq!(store.run(tree.get(&pages, key)).expect("sound"), model.get(&key).cloned());
            }
            store.check_nodes(TreeKind::Liveness, root).map_err(TestCaseError::fail)?;
            store.check_pages(&[&tree]).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn a_tree_that_lost_all_keys_is_empty_again() {
    let mut store = TestStore::new(1 << 20);
    let mut tree = Tree::empty(TreeKind::Catalog, 0);
    let pages = store.pages.clone();
    let set: Vec<_> = (0..5_000u64).map(|key| (key, Some(vec![1; 30]))).collect();
    store.run(tree.apply(&pages, &set)).expect("sound");
    assert!(store.checkpoint(&mut tree).is_some());
    let removed: Vec<_> = (0..5_000u64).map(|key| (key, None)).collect();
    store.run(tree.apply(&pages, &removed)).expect("sound");
    assert_eq!(tree.dirty_nodes(), 0);
    assert_eq!(store.checkpoint(&mut tree), None);
    assert_eq!(store.pages.used_pages(), 0);
}
