//! `treering snapshot …`: verbs on snapshots of dots.

mod create;
mod ls;
mod prune;
mod rm;
mod set;
mod show;

use super::Common;
use clap::Subcommand;
use std::process::ExitCode;
use treering_nbd_server::control::Trouble;
use treering_nbd_server::control::api::Snapshot;

#[derive(Subcommand)]
pub enum Command {
    /// Freeze all volumes of some dots at one instant
    Create(create::Create),
    /// List snapshots
    Ls(ls::Ls),
    /// What a snapshot holds, and what it takes
    Show(show::Show),
    /// Protect a snapshot, or let it go by itself at a time
    Set(set::Set),
    /// Delete snapshots
    Rm(rm::Rm),
    /// Delete the snapshots of a dot that no rule keeps
    Prune(prune::Prune),
}

pub fn run(command: Command, common: &Common) -> Result<ExitCode, Trouble> {
    match command {
        Command::Create(command) => command.run(common),
        Command::Ls(command) => command.run(common),
        Command::Show(command) => command.run(common),
        Command::Set(command) => command.run(common),
        Command::Rm(command) => command.run(common),
        Command::Prune(command) => command.run(common),
    }
}

fn full_names(snapshots: &[Snapshot]) -> Vec<String> {
    snapshots.iter().map(Snapshot::full_name).collect()
}

/// Enough of an id to tell a snapshot from the others of its dot.
fn short_id(snapshot: &Snapshot) -> String {
    snapshot.id.chars().take(8).collect()
}

/// What is special about a snapshot, in a few words.
fn notes(snapshot: &Snapshot) -> String {
    let users: usize = snapshot.volumes.iter().map(|volume| volume.users).sum();
    let notes = [
        snapshot.protected.then(|| "protected".to_owned()),
        snapshot.reflog.then(|| "kept by a reset".to_owned()),
        snapshot.expires.as_ref().map(|at| format!("until {at}")),
        (users > 0).then(|| format!("{users} connections")),
    ];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
