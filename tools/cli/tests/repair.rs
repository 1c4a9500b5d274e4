//! `treering store check --repair`: says what it would do, does it, and the store is what it was.

mod support;

#[allow(dead_code)] // A part of it is enough here.
#[path = "../src/nbd_client.rs"]
mod nbd_client;

use nbd_client::NbdClient;
use std::fs;
use std::os::unix::fs::FileExt;
use support::Shop;

const BLOCK: usize = 4096;

#[test]
fn maps_that_are_lost_come_back_from_the_log() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let mut client = NbdClient::connect(&shop.socket(), "shop.redis").expect("it is served");
    client.write(0, &vec![1; 64 * BLOCK]).expect("there is room");
    shop.run(&["snapshot", "create", "shop", "--name", "a"]).good();
    client.write(8 * BLOCK as u64, &vec![2; BLOCK]).expect("there is room");
    client.disconnect().expect("it is ours");
    let served = shop.run(&["store", "check", "--repair"]);
    assert_eq!(served.code, 5, "{}", served.err);
    let way_out = format!("\nfix: kill {}  ", shop.server.as_ref().expect("it runs").id());
    assert!(served.err.contains(&way_out), "{}", served.err);
    assert_eq!(shop.stop(), 0);
    assert_eq!(shop.run(&["store", "check", "--repair"]).good(), "nothing needs a repair\n");

    let file = fs::File::options().read(true).write(true).open(shop.store()).expect("ours");
    let whole = fs::read(shop.store()).expect("ours");
    // A page says by its 13th byte that it is of a map.
    let is_map = |page: &[u8]| page.starts_with(b"TRNODEPG") && page[12] == 1;
    for (number, page) in whole.chunks(BLOCK).enumerate().filter(|(_, page)| is_map(page)) {
        file.write_all_at(&[!page[100]], (number * BLOCK) as u64 + 100).expect("ours");
    }
    let damaged = fs::read(shop.store()).expect("ours");
    assert_eq!(shop.run(&["store", "check"]).code, 7);

    let planned = shop.run(&["store", "check", "--repair", "--dry-run"]).good();
    let wanted = "would repair: shop.redis: 1 parts of the map, ";
    assert!(planned.contains(wanted) && planned.ends_with("nothing is lost\n"), "{planned}");
    assert!(fs::read(shop.store()).expect("ours") == damaged, "a dry run changes nothing");
    let done = shop.run(&["store", "check", "--repair", "--json"]).json();
    assert_eq!((&done["dry_run"], done["lost"].as_array().map(Vec::len)), (&false.into(), Some(0)), "{done}");
    assert!(shop.run(&["store", "check", "--data"]).good().ends_with("sound: nothing is wrong\n"));

    shop.serve(&[]);
    for (export, block) in [("shop.redis", 2), ("shop.redis@a", 1)] {
        let mut client = NbdClient::connect(&shop.socket(), export).expect("it is served");
        let found = client.read(8 * BLOCK as u64, BLOCK).expect("it can be read");
        assert!(found == vec![block; BLOCK], "{export}");
        client.disconnect().expect("it is ours");
    }
}

#[test]
fn a_store_without_a_checkpoint_is_found_again() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let mut client = NbdClient::connect(&shop.socket(), "shop.redis").expect("it is served");
    client.write(0, &vec![1; 64 * BLOCK]).expect("there is room");
    client.disconnect().expect("it is ours");
    shop.run(&["snapshot", "create", "shop", "--name", "a"]).good();
    assert_eq!(shop.stop(), 0);
    let file = fs::File::options().read(true).write(true).open(shop.store()).expect("ours");
    let whole = fs::read(shop.store()).expect("ours");
    for (number, block) in whole.chunks(BLOCK).enumerate().filter(|(_, block)| block.starts_with(b"TRCHKPNT")) {
        file.write_all_at(&[!block[20]], (number * BLOCK) as u64 + 20).expect("ours");
    }
    let check = shop.run(&["store", "check"]);
    assert_eq!(check.code, 7);
    assert!(
        check.err.contains("no checkpoint of the store can be read") && check.err.contains("--repair"),
        "{}",
        check.err
    );
    let planned = shop.run(&["store", "check", "--repair", "--dry-run"]).good();
    let wanted = "would repair: no checkpoint can be read";
    assert!(planned.starts_with(wanted) && planned.ends_with("nothing is lost\n"), "{planned}");
    shop.run(&["store", "check", "--repair"]).good();
    assert!(shop.run(&["store", "check", "--data"]).good().ends_with("sound: nothing is wrong\n"));
}

#[test]
fn what_is_beyond_repair_is_refused_with_a_way_out_and_left_as_it_is() {
    let mut shop = Shop::new();
    shop.run(&["rm", "shop", "--yes"]).good();
    // Both checkpoints are to know of nothing: each is written when the server ends.
    for _ in 0..2 {
        shop.serve(&[]);
        shop.run(&["init", "short", "--volume", "main=1M"]).good();
        shop.run(&["rm", "short", "--yes"]).good();
        assert_eq!(shop.stop(), 0);
    }
    let file = fs::File::options().read(true).write(true).open(shop.store()).expect("ours");
    let whole = fs::read(shop.store()).expect("ours");
    for (number, block) in whole.chunks(BLOCK).enumerate().filter(|(_, block)| block.starts_with(b"TRCHKPNT")) {
        file.write_all_at(&[!block[20]], (number * BLOCK) as u64 + 20).expect("ours");
    }
    let damaged = fs::read(shop.store()).expect("ours");
    for arguments in [&["store", "check", "--repair", "--dry-run"][..], &["store", "check", "--repair"]] {
        let refused = shop.run(arguments);
        assert_eq!((refused.code, refused.out.as_str()), (7, ""), "{}", refused.err);
        let path = shop.path();
        let way_out = format!(
            "\nfix: restore {path} from a copy; if everything in it had been deleted, remove it and make it anew: treering store init {path}\n"
        );
        assert!(refused.err.contains(&way_out), "{}", refused.err);
    }
    assert!(fs::read(shop.store()).expect("ours") == damaged, "a repair that is refused changes nothing");
}
