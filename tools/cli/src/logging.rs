//! Logs, to standard error: warnings and worse unless `TREERING_LOG` asks for more.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

const VARIABLE: &str = "TREERING_LOG";

pub fn start() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
