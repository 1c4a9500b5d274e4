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
    Flush,
    Checkpoint,
    /// Long enough for records to age, for attestation, for zero-writing ahead.
    Pause {
        milliseconds: u64,
    },
}

pub(super) struct Trace {
    pub name: &'static str,
    pub steps: &'static [Step],
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

const fn pause(milliseconds: u64) -> Step {
    Step::Pause { milliseconds }
}

pub(super) const TRACES: &[Trace] = &[
    Trace { name: "write, flush", steps: &[write(0, 1), Step::Flush] },
    Trace { name: "overwrite of what was flushed", steps: &[write(0, 2), Step::Flush, write(1, 2), Step::Flush] },
    Trace { name: "durable writes in a row", steps: &[durable(0, 1), durable(1, 1), durable(0, 1)] },
    Trace {
        name: "an aged record, then a durable write",
        steps: &[write(0, 1), pause(8), write(1, 1), durable(2, 1), write(3, 1)],
    },
    Trace {
        name: "checkpoint between writes",
        steps: &[write(0, 2), Step::Checkpoint, write(1, 1), Step::Checkpoint, write(0, 1), Step::Flush],
    },
    Trace {
        name: "three checkpoints give a slot back",
        steps: &[
            write(0, 8),
            Step::Checkpoint,
            write(0, 8),
            Step::Checkpoint,
            hole(0, 8),
            Step::Checkpoint,
            durable(2, 1),
        ],
    },
    Trace {
        name: "trim and zeroes over data",
        steps: &[write(0, 4), Step::Flush, hole(1, 2), zeros(2, 2), Step::Flush, part(4000, 200)],
    },
    Trace {
        name: "parts of blocks",
        steps: &[part(100, 50), Step::Flush, part(4090, 12), part(120, 10), Step::Checkpoint, part(0, 4096)],
    },
    Trace {
        name: "shrink and grow",
        steps: &[
            write(0, 8),
            Step::Resize { size: 3 * 4096 - 512 },
            Step::Resize { size: 8 * 4096 },
            write(7, 1),
            Step::Flush,
        ],
    },
    Trace { name: "an idle store attests", steps: &[durable(0, 1), pause(1500), write(1, 1), pause(1500)] },
];
