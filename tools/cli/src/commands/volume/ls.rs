//! `treering volume ls`.

use crate::commands::{Common, ls};
use crate::output::table;
use crate::sizes;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;

const EXAMPLES: &str = "\
Examples:
  treering volume ls
  treering volume ls shop -q     names only";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Ls {
    /// Only of this dot
    dot: Option<String>,
}

impl Ls {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let mut dots = ls::dots(common).map_err(|trouble| trouble.doing("volume ls"))?;
        if let Some(dot) = &self.dot {
            dots.dots.retain(|d| d.name == *dot);
            if dots.dots.is_empty() {
                return Err(ls::no_dot(dot).doing("volume ls"));
            }
        }
        let volumes: Vec<_> = dots.dots.iter().flat_map(|d| d.volumes.iter().map(move |v| (d, v))).collect();
        let names: Vec<String> = volumes.iter().map(|(d, v)| format!("{}.{}", d.name, v.name)).collect();
        common.output().result(&dots, &names, || {
            let cells = volumes.iter().zip(&names).map(|((_, v), name)| {
                vec![name.clone(), sizes::iec(v.size_bytes), v.compression.name().into(), v.users.to_string()]
            });
            table(&["VOLUME", "SIZE", "COMPRESSION", "CONNECTIONS"], &[1, 3], &cells.collect::<Vec<_>>())
        });
        Ok(ExitCode::SUCCESS)
    }
}
