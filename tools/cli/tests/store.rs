//! `treering store …`: what it prints, what it refuses.

mod support;

use std::fs;
use support::{Shop, run};

const MIB: u64 = 1 << 20;

#[test]
fn a_store_is_made_once() {
    let shop = Shop::empty();
    let again = run(&["store", "init", shop.path(), "--size", "512M"]);
    assert_eq!(again.code, 4);
    assert!(
        again.err.starts_with(&format!("error: making store {0}: {0} holds a store already (id ", shop.path())),
        "{}",
        again.err
    );
    assert!(again.err.contains("\nwhy: ") && again.err.contains("\nfix: treering store info "), "{}", again.err);
}

#[test]
fn a_store_that_cannot_be_made_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("store");
    let small = run(&["store", "init", path.to_str().expect("plain"), "--size", "1M"]);
    assert_eq!(small.code, 2);
    assert!(
        small.err.contains("size of 1048576 bytes is too small for a store: it needs at least 269484032"),
        "{}",
        small.err
    );
    let large = run(&["store", "init", path.to_str().expect("plain"), "--size", "15P"]);
    assert_ne!(large.code, 0);
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0);
}

#[test]
fn df_adds_up_to_the_size_of_the_store() {
    let mut shop = Shop::new();
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        let space = shop.run(&["store", "df", "--json"]).json();
        let bytes = |name: &str| space[name].as_u64().unwrap_or_else(|| panic!("{name} in {space}"));
        let parts = ["log_bytes", "pages_bytes", "freed_bytes", "free_bytes", "fixed_bytes"];
        let sum: u64 = parts.into_iter().map(bytes).sum();
        assert_eq!(sum, bytes("store_bytes"));
        assert_eq!(bytes("store_bytes"), fs::metadata(shop.store()).expect("ours").len());
        assert!(bytes("writable_bytes") > 100 * MIB && bytes("pages_used_bytes") <= bytes("pages_bytes"));
    }
    let table = shop.run(&["store", "df"]).good();
    assert!(table.starts_with("WHAT               SIZE      %\ndata and log"), "{table}");
}

#[test]
fn info_tells_a_store_by_its_id() {
    let shop = Shop::new();
    let info = shop.run(&["store", "info", "--json"]).json();
    assert_eq!((&info["volumes"], &info["logical_bytes"]), (&2.into(), &(64 * MIB + 3 * MIB / 2).into()));
    assert_eq!(shop.run(&["store", "info", "-q"]).good().trim(), info["id"]);
    assert!(shop.run(&["store", "info"]).good().contains("holds        1 dots, 2 volumes of 65.5 MiB together\n"));
}

#[test]
fn a_sound_store_is_called_sound() {
    let shop = Shop::new();
    let text = shop.run(&["store", "check", "--data"]).good();
    assert!(
        text.starts_with("checked 2 volumes, 0 snapshots: 0 extents, 0 B live, ")
            && text.ends_with("sound: nothing is wrong\n"),
        "{text}"
    );
    assert_eq!(shop.run(&["store", "check", "--json"]).json()["sound"], true);
}

#[test]
fn what_is_no_store_is_not_taken_for_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    fs::write(&path, vec![7; 1 << 20]).expect("ours");
    let path = path.to_str().expect("plain");
    let check = run(&["store", "check", path]);
    assert_eq!(check.code, 3);
    assert!(check.err.starts_with(&format!("error: store check: {path} is not a Treering store: ")), "{}", check.err);
    assert_eq!(run(&["store", "info", "/nowhere/store"]).code, 3);
}

#[test]
fn damage_is_exit_code_7_and_never_a_panic() {
    use std::os::unix::fs::FileExt;
    let shop = Shop::new();
    let file = fs::File::options().write(true).open(shop.store()).expect("ours");
    // All but the superblocks.
    for offset in (MIB..64 * MIB).step_by(MIB as usize) {
        file.write_all_at(&vec![0xa5; MIB as usize], offset).expect("ours");
    }
    for verb in [&["store", "check"][..], &["ls"], &["serve"], &["store", "df"]] {
        let ran = shop.run(verb);
        assert_eq!(ran.code, 7, "{verb:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("no checkpoint of the store can be read"), "{}", ran.err);
    }
}
