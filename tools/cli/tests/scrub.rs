//! `treering store scrub`: it reads what is there, and names what is not as it was.

mod support;

#[allow(dead_code)] // A part of it is enough here.
#[path = "../src/nbd_client.rs"]
mod nbd_client;

use nbd_client::NbdClient;
use std::fs;
use std::os::unix::fs::FileExt;
use support::Shop;

const BLOCK: usize = 4096;
const BLOCKS: usize = 64;

/// A block that is found nowhere else, and does not compress.
fn block(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..BLOCK).map(step).collect()
}

#[test]
fn what_the_disk_changed_is_named_with_its_volume_and_range_and_nothing_else_is() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let mut client = NbdClient::connect(&shop.socket(), "shop.redis").expect("it is served");
    client.write(0, &(0..BLOCKS).flat_map(block).collect::<Vec<u8>>()).expect("there is room");
    shop.run(&["snapshot", "create", "shop", "--name", "a"]).good();
    client.write(40 * BLOCK as u64, &block(BLOCKS)).expect("there is room");
    client.disconnect().expect("it is ours");
    for served in [true, false] {
        if !served {
            assert_eq!(shop.stop(), 0);
        }
        let sound = shop.run(&["store", "scrub", "--rate", "1G"]).good();
        assert!(
            sound.starts_with("verified 260.0 KiB of data and ") && sound.ends_with("sound: every checksum holds\n"),
            "{sound}"
        );
    }

    let file = fs::File::options().read(true).write(true).open(shop.store()).expect("ours");
    let whole = fs::read(shop.store()).expect("ours");
    for number in [2, 3, 40] {
        let wanted = block(number);
        let found = whole.chunks(BLOCK).position(|found| found == wanted).expect("it is stored as it is");
        file.write_all_at(&[!wanted[7]], (found * BLOCK) as u64 + 7).expect("ours");
    }
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        let ran = shop.run(&["store", "scrub", "--json"]);
        assert_eq!(ran.code, 7, "{}{}", ran.out, ran.err);
        let report: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
        let damaged = report["damaged"].as_array().expect("a list").iter();
        let named: Vec<_> = damaged.map(|d| (d["name"].as_str(), d["from"].as_u64(), d["to"].as_u64())).collect();
        let both = (Some(8192), Some(16384));
        // The head has another block 40 by now.
        let wanted = [("shop.redis@a", both), ("shop.redis", both), ("shop.redis@a", (Some(163_840), Some(167_936)))];
        assert_eq!(named, wanted.map(|(name, (from, to))| (Some(name), from, to)));
        assert_eq!(report["data_bytes"], (BLOCKS + 1 - 3) * BLOCK);
    }
    let text = shop.run(&["store", "scrub"]).out;
    assert!(
        text.contains("\ndamage: shop.redis bytes 8192 to 16383: ") && text.ends_with("damaged: 3 places\n"),
        "{text}"
    );
}
