//! What a run met: printed at the end, so that a check that has stopped checking is seen.

use treering_engine::{CleaningFigures, RecoveryReport};
use treering_format::record::{Descriptor, Encoding, Record};

use crate::content::BLOCK;
use crate::model::{Change, Piece};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one run, or of many.
        #[derive(Clone, Debug, Default)]
        pub struct Coverage { $($(#[$doc])* pub $name: u64),* }

        impl Coverage {
            pub fn add(&mut self, other: &Coverage) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    seeds, operations, reads_verified, blocks_verified, statuses_verified,
    writes, merges, holes, zeros, flushes, durable_writes, cancelled,
    dots_created, dots_removed, volumes_created, volumes_removed, resizes, no_space,
    /// Trims of which a full store left something undone, and stores that became larger.
    trims_undone, grown,
    snapshots, snapshot_sets, snapshots_deleted, protections, forks, resets,
    /// Reads of snapshots.
    frozen_reads_verified,
    /// Forks of what was a fork itself.
    forks_of_forks,
    /// Long reads that found their data read ahead.
    reads_ahead,
    /// Lives at whose end everything was deleted, and the store as empty as a new one.
    emptied,
    host_crashes, process_crashes, crashes_in_recovery, torn_shared_memory, clean_closes, read_only_opens,
    recoveries, replayed_records, republished, cut_tails, older_checkpoints, pieces_lost, pieces_doubtful,
    checkpoints, containers, containers_again, containers_split, reads_moved, folds, checks, online_checks,
    /// Online checks that gave way to writers.
    checks_ended,
    findings, fail_stops, refused_opens, damaged_blocks, faults,
    /// Records in sampled disk images, by what they hold.
    images, data_raw, data_lz4, hole_descriptors, zero_descriptors, create_dot, remove_dot, create_volume, remove_volume,
    resize_volume, configure_volume, snapshot, fork, delete_snapshots, configure_snapshot, reset,
    /// Order numbers that the harness did not expect: its picture of the engine is wrong somewhere.
    surprises,
    disk_events, virtual_seconds,
}

impl Coverage {
    pub fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Data { .. } => self.writes += 1,
            Piece::Merge { .. } => self.merges += 1,
            Piece::Blank { allocated: false, .. } => self.holes += 1,
            Piece::Blank { allocated: true, .. } => self.zeros += 1,
            Piece::Change(Change::CreateDot { .. }) => self.dots_created += 1,
            Piece::Change(Change::RemoveDot { .. }) => self.dots_removed += 1,
            Piece::Change(Change::CreateVolume { .. }) => self.volumes_created += 1,
            Piece::Change(Change::RemoveVolume { .. }) => self.volumes_removed += 1,
            Piece::Change(Change::Resize { .. }) => self.resizes += 1,
            Piece::Change(Change::Snapshot { dots, .. }) => {
                self.snapshots += 1;
                self.snapshot_sets += u64::from(dots.len() > 1);
            }
            Piece::Change(Change::DeleteSnapshots { .. }) => self.snapshots_deleted += 1,
            Piece::Change(Change::Protect { .. }) => self.protections += 1,
            Piece::Change(Change::Fork { .. }) => self.forks += 1,
            Piece::Change(Change::Reset { .. }) => self.resets += 1,
        }
    }

    pub fn recovery(&mut self, report: &RecoveryReport) {
        self.recoveries += u64::from(!report.clean);
        self.replayed_records += report.replayed_records;
        self.republished += report.republished;
        self.cut_tails += u64::from(report.cut.is_some());
        self.older_checkpoints += u64::from(report.older_checkpoint.is_some());
    }

    /// Counts what lies in the log of a disk image.
    pub fn image(&mut self, image: &[u8]) {
        self.images += 1;
        for start in (0..image.len()).step_by(BLOCK as usize) {
            let Ok(record) = Record::decode(&image[start..]) else { continue };
            for descriptor in &record.descriptors {
                let counter = match descriptor {
                    Descriptor::Data(data) if data.encoding == Encoding::Raw => &mut self.data_raw,
                    Descriptor::Data(_) => &mut self.data_lz4,
                    Descriptor::Hole { .. } => &mut self.hole_descriptors,
                    Descriptor::Zero { .. } => &mut self.zero_descriptors,
                    Descriptor::CreateDot { .. } => &mut self.create_dot,
                    Descriptor::RemoveDot { .. } => &mut self.remove_dot,
                    Descriptor::CreateVolume { .. } => &mut self.create_volume,
                    Descriptor::RemoveVolume { .. } => &mut self.remove_volume,
                    Descriptor::ResizeVolume { .. } => &mut self.resize_volume,
                    Descriptor::ConfigureVolume { .. } => &mut self.configure_volume,
                    Descriptor::Snapshot(_) => &mut self.snapshot,
                    Descriptor::Fork(_) => &mut self.fork,
                    Descriptor::DeleteSnapshots { .. } => &mut self.delete_snapshots,
                    Descriptor::ConfigureSnapshot(_) => &mut self.configure_snapshot,
                    Descriptor::Reset(_) => &mut self.reset,
                };
                *counter += 1;
            }
        }
    }

    pub fn cleaning(&mut self, figures: &CleaningFigures) {
        self.containers += figures.containers;
        self.containers_again += figures.containers_again;
        self.containers_split += figures.split;
        self.reads_moved += figures.reads;
    }

    /// What a long run should have met, and has not: a scenario that does not happen any more checks nothing.
    pub fn missing(&self) -> Vec<&'static str> {
        let met = [
            ("snapshots of several dots", self.snapshot_sets),
            ("deleted snapshots", self.snapshots_deleted),
            ("forks of forks", self.forks_of_forks),
            ("resets", self.resets),
            ("reads of snapshots", self.frozen_reads_verified),
            ("reads that were read ahead", self.reads_ahead),
            ("emptied stores", self.emptied),
            ("cleaned slots", self.containers),
            ("containers that were cleaned again", self.containers_again),
            ("segments that were cleaned in part", self.containers_split),
            ("reads of what was moved", self.reads_moved),
            ("checks under load", self.online_checks),
            ("stores without space", self.no_space),
            ("older checkpoints", self.older_checkpoints),
            ("operations published again", self.republished),
            ("fail-stops", self.fail_stops),
            ("shared memory torn by a crash", self.torn_shared_memory),
        ];
        met.into_iter().filter(|(_, times)| *times == 0).map(|(what, _)| what).collect()
    }

    pub fn print(&self) {
        let c = self;
        println!(
            "seeds {} · operations {} · disk events {} · virtual time {} s",
            c.seeds, c.operations, c.disk_events, c.virtual_seconds
        );
        println!(
            "published: data {} · merged {} · hole {} · zero {} · create dot {} · remove dot {} · create volume {} · remove volume {} · resize {}",
            c.writes,
            c.merges,
            c.holes,
            c.zeros,
            c.dots_created,
            c.dots_removed,
            c.volumes_created,
            c.volumes_removed,
            c.resizes
        );
        println!(
            "answered: flush {} · durable write {} · cancelled {} · refused for space {} · trims undone {} · grown {} · reads verified {} ({} blocks, {} statuses) · read ahead {}",
            c.flushes,
            c.durable_writes,
            c.cancelled,
            c.no_space,
            c.trims_undone,
            c.grown,
            c.reads_verified,
            c.blocks_verified,
            c.statuses_verified,
            c.reads_ahead
        );
        println!(
            "history: snapshot {} (of several dots {}) · delete {} · protect {} · fork {} (of a fork {}) · reset {} · reads of snapshots {} · emptied {}",
            c.snapshots,
            c.snapshot_sets,
            c.snapshots_deleted,
            c.protections,
            c.forks,
            c.forks_of_forks,
            c.resets,
            c.frozen_reads_verified,
            c.emptied
        );
        println!(
            "crashes: host {} · process {} · of these in recovery {} · within shared memory {} · clean closes {} · read-only opens {}",
            c.host_crashes,
            c.process_crashes,
            c.crashes_in_recovery,
            c.torn_shared_memory,
            c.clean_closes,
            c.read_only_opens
        );
        println!(
            "recoveries {} · records replayed {} · operations republished {} · cut tails {} · older checkpoint {} · published and lost {} of {} in doubt",
            c.recoveries,
            c.replayed_records,
            c.republished,
            c.cut_tails,
            c.older_checkpoints,
            c.pieces_lost,
            c.pieces_doubtful
        );
        println!(
            "checkpoints {} · containers filled {} (emptied again {}, with parts {}, reads of them {}) · folds {} · checks {} (under load {}, given up for space {}) · faults {} · fail-stops {} · opens refused for damage {} · blocks reported damaged {}",
            c.checkpoints,
            c.containers,
            c.containers_again,
            c.containers_split,
            c.reads_moved,
            c.folds,
            c.checks + c.online_checks,
            c.online_checks,
            c.checks_ended,
            c.faults,
            c.fail_stops,
            c.refused_opens,
            c.damaged_blocks
        );
        println!(
            "descriptors in {} disk images: data raw {} · data lz4 {} · hole {} · zero {} · create dot {} · remove dot {} · create volume {} · remove volume {} · resize volume {} · configure volume {} · snapshot {} · fork {} · delete snapshots {} · configure snapshot {} · reset {}",
            c.images,
            c.data_raw,
            c.data_lz4,
            c.hole_descriptors,
            c.zero_descriptors,
            c.create_dot,
            c.remove_dot,
            c.create_volume,
            c.remove_volume,
            c.resize_volume,
            c.configure_volume,
            c.snapshot,
            c.fork,
            c.delete_snapshots,
            c.configure_snapshot,
            c.reset
        );
        if c.surprises > 0 {
            println!("order numbers that the harness did not expect: {}", c.surprises);
        }
    }
}
