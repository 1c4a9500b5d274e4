//! `treering fork`: writable copies of a dot at a snapshot.

use super::{Common, DotName, SnapshotName};
use crate::ages;
use crate::progress::Progress;
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{self, Forked};
use treering_nbd_server::control::{Trouble, verbs};

/// Names in one request: well below what a request may hold.
const BATCH: usize = 500;

const EXAMPLES: &str = "\
Examples:
  treering fork shop@before-migration try               try.pg, try.redis: dots like any other
  treering fork shop@monday test --count 64 --ttl 2h    test-1 to test-64, gone after two hours
  treering rm try --yes

A fork is there at once, whatever its size, and takes space only for what is written to it. It carries the filesystem ids of
its source: to mount both XFS volumes on one host, give -o nouuid.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Fork {
    /// DOT@SNAPSHOT, by name or id
    #[arg(value_name = "DOT@SNAPSHOT")]
    from: SnapshotName,
    /// Name of the new dot
    name: DotName,
    /// Make so many: NAME-1 to NAME-N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Remove them by themselves after this time, as in 2h
    #[arg(long, value_name = "AGE", value_parser = ages::parse)]
    ttl: Option<u64>,
}

impl Fork {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let forked = self.fork(common).map_err(|trouble| trouble.doing(format!("fork {} {}", self.from, self.name)))?;
        common.output().result(&forked, &forked.dots, || match forked.dots.as_slice() {
            [_] => forked.volumes.iter().map(|volume| format!("{volume}  from {}\n", forked.from)).collect(),
            dots => format!("{} dots, {} to {}, from {}\n", dots.len(), dots[0], dots[dots.len() - 1], forked.from),
        });
        Ok(ExitCode::SUCCESS)
    }

    fn fork(&self, common: &Common) -> Result<Forked, Trouble> {
        let names = self.names();
        let batches = names.chunks(BATCH).map(|names| api::Fork {
            at: self.from.at.clone(),
            names: names.to_vec(),
            ttl_seconds: self.ttl,
        });
        let (dot, mut progress) = (&self.from.dot, Progress::new("forking", common.quiet));
        let mut all: Option<Forked> = None;
        let mut add = |made: Forked| {
            let all = all.get_or_insert_with(|| Forked { dots: Vec::new(), volumes: Vec::new(), ..made.clone() });
            all.dots.extend(made.dots);
            all.volumes.extend(made.volumes);
            progress.tell(|| format!("{} of {}", all.dots.len(), names.len()));
        };
        match reach(common, None)? {
            Reach::Served(client) => {
                for batch in batches {
                    add(client.post(&format!("/v1/dots/{dot}/forks"), &batch)?);
                }
            }
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |_, store, _| {
                for batch in batches {
                    add(verbs::fork(store, dot, &batch).await?);
                }
                Ok(())
            })?,
        }
        Ok(all.expect("there is at least one name"))
    }

    fn names(&self) -> Vec<String> {
        match self.count {
            None | Some(1) => vec![self.name.0.clone()],
            Some(count) => (1..=count).map(|number| format!("{}-{number}", self.name)).collect(),
        }
    }
}
