//! `treering demo` and `bench`, which run servers of their own and clean up behind them.

mod support;

use std::time::{Duration, Instant};
use support::{program, ran, terminate};

#[test]
fn the_demo_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = ran(program().arg("demo").env("TMPDIR", folder.path())).good();
    let heads: Vec<&str> = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(heads[..2], ["store", "serving"], "{text}");
    assert_eq!(heads.iter().filter(|head| **head == "round").count(), 3, "{text}");
    assert!(text.contains("nothing is wrong\npassed    in "), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0);
}

#[test]
fn an_interrupted_demo_cleans_up_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut demo = program();
    let demo = demo.args(["demo", "-q"]).env("TMPDIR", folder.path()).stderr(std::process::Stdio::piped());
    let mut demo = demo.spawn().expect("it starts");
    let begun = Instant::now();
    let busy =
        || std::fs::read_dir(folder.path()).expect("ours").flatten().any(|dir| dir.path().join("nbd.sock").exists());
    while !busy() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    terminate(&demo);
    let status = demo.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0);
}

#[test]
fn a_quick_bench_prints_both_figures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = program();
    bench.args(["bench", "--seconds", "1", "--size", "16M", "--json", "--dir"]).arg(folder.path());
    let report = ran(&mut bench).json();
    assert_eq!((&report["quick"], report["measured"].as_array().map(Vec::len)), (&true.into(), Some(2)));
    for measured in report["measured"].as_array().expect("two") {
        assert!(measured["per_second"].as_f64().expect("a figure") > 0.0, "{report}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 0);
}
