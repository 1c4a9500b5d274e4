//! The three classes of feature bits, as a program meets bits that it does not know.

use treering_format::superblock::{CLASS_INCOMPATIBLE, FeatureName, Superblock};

use crate::sample;

#[test]
fn store_with_an_unknown_incompatible_feature_is_refused_by_its_name() {
    let mut superblock = sample::superblock();
    superblock.features.incompatible = 1 << 40 | 1 << 1 | 1 << 41;
    superblock.feature_names.push(FeatureName { class: CLASS_INCOMPATIBLE, bit: 40, name: "time travel".to_owned() });
    let superblock = Superblock::decode(&superblock.encode()).unwrap();
    for for_writing in [false, true] {
        let error = superblock.check_features(for_writing).unwrap_err();
        assert_eq!(error.names, ["versions", "time travel", "incompatible feature bit 41"]);
    }
}

#[test]
fn unknown_compatible_feature_is_ignored_and_kept() {
    let superblock = sample::superblock();
    assert_ne!(superblock.features.compatible, 0);
    assert_eq!(superblock.check_features(true).unwrap().compatible, superblock.features.compatible);
}

#[test]
fn unknown_clear_on_write_feature_is_kept_by_a_reader_and_cleared_by_a_writer() {
    let superblock = sample::superblock();
    assert_ne!(superblock.features.clear_on_write, 0);
    assert_eq!(superblock.check_features(false).unwrap(), superblock.features);
    assert_eq!(superblock.check_features(true).unwrap().clear_on_write, 0);
}
