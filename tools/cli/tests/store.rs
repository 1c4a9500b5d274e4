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
        let mut parts = vec!["live_bytes", "dead_bytes", "open_bytes", "freed_bytes", "free_bytes", "fixed_bytes"];
        parts.extend(["branching_bytes", "pages_used_bytes", "pages_waiting_bytes", "pages_free_bytes"]);
        let sum: u64 = parts.into_iter().map(bytes).sum();
        assert_eq!(sum, bytes("store_bytes"));
        assert_eq!(bytes("store_bytes"), fs::metadata(shop.store()).expect("ours").len());
        assert!(bytes("writable_bytes") + bytes("reserve_bytes") <= bytes("open_bytes") + bytes("free_bytes"));
        assert!(bytes("writable_bytes") > 100 * MIB, "{space}");
    }
    let table = shop.run(&["store", "df"]).good();
    assert!(table.starts_with("WHAT                 SIZE      %\nlive data"), "{table}");
}

#[test]
fn a_store_grows_while_it_is_served_and_when_nobody_does() {
    let mut shop = Shop::new();
    let size = |shop: &Shop| shop.run(&["store", "info", "--json"]).json()["segments"].as_u64().expect("a number");
    let before = size(&shop);
    let grown = shop.run(&["store", "grow", "--size", "640M", "--sparse"]).good();
    assert!(grown.starts_with("128.0 MiB more: the store has "), "{grown}");
    assert_eq!(size(&shop), before + 4);
    shop.serve(&[]);
    // The file was made longer by other means.
    fs::File::options().write(true).open(shop.store()).and_then(|file| file.set_len(768 * MIB)).expect("it is ours");
    let grown = shop.run(&["store", "grow", "--json"]).json();
    let bytes = |name: &str| grown[name].as_u64().expect("a number");
    assert_eq!(bytes("to_bytes") - bytes("from_bytes"), 128 * MIB);
    assert_eq!(size(&shop), before + 8);
    assert!(shop.run(&["store", "grow"]).good().starts_with("nothing to gain"));
    let refused = shop.run(&["store", "grow", "--size", "64M"]);
    assert!(refused.code == 2 && refused.err.contains("cannot be made smaller"), "{}", refused.err);
    assert_eq!(shop.stop(), 0);
    assert_eq!(size(&shop), before + 8);
    shop.run(&["store", "check"]).good();
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
    let repair = shop.run(&["store", "check", "--repair"]);
    assert_eq!(repair.code, 7, "{}{}", repair.out, repair.err);
}
