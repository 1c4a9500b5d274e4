use super::Common;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;
#[derive(Args)]
pub struct Demo {}
impl Demo {
    pub fn run(&self, _common: &Common) -> Result<ExitCode, Trouble> {
        Ok(ExitCode::SUCCESS)
    }
}
