//! `treering serve` and `status`: the daemon from outside.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use support::{Shop, program, ran, run, without_path};

#[test]
fn serve_names_each_volume_with_its_address_and_then_is_ready() {
    let mut shop = Shop::new();
    let lines = shop.serve(&["--tcp", "127.0.0.1:0"]);
    let lines: Vec<String> = lines.iter().map(|line| without_path(line, shop.folder.path())).collect();
    assert_eq!(lines[0], "serving shop.pg  nbd+unix:///shop.pg?socket=FOLDER/nbd.sock");
    assert_eq!(lines[1], "serving shop.redis  nbd+unix:///shop.redis?socket=FOLDER/nbd.sock");
    assert!(lines[2].starts_with("listening nbd://127.0.0.1:"), "{}", lines[2]);
    assert_eq!(lines[3], "ready");
    assert_eq!(shop.stop(), 0);
    assert!(!shop.socket().exists() && !shop.control().exists());
    // Closed in good order: it opens for reading, and there is nothing to recover.
    assert!(shop.run(&["store", "check"]).good().ends_with("sound: nothing is wrong\n"));
}

#[test]
fn a_server_with_a_floor_of_memory_takes_no_huge_pages() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let pid = shop.server.as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    assert!(status.contains("THP_enabled:\t0\n"), "{status}");
}

#[test]
fn a_second_server_is_refused_and_told_who_has_the_store() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    let pid = shop.server.as_ref().expect("it runs").id();
    let mut second = program();
    let second = ran(second.arg("--store").arg(shop.store()).args(["serve", "--io", "posix"]));
    assert_eq!(second.code, 5);
    assert!(second.err.contains(&format!("\n  held by  treering, pid {pid}\n")), "{}", second.err);
    // A verb that does not find the control socket is refused by the lock, not let in.
    let verb = run(&["--store", shop.path(), "init", "x", "--size", "1M"]);
    assert_eq!(verb.code, 5);
    assert!(verb.err.contains(&format!("held by  treering, pid {pid}")), "{}", verb.err);
}

#[test]
fn status_is_complete_and_without_a_server_says_so() {
    let mut shop = Shop::new();
    let ran = shop.run(&["status"]);
    assert_eq!(ran.code, 11);
    assert!(ran.err.contains("fix: treering --store "), "{}", ran.err);
    shop.serve(&["--io", "posix"]);
    let status = shop.run(&["status", "--json"]).json();
    assert_eq!(status["backend"], "posix");
    assert_eq!(status["pid"], shop.server.as_ref().expect("it runs").id());
    assert_eq!(status["failure"], serde_json::Value::Null);
    assert_eq!(status["exports"][0]["name"], "shop.pg");
    for name in ["direct_io", "connections", "log", "unfolded", "replay_bytes", "held_writers", "recovery"] {
        assert!(!status[name].is_null(), "{name} in {status}");
    }
    let text = shop.run(&["status"]).good();
    assert!(
        text.contains("\nhealth     good\n") && text.contains("EXPORT          SIZE  CONNECTIONS  WRITER  ADDRESS\n"),
        "{text}"
    );
}

#[test]
fn after_kill_9_a_reader_is_told_and_a_server_recovers() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    shop.run(&["volume", "add", "shop.late", "--size", "1M"]).good();
    shop.kill();
    shop.serve(&[]);
    assert_eq!(shop.run(&["volume", "ls", "-q"]).good(), "shop.late\nshop.pg\nshop.redis\n");
    assert_eq!(shop.run(&["status", "--json"]).json()["recovery"]["clean"], false);
    assert_eq!(shop.stop(), 0);
}

#[test]
fn tcp_beyond_loopback_wants_to_be_forced() {
    let shop = Shop::new();
    let ran = shop.run(&["serve", "--tcp", "0.0.0.0:0"]);
    assert_eq!(ran.code, 8);
    assert!(ran.err.contains("fix: --tcp 127.0.0.1:10809, or --tcp-force"), "{}", ran.err);
    shop.run(&["ls"]).good();
}

#[test]
fn a_read_only_server_changes_nothing() {
    let mut shop = Shop::new();
    shop.serve(&["--read-only"]);
    let refused = shop.run(&["init", "more", "--size", "1M"]);
    assert_eq!(refused.code, 8);
    assert!(refused.err.contains("the store was opened for reading"), "{}", refused.err);
    assert_eq!(shop.stop(), 0);
}

#[test]
fn another_user_gets_403_even_when_the_socket_is_open_to_it() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let mut shop = Shop::new();
    // The owner is another user than the one who asks, and neither is root.
    shop.serve(&[]);
    for (path, mode) in [(shop.folder.path().to_owned(), 0o755), (shop.control(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    let mut stranger = std::process::Command::new("cat");
    stranger.uid(65_534).stdin(Stdio::null()).stdout(Stdio::null());
    assert!(stranger.status().expect("cat starts").success());
    // The program may lie where a stranger cannot read it, so a small copy of its request is sent by python, if there is one.
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(b'GET /v1/status HTTP/1.1\\r\\n\\r\\n')\n\
                  d=b''\nwhile True:\n  p=s.recv(4096)\n  if not p: break\n  d+=p\nprint(d.decode())";
    let mut python = std::process::Command::new("python3");
    let Ok(answer) = python.args(["-c", script]).arg(shop.control()).uid(65_534).output() else {
        eprintln!("skipped: no python3");
        return;
    };
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("\"kind\":\"not_allowed\"") && answer.contains("uid 65534 may not control"), "{answer}");
}

#[test]
fn the_control_socket_answers_nonsense_in_json() {
    let mut shop = Shop::new();
    shop.serve(&[]);
    for (bytes, status) in [(&b"hello\r\n\r\n"[..], 400), (&[b'a'; 100_000][..], 413)] {
        let mut stream = UnixStream::connect(shop.control()).expect("it listens");
        // The server may refuse before it has taken everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("\"schema\":1"), "{answer}");
    }
    shop.run(&["status"]).good();
}
