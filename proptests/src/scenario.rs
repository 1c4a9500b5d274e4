//! What a seed decides before anything runs: the shape of the store, the limits, the clients, and what may go wrong.
//!
//! Everything is small, so that segments end, caches overflow, stores fill and checkpoints come within a few hundred
//! operations: an edge that a large store meets once a day is met here in every run.

use treering_engine::Limits;
use treering_io::sim::Faults;

use crate::content::BLOCK;
use crate::model::publish_blocks;
use crate::random::Random;

/// What may go wrong besides crashes. One kind per seed: each has its own idea of what is still owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Temper {
    /// Crashes only: nothing may ever fail.
    Sound,
    /// Reads fail or bring a wrong bit; the disk is sound.
    BadReads,
    /// Writes fail: the store stops acknowledging, and nothing acknowledged is lost.
    FailingWrites,
    /// Syncs fail; what they should have covered may be gone.
    FailingSyncs,
    /// Writes are acknowledged and get lost, land elsewhere or arrive wrong: what is read is right or an error.
    LyingWrites,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub temper: Temper,
    pub segment_blocks: u32,
    pub slots: u64,
    pub sparse: bool,
    pub clients: usize,
    pub lives: u32,
    /// Operations of all clients together, in one life.
    pub operations: u64,
    /// Volumes have at most so many blocks.
    pub volume_blocks: u64,
    /// Of a hundred operations, how many are flushes or durable writes. High: the log is always synced; low: never.
    pub flush_percent: u64,
    /// How many bring zeros.
    pub zero_percent: u64,
    pub admin_percent: u64,
    /// How many make snapshots, forks and resets, or read them. Zero: a store without history.
    pub history_percent: u64,
    /// How many make the store larger.
    pub grow_percent: u64,
    /// Small writes only, or large ones as well.
    pub long_writes: bool,
    /// Sweeps take many slices, with folds, checkpoints and crashes between them.
    pub sliced: bool,
}

impl Scenario {
    pub fn draw(random: &mut Random, operations: Option<u64>) -> Scenario {
        let temper = match random.below(100) {
            0..70 => Temper::Sound,
            70..78 => Temper::BadReads,
            78..86 => Temper::FailingWrites,
            86..92 => Temper::FailingSyncs,
            _ => Temper::LyingWrites,
        };
        Scenario::with(temper, random, operations)
    }

    pub fn with(temper: Temper, random: &mut Random, operations: Option<u64>) -> Scenario {
        let clients = if random.chance(50) { 1 } else { random.between(2, 6) as usize };
        let scenario = Scenario {
            temper,
            segment_blocks: *random.pick(&[64, 64, 96, 128, 256]),
            slots: random.scale(10, 64),
            sparse: random.chance(70),
            clients,
            lives: random.between(2, 4) as u32,
            operations: operations.unwrap_or_else(|| random.scale(10, 1_500)),
            volume_blocks: random.scale(8, 200),
            flush_percent: *random.pick(&[1, 5, 15, 40]),
            zero_percent: *random.pick(&[2, 10, 30]),
            admin_percent: *random.pick(&[0, 3, 15]),
            history_percent: *random.pick(&[0, 3, 10, 25]),
            long_writes: random.chance(50),
            sliced: false,
            grow_percent: 0,
        };
        let scenario = Scenario { grow_percent: if random.chance(15) { 2 } else { 0 }, ..scenario };
        match random.below(100) {
            0..15 => scenario.churning(random),
            15..18 => scenario.sliced(),
            18..28 => scenario.ageing(random),
            _ => scenario,
        }
    }

    /// A little data, written over and over in long writes: segments die whole and slots are used again and again.
    fn churning(self, random: &mut Random) -> Scenario {
        Scenario {
            segment_blocks: 64,
            slots: random.between(10, 20),
            clients: random.between(2, 5) as usize,
            volume_blocks: random.between(8, 24),
            flush_percent: *random.pick(&[1, 5]),
            zero_percent: 2,
            admin_percent: *random.pick(&[0, 1]),
            long_writes: true,
            ..self
        }
    }

    /// Much history over few volumes, on a store that it does not fill.
    pub fn historic(self) -> Scenario {
        Scenario {
            slots: self.slots.max(24),
            operations: self.operations.max(200),
            volume_blocks: self.volume_blocks.clamp(8, 96),
            admin_percent: 3,
            history_percent: 20,
            ..self
        }
    }

    /// Maps of many leaves, one to a slice, and a rest after each: wide volumes, mostly in pieces of a block or two.
    fn sliced(self) -> Scenario {
        Scenario {
            segment_blocks: 128,
            slots: 96,
            operations: self.operations.clamp(600, 1_200),
            volume_blocks: 800,
            flush_percent: 5,
            zero_percent: 2,
            long_writes: false,
            admin_percent: 1,
            history_percent: 8,
            sliced: true,
            ..self
        }
    }

    /// Much data, written over in small pieces here and there: no segment dies whole, and the cleaner has to work.
    pub fn ageing(self, random: &mut Random) -> Scenario {
        Scenario {
            segment_blocks: 64,
            slots: random.between(20, 40),
            volume_blocks: random.between(100, 300),
            operations: self.operations.max(600),
            flush_percent: *random.pick(&[1, 5]),
            zero_percent: 2,
            admin_percent: *random.pick(&[0, 1]),
            long_writes: random.chance(30),
            ..self
        }
    }

    /// Limits of one life: a restart may come with others.
    pub fn limits(&self, random: &mut Random) -> Limits {
        let record_blocks = random.scale(1, 32);
        let fold_most = if self.sliced { 64 } else { 1024 };
        let least_arena = 2 * publish_blocks(self.segment_blocks);
        Limits {
            arena_bytes: random.scale(least_arena, 512) * BLOCK,
            arena_entries: random.scale(16, 1024),
            overlay_bytes: random.scale(32, 1024) * 192,
            node_cache_bytes: random.scale(16, 512) * BLOCK,
            dirty_node_bytes: random.scale(16, 512) * BLOCK,
            data_cache_bytes: random.scale(8, 512) * BLOCK,
            stream_blocks: random.scale(1, 32),
            read_ahead_window_bytes: random.scale(8, 256) * BLOCK,
            read_ahead_bytes: random.scale(8, 512) * BLOCK,
            checkpoint_log_bytes: random.scale(32, 4096) * BLOCK,
            fold_log_bytes: random.scale(8, fold_most) * BLOCK,
            fold_cuts: random.scale(1, 32),
            release_age_ns: random.scale(1_000_000, 5_000_000_000),
            sweep_leaves: if self.sliced { 1 } else { random.scale(1, 8) as usize },
            sweep_rest: if self.sliced { random.scale(10, 100_000) } else { random.below(100) } as u32,
            hidden_waste_bytes: random.scale(1, 256) * BLOCK,
            record_bytes: record_blocks * BLOCK,
            record_age_ns: random.scale(1_000_000, 1_000_000_000),
            unsynced_bytes: random.scale(16, 1024) * BLOCK,
            zeroed_slots: random.below(4) as usize,
            zeroed_slots_at_rest: random.below(8) as usize,
            clean_busy_percent: *random.pick(&[0, 10, 50, 90]),
            clean_idle_percent: *random.pick(&[0, 50, 100]),
        }
    }

    /// Faults while clients work.
    pub fn faults(&self, random: &mut Random) -> Faults {
        let mut faults = Faults {
            latency_ns: *random.pick(&[(10_000, 500_000), (1_000, 2_000), (1_000, 20_000_000)]),
            short_transfer: if random.chance(20) { 0.05 } else { 0.0 },
            ..Faults::default()
        };
        let rate = *random.pick(&[0.001, 0.01, 0.05]);
        match self.temper {
            Temper::Sound => {}
            Temper::BadReads if random.chance(50) => faults.read_error = rate,
            Temper::BadReads => faults.bit_flip_on_read = rate,
            Temper::FailingWrites => faults.write_error = rate,
            Temper::FailingSyncs => faults.sync_error = rate,
            Temper::LyingWrites => match random.below(4) {
                0 => faults.lost_write = rate,
                1 => faults.misdirected_write = rate,
                2 => faults.torn_write = rate,
                _ => faults.bit_flip_on_write = rate,
            },
        }
        faults
    }
}
