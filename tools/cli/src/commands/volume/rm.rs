//! `treering volume rm`: destroys, so it asks on a terminal and wants `--yes` elsewhere.

use crate::commands::confirm::confirm;
use crate::commands::{Common, VolumeName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::Done;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering volume rm shop.redis --yes

All data of the volume is lost. A volume in use is refused (exit 5).";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Rm {
    /// DOT.VOLUME
    name: VolumeName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Rm {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let named = |trouble: Trouble| trouble.doing(format!("volume rm {}", self.name));
        if !self.yes {
            confirm(&format!("Remove {} and all data on it?", self.name)).map_err(named)?;
        }
        let done = self.remove(common).map_err(named)?;
        common.output().result(&done, std::slice::from_ref(&done.done), || format!("removed {}", self.name));
        Ok(ExitCode::SUCCESS)
    }

    fn remove(&self, common: &Common) -> Result<Done, Trouble> {
        let VolumeName { dot, volume } = &self.name;
        match reach(common, None)? {
            Reach::Served(client) => client.delete(&self.name.path()),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |_, store, _| {
                verbs::remove_volume(store, &[], dot, volume).await
            }),
        }
    }
}
