//! All rounds: every peer once per round, in an order that rotates, so that no one always comes first or last.

use anyhow::Result;

use crate::peer::Peer;
use crate::session::{self, Plan};
use crate::summary::Rounds;

pub fn run(plan: &Plan, peers: &[Peer], rounds: usize) -> Result<Rounds> {
    let mut all = Rounds::new();
    for round in 0..rounds {
        let mut measured = Vec::new();
        for turn in 0..peers.len() {
            let peer = peers[(turn + round) % peers.len()];
            eprintln!("round {} of {rounds}: {}", round + 1, peer.name());
            measured.push((peer, session::run(peer, plan)?));
        }
        all.push(measured);
    }
    Ok(all)
}
