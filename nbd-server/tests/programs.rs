//! Real programs against the server: libnbd's tools, qemu's, and fio.
//!
//! A program that is not installed is skipped, with a line that says so; `TREERING_REQUIRE_PROGRAMS=1` makes it a failure,
//! and `TREERING_SKIP_LOG=FILE` collects the lines, so that a run can count them.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::background::Background;
use support::{MIB, pattern};

/// The first lines of every nbdsh script here.
const SHELL: &str = "import nbd, sys, errno\n";

#[test]
fn nbdinfo_lists_every_export_with_its_abilities() {
    if missing("nbdinfo") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB), ("shop.odd", MIB + 1)], |_| {});
    let listed = text(&run("nbdinfo", &["--list", &server.uri("")]));
    for line in [
        "export=\"shop.pg\":",
        "export=\"shop.odd\":",
        "export-size: 67108864 (64M)",
        "export-size: 1048577",
        "base:allocation",
        "can_multi_conn: true",
        "can_df: true",
        "can_fast_zero: true",
        "block_size_minimum: 512",
        "block_size_maximum: 33554432",
    ] {
        assert!(listed.contains(line), "{line} is missing in\n{listed}");
    }
    let map = text(&run("nbdinfo", &["--map", &server.uri("shop.pg")]));
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "67108864", "3", "hole,zero"]);
    let unknown = Command::new("nbdinfo").arg(server.uri("nothing")).output().expect("it starts");
    assert!(!unknown.status.success());
}

#[test]
fn nbdcopy_brings_an_image_in_and_out_over_several_connections() {
    if missing("nbdcopy") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    let folder = tempfile::tempdir().expect("a folder");
    let mut image = vec![0; 64 << 20];
    for (place, stretch) in image.chunks_mut(3 << 20).enumerate().filter(|(place, _)| place % 3 != 1) {
        stretch.copy_from_slice(&pattern(stretch.len(), place as u8));
    }
    let original = folder.path().join("original");
    std::fs::write(&original, &image).expect("the image is written");
    for (round, uri) in [server.uri("shop.pg"), server.tcp_uri("shop.pg")].iter().enumerate() {
        run("nbdcopy", &["--connections=4", "--flush", path(&original), uri]);
        let copy = folder.path().join(format!("copy{round}"));
        run("nbdcopy", &["--connections=4", uri, path(&copy)]);
        assert!(std::fs::read(&copy).expect("the copy") == image, "round {round}: the copy differs");
    }
    let counts = server.stop();
    assert!(counts.connections >= 8 && counts.flushes > 0, "{counts:?}");
}

#[test]
fn nbdsh_writes_zeroes_trims_and_asks_with_and_without_structured_replies() {
    if missing("nbdsh") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    for structured in ["True", "False"] {
        let script = format!(
            "h = nbd.NBD()\n\
             h.set_request_structured_replies({structured})\n\
             h.add_meta_context('base:allocation')\n\
             h.connect_uri('{uri}')\n\
             assert h.get_structured_replies_negotiated() == {structured}\n\
             h.pwrite(b'x' * 32 * 1024 * 1024, 0)\n\
             h.pwrite(b'y' * 4096, 8192, nbd.CMD_FLAG_FUA)\n\
             h.zero(4096, 16384, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)\n\
             h.trim(4096, 32768)\n\
             h.cache(1048576, 0)\n\
             h.flush()\n\
             assert h.pread(4096, 8192) == b'y' * 4096\n\
             assert h.pread(4096, 16384) == bytes(4096)\n\
             assert h.pread(4096, 32768) == bytes(4096)\n\
             assert len(h.pread(32 * 1024 * 1024, 512)) == 32 * 1024 * 1024\n\
             h.set_strict_mode(0)\n\
             for offset, size, number in [(64 * 1024 * 1024 - 512, 1024, errno.EINVAL), (3, 512, errno.EINVAL)]:\n\
             \x20   try:\n\
             \x20       h.pread(size, offset)\n\
             \x20       assert False\n\
             \x20   except nbd.Error as e:\n\
             \x20       assert e.errnum == number, e\n\
             try:\n\
             \x20   h.pwrite(bytes(1024), 64 * 1024 * 1024 - 512)\n\
             \x20   assert False\n\
             except nbd.Error as e:\n\
             \x20   assert e.errnum == errno.ENOSPC, e\n\
             extents = []\n\
             if {structured}:\n\
             \x20   h.block_status(65536, 0, lambda context, offset, entries, error: extents.extend(entries))\n\
             \x20   assert sum(extents[::2]) == 65536, extents\n\
             h.shutdown()\n",
            uri = server.uri("shop.pg"),
        );
        shell(&script);
    }
}

#[test]
fn many_connections_of_one_client_write_together_and_another_client_is_refused_and_told() {
    if missing("nbdsh") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    let uri = server.uri("shop.pg");
    let holder = format!(
        "a = nbd.NBD(); a.connect_uri('{uri}'); b = nbd.NBD(); b.connect_uri('{uri}')\n\
         a.pwrite(bytes(4096), 0); b.pwrite(bytes(4096), 4096)\n\
         print('holding', flush=True)\n\
         sys.stdin.readline()\n\
         a.shutdown(); b.shutdown()\n"
    );
    let script = format!("{SHELL}{holder}");
    let mut holder = shell_command(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(holder.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut lines, &mut said).expect("a line");
    assert_eq!(said, "holding\n");
    let newcomer = format!(
        "h = nbd.NBD(); h.connect_uri('{uri}')\n\
         assert h.pread(4096, 0) == bytes(4096)\n\
         try:\n\
         \x20   h.pwrite(bytes(4096), 0)\n\
         \x20   print('written')\n\
         except nbd.Error as e:\n\
         \x20   print('refused', e.errnum == errno.EPERM)\n\
         assert h.pread(4096, 0) == bytes(4096)\n\
         h.flush()\n\
         h.shutdown()\n"
    );
    assert_eq!(shell(&newcomer), "refused True\n");
    drop(holder.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
    assert!(holder.wait().expect("it ends").success());
    assert_eq!(shell(&newcomer), "written\n");
}

#[test]
fn qemu_writes_discards_and_reads_back() {
    if missing("qemu-io") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    for uri in [server.uri("shop.pg"), server.tcp_uri("shop.pg")] {
        let commands = ["write -P 0xab 0 8M", "write -P 0xcd 1000 3000", "write -z -u 1M 1M", "discard 3M 1M", "flush"];
        run("qemu-io", &commands.iter().flat_map(|c| ["-c", c]).chain(["-f", "raw", &uri]).collect::<Vec<_>>());
        let reads = [
            "read -P 0xab 0 1000",
            "read -P 0xcd 1000 3000",
            "read -P 0 1M 1M",
            "read -P 0 3M 1M",
            "read -P 0xab 4M 4M",
        ];
        let args: Vec<&str> = reads.iter().flat_map(|c| ["-c", c]).chain(["-r", "-f", "raw", &uri]).collect();
        let said = text(&run("qemu-io", &args));
        assert!(!said.contains("Pattern verification failed"), "{said}");
        if !missing("qemu-img") {
            let map = text(&run("qemu-img", &["map", "--output=json", "-f", "raw", &uri]));
            assert!(map.contains("\"zero\": true"), "{map}");
        }
    }
}

#[test]
fn fio_verifies_what_its_jobs_wrote_as_processes_and_as_threads() {
    if missing("fio") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    for (uri, thread) in [(server.uri("shop.pg"), "0"), (server.tcp_uri("shop.pg"), "1")] {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = [
            "--name=verify",
            "--ioengine=nbd",
            &format!("--uri={uri}"),
            "--rw=randrw",
            "--bsrange=512-128k",
            "--blockalign=512",
            "--size=16m",
            "--offset_increment=16m",
            "--numjobs=4",
            &format!("--thread={thread}"),
            "--iodepth=16",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--fsync=64",
        ];
        let mut command = Command::new("fio");
        // fio leaves files where it runs.
        succeed(command.current_dir(folder.path()).args(arguments), "fio");
    }
    let counts = server.stop();
    assert_eq!((counts.failed, counts.refused), (0, 0), "{counts:?}");
}

#[test]
fn a_client_killed_in_the_middle_disturbs_nobody() {
    if missing("fio") || missing("nbdinfo") {
        return;
    }
    let server = Background::start(&[("shop.pg", 64 * MIB)], |_| {});
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        let before = server.counts().writes;
        let mut fio = Command::new("fio")
            .current_dir(folder.path())
            .args(["--name=load", "--ioengine=nbd", &format!("--uri={}", server.uri("shop.pg"))])
            .args(["--rw=randwrite", "--bs=256k", "--size=64m", "--iodepth=16", "--time_based", "--runtime=60"])
            .args(["--thread=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        server.until(|counts| counts.writes > before + 16);
        fio.kill().expect("it is ours");
        fio.wait().expect("it ends");
        run("nbdinfo", &["--size", &server.uri("shop.pg")]);
    }
    server.stop();
}

/// A folder's libraries that only the system's Python knows are behind nbdsh.
fn shell_command(script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nbdsh");
    command.env("PATH", format!("/usr/bin:{path}")).args(["-n", "-c", script]);
    command
}

fn shell(script: &str) -> String {
    text(&succeed(&mut shell_command(&format!("{SHELL}{script}")), "nbdsh"))
}

fn run(program: &str, arguments: &[&str]) -> Output {
    succeed(Command::new(program).args(arguments), program)
}

fn succeed(command: &mut Command, program: &str) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let (said, complained) = (text(&output), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{said}\n{complained}", output.status);
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn missing(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    if std::env::split_paths(&path).chain(["/usr/bin".into()]).any(|folder| folder.join(program).exists()) {
        return false;
    }
    let line = format!("skipped: {program} is not installed");
    assert!(std::env::var_os("TREERING_REQUIRE_PROGRAMS").is_none(), "{line}");
    println!("{line}");
    if let Some(log) = std::env::var_os("TREERING_SKIP_LOG") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
    true
}
