//! Dots and volumes, with a server and without: the same output, the same refusals.

mod support;

use support::Shop;

#[test]
fn dots_and_volumes_are_listed_alike_with_a_server_and_without() {
    let mut shop = Shop::new();
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        assert_eq!(shop.run(&["ls"]).good(), "DOT       SIZE  VOLUMES\nshop  65.5 MiB  pg redis\n");
        assert_eq!(
            shop.run(&["volume", "ls"]).good(),
            "VOLUME          SIZE  COMPRESSION  CONNECTIONS\n\
             shop.pg     64.0 MiB  auto                   0\n\
             shop.redis   1.5 MiB  off                    0\n"
        );
        assert_eq!(shop.run(&["volume", "ls", "shop", "-q"]).good(), "shop.pg\nshop.redis\n");
        assert_eq!(shop.run(&["ls", "--json"]).json()["dots"][0]["volumes"][1]["size_bytes"], 1_572_864);
    }
}

#[test]
fn volumes_are_added_grown_and_removed() {
    let mut shop = Shop::new();
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        assert_eq!(shop.run(&["init", "one", "--size", "8M"]).good(), "one.main  8.0 MiB\n");
        assert_eq!(
            shop.run(&["volume", "add", "one.wal", "--size", "1M", "--compression", "lz4"]).good(),
            "one.wal  1.0 MiB\n"
        );
        assert_eq!(shop.run(&["volume", "resize", "one.wal", "--size", "2M", "-q"]).good(), "one.wal\n");
        assert_eq!(shop.run(&["volume", "rm", "one.wal", "--yes"]).good(), "removed one.wal\n");
        assert_eq!(shop.run(&["volume", "rm", "one.main", "--yes", "--json"]).json()["done"], "one.main");
        assert_eq!(shop.run(&["volume", "ls", "one", "-q"]).good(), "");
        // A dot stays when its last volume goes; the next round wants the name.
        if !served {
            assert_eq!(shop.run(&["init", "one", "--size", "8M"]).code, 4);
            shop = Shop::new();
        }
    }
}

#[test]
fn refusals_name_what_is_wrong_and_a_way_on() {
    let mut shop = Shop::new();
    for served in [false, true] {
        if served {
            shop.serve(&[]);
        }
        for (verb, code, text) in [
            (
                &["volume", "rm", "shop.none", "--yes"][..],
                3,
                "error: volume rm shop.none: there is no volume \"shop.none\"\nfix: treering volume ls     what there is\n",
            ),
            (
                &["volume", "add", "none.a", "--size", "1M"],
                3,
                "error: volume add none.a: there is no dot \"none\"\nfix: treering ls     what there is\n",
            ),
            (
                &["init", "shop", "--size", "1M"],
                4,
                "error: init shop: dot \"shop\" exists already\nfix: treering ls     what there is\n",
            ),
            (
                &["volume", "add", "shop.pg", "--size", "1M"],
                4,
                "error: volume add shop.pg: volume \"shop.pg\" exists already\nfix: treering volume ls     what there is\n",
            ),
            (&["volume", "resize", "shop.pg", "--size", "100"], 2, "error: volume resize shop.pg: size of 100 bytes"),
            (&["init", "Shop", "--size", "1M"], 2, "error: init Shop: name \"Shop\" is not valid"),
            (
                &["volume", "rm", "shop.pg"],
                8,
                "error: volume rm shop.pg: it destroys data, and there is no terminal to ask on\nwhy: what is removed cannot be brought back.\nfix: add --yes\n",
            ),
            (&["volume", "ls", "none"], 3, "error: volume ls: there is no dot \"none\""),
        ] {
            let ran = shop.run(verb);
            assert_eq!(ran.code, code, "{verb:?}: {}", ran.err);
            assert!(ran.err.starts_with(text), "{verb:?}: {}", ran.err);
            assert!(ran.out.is_empty());
        }
    }
}

#[test]
fn errors_in_json_have_the_same_parts() {
    let shop = Shop::new();
    let ran = shop.run(&["volume", "rm", "shop.none", "--yes", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.err).expect("one document");
    assert_eq!(ran.code, 3);
    assert_eq!(document["error"]["kind"], "not_found");
    assert_eq!(document["error"]["what"], "volume rm shop.none: there is no volume \"shop.none\"");
    assert_eq!(document["error"]["fix"], "treering volume ls     what there is");
}
