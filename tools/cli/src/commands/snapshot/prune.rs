//! `treering snapshot prune`: destroys, so it asks on a terminal and wants `--yes` elsewhere.

use super::full_names;
use crate::ages;
use crate::commands::confirm::confirm;
use crate::commands::{Common, DotName};
use crate::reach::{Purpose, Reach, reach, with_store};
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{self, Keep, Pruned};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering snapshot prune shop --keep 24h:all,7d:1h --dry-run     say what would go
  treering snapshot prune shop --keep 24h:all,7d:1h,1000d:1d --yes

A rule AGE:EVERY keeps, of the snapshots that are at most AGE old, the newest of each EVERY (hours, days and so on in UTC);
AGE:all keeps each of them. What no rule keeps is deleted. Protected snapshots stay, those that a reset keeps go by
themselves, and one that a client reads is left for the next time.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Prune {
    /// The dot whose snapshots are looked at
    dot: DotName,
    /// What to keep: AGE:EVERY or AGE:all, several with commas between them
    #[arg(long, value_name = "AGE:EVERY", value_delimiter = ',', required = true, value_parser = parse_rule)]
    keep: Vec<Keep>,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

fn parse_rule(text: &str) -> Result<Keep, String> {
    let (age, every) =
        text.split_once(':').ok_or_else(|| format!("{text:?}: expected AGE:EVERY, as in 24h:all or 7d:1h"))?;
    let every_seconds = match every {
        "all" => 0,
        every => ages::parse(every)?,
    };
    if every_seconds == 0 && every != "all" {
        return Err(format!("{text:?}: one of each {every} is no rule; to keep each of them, say {age}:all"));
    }
    Ok(Keep { age_seconds: ages::parse(age)?, every_seconds })
}

impl Prune {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let named = |trouble: Trouble| trouble.doing(format!("snapshot prune {}", self.dot));
        if !self.dry_run && !self.yes {
            let would = self.prune(common, true).map_err(named)?;
            if !would.removed.is_empty() {
                let names = full_names(&would.removed).join(" ");
                confirm(&format!("Delete {names} and the data that nothing else holds?")).map_err(named)?;
            }
        }
        let pruned = self.prune(common, self.dry_run).map_err(named)?;
        common.output().result(&pruned, &full_names(&pruned.removed), || text(&pruned));
        Ok(ExitCode::SUCCESS)
    }

    fn prune(&self, common: &Common, dry_run: bool) -> Result<Pruned, Trouble> {
        let asked = api::Prune { keep: self.keep.clone(), dry_run };
        let purpose = if dry_run { Purpose::Look } else { Purpose::Change };
        match reach(common, None)? {
            Reach::Served(client) => client.post(&format!("{}/prune", self.dot.path()), &asked),
            Reach::Unserved(path) => with_store(common, &path, purpose, async |io, store, _| {
                verbs::prune(io, store, &self.dot.0, &asked).await
            }),
        }
    }
}

fn text(pruned: &Pruned) -> String {
    let did = if pruned.dry_run { "would remove" } else { "removed" };
    let lines = pruned.removed.iter().map(|snapshot| format!("{did} {}\n", snapshot.full_name()));
    let busy = pruned.in_use.iter().map(|snapshot| format!("in use {}\n", snapshot.full_name()));
    let (removed, kept) = (pruned.removed.len(), pruned.kept);
    lines.chain(busy).collect::<String>() + &format!("{removed} {did}, {kept} kept\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_a_rule_that_keeps_nothing_is_refused() {
        assert_eq!(parse_rule("24h:all"), Ok(Keep { age_seconds: 86_400, every_seconds: 0 }));
        assert_eq!(parse_rule("7d:1h"), Ok(Keep { age_seconds: 604_800, every_seconds: 3600 }));
        for text in ["24h", "24h:", ":1h", "24h:0h", "all:1h", "24h:all:1h", "1y:1d"] {
            assert!(parse_rule(text).is_err(), "{text}");
        }
    }
}
