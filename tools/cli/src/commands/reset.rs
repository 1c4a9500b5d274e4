//! `treering reset`: a dot becomes what it was. Nothing is lost: what it was until now is kept as a snapshot.

use super::{Common, SnapshotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{self, ResetDone};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Example:
  treering reset shop@before-migration

All volumes of the dot become what they are in the snapshot, at once. What the dot was until now is kept for seven days as a
snapshot, whose name is printed; reset to that to undo it. While a client uses one of the volumes it is refused (exit 5).";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Reset {
    /// DOT@SNAPSHOT, by name or id
    #[arg(value_name = "DOT@SNAPSHOT")]
    to: SnapshotName,
}

impl Reset {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let done = self.reset(common).map_err(|trouble| trouble.doing(format!("reset {}", self.to)))?;
        let kept = done.kept.full_name();
        common.output().result(&done, std::slice::from_ref(&kept), || {
            let until = done.kept.expires.as_deref().map(|at| format!(" until {at}")).unwrap_or_default();
            format!("{} is {} now\nkept {kept}{until}: what it was\nback treering reset {kept}\n", self.to.dot, done.to)
        });
        Ok(ExitCode::SUCCESS)
    }

    fn reset(&self, common: &Common) -> Result<ResetDone, Trouble> {
        let SnapshotName { dot, at } = &self.to;
        let asked = api::Reset { to: at.clone() };
        match reach(common, None)? {
            Reach::Served(client) => client.post(&format!("/v1/dots/{dot}/reset"), &asked),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |io, store, _| {
                verbs::reset(io, store, &[], dot, &asked).await
            }),
        }
    }
}
