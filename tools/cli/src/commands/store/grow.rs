//! `treering store grow`: more space for a store, while it is in use.

use crate::commands::Common;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::{self, iec};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::api::{GrowRequest, GrowResult};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering store grow --size 128G             a file becomes so long, its space set aside at once
  treering store grow --size 1T --sparse      or taken as it is used
  treering store grow                         takes in what a device or file has more than before

A store grows by whole segments. It may be served and in use: writers that wait for space go on. It never shrinks.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Grow {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
    /// Size that the file shall have
    #[arg(long, value_parser = sizes::parse)]
    size: Option<u64>,
    /// Take the file's new space from the filesystem as it is used
    #[arg(long, requires = "size")]
    sparse: bool,
}

impl Grow {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let grown = self.grow(common).map_err(|trouble| trouble.doing("store grow"))?;
        common.output().result(&grown, &[grown.to_bytes.to_string()], || text(&grown));
        Ok(ExitCode::SUCCESS)
    }

    fn grow(&self, common: &Common) -> Result<GrowResult, Trouble> {
        let asked = GrowRequest { size_bytes: self.size, sparse: self.sparse };
        match reach(common, self.path.as_deref())? {
            Reach::Served(client) => client.post("/v1/grow", &asked),
            Reach::Unserved(path) => {
                with_store(common, &path, Purpose::Change, async |_, store, _| verbs::grow(store, &path, &asked).await)
            }
        }
    }
}

fn text(grown: &GrowResult) -> String {
    match grown.to_bytes - grown.from_bytes {
        0 => format!("nothing to gain: the store has {} already\n", iec(grown.to_bytes)),
        more => format!("{} more: the store has {} now\n", iec(more), iec(grown.to_bytes)),
    }
}
