//! Snapshots, forks and resets as a user meets them: with a server and without, through the command line and as exports.

mod support;

#[allow(dead_code)] // A part of it is enough here.
#[path = "../src/nbd_client.rs"]
mod nbd_client;

use nbd_client::NbdClient;
use std::io;
use support::{Ran, Shop};

const KIB: usize = 1 << 10;
const EPERM: i32 = 1;

impl Shop {
    fn open(&self, export: &str) -> NbdClient {
        NbdClient::connect(&self.socket(), export).unwrap_or_else(|error| panic!("{export}: {error}"))
    }

    fn refused(&self, export: &str) -> String {
        match NbdClient::connect(&self.socket(), export) {
            Ok(_) => panic!("{export} was opened"),
            Err(error) => error.to_string(),
        }
    }

    /// The first bytes of an export.
    fn first(&self, export: &str, len: usize) -> Vec<u8> {
        let mut client = self.open(export);
        let bytes = client.read(0, len).expect("it can be read");
        client.disconnect().expect("it is ours");
        bytes
    }

    fn fill(&self, export: &str, value: u8) {
        let mut client = self.open(export);
        client.write(0, &vec![value; 64 * KIB]).expect("it can be written");
        client.disconnect().expect("it is ours");
    }

    fn names(&self) -> Vec<String> {
        self.run(&["snapshot", "ls", "-q"]).good().lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn refusal(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{word} is missing in {}", ran.err);
    }
}

#[test]
fn a_snapshot_shows_what_was_when_it_was_made_and_goes_when_told() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.fill("shop.pg", 1);
    let made = shop.run(&["snapshot", "create", "shop", "--name", "monday"]).good();
    assert!(made.starts_with("shop@monday  ") && made.ends_with("  2 volumes, one instant\n"), "{made}");
    // At once, whatever has been folded.
    assert_eq!(shop.first("shop.pg@monday", 64 * KIB), vec![1; 64 * KIB]);
    shop.fill("shop.pg", 2);
    for served in [true, false] {
        if !served {
            assert_eq!(shop.stop(), 0);
        }
        let listed = shop.run(&["snapshot", "ls", "shop", "--json"]).json();
        let snapshot = &listed["snapshots"][0];
        assert_eq!((&snapshot["dot"], &snapshot["name"]), (&"shop".into(), &"monday".into()));
        assert_eq!(snapshot["volumes"][0]["size_bytes"], 64 << 20);
        let id = snapshot["id"].as_str().expect("an id");
        assert_eq!(id.len(), 32);
        let table = shop.run(&["snapshot", "ls"]).good();
        assert!(table.starts_with("SNAPSHOT     ID        CREATED"), "{table}");
        assert!(table.contains(&format!("\nshop@monday  {}  2", &id[..8])), "{table}");
        // By the first digits of its id too.
        let shown = shop.run(&["snapshot", "show", &format!("shop@{}", &id[..6]), "-q"]).good();
        assert_eq!(shown, "shop@monday\n");
    }
    shop.serve(&[]);
    assert_eq!(shop.first("shop@monday.pg", 4 * KIB), vec![1; 4 * KIB]);
    assert_eq!(shop.first("shop.pg", 4 * KIB), vec![2; 4 * KIB]);
    let told = shop.run(&["snapshot", "rm", "shop@monday"]);
    refusal(&told, 8, &["error: snapshot rm shop@monday: it destroys data", "fix: add --yes"]);
    assert_eq!(shop.run(&["snapshot", "rm", "shop@monday", "--yes"]).good(), "removed shop@monday\n");
    assert!(shop.names().is_empty());
    assert!(shop.refused("shop.pg@monday").contains("there is no snapshot"));
    assert_eq!(shop.first("shop.pg", 4 * KIB), vec![2; 4 * KIB]);
    assert_eq!(shop.stop(), 0);
    assert!(shop.run(&["store", "check", "--data"]).good().ends_with("sound: nothing is wrong\n"));
}

#[test]
fn a_snapshot_cannot_be_written_and_not_be_deleted_while_it_is_read() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.fill("shop.pg", 1);
    shop.run(&["snapshot", "create", "shop", "--name", "monday"]).good();
    let mut reader = shop.open("shop.pg@monday");
    let refused = reader.write(0, &[9; 512]).expect_err("it is a snapshot");
    assert_eq!(refused.raw_os_error(), Some(EPERM));
    let busy = shop.run(&["snapshot", "rm", "shop@monday", "--yes"]);
    refusal(&busy, 5, &["error: snapshot rm shop@monday: ", "\n  held by  shop.pg@monday, ", "\nfix: "]);
    let status = shop.run(&["status", "--json"]).json();
    let exports = status["exports"].as_array().expect("exports");
    assert!(exports.iter().any(|export| export["name"] == "shop.pg@monday"), "{status}");
    // A reader of a snapshot holds nothing of the present.
    shop.run(&["volume", "rm", "shop.redis", "--yes"]).good();
    assert_eq!(reader.read(0, KIB).expect("it is still there"), vec![1; KIB]);
    reader.disconnect().expect("it is ours");
    retry(|| shop.run(&["snapshot", "rm", "shop@monday", "--yes"]));
}

/// A client's leaving is noticed by the server a moment later.
fn retry(mut verb: impl FnMut() -> Ran) {
    let busy = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        verb()
    });
    let last = busy.take(100).find(|ran| ran.code != 5).expect("it is let go within 2 s");
    last.good();
}

#[test]
fn snapshots_are_made_named_protected_and_pruned_alike_with_a_server_and_without() {
    let mut shop = Shop::new();
    shop.run(&["init", "blog", "--size", "8M"]).good();
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        let made = shop.run(&["snapshot", "create", "shop", "blog", "--name", "both", "-q"]).good();
        assert_eq!(made, "shop@both\nblog@both\n");
        let again = shop.run(&["snapshot", "create", "blog", "--name", "both"]);
        refusal(&again, 4, &["error: snapshot create blog: ", "exists already", "fix: treering snapshot ls"]);
        let unnamed = shop.run(&["snapshot", "create", "blog", "--ttl", "7d"]).good();
        assert!(unnamed.starts_with("blog@s-20") && unnamed.contains("  1 volume, until 20"), "{unnamed}");
        shop.run(&["snapshot", "create", "blog", "--name", "kept", "--protect"]).good();
        shop.run(&["snapshot", "create", "blog", "--name", "newest"]).good();

        let protected = shop.run(&["snapshot", "rm", "blog@kept", "--yes"]);
        refusal(&protected, 4, &["is protected", "fix: treering snapshot set "]);
        let keep = ["snapshot", "prune", "blog", "--keep", "9999w:9999w"];
        let would = shop.run(&[&keep[..], &["--dry-run"]].concat()).good();
        assert!(would.contains("would remove blog@both\n") && would.ends_with("2 would remove, 2 kept\n"), "{would}");
        refusal(&shop.run(&keep), 8, &["error: snapshot prune blog: it destroys data"]);
        let pruned = shop.run(&[&keep[..], &["--yes", "--json"]].concat()).json();
        assert_eq!((&pruned["kept"], pruned["removed"].as_array().map(Vec::len)), (&2.into(), Some(2)));
        assert_eq!(shop.run(&["snapshot", "ls", "blog", "-q"]).good(), "blog@kept\nblog@newest\n");

        let set = shop.run(&["snapshot", "set", "blog@kept", "--protect", "off", "--ttl", "never"]).good();
        assert_eq!(set, "blog@kept  not protected, stays\n");
        let gone = shop.run(&["snapshot", "rm", "blog@kept", "blog@newest", "shop@both", "--yes", "-q"]).good();
        assert_eq!(gone, "blog@kept\nblog@newest\nshop@both\n");
        assert_eq!(shop.names(), [""; 0]);
    }
    refusal(&shop.run(&["snapshot", "show", "shop@none"]), 3, &["there is no snapshot", "fix: treering snapshot ls"]);
    refusal(&shop.run(&["snapshot", "create", "none"]), 3, &["there is no dot \"none\"", "fix: treering ls"]);
}

#[test]
fn forks_are_dots_of_their_own() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.fill("shop.pg", 1);
    shop.run(&["snapshot", "create", "shop", "--name", "monday"]).good();
    shop.fill("shop.pg", 2);
    let forked = shop.run(&["fork", "shop@monday", "try"]).good();
    assert_eq!(forked, "try.pg  from shop@monday\ntry.redis  from shop@monday\n");
    shop.fill("try.redis", 3);
    assert_eq!(shop.first("try.pg", 4 * KIB), vec![1; 4 * KIB]);
    shop.fill("try.pg", 4);
    for (export, value) in [("shop.pg", 2), ("shop.pg@monday", 1), ("try.pg", 4), ("shop.redis", 0)] {
        assert_eq!(shop.first(export, 4 * KIB), vec![value; 4 * KIB], "{export}");
    }
    refusal(
        &shop.run(&["fork", "shop@monday", "try"]),
        4,
        &["error: fork shop@monday try: dot \"try\" exists already"],
    );
    // A clone of a clone, many at once.
    shop.run(&["snapshot", "create", "try", "--name", "x"]).good();
    let many = shop.run(&["fork", "try@x", "test", "--count", "20"]).good();
    assert_eq!(many, "20 dots, test-1 to test-20, from try@x\n");
    assert_eq!(shop.first("test-20.redis", 4 * KIB), vec![3; 4 * KIB]);
    assert_eq!(shop.stop(), 0);
    // What it was made from goes; the fork does not mind.
    for verb in [&["snapshot", "rm", "shop@monday", "--yes"][..], &["rm", "shop", "--yes"], &["rm", "test-7", "--yes"]]
    {
        shop.run(verb).good();
    }
    assert_eq!(shop.run(&["fork", "try@x", "late", "-q"]).good(), "late\n");
    shop.serve(&[]);
    for (export, value) in [("try.pg", 4), ("test-8.pg", 4), ("late.redis", 3), ("try.redis", 3)] {
        assert_eq!(shop.first(export, 4 * KIB), vec![value; 4 * KIB], "{export}");
    }
    assert!(shop.refused("test-7.pg").contains("no dot is named test-7"));
    assert_eq!(shop.stop(), 0);
    assert!(shop.run(&["store", "check", "--data"]).good().ends_with("sound: nothing is wrong\n"));
}

#[test]
fn a_reset_brings_back_what_was_and_leaves_a_way_back() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.fill("shop.pg", 1);
    shop.run(&["snapshot", "create", "shop", "--name", "good"]).good();
    shop.fill("shop.pg", 2);
    let mut client = shop.open("shop.pg");
    let busy = shop.run(&["reset", "shop@good"]);
    refusal(
        &busy,
        5,
        &[
            "error: reset shop@good: 1 connections use volumes of shop\n  held by  shop.pg, ",
            "\nwhy: a device that changes under its user",
            "or use it beside the present: treering fork shop@good shop-good",
        ],
    );
    assert_eq!(client.read(0, KIB).expect("nothing happened"), vec![2; KIB]);
    client.disconnect().expect("it is ours");
    retry(|| shop.run(&["reset", "shop@good"]));
    assert_eq!(shop.first("shop.pg", 4 * KIB), vec![1; 4 * KIB]);
    let listed = shop.run(&["snapshot", "ls", "shop", "--json"]).json();
    let kept = listed["snapshots"].as_array().expect("snapshots").iter().find(|s| s["reflog"] == true);
    let kept = format!("shop@{}", kept.expect("what was is kept")["name"].as_str().expect("a name"));
    assert_eq!(shop.first(&kept.replace('@', ".pg@"), 4 * KIB), vec![2; 4 * KIB]);
    shop.kill();
    // Without a server, too; and a kill forgets none of it.
    let back = shop.run(&["reset", &kept]).good();
    assert!(
        back.starts_with(&format!("shop is {kept} now\nkept shop@")) && back.contains("\nback treering reset shop@"),
        "{back}"
    );
    shop.serve(&[]);
    assert_eq!(shop.first("shop.pg", 4 * KIB), vec![2; 4 * KIB]);
}

#[test]
fn show_tells_what_dots_and_snapshots_take() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let mut client = shop.open("shop.redis"); // which does not compress
    client.write(0, &vec![1; 256 * KIB]).expect("it can be written");
    shop.run(&["snapshot", "create", "shop", "--name", "a"]).good();
    client.write(0, &vec![2; 64 * KIB]).expect("it can be written");
    client.disconnect().expect("it is ours");
    for served in [true, false] {
        if !served {
            assert_eq!(shop.stop(), 0);
        }
        let dot = shop.run(&["show", "shop", "--json"]).json();
        let redis = &dot["volumes"][1]["sizes"];
        for (size, kib) in [("logical", 1536), ("referenced", 256), ("exclusive", 64), ("dirty", 64)] {
            assert_eq!(redis[format!("{size}_bytes")], kib << 10, "{size} of {redis}");
        }
        let snapshot = shop.run(&["snapshot", "show", "shop@a", "--json"]).json();
        for (size, kib) in [("referenced", 256), ("exclusive", 64), ("dirty", 256)] {
            assert_eq!(snapshot["sizes"][format!("{size}_bytes")], kib << 10, "{size} of {snapshot}");
        }
        let text = shop.run(&["show", "shop"]).good();
        assert!(
            text.starts_with("shop  1 snapshots, newest shop@a\nVOLUME     LOGICAL  REFERENCED  EXCLUSIVE     DIRTY\n"),
            "{text}"
        );
        assert!(text.contains("\nredis      1.5 MiB   256.0 KiB   64.0 KiB  64.0 KiB\n"), "{text}");
    }
    refusal(&shop.run(&["show", "none"]), 3, &["error: show none: there is no dot \"none\""]);
}

#[test]
fn a_dot_goes_with_all_that_is_in_it_unless_it_is_used_or_protected() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.run(&["snapshot", "create", "shop", "--name", "kept", "--protect"]).good();
    refusal(&shop.run(&["rm", "shop", "--yes"]), 4, &["is protected"]);
    shop.run(&["snapshot", "set", "shop@kept", "--protect", "off"]).good();
    let client = shop.open("shop.pg");
    refusal(
        &shop.run(&["rm", "shop", "--yes"]),
        5,
        &["error: rm shop: 1 connections use volumes of shop\n  held by  shop.pg, "],
    );
    client.disconnect().expect("it is ours");
    refusal(&shop.run(&["rm", "shop"]), 8, &["error: rm shop: it destroys data"]);
    retry(|| shop.run(&["rm", "shop", "--yes"]));
    assert_eq!(shop.run(&["ls", "-q"]).good(), "");
    assert!(shop.names().is_empty());
    refusal(&shop.run(&["rm", "shop", "--yes"]), 3, &["there is no dot \"shop\""]);
}

#[test]
fn snapshots_are_listed_behind_the_present() -> io::Result<()> {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.run(&["snapshot", "create", "shop", "--name", "a"]).good();
    match std::process::Command::new("nbdinfo")
        .args(["--list", "--json"])
        .arg(format!("nbd+unix:///?socket={}", shop.socket().display()))
        .output()
    {
        Ok(listed) => {
            let document: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
            let exports = document["exports"].as_array().expect("exports").iter();
            let told: Vec<_> = exports.map(|e| (e["export-name"].as_str(), e["is_read_only"].as_bool())).collect();
            assert_eq!(
                told,
                [
                    (Some("shop.pg"), Some(false)),
                    (Some("shop.redis"), Some(false)),
                    (Some("shop.pg@a"), Some(true)),
                    (Some("shop.redis@a"), Some(true)),
                ]
            );
        }
        Err(error) => eprintln!("skipped: nbdinfo: {error}"),
    }
    Ok(())
}
