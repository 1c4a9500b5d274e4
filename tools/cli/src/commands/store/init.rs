//! `treering store init`.

use crate::commands::Common;
use crate::progress::Progress;
use crate::{reach, sizes};
use clap::Args;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use treering_engine::{CreateOptions, Store, StoreError};
use treering_io::BackendChoice;
use treering_nbd_server::control::api::SCHEMA;
use treering_nbd_server::control::{Kind, Trouble};
use treering_nbd_server::daemon;

/// Of a new file, if no size is asked for.
const SIZE_DEFAULT: u64 = 16 << 30;

const EXAMPLES: &str = "\
Examples:
  treering store init /var/lib/treering/store --size 64G     space is set aside at once
  treering store init /tmp/try --size 1G --sparse            space is taken as it is used
  treering store init /dev/nvme1n1                           all of a device (its content is lost)

A place that holds a store already is refused (exit 4). The smallest store has 257 MiB.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
    /// Size, 16G for a new file and all there is otherwise
    #[arg(long, value_parser = sizes::parse)]
    size: Option<u64>,
    /// Take space from the filesystem as it is used
    #[arg(long)]
    sparse: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    path: String,
    id: String,
    store_bytes: u64,
}

impl Init {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let path = common.store_or(self.path.as_ref())?;
        let id = make(&path, self.size, self.sparse, common.quiet)?;
        let store_bytes = size_of(&path);
        let shown = path.display().to_string();
        let report = Report { schema: SCHEMA, path: shown.clone(), id: id.clone(), store_bytes };
        common.output().result(&report, std::slice::from_ref(&id), || {
            let size = sizes::iec(store_bytes);
            format!("store {shown}  {size}  id {id}\nnext: treering --store {shown} init DOT --size 10G")
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a store, and returns its id. A file that was not there before is removed again if that fails.
pub fn make(path: &Path, size: Option<u64>, sparse: bool, quiet: bool) -> Result<String, Trouble> {
    let doing = format!("making store {}", path.display());
    let existed = fs::symlink_metadata(path).is_ok();
    let size = size.or((size_of(path) == 0).then_some(SIZE_DEFAULT));
    let options = CreateOptions { size, sparse, ..CreateOptions::default() };
    let mut runtime = reach::runtime(BackendChoice::Auto)?;
    let io = runtime.io();
    let mut progress = Progress::new(doing.clone(), quiet);
    let made = runtime.block_on(async {
        let mut making = pin!(Store::create(&io, path, &options));
        loop {
            if let Some(made) = io.timeout(Duration::from_millis(250), making.as_mut()).await {
                return made;
            }
            progress.tell(|| "writing".into());
        }
    });
    drop(progress);
    made.map(|id| id.to_string()).map_err(|error| {
        let trouble = Trouble::of_store(&error, path);
        let trouble = match error {
            StoreError::Locked { .. } => {
                daemon::holders(path).into_iter().fold(trouble, |t, who| t.evidence(format!("held by  {who}")))
            }
            _ if trouble.kind == Kind::NoSpace => {
                trouble.fix(format!("treering store init {} --sparse, or a smaller --size", path.display()))
            }
            _ => trouble,
        };
        if !existed {
            // The first error counts; a file that cannot be removed is seen anyway.
            let _ = fs::remove_file(path);
        }
        trouble.doing(doing)
    })
}

fn size_of(path: &Path) -> u64 {
    use std::io::{Seek, SeekFrom};
    fs::File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).unwrap_or(0)
}
