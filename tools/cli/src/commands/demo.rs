//! `treering demo`: a server killed with -9 under load, again and again, and every acknowledged byte looked for afterwards.
//!
//! Two connections write all the time, with several requests in flight each and a flush now and then. After a kill, what was
//! acknowledged must be there, flushed or not: the memory it was in belongs to the host, not to the process. Only a write
//! that was under way and not acknowledged may have happened or not. Nothing here needs root, a kernel module, or a disk of its own.

mod journal;
mod writer;

use super::{Common, init, store};
use crate::control_client::ControlClient;
use crate::nbd_client::NbdClient;
use crate::output::print;
use crate::progress::Progress;
use crate::server_process::{Home, ServerProcess};
use crate::sizes::iec;
use clap::Args;
use journal::{Journal, Tally};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use treering_io::{BackendChoice, Runtime};
use treering_nbd_server::control::api::{SCHEMA, StatusReport};
use treering_nbd_server::control::{Kind, Trouble};
use writer::Written;

const EXPORT: &str = "demo.main";
const VOLUME_BYTES: u64 = 64 << 20;
const STORE_BYTES: u64 = 1 << 30;
const CONNECTIONS: u64 = 2;
/// What the connections write before each kill: another point of the log each time, and together less than the store holds.
const ROUNDS_MIB: [u64; 3] = [120, 170, 90];
/// On a slow disk the kill comes earlier.
const ROUND_MAX: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
It takes a few seconds, less than 1 GiB in the temporary folder (TMPDIR chooses another), and cleans up behind itself.

Exit codes: 0 every acknowledged write was there · 7 one was not";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {}

#[derive(Serialize)]
struct Report {
    schema: u32,
    seconds: f64,
    rounds: Vec<Round>,
    sound: bool,
}

#[derive(Serialize)]
struct Round {
    writes: u64,
    bytes: u64,
    flushes: u64,
    restart_ms: u64,
    replayed_records: u64,
    republished: u64,
    verified: Tally,
}

impl Demo {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let tell = |line: &str| {
            if !common.json && !common.quiet {
                print(line);
            }
        };
        let report = demo(&tell).map_err(|trouble| trouble.doing("demo"))?;
        if common.json {
            common.output().result(&report, &[], String::new);
        }
        tell(&format!("passed    in {:.1} s", report.seconds));
        Ok(ExitCode::SUCCESS)
    }
}

fn demo(tell: &dyn Fn(&str)) -> Result<Report, Trouble> {
    let begun = Instant::now();
    let interrupted = watch_signals();
    let home = Home::new(&std::env::temp_dir())?;
    store::make(&home.store(), Some(STORE_BYTES), true, true)?;
    init::make_in(&home.common(false), &home.store(), "demo", VOLUME_BYTES)?;
    tell(&format!(
        "store     {} ({}, sparse), volume {EXPORT} ({})",
        home.store().display(),
        iec(STORE_BYTES),
        iec(VOLUME_BYTES)
    ));

    let mut journals: Vec<Journal> = (0..CONNECTIONS).map(|i| Journal::new(i, CONNECTIONS, VOLUME_BYTES)).collect();
    let mut server = home.start(&["--memory", "floor"])?;
    tell(&format!("serving   {}", treering_nbd_server::export::unix_uri(&home.socket(), EXPORT)));
    let mut rounds = Vec::new();
    for (number, mib) in ROUNDS_MIB.into_iter().enumerate() {
        let written = write_and_kill(&home, server, &mut journals, mib << 20, &interrupted)?;
        tell(&format!(
            "round {}   {CONNECTIONS} connections wrote {} times ({}) and flushed {} times; then kill -9 with {} requests under way",
            number + 1,
            written.writes,
            iec(written.bytes),
            written.flushes,
            written.under_way
        ));
        let restarting = Instant::now();
        server = home.start(&["--memory", "floor"])?;
        let restart_ms = restarting.elapsed().as_millis() as u64;
        let recovery = status(&home)?.recovery;
        tell(&format!(
            "          served again after {restart_ms} ms: {} records of the log replayed, {} writes found in memory only",
            recovery.replayed_records, recovery.republished
        ));
        let verified = verify(&home, &mut journals, &interrupted)?;
        tell(&format!(
            "          verified byte for byte: {} blocks flushed, {} acknowledged and not flushed; of {} under way {} had been written",
            verified.flushed, verified.acknowledged, verified.under_way, verified.happened
        ));
        rounds.push(Round {
            writes: written.writes,
            bytes: written.bytes,
            flushes: written.flushes,
            restart_ms,
            replayed_records: recovery.replayed_records,
            republished: recovery.republished,
            verified,
        });
    }
    server.stop()?;
    let check = store::check_unserved(&home.common(false), &home.store(), true, &mut Progress::new("checking", true))?;
    if let Some(finding) = check.findings.first() {
        return Err(Trouble::new(Kind::Damage, "the store is not as it should be").evidence(finding.what.clone()));
    }
    tell(&format!(
        "check     {} extents, {} of data verified against checksums: nothing is wrong",
        check.extents,
        iec(check.data_bytes_verified)
    ));
    Ok(Report { schema: SCHEMA, seconds: begun.elapsed().as_secs_f64(), rounds, sound: check.sound })
}

/// Lets the connections write so many bytes, then kills the server under them.
fn write_and_kill(
    home: &Home,
    server: ServerProcess,
    journals: &mut [Journal],
    bytes: u64,
    interrupted: &AtomicBool,
) -> Result<Written, Trouble> {
    let mut clients = Vec::new();
    for _ in &*journals {
        clients.push(NbdClient::connect(&home.socket(), EXPORT).map_err(|e| connection("connecting", &e))?);
    }
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = journals
            .iter_mut()
            .zip(clients)
            .map(|(journal, client)| (journal, client, &acknowledged))
            .map(|(journal, client, acknowledged)| {
                scope.spawn(move || writer::write_until_cut(client, journal, acknowledged))
            })
            .collect();
        let begun = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < bytes
            && begun.elapsed() < ROUND_MAX
            && !interrupted.load(Ordering::Relaxed)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let killed = server.kill();
        let mut total = Written::default();
        for writer in writers {
            total += writer.join().expect("a writer does not panic").map_err(|e| connection("writing", &e))?;
        }
        killed?;
        check_interrupted(interrupted)?;
        Ok(total)
    })
}

fn verify(home: &Home, journals: &mut [Journal], interrupted: &AtomicBool) -> Result<Tally, Trouble> {
    const STEP: u64 = 1 << 20;
    let mut client = NbdClient::connect(&home.socket(), EXPORT).map_err(|e| connection("connecting", &e))?;
    let mut tally = Tally::default();
    for offset in (0..VOLUME_BYTES).step_by(STEP as usize) {
        check_interrupted(interrupted)?;
        let bytes = client.read(offset, STEP as usize).map_err(|e| connection("reading", &e))?;
        for journal in &mut *journals {
            journal.verify(offset, &bytes, &mut tally)?;
        }
    }
    client.disconnect().map_err(|e| connection("leaving", &e))?;
    Ok(tally)
}

fn status(home: &Home) -> Result<StatusReport, Trouble> {
    let control = home.common(true).control.expect("it was asked for");
    let client = ControlClient::find(&control)?;
    client.ok_or_else(|| Trouble::new(Kind::NoDaemon, "the server's control socket does not answer"))?.get("/v1/status")
}

/// True once somebody asks this process to end.
fn watch_signals() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    std::thread::spawn(move || {
        // Without this, a signal ends the program at once and the folders stay: no reason not to go on.
        if let Ok(mut runtime) = Runtime::new(BackendChoice::Posix) {
            let io = runtime.io();
            runtime.block_on(io.terminated());
            raised.store(true, Ordering::Relaxed);
        }
    });
    flag
}

fn check_interrupted(interrupted: &AtomicBool) -> Result<(), Trouble> {
    match interrupted.load(Ordering::Relaxed) {
        true => Err(Trouble::new(Kind::Other, "interrupted; everything it made was removed")),
        false => Ok(()),
    }
}

fn connection(doing: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(Kind::Other, format!("{doing} through NBD: {error}"))
}
