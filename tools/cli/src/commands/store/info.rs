//! `treering store info`.

use crate::commands::Common;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes::iec;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use treering_nbd_server::control::api::StoreInfo;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering store info /var/lib/treering/store --json";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Info {
    /// File or block device; --store if not given
    path: Option<PathBuf>,
}

impl Info {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let info = self.info(common).map_err(|trouble| trouble.doing("store info"))?;
        common.output().result(&info, std::slice::from_ref(&info.id), || text(&info));
        Ok(ExitCode::SUCCESS)
    }

    fn info(&self, common: &Common) -> Result<StoreInfo, Trouble> {
        match reach(common, self.path.as_deref())? {
            Reach::Served(client) => client.get("/v1/store"),
            Reach::Unserved(path) => {
                with_store(common, &path, Purpose::Look, async |_, store, _| verbs::info(store, &path, false))
            }
        }
    }
}

fn text(info: &StoreInfo) -> String {
    format!(
        "store        {}\nid           {}\nincarnation  {}\nsize         {}, {} segments of {}\nholds        {} dots, {} volumes of {} together\n\
         direct I/O   {}\nserved       {}\n",
        info.path,
        info.id,
        info.incarnation,
        iec(info.store_bytes),
        info.segments,
        iec(info.segment_bytes),
        info.dots,
        info.volumes,
        iec(info.logical_bytes),
        if info.direct_io { "yes" } else { "no: the filesystem does not offer it" },
        if info.served { "yes" } else { "no" },
    )
}
