//! `treering show`: a dot, with what it takes.

use super::{Common, DotName};
use crate::output::table;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::iec;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{DotShow, Sizes, VolumeShow};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering show shop

LOGICAL is the size that clients see, REFERENCED what is stored of it, EXCLUSIVE what nothing else shows, DIRTY what was
written since the last snapshot. The first command after much was written may take seconds: it reads the maps.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// Name of the dot
    dot: DotName,
}

impl Show {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let shown = self.show(common).map_err(|trouble| trouble.doing(format!("show {}", self.dot)))?;
        let names: Vec<String> = shown.volumes.iter().map(|v| format!("{}.{}", shown.name, v.name)).collect();
        common.output().result(&shown, &names, || text(&shown));
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, common: &Common) -> Result<DotShow, Trouble> {
        match reach(common, None)? {
            Reach::Served(client) => client.get(&self.dot.path()),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Look, async |io, store, _| {
                verbs::show_dot(io, store, &self.dot.0).await
            }),
        }
    }
}

fn text(shown: &DotShow) -> String {
    let newest = match shown.snapshots.last() {
        Some(newest) => format!(", newest {}", newest.full_name()),
        None => String::new(),
    };
    let head = format!("{}  {} snapshots{newest}\n", shown.name, shown.snapshots.len());
    head + &sizes_table(&shown.volumes, &shown.sizes)
}

/// Volumes with their four sizes, and their sums if there are several.
pub fn sizes_table(volumes: &[VolumeShow], sum: &Sizes) -> String {
    let row = |name: &str, sizes: &Sizes| {
        let note = match sizes.held_by_branching_bytes {
            0 => String::new(),
            held => format!("{} held by what is based on it", iec(held)),
        };
        let [logical, referenced, exclusive, dirty] =
            [sizes.logical_bytes, sizes.referenced_bytes, sizes.exclusive_bytes, sizes.dirty_bytes].map(iec);
        vec![name.to_owned(), logical, referenced, exclusive, dirty, note]
    };
    let mut rows: Vec<Vec<String>> = volumes.iter().map(|volume| row(&volume.name, &volume.sizes)).collect();
    if rows.len() > 1 {
        rows.push(row("together", sum));
    }
    table(&["VOLUME", "LOGICAL", "REFERENCED", "EXCLUSIVE", "DIRTY", ""], &[1, 2, 3, 4], &rows)
}
