//! The rows of the table, and the bar each of them has to clear.

use crate::peer::Peer;

/// Which volumes a case works on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The big volume, as the previous case left it.
    Running,
    /// The same, after reading a part of it into whatever caches there are.
    Warm,
    /// The same, after a restart of the server with all caches dropped.
    Cold,
    /// Eight small volumes at once.
    EightVolumes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    RequestsPerSecond,
    MebibytesPerSecond,
    Seconds,
    RequestsPerCpuSecond,
}

#[derive(Clone, Copy)]
pub enum Bar {
    /// At least so many times the peer's figure.
    TimesPeer(f64, Peer),
    /// No more than so many seconds.
    AtMostSeconds(f64),
    /// Shown, not judged.
    None,
}

pub struct Case {
    /// For `--row`.
    pub name: &'static str,
    pub title: &'static str,
    /// The job file under `workloads/`; rows that are read off another row's run name the same file.
    pub workload: &'static str,
    pub stage: Stage,
    pub unit: Unit,
    pub bar: Bar,
}

/// In the order in which a session runs them: reads of the untouched volume first, then writes, then the restart.
pub const CASES: &[Case] = &[
    Case {
        name: "read-cached",
        title: "4K random read, queue 32, cached",
        workload: "random-read-4k-queue-32-cached",
        stage: Stage::Warm,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(0.85, Peer::NbdkitMemory),
    },
    Case {
        name: "read-cpu",
        title: "the same: requests per server CPU second",
        workload: "random-read-4k-queue-32-cached",
        stage: Stage::Warm,
        unit: Unit::RequestsPerCpuSecond,
        bar: Bar::TimesPeer(1.0, Peer::NbdkitFile),
    },
    Case {
        name: "sequential-read",
        title: "256K sequential read",
        workload: "sequential-read-256k",
        stage: Stage::Running,
        unit: Unit::MebibytesPerSecond,
        bar: Bar::TimesPeer(0.9, Peer::NbdkitFileLimited),
    },
    Case {
        name: "sequential-read-unlimited",
        title: "the same, beside a peer with all memory of the machine",
        workload: "sequential-read-256k",
        stage: Stage::Running,
        unit: Unit::MebibytesPerSecond,
        bar: Bar::TimesPeer(0.9, Peer::NbdkitFile),
    },
    Case {
        name: "write-flush-1",
        title: "8K random write, flush after each, 1 client",
        workload: "random-write-8k-flush-each-1-client",
        stage: Stage::Running,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(1.15, Peer::NbdkitFile),
    },
    Case {
        name: "write-flush-8",
        title: "same, 8 clients on one volume",
        workload: "random-write-8k-flush-each-8-clients",
        stage: Stage::Running,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(2.0, Peer::NbdkitFile),
    },
    Case {
        name: "write-flush-8-volumes",
        title: "same, 8 volumes with one client each",
        workload: "random-write-8k-flush-each-8-volumes",
        stage: Stage::EightVolumes,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(2.0, Peer::NbdkitFile),
    },
    Case {
        name: "write-queue-32",
        title: "8K random write, queue 32",
        workload: "random-write-8k-queue-32",
        stage: Stage::Running,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(1.05, Peer::NbdkitFile),
    },
    Case {
        name: "write-4k",
        title: "4K random write, queue 32",
        workload: "random-write-4k-queue-32",
        stage: Stage::Running,
        unit: Unit::RequestsPerSecond,
        bar: Bar::None,
    },
    Case {
        name: "write-cpu",
        title: "the same: requests per server CPU second",
        workload: "random-write-4k-queue-32",
        stage: Stage::Running,
        unit: Unit::RequestsPerCpuSecond,
        bar: Bar::TimesPeer(1.0, Peer::NbdkitFile),
    },
    Case {
        name: "sequential-write",
        title: "256K sequential write",
        workload: "sequential-write-256k",
        stage: Stage::Running,
        unit: Unit::MebibytesPerSecond,
        bar: Bar::TimesPeer(0.9, Peer::NbdkitFileLimited),
    },
    Case {
        name: "sequential-write-unlimited",
        title: "the same, beside a peer with all memory of the machine",
        workload: "sequential-write-256k",
        stage: Stage::Running,
        unit: Unit::MebibytesPerSecond,
        bar: Bar::TimesPeer(0.9, Peer::NbdkitFile),
    },
    Case {
        name: "read-cold",
        title: "4K random read, queue 32, cold",
        workload: "random-read-4k-queue-32-cold",
        stage: Stage::Cold,
        unit: Unit::RequestsPerSecond,
        bar: Bar::TimesPeer(1.5, Peer::QemuRaw),
    },
    Case {
        name: "restart-12k",
        title: "restart to first read after kill -9, cold: default checkpoint limit of 12K records",
        workload: "log-of-12k-records",
        stage: Stage::Cold,
        unit: Unit::Seconds,
        bar: Bar::AtMostSeconds(1.0),
    },
    Case {
        name: "restart-1m",
        title: "restart to first read after kill -9, cold: 4 GiB of log in 1M records",
        workload: "log-of-1m-records",
        stage: Stage::Cold,
        unit: Unit::Seconds,
        bar: Bar::AtMostSeconds(1.0),
    },
];
