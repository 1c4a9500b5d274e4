//! `treering version`.

use super::Common;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;
use treering_nbd_server::control::api::SCHEMA;

#[derive(Args)]
pub struct Version {}

#[derive(Serialize)]
struct Report {
    schema: u32,
    version: &'static str,
}

impl Version {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let version = env!("CARGO_PKG_VERSION");
        let report = Report { schema: SCHEMA, version };
        common.output().result(&report, &[version.to_owned()], || format!("treering {version}"));
        Ok(ExitCode::SUCCESS)
    }
}
