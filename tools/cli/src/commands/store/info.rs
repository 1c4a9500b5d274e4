use crate::commands::Common;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;
#[derive(Args)]
pub struct Info {}
impl Info {
    pub fn run(&self, _common: &Common) -> Result<ExitCode, Trouble> {
        Ok(ExitCode::SUCCESS)
    }
}
