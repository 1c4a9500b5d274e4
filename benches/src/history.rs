//! What snapshots cost: creating, keeping, deleting and forking them, under load and with ten thousand of them there.
//!
//! Each case is a file and makes its own store. `stand` is the served store a case works on; `figures` is what cases give back.

pub mod create;
pub mod figures;
pub mod fleet;
pub mod forks;
pub mod hold;
pub mod latency_log;
pub mod many;
pub mod one_thread;
pub mod overwrite;
pub mod seconds_log;
pub mod serving;
pub mod snapshot_peers;
pub mod stand;
pub mod steady;
pub mod throughput;

use std::path::Path;

use anyhow::Result;

use figures::Row;

/// How big a run is. A quick one shows that it works, not how fast it is.
#[derive(Clone, Copy)]
pub struct Scale {
    pub quick: bool,
}

impl Scale {
    pub fn of(self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

pub struct Case {
    /// For `--case`.
    pub name: &'static str,
    pub title: &'static str,
    pub run: fn(&Path, Scale) -> Result<Vec<Row>>,
}

pub const CASES: &[Case] = &[
    Case { name: "hold", title: "snapshots of 32 volumes under full write load", run: hold::run },
    Case { name: "throughput", title: "writes with one snapshot each second", run: throughput::run },
    Case { name: "overwrite", title: "the first overwrite after a snapshot", run: overwrite::run },
    Case { name: "create", title: "creating the 1st, 1,000th and 10,000th snapshot", run: create::run },
    Case { name: "many", title: "10,000 snapshots: opening, exclusive size, deleting half under load", run: many::run },
    Case { name: "fleet", title: "1,000 snapshots of 100 volumes: opening", run: fleet::run },
    Case { name: "forks", title: "1,000 forks of one snapshot", run: forks::run },
    Case { name: "steady", title: "random overwrite of a store 70 % full", run: steady::run },
];
