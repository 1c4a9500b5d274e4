//! The question before something is destroyed. Without a terminal to ask on, `--yes` must have been given.

use std::io::{IsTerminal, Write};
use treering_nbd_server::control::{Kind, Trouble};

/// Asks on a terminal; there must be one.
pub fn confirm(question: &str) -> Result<(), Trouble> {
    let refuse = |what: &str| {
        Err(Trouble::new(Kind::NotAllowed, what).why("what is removed cannot be brought back.").fix("add --yes"))
    };
    if !std::io::stdin().is_terminal() {
        return refuse("it destroys data, and there is no terminal to ask on");
    }
    eprint!("{question} [y/N] ");
    // A prompt that cannot be shown is answered by no.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => refuse("it was not confirmed"),
    }
}
