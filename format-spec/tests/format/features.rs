//! The three classes of feature bits, as a program meets bits that it does not know.

use treering_format::superblock::{CLASS_INCOMPATIBLE, CONTAINERS, FORWARDS, FeatureName, Superblock, VERSIONS};

use crate::sample;

#[test]
fn store_with_an_unknown_incompatible_feature_is_refused_by_its_name() {
    let mut superblock = sample::superblock();
    superblock.features.incompatible = 1 << 40 | 1 << 2 | 1 << 41;
    superblock.feature_names.push(FeatureName { class: CLASS_INCOMPATIBLE, bit: 40, name: "time travel".to_owned() });
    let superblock = Superblock::decode(&superblock.encode()).unwrap();
    for for_writing in [false, true] {
        let error = superblock.check_features(for_writing).unwrap_err();
        assert_eq!(error.names, ["encryption", "time travel", "incompatible feature bit 41"]);
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

#[test]
fn known_feature_is_set_once_named_and_accepted() {
    let mut superblock = sample::superblock();
    let names = superblock.feature_names.len();
    for feature in [FORWARDS, VERSIONS, CONTAINERS, VERSIONS] {
        superblock.add_feature(feature);
        assert!(superblock.has_feature(feature));
    }
    assert_eq!((superblock.features.incompatible, superblock.feature_names.len()), (0b1011, names + 3));
    assert_eq!(Superblock::decode(&superblock.encode()).unwrap().check_features(true).unwrap().incompatible, 0b1011);
}
