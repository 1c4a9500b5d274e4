//! `cargo xtask bench peers`: the table of speed, ours beside every peer.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use treering_benches::case::CASES;
use treering_benches::device::Device;
use treering_benches::peer::{GIB, MIB, PEERS, Peer, Sizes};
use treering_benches::session::Plan;
use treering_benches::{disk_itself, machine, report, table};

const HELP: &str = "\
cargo xtask bench peers [--quick] [--rounds N] [--seconds N] [--row NAME]... [--peer NAME]...

  --quick       one round of 1 s per row on small volumes, nothing written: to see that it works, not how fast it is
  --rounds N    3 by default
  --seconds N   per row; 3 by default
  --row NAME    only these rows (the name is in brackets below)
  --peer NAME   only these peers

A full run writes benches/results/DATE-peers.md and .json. Scratch is TREERING_BENCH_SCRATCH (default /var/tmp/treering-bench):
some 60 GiB of a disk that nothing else uses. Run it alone, as root.
";

const FULL: Sizes = Sizes { volume: 4 * GIB, small_volume: 512 * MIB, warm: 256 * MIB, store: 40 * GIB };
const QUICK: Sizes = Sizes { volume: GIB, small_volume: 64 * MIB, warm: 64 * MIB, store: 12 * GIB };

struct Options {
    quick: bool,
    rounds: usize,
    seconds: u64,
    rows: Vec<String>,
    peers: Vec<Peer>,
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: bench peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let Some(options) = options()? else {
        print!("{HELP}\nrows:\n");
        CASES.iter().for_each(|case| println!("  [{}] {}", case.name, case.title));
        println!("peers: {}", PEERS.iter().map(|peer| peer.name()).collect::<Vec<_>>().join(", "));
        return Ok(());
    };
    let root = std::env::var_os("TREERING_BENCH_SCRATCH")
        .map_or_else(|| PathBuf::from("/var/tmp/treering-bench"), PathBuf::from);
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let scratch = tempfile::tempdir_in(&root)?;
    let plan = Plan {
        scratch: scratch.path().to_path_buf(),
        sizes: if options.quick { QUICK } else { FULL },
        seconds: options.seconds,
        rows: options.rows,
    };
    let disk = disk_itself::measure(scratch.path(), plan.sizes.volume, plan.seconds)?;
    let rounds = table::run(&plan, &options.peers, options.rounds)?;
    let date = machine::today();
    let machine = machine::describe(&Device::under(&plan.scratch)?);
    let page = report::page(&machine, &date, &plan, &options.peers, &rounds, disk);
    println!("{page}");
    if !options.quick {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&results)?;
        fs::write(results.join(format!("{date}-peers.md")), &page)?;
        fs::write(results.join(format!("{date}-peers.json")), serde_json::to_string_pretty(&rounds)? + "\n")?;
        println!("written to benches/results/{date}-peers.md and .json");
    }
    Ok(())
}

/// None when only help is wanted.
fn options() -> Result<Option<Options>> {
    let mut options = Options { quick: false, rounds: 0, seconds: 0, rows: Vec::new(), peers: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse().context("--rounds wants a number")?,
            "--seconds" => options.seconds = value()?.parse().context("--seconds wants a number")?,
            "--row" => options.rows.push(known_row(value()?)?),
            "--peer" => options.peers.push(Peer::from_name(&value()?)?),
            other => bail!("there is no option {other}; --help lists them"),
        }
    }
    let (rounds, seconds) = if options.quick { (1, 1) } else { (3, 3) };
    options.rounds = if options.rounds == 0 { rounds } else { options.rounds };
    options.seconds = if options.seconds == 0 { seconds } else { options.seconds };
    if options.peers.is_empty() {
        options.peers = PEERS.to_vec();
    }
    Ok(Some(options))
}

fn known_row(name: String) -> Result<String> {
    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    ensure!(names.contains(&name.as_str()), "no row `{name}`; there are: {}", names.join(", "));
    Ok(name)
}
