//! The disk under a folder: how many bytes it was asked to move.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Sectors in /sys are 512 bytes, whatever the disk's own are.
const SECTOR: u64 = 512;

#[derive(Clone)]
pub struct Device {
    pub name: String,
    stat: PathBuf,
}

#[derive(Clone, Copy)]
pub struct Traffic {
    pub read: u64,
    pub written: u64,
}

impl Device {
    pub fn under(folder: &Path) -> Result<Self> {
        let id = fs::metadata(folder)?.dev();
        let (major, minor) = ((id >> 8) & 0xfff, (id & 0xff) | ((id >> 12) & 0xf_ff00));
        let home = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
            .with_context(|| format!("{} lies on no block device", folder.display()))?;
        let name = home.file_name().context("a device has a name")?.to_string_lossy().into_owned();
        Ok(Self { name, stat: home.join("stat") })
    }

    pub fn traffic(&self) -> Result<Traffic> {
        let text = fs::read_to_string(&self.stat)?;
        let field =
            |n: usize| text.split_whitespace().nth(n).and_then(|f| f.parse::<u64>().ok()).context("a short stat line");
        Ok(Traffic { read: field(2)? * SECTOR, written: field(6)? * SECTOR })
    }
}

/// Everything to the disk, then every clean page forgotten.
pub fn drop_caches() -> Result<()> {
    sync()?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache (needs root)")
}

pub fn sync() -> Result<()> {
    std::process::Command::new("sync").status().context("running sync")?;
    Ok(())
}
