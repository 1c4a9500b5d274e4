//! What the disk gives without a server: the ceiling of the rows that it bounds, printed below them.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::fio;
use crate::peer::MIB;

/// A file on the scratch disk, past the page cache.
#[derive(Clone, Copy)]
pub struct DiskItself {
    /// MiB a second, 256K, queue 8, with a flush at the end.
    pub sequential_write: f64,
    /// MiB a second, 256K, queue 8.
    pub sequential_read: f64,
    /// 4K reads a second, queue 32.
    pub random_read: f64,
}

pub fn measure(scratch: &Path, size: u64, seconds: u64) -> Result<DiskItself> {
    let file = scratch.join("disk-itself");
    let run = |shape: &str, block: &str, queue: u64, seconds: u64| {
        let settings = [
            ("FILE", file.display().to_string()),
            ("SHAPE", shape.to_owned()),
            ("BLOCK", block.to_owned()),
            ("QUEUE", queue.to_string()),
            ("SIZE", size.to_string()),
            ("SECONDS", seconds.to_string()),
        ];
        fio::run("disk-itself", &settings.map(|(name, value)| (name.to_owned(), value)))
    };
    // A first pass gives every block its place.
    let fill = || run("write", "1m", 8, 1 + size / (256 * MIB));
    let mib_per_second = |seen: fio::Seen| seen.bytes as f64 / MIB as f64 / seen.seconds;
    fill()?;
    let measured = DiskItself {
        sequential_write: mib_per_second(run("write", "256k", 8, seconds)?),
        sequential_read: mib_per_second(run("read", "256k", 8, seconds)?),
        random_read: run("randread", "4k", 32, seconds).map(|seen| seen.requests as f64 / seen.seconds)?,
    };
    fs::remove_file(&file)?;
    Ok(measured)
}
