//! `treering rm`: destroys, so it asks on a terminal and wants `--yes` elsewhere.

use super::confirm::confirm;
use super::{Common, DotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::Done;
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering rm try --yes

All volumes and all snapshots of the dot go, at once and together; forks of its snapshots lose nothing. A dot in use (exit 5)
or with a protected snapshot (exit 4) is refused.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Rm {
    /// Name of the dot
    dot: DotName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Rm {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let named = |trouble: Trouble| trouble.doing(format!("rm {}", self.dot));
        if !self.yes {
            confirm(&format!("Remove {} with all its volumes and snapshots?", self.dot)).map_err(named)?;
        }
        let done = self.remove(common).map_err(named)?;
        common.output().result(&done, std::slice::from_ref(&done.done), || format!("removed {}", self.dot));
        Ok(ExitCode::SUCCESS)
    }

    fn remove(&self, common: &Common) -> Result<Done, Trouble> {
        match reach(common, None)? {
            Reach::Served(client) => client.delete(&self.dot.path()),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |_, store, _| {
                verbs::remove_dot(store, &[], &self.dot.0).await
            }),
        }
    }
}
