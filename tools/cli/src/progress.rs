//! Progress of long work, on standard error: one line that is rewritten on a terminal, else a line each 10 seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub struct Progress {
    what: String,
    begun: Instant,
    told: Instant,
    terminal: bool,
    silent: bool,
    written: bool,
}

impl Progress {
    pub fn new(what: impl Into<String>, silent: bool) -> Progress {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Progress { what: what.into(), begun: now, told: now, terminal, silent, written: false }
    }

    /// Tells how far the work is, if it is time to.
    pub fn tell(&mut self, state: impl FnOnce() -> String) {
        let pause = if self.terminal { Duration::from_millis(250) } else { Duration::from_secs(10) };
        if self.silent || self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = format!("{}: {}, {:.0} s", self.what, state(), self.begun.elapsed().as_secs_f64());
        // Progress that cannot be told is no reason to stop the work.
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
            self.written = true;
        } else {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
