//! Starting other programs: shown before they run, their output passed on while it is read for counts.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};

/// The top folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project's folder").to_path_buf()
}

/// Where cargo builds to.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), PathBuf::from)
}

pub fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(project()).args(words);
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Runs a program with our own output; whether it succeeded.
pub fn succeeds(mut command: Command) -> Result<bool> {
    announce(&command);
    Ok(command.status().with_context(|| format!("starting {:?}", command.get_program()))?.success())
}

/// Runs a program, passing its output on; whether it succeeded, and the lines it printed.
pub fn heard(mut command: Command) -> Result<(bool, Vec<String>)> {
    announce(&command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let out = pass_on(child.stdout.take().expect("stdout is piped"), lines.clone());
    let err = pass_on(child.stderr.take().expect("stderr is piped"), lines.clone());
    let status = child.wait()?;
    out.join().expect("the reader of stdout does not panic");
    err.join().expect("the reader of stderr does not panic");
    let lines = std::mem::take(&mut *lines.lock().expect("no reader panicked"));
    Ok((status.success(), lines))
}

fn pass_on(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // A closed terminal must not end the run: the counts are still wanted.
            let _ = writeln!(std::io::stdout(), "{line}");
            lines.lock().expect("no reader panicked").push(line);
        }
    })
}

fn announce(command: &Command) {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy()).collect();
    println!("▸ {}", words.join(" "));
}
