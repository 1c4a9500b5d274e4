//! `cargo xtask bench history`: what snapshots cost.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use treering_benches::device::Device;
use treering_benches::history::figures::{Row, table};
use treering_benches::history::{CASES, Case, Scale};
use treering_benches::machine;

const HELP: &str = "\
cargo xtask bench history [--quick] [--case NAME]...

  --quick       small stores, few snapshots, nothing written: to see that it works, not how fast it is
  --case NAME   only these cases (the name is in brackets below)

A full run writes benches/results/DATE-history.md and .json, beside what other cases of the same day are in them. Scratch is TREERING_BENCH_SCRATCH (default /var/tmp/treering-bench):
some 55 GiB of a disk that nothing else uses. Run it alone, as root.
";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: bench history: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let Some((scale, cases)) = options()? else {
        print!("{HELP}\ncases:\n");
        CASES.iter().for_each(|case| println!("  [{}] {}", case.name, case.title));
        return Ok(());
    };
    let root = std::env::var_os("TREERING_BENCH_SCRATCH")
        .map_or_else(|| PathBuf::from("/var/tmp/treering-bench"), PathBuf::from);
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let scratch = tempfile::tempdir_in(&root)?;
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{}-history", machine::today()));
    let mut measured = earlier(&results.with_extension("json"))?;
    for case in cases {
        eprintln!("{}", case.title);
        let rows = (case.run)(scratch.path(), scale).with_context(|| format!("case {}", case.name))?;
        println!("{}", table(case.title, &rows));
        measured.insert(case.name.to_owned(), rows);
        if !scale.quick {
            write(&results, &measured, &machine::describe(&Device::under(scratch.path())?))?;
        }
    }
    Ok(())
}

/// Figures by the name of their case.
type Measured = BTreeMap<String, Vec<Row>>;

/// What other runs of today measured.
fn earlier(file: &Path) -> Result<Measured> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Measured::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

fn write(results: &Path, measured: &Measured, machine: &str) -> Result<()> {
    let mut page = format!("# History, {}\n\nMachine: {machine}.\n", machine::today());
    for case in CASES {
        measured.get(case.name).into_iter().for_each(|rows| page.push_str(&table(case.title, rows)));
    }
    fs::create_dir_all(results.parent().context("results have a folder")?)?;
    fs::write(results.with_extension("md"), &page)?;
    fs::write(results.with_extension("json"), serde_json::to_string_pretty(measured)? + "\n")?;
    println!("written to {}.md and .json", results.display());
    Ok(())
}

/// None when only help is wanted.
fn options() -> Result<Option<(Scale, Vec<&'static Case>)>> {
    let (mut scale, mut cases) = (Scale { quick: false }, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => scale.quick = true,
            "--case" => {
                let name = words.next().context("--case wants a name")?;
                let case = CASES.iter().find(|case| case.name == name);
                cases.push(case.with_context(|| format!("there is no case {name}; --help lists them"))?);
            }
            other => bail!("there is no option {other}; --help lists them"),
        }
    }
    if cases.is_empty() {
        cases = CASES.iter().collect();
    }
    Ok(Some((scale, cases)))
}
