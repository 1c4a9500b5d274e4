//! The command line itself: help, usage, the shape of errors.

mod support;

use support::run;

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    for command in [
        &["--help"][..],
        &["store", "init", "--help"],
        &["store", "info", "--help"],
        &["store", "df", "--help"],
        &["store", "check", "--help"],
        &["store", "scrub", "--help"],
        &["init", "--help"],
        &["ls", "--help"],
        &["volume", "add", "--help"],
        &["volume", "ls", "--help"],
        &["volume", "resize", "--help"],
        &["volume", "rm", "--help"],
        &["show", "--help"],
        &["rm", "--help"],
        &["snapshot", "create", "--help"],
        &["snapshot", "ls", "--help"],
        &["snapshot", "show", "--help"],
        &["snapshot", "set", "--help"],
        &["snapshot", "rm", "--help"],
        &["snapshot", "prune", "--help"],
        &["fork", "--help"],
        &["reset", "--help"],
        &["serve", "--help"],
        &["status", "--help"],
        &["doctor", "--help"],
        &["bench", "--help"],
        &["man", "--help"],
    ] {
        let help = run(command).good();
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
    assert!(run(&["--help"]).good().contains("  2 usage           5 busy        8 not allowed   11 no daemon"));
}

#[test]
fn misuse_exits_with_2_in_words_or_in_json() {
    for wrong in [
        &["frobnicate"][..],
        &["init"],
        &["init", "shop"],
        &["init", "shop", "--size", "1X"],
        &["init", "shop", "--size", "1G", "--volume", "a=1G"],
        &["volume", "add", "shop", "--size", "1G"],
        &["volume", "rm", "shop.pg@main", "--yes"],
        &["ls"],
        &["show", "shop.pg"],
        &["rm", "shop@monday", "--yes"],
        &["snapshot", "create"],
        &["snapshot", "create", "shop", "--ttl", "7"],
        &["snapshot", "rm", "shop", "--yes"],
        &["snapshot", "show", "shop.pg@monday"],
        &["snapshot", "show", "shop@HEAD"],
        &["snapshot", "set", "shop@monday"],
        &["snapshot", "prune", "shop", "--yes"],
        &["snapshot", "prune", "shop", "--keep", "24h", "--yes"],
        &["fork", "shop@monday"],
        &["fork", "shop@monday", "try", "--count", "0"],
        &["reset", "shop"],
        &["reset", "shop@monday~1"],
    ] {
        let ran = run(wrong);
        assert_eq!(ran.code, 2, "{wrong:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.is_empty() && ran.err.starts_with("error: "), "{wrong:?}: {}", ran.err);
        let ran = run(&[wrong, &["--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&ran.err).expect("one document");
        assert_eq!((ran.code, &document["schema"], &document["error"]["kind"]), (2, &1.into(), &"usage".into()));
    }
}

#[test]
fn a_verb_without_a_store_says_how_to_name_one() {
    let ran = run(&["ls"]);
    assert_eq!(ran.err, "error: ls: no store is named\nfix: treering --store PATH …, or export TREERING_STORE=PATH\n");
}

#[test]
fn the_version_is_the_package_s() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["version"]).good(), format!("treering {version}\n"));
    assert_eq!(run(&["version", "-q"]).good(), format!("{version}\n"));
    assert_eq!(run(&["version", "--json"]).json()["version"], version);
}

#[test]
fn the_doctor_has_a_line_for_each_thing_and_a_fix_for_each_that_is_not_well() {
    let report = run(&["doctor", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&report.out).expect("one document");
    let lines = document["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 8);
    for line in lines {
        assert_eq!(line["verdict"] == "ok", line["fix"].is_null(), "{line}");
    }
    let failing = lines.iter().any(|line| line["verdict"] == "fail");
    assert_eq!(report.code, i32::from(failing));
}

#[test]
fn each_command_has_a_manual_page_and_those_of_history_show_a_session() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = run(&["man", folder.path().to_str().expect("plain")]).good();
    let page = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.1"))).expect(name);
    assert!(said.ends_with(&format!(" pages in {}\n", folder.path().display())), "{said}");
    assert!(page("treering").contains("treering\\-snapshot(1)"));
    for name in
        ["snapshot-create", "snapshot-prune", "fork", "reset", "store-df", "store-check", "store-grow", "store-scrub"]
    {
        let page = page(&format!("treering-{name}"));
        let command = format!("$ treering {}", name.replacen('-', " ", 1));
        assert!(page.contains(".SH SESSION\n.nf\n") && page.contains(&command), "{name}: {page}");
    }
}
