//! The traces: a few steps each, on one volume of eight blocks.

/// One step of a trace. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Write {
        offset: u64,
        len: u64,
        fua: bool,
    },
    Zero {
        offset: u64,
        len: u64,
        allocated: bool,
    },
    Resize {
        size: u64,
    },
    /// Of the dot.
    Snapshot {
        name: &'static str,
    },
    Delete {
        snapshot: &'static str,
    },
    /// The fork's volume is written to as well, so that it parts from its source.
    Fork {
        snapshot: &'static str,
        name: &'static str,
    },
    Reset {
        snapshot: &'static str,
    },
    /// The dot of a fork goes.
    RemoveFork {
        name: &'static str,
    },
    /// So many durable writes over the first blocks: what lay there is dead.
    Churn {
        writes: u64,
    },
    /// Waits until the cleaner has filled one more container.
    Clean,
    /// A fold, and a slice of what is to be swept.
    Sweep,
    Flush,
    Checkpoint,
    /// Long enough for records to age, for attestation, for zero-writing ahead.
    Pause {
        milliseconds: u64,
    },
}

pub(super) struct Trace {
    pub name: &'static str,
    /// Here nothing crashes.
    pub before: &'static [Step],
    pub steps: &'static [Step],
    /// The cleaner works, and both checkpoints are opened.
    pub cleans: bool,
}

impl Trace {
    const fn of(name: &'static str, steps: &'static [Step]) -> Trace {
        Trace { name, before: &[], steps, cleans: false }
    }
}

const fn write(block: u64, blocks: u64) -> Step {
    Step::Write { offset: block * 4096, len: blocks * 4096, fua: false }
}

const fn durable(block: u64, blocks: u64) -> Step {
    Step::Write { offset: block * 4096, len: blocks * 4096, fua: true }
}

const fn part(offset: u64, len: u64) -> Step {
    Step::Write { offset, len, fua: false }
}

const fn hole(block: u64, blocks: u64) -> Step {
    Step::Zero { offset: block * 4096, len: blocks * 4096, allocated: false }
}

const fn zeros(block: u64, blocks: u64) -> Step {
    Step::Zero { offset: block * 4096, len: blocks * 4096, allocated: true }
}

const fn snapshot(name: &'static str) -> Step {
    Step::Snapshot { name }
}

const fn delete(snapshot: &'static str) -> Step {
    Step::Delete { snapshot }
}

const fn pause(milliseconds: u64) -> Step {
    Step::Pause { milliseconds }
}

/// Two segments of the log, of which a snapshot and the last three blocks of the volume show a little, and a third.
const AGED: &[Step] = &[
    durable(0, 8),
    snapshot("a"),
    Step::Churn { writes: 12 },
    durable(5, 2),
    Step::Churn { writes: 24 },
    Step::Checkpoint,
    Step::Checkpoint,
];

const CLEANED: &[Step] = &[
    durable(0, 8),
    snapshot("a"),
    Step::Churn { writes: 12 },
    durable(5, 2),
    Step::Churn { writes: 24 },
    Step::Checkpoint,
    Step::Checkpoint,
    Step::Clean,
];

pub(super) const TRACES: &[Trace] = &[
    Trace::of("write, flush", &[write(0, 1), Step::Flush]),
    Trace::of("overwrite of what was flushed", &[write(0, 2), Step::Flush, write(1, 2), Step::Flush]),
    Trace::of("durable writes in a row", &[durable(0, 1), durable(1, 1), durable(0, 1)]),
    Trace::of(
        "an aged record, then a durable write",
        &[write(0, 1), pause(8), write(1, 1), durable(2, 1), write(3, 1)],
    ),
    Trace::of(
        "checkpoint between writes",
        &[write(0, 2), Step::Checkpoint, write(1, 1), Step::Checkpoint, write(0, 1), Step::Flush],
    ),
    Trace::of(
        "three checkpoints give a slot back",
        &[write(0, 8), Step::Checkpoint, write(0, 8), Step::Checkpoint, hole(0, 8), Step::Checkpoint, durable(2, 1)],
    ),
    Trace::of(
        "trim and zeroes over data",
        &[write(0, 4), Step::Flush, hole(1, 2), zeros(2, 2), Step::Flush, part(4000, 200)],
    ),
    Trace::of(
        "parts of blocks",
        &[part(100, 50), Step::Flush, part(4090, 12), part(120, 10), Step::Checkpoint, part(0, 4096)],
    ),
    Trace::of(
        "shrink and grow",
        &[
            write(0, 8),
            Step::Resize { size: 3 * 4096 - 512 },
            Step::Resize { size: 8 * 4096 },
            write(7, 1),
            Step::Flush,
        ],
    ),
    Trace::of("a snapshot between two writes", &[write(0, 2), snapshot("a"), write(1, 2), Step::Flush]),
    Trace::of(
        "snapshots, folded and not, over checkpoints",
        &[
            write(0, 4),
            snapshot("a"),
            Step::Checkpoint,
            write(2, 4),
            snapshot("b"),
            hole(3, 2),
            Step::Checkpoint,
            write(0, 1),
            Step::Flush,
        ],
    ),
    Trace::of(
        "a deleted snapshot is swept",
        &[
            write(0, 6),
            snapshot("a"),
            write(1, 2),
            snapshot("b"),
            write(2, 3),
            Step::Checkpoint,
            delete("a"),
            Step::Sweep,
            Step::Checkpoint,
            delete("b"),
            Step::Sweep,
            write(4, 1),
            Step::Checkpoint,
            Step::Checkpoint,
            durable(7, 1),
        ],
    ),
    Trace::of(
        "a fork of a pending snapshot",
        &[
            write(0, 3),
            snapshot("a"),
            Step::Fork { snapshot: "a", name: "fork" },
            write(1, 1),
            Step::Checkpoint,
            Step::Flush,
        ],
    ),
    Trace::of(
        "a branching point hides and goes",
        &[
            write(0, 3),
            snapshot("a"),
            Step::Fork { snapshot: "a", name: "fork" },
            delete("a"),
            Step::Checkpoint,
            write(1, 1),
            Step::RemoveFork { name: "fork" },
            Step::Sweep,
            Step::Sweep,
            Step::Checkpoint,
        ],
    ),
    Trace::of(
        "a reset and the way back",
        &[
            write(0, 3),
            snapshot("a"),
            write(1, 2),
            Step::Reset { snapshot: "a" },
            write(2, 2),
            Step::Checkpoint,
            delete("a"),
            Step::Sweep,
            Step::Flush,
        ],
    ),
    Trace::of("an idle store attests", &[durable(0, 1), pause(1500), write(1, 1), pause(1500)]),
    Trace { name: "the cleaner fills a container", before: AGED, steps: &[Step::Clean, durable(2, 1)], cleans: true },
    Trace {
        name: "a container without a checkpoint",
        before: CLEANED,
        steps: &[write(6, 1), Step::Flush, delete("a"), Step::Sweep, durable(7, 1)],
        cleans: true,
    },
    Trace {
        name: "emptied slots wait for two checkpoints",
        before: CLEANED,
        steps: &[
            Step::Checkpoint,
            Step::Churn { writes: 12 },
            Step::Checkpoint,
            Step::Churn { writes: 12 },
            Step::Checkpoint,
            durable(6, 1),
        ],
        cleans: true,
    },
    Trace {
        name: "a container dies in part, then whole",
        before: CLEANED,
        steps: &[
            durable(7, 1),
            delete("a"),
            Step::Sweep,
            Step::Checkpoint,
            Step::Checkpoint,
            Step::Churn { writes: 12 },
            durable(5, 2),
            Step::Checkpoint,
            Step::Checkpoint,
            durable(0, 1),
        ],
        cleans: true,
    },
];
