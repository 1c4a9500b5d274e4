//! `cargo xtask bench history`: what snapshots cost.

#![forbid(unsafe_code)]

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

A full run writes benches/results/DATE-history.md and .json. Scratch is TREERING_BENCH_SCRATCH (default /var/tmp/treering-bench):
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
    let date = machine::today();
    let mut page = format!("# History, {date}\n\nMachine: {}.\n", machine::describe(&Device::under(scratch.path())?));
    let mut all: Vec<(&str, Vec<Row>)> = Vec::new();
    for case in cases {
        eprintln!("{}", case.title);
        let rows = (case.run)(scratch.path(), scale).with_context(|| format!("case {}", case.name))?;
        let text = table(case.title, &rows);
        println!("{text}");
        page.push_str(&text);
        all.push((case.name, rows));
    }
    if !scale.quick {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&results)?;
        fs::write(results.join(format!("{date}-history.md")), &page)?;
        fs::write(results.join(format!("{date}-history.json")), serde_json::to_string_pretty(&all)? + "\n")?;
        println!("written to benches/results/{date}-history.md and .json");
    }
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
