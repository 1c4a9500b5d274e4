//! `treering volume resize`.

use crate::commands::{Common, VolumeName};
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{self, Done};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering volume resize shop.pg --size 100G

Growing works while clients use the volume; they see the new size when they connect anew. Shrinking a volume in use is
refused (exit 5), and what is cut off is lost: shrink the filesystem first.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Resize {
    /// DOT.VOLUME
    name: VolumeName,
    /// The new size
    #[arg(long, value_parser = sizes::parse)]
    size: u64,
}

impl Resize {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let done = self.resize(common).map_err(|trouble| trouble.doing(format!("volume resize {}", self.name)))?;
        common
            .output()
            .result(&done, std::slice::from_ref(&done.done), || format!("{}  {}", self.name, sizes::iec(self.size)));
        Ok(ExitCode::SUCCESS)
    }

    fn resize(&self, common: &Common) -> Result<Done, Trouble> {
        let VolumeName { dot, volume } = &self.name;
        match reach(common, None)? {
            Reach::Served(client) => client.patch(&self.name.path(), &api::Resize { size_bytes: self.size }),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |_, store, _| {
                verbs::resize_volume(store, &[], dot, volume, self.size).await
            }),
        }
    }
}
