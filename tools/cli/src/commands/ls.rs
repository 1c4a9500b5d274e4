//! `treering ls`: the dots of a store.

use super::Common;
use crate::output::table;
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::Dots;
use treering_nbd_server::control::{Kind, Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering ls
  treering ls -q          names only
  treering volume ls      one line for each volume";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Ls {}

impl Ls {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let dots = dots(common).map_err(|trouble| trouble.doing("ls"))?;
        let names: Vec<String> = dots.dots.iter().map(|dot| dot.name.clone()).collect();
        common.output().result(&dots, &names, || {
            let cells = dots.dots.iter().map(|dot| {
                let volumes: Vec<&str> = dot.volumes.iter().map(|v| v.name.as_str()).collect();
                let size = dot.volumes.iter().map(|v| v.size_bytes).sum();
                vec![dot.name.clone(), sizes::iec(size), volumes.join(" ")]
            });
            table(&["DOT", "SIZE", "VOLUMES"], &[1], &cells.collect::<Vec<_>>())
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// All dots, from the server or from the store itself.
pub fn dots(common: &Common) -> Result<Dots, Trouble> {
    match reach(common, None)? {
        Reach::Served(client) => client.get("/v1/dots"),
        Reach::Unserved(path) => with_store(common, &path, Purpose::Look, async |_, store, _| Ok(verbs::dots(store))),
    }
}

pub fn no_dot(name: &str) -> Trouble {
    Trouble::new(Kind::NotFound, format!("there is no dot {name:?}")).fix("treering ls     what there is")
}
