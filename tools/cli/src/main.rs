//! The `treering` command.
//!
//! ```text
//! commands (one verb, one file) ─► reach (the daemon that serves the store, or the store itself) ─► control_client | engine
//!                               └► output (table, JSON or names), and for errors one shape
//! ```
//!
//! Errors are values of one type ([`Trouble`]) from the engine's door up to here, where they become text or JSON on standard
//! error and an exit code.
#![forbid(unsafe_code)]

mod ages;
mod commands;
mod control_client;
mod logging;
mod nbd_client;
mod output;
mod progress;
mod reach;
mod server_process;
mod sizes;

use clap::Parser;
use clap::error::ErrorKind;
use std::process::ExitCode;
use treering_nbd_server::control::api::{ErrorReply, SCHEMA};
use treering_nbd_server::control::{Kind, Trouble};

/// A request makes some twenty small allocations; this allocator spends half as long on them as the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match commands::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_usage(&error),
    };
    logging::start();
    let json = arguments.common.json;
    match commands::run(arguments) {
        Ok(code) => code,
        Err(trouble) => {
            report(&trouble, json);
            ExitCode::from(trouble.kind.exit_code())
        }
    }
}

fn report(trouble: &Trouble, json: bool) {
    if json {
        let reply = ErrorReply { schema: SCHEMA, error: trouble.clone() };
        eprintln!("{}", serde_json::to_string(&reply).expect("errors are plain data"));
    } else {
        eprintln!("{trouble}");
    }
}

fn refuse_usage(error: &clap::Error) -> ExitCode {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !wanted && std::env::args().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let what = text.trim().strip_prefix("error: ").unwrap_or(text.trim()).to_owned();
        report(&Trouble::new(Kind::Usage, what), true);
    } else {
        // Nobody is left to be told if this fails.
        let _ = error.print();
    }
    ExitCode::from(if wanted { 0 } else { Kind::Usage.exit_code() })
}
