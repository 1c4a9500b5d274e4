//! The sessions of the manual pages (`tools/cli/sessions`), played: each command of history prints what its page shows, on a store that
//! nobody serves and on one that is served while a client writes to it.
//!
//! What cannot be the same twice is compared by its shape: ids, times, and the sizes of what depends on the load. After a change that is
//! meant: `TREERING_SESSIONS=write cargo test -p treering --test sessions`, and read the difference.

mod support;

#[allow(dead_code)] // A part of it is enough here.
#[path = "../src/nbd_client.rs"]
mod nbd_client;

use nbd_client::NbdClient;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use support::Shop;

const MIB: usize = 1 << 20;

/// Commands whose sizes depend on what else the store did.
const BY_SHAPE: [&str; 4] =
    ["treering store df", "treering store check", "treering store scrub", "treering store grow"];

/// A store is repaired when nobody serves it.
const UNSERVED: &str = "store-check-repair.txt";

struct Step {
    command: String,
    printed: String,
}

fn steps(session: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in session.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), printed: String::new() }),
            (None, Some(step)) => step.printed += &format!("{line}\n"),
            (None, None) => panic!("a session begins with a command: {line}"),
        }
    }
    steps
}

/// What differs from run to run is replaced by what it is.
fn shape(command: &str, printed: &str) -> String {
    let by_shape = BY_SHAPE.iter().any(|beginning| command.starts_with(beginning));
    let word = |word: &str| {
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let time = |text: &str| text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T';
        match word {
            word if word.len() == 8 && hex(word) => "ID".to_owned(),
            word if time(word) => "TIME".to_owned(),
            word if word.contains("@before-reset-") => "shop@before-reset-TIME".to_owned(),
            word if word.contains("@s-20") => "shop@s-TIME".to_owned(),
            word if word.contains("s-20") => "s-TIME".to_owned(),
            word if by_shape && digits(word) => "N".to_owned(),
            word if by_shape && ["B", "KiB", "MiB", "GiB"].contains(&word) => "BYTES".to_owned(),
            word => word.to_owned(),
        }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n";
    printed.lines().map(line).collect()
}

/// The store of the sessions: `shop` as it was on two days, and `busy`, which others write to.
struct Played {
    shop: Shop,
    load: Option<(JoinHandle<()>, Arc<AtomicBool>, Arc<AtomicU64>)>,
}

impl Played {
    fn new(served: bool) -> Played {
        let mut shop = Shop::empty();
        shop.run(&["init", "shop", "--volume", "pg=64M", "--volume", "redis=16M"]).good();
        shop.run(&["init", "busy", "--volume", "main=16M"]).good();
        shop.serve(&["--shared"]);
        for (day, name) in [(1, "monday"), (2, "tuesday"), (3, "")] {
            let mut client = NbdClient::connect(&shop.socket(), "shop.pg").expect("it is served");
            let data: Vec<u8> = (0..MIB * day).map(|i| (i * i / 7 + i * day) as u8).collect();
            client.write(0, &data).expect("there is room");
            client.disconnect().expect("it is ours");
            if !name.is_empty() {
                shop.run(&["snapshot", "create", "shop", "--name", name]).good();
            }
        }
        let load = served.then(|| load(&shop.socket()));
        if !served {
            assert_eq!(shop.stop(), 0);
        }
        Played { shop, load }
    }

    fn run(&self, command: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_treering"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{command} 2>&1"));
        let path = std::env::var("PATH").expect("there is a path");
        shell.env("PATH", format!("{}:{path}", program.parent().expect("it lies in a folder").display()));
        shell.env("TREERING_STORE", self.shop.store()).env("TREERING_ARENA_DIR", self.shop.folder.path());
        shell.env_remove("TREERING_LOG").env_remove("TREERING_CONTROL");
        if self.load.is_some() {
            shell.env("TREERING_CONTROL", self.shop.control());
        }
        let output = shell.output().expect("there is a shell");
        let printed = String::from_utf8(output.stdout).expect("it prints text");
        printed.replace(self.shop.path(), "STORE")
    }
}

/// Writes to `busy.main` until told to stop.
fn load(socket: &Path) -> (JoinHandle<()>, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (ends, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, count, socket) = (ends.clone(), writes.clone(), socket.to_owned());
    let thread = std::thread::spawn(move || {
        let mut client = NbdClient::connect(&socket, "busy.main").expect("it is served");
        let mut block = 0;
        while !told.load(Ordering::Relaxed) {
            client.write(block % 4096 * 4096, &[block as u8; 4096]).expect("writers go on");
            block += 1;
            count.store(block, Ordering::Relaxed);
        }
        client.disconnect().expect("it is ours");
    });
    (thread, ends, writes)
}

impl Drop for Played {
    fn drop(&mut self) {
        if let Some((thread, ends, _)) = self.load.take() {
            ends.store(true, Ordering::Relaxed);
            // What went wrong in it was printed by it.
            let failed = thread.join().is_err();
            assert!(!failed || std::thread::panicking(), "the load failed");
        }
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions");
    let mut files: Vec<_> = fs::read_dir(folder).expect("there are sessions").map(|e| e.expect("one").path()).collect();
    files.sort();
    assert_eq!(files.len(), 13);
    files
}

fn play(served: bool) {
    for file in files().into_iter().filter(|file| !served || !file.ends_with(UNSERVED)) {
        let session = fs::read_to_string(&file).expect("text");
        let played = Played::new(served);
        let writes = |played: &Played| played.load.as_ref().map_or(0, |(_, _, writes)| writes.load(Ordering::Relaxed));
        let mut seen = String::new();
        for step in steps(&session) {
            let before = writes(&played);
            let printed = played.run(&step.command);
            seen += &format!("$ {}\n{printed}", step.command);
            if std::env::var_os("TREERING_SESSIONS").is_none() {
                let (shown, got) = (shape(&step.command, &step.printed), shape(&step.command, &printed));
                assert_eq!(shown, got, "{}: {}, served: {served}", file.display(), step.command);
            }
            while served && writes(&played) == before {
                std::thread::yield_now();
            }
        }
        if !served && std::env::var_os("TREERING_SESSIONS").is_some() {
            fs::write(&file, seen).expect("it can be written");
        }
    }
}

#[test]
fn each_command_prints_what_its_page_shows_on_a_store_nobody_serves() {
    play(false);
}

#[test]
fn each_command_prints_what_its_page_shows_with_a_server_under_load() {
    play(true);
}

#[test]
fn a_changed_word_or_line_is_seen_and_a_changed_time_is_not() {
    let shown = "shop@monday  03391a0f  2026-11-23T05:00:51Z  5.0 GiB  2  protected\n";
    let same = |printed: &str| shape("treering snapshot ls", shown) == shape("treering snapshot ls", printed);
    assert!(same("shop@monday   12345678  2027-01-01T00:00:00Z    5.0 GiB  2  protected\n"));
    assert!(!same("shop@monday  03391a0f  2026-11-23T05:00:51Z  5.0 GiB  2\n"));
    assert!(!same("shop@monday  03391a0f  2026-11-23T05:00:51Z  6.0 GiB  2  protected\n"));
    assert!(!same(&format!("{shown}{shown}")));
    assert_ne!(shape("treering store df", "free 1.0 GiB 5\n"), shape("treering store df", "maps 1.0 GiB 5\n"));
}
