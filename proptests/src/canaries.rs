//! Canaries: engines that break one rule each. The same checks that pass the real engine must reject every one of them, or
//! they check nothing.

use treering_engine::canary::{self, Canary};

use crate::life::How;
use crate::scenario::Temper;
use crate::{exhaustive, full, held, repairs, run, slices};

/// Seeds tried before a canary counts as unnoticed.
const SEEDS_MAX: u64 = 4_000;

struct Bird {
    name: &'static str,
    broken: Option<Canary>,
    /// The obligation it breaks.
    rule: &'static str,
    how: How,
    /// What may notice it in one seed.
    by: fn(u64, &How) -> Result<(), String>,
}

/// Runs every canary whose name contains a word; gives how many were not rejected.
pub fn all(only: &str) -> u64 {
    run::catch_panics();
    let mut birds = birds();
    birds.retain(|bird| bird.name().contains(only));
    let count = birds.len() as u64;
    let silent = birds.into_iter().filter(|bird| !rejected(bird)).count() as u64;
    println!("{} passed, {silent} failed, 0 skipped", count - silent);
    silent
}

impl Bird {
    fn name(&self) -> String {
        self.broken.map_or(self.name.to_owned(), |canary| format!("{canary:?}"))
    }
}

fn birds() -> Vec<Bird> {
    let sound = How { temper: Some(Temper::Sound), ..How::default() };
    let bird = |broken, rule, how: &How| Bird {
        name: "",
        broken: Some(broken),
        rule,
        how: how.clone(),
        by: |seed, how| run::seed(seed, how).0,
    };
    let full = |broken, rule| {
        let by = |seed, _: &How| run::guarded(|| full::one(seed))?;
        Bird { by, ..bird(broken, rule, &How::default()) }
    };
    let held = |broken, rule| {
        let by = |seed, _: &How| run::guarded(|| held::one(seed))?;
        Bird { by, ..bird(broken, rule, &How::default()) }
    };
    let history = How { history: true, ..sound.clone() };
    let ageing = How { ageing: true, ..sound.clone() };
    let large = |broken, rule| Bird { by: |seed, _| slices::seed(seed), ..bird(broken, rule, &sound) };
    let traced = |broken, rule| Bird { by: |seed, _| exhaustive::cleaning(seed - 1), ..bird(broken, rule, &sound) };
    let repaired = |broken, rule| Bird { by: |seed, _| repairs::seed(seed), ..bird(broken, rule, &sound) };
    let lying = How { temper: Some(Temper::LyingWrites), ..How::default() };
    vec![
        bird(Canary::FlushWithoutSync, "O1: a replied flush survives", &sound),
        bird(Canary::ReplayIgnoresChain, "O2: what is recovered is a prefix", &sound),
        bird(Canary::TornRecordAccepted, "O3: a torn write never counts", &sound),
        bird(Canary::SlotReusedAtOnce, "O4: no slot is reused while a checkpoint needs it", &sound),
        bird(Canary::ChecksumIgnored, "O9: damage is never returned as data", &lying),
        bird(Canary::ArenaNotReplayed, "O12: a process that dies loses nothing acknowledged", &sound),
        bird(Canary::DurableWriteTrustsEarlier, "a lone durable write makes only itself durable", &sound),
        bird(Canary::AbsorbAcrossRecords, "absorption stays inside one unsealed record", &sound),
        bird(Canary::ZerosOverRecords, "a record waits for the zeros that were written ahead of it", &sound),
        bird(Canary::OverlayLeak, "what is displaced is released", &sound),
        bird(Canary::FoldAheadOfDurability, "the fold consumes only what is written", &sound),
        bird(Canary::ReplayDoesNotSetBits, "replay sets liveness bits above F", &sound),
        bird(Canary::FreeShared, "what a version shows is not freed", &history),
        bird(Canary::IgnoreParent, "a sweep frees nothing that the parent shows", &history),
        bird(Canary::IgnoreChild, "a sweep frees nothing that the child shows", &history),
        bird(Canary::NoHiding, "a branching point stays while several go on from it", &history),
        bird(Canary::EarlyReparent, "ahead of the cursor a child is not its grandparent's", &history),
        bird(Canary::SlotReusedAfterOne, "O4: a slot waits until two checkpoints need it no more", &history),
        bird(Canary::CutsAfterMerges, "a cut stands where it was published", &history),
        bird(Canary::CutWhenWritten, "a snapshot shows what was published before it", &history),
        bird(Canary::PinForgotten, "what a check looks at is not given out", &history),
        bird(Canary::CutPerVolume, "all volumes of a snapshot are of one instant", &history),
        bird(
            Canary::SlotReusedAtOnce,
            "O4, while slots are cleaned: none is reused while a checkpoint needs it",
            &ageing,
        ),
        bird(Canary::SlotReusedAfterOne, "O4, while slots are cleaned: two checkpoints need it no more", &ageing),
        bird(Canary::ContainerForgetsOwn, "a container lives as long as one of its pieces", &ageing),
        bird(Canary::CleanerAheadOfFold, "only what the fold has passed is moved", &ageing),
        bird(Canary::SegmentFreedAheadOfFold, "only what the fold has passed is freed", &ageing),
        bird(Canary::InstallBeforeWritten, "what is moved is written before it is looked for", &ageing),
        bird(Canary::CountsKeptAsDeltas, "counts are taken from the bits", &ageing),
        traced(Canary::SlotReusedAtOnce, "O4, traced: no slot is reused while a checkpoint needs it"),
        traced(Canary::SlotReusedAfterOne, "O4, traced: two checkpoints need it no more"),
        traced(Canary::ContainerForgetsOwn, "traced: a container lives as long as one of its pieces"),
        large(Canary::PageFreedWithSlice, "pages are the swept version's until its sweep ends"),
        large(Canary::CursorForgotten, "a checkpoint has bits and cursor of one moment"),
        large(Canary::SweptChild, "a sweep asks the child as it is now"),
        large(Canary::KeyInsteadOfStart, "a compressed extent is judged by its start"),
        bird(Canary::ThinnedNotFlagged, "a thinned version says that it is", &history),
        repaired(Canary::RepairIgnoresCut, "a repaired version shows nothing newer than its cut"),
        repaired(Canary::RepairBornLate, "a version's pages are not younger than its cut"),
        repaired(Canary::CatalogOfAnyTime, "without a checkpoint the newest catalog counts, and the log above it"),
        repaired(
            Canary::HeadersBelieved,
            "without a checkpoint the bytes tell whether a slot holds what its header says",
        ),
        repaired(Canary::LostStaysInMaps, "what is lost can be written over after a repair"),
        Bird {
            name: "LyingSync",
            broken: None,
            rule: "the simulated disk itself",
            how: How { lying_sync: true, ..sound.clone() },
            by: |seed, how| run::seed(seed, how).0,
        },
        full(Canary::ReserveForgetsCatalog, "O8: what was accepted finds its pages"),
        full(Canary::WritesTakeDeleteReserve, "deleting works on a full store"),
        held(Canary::HeldForGood, "who is held goes on when space has come back"),
    ]
}

fn rejected(bird: &Bird) -> bool {
    let name = bird.name();
    canary::set(bird.broken);
    let found = (1..=SEEDS_MAX).find_map(|seed| (bird.by)(seed, &bird.how).err().map(|why| (seed, why)));
    canary::set(None);
    match found {
        Some((seed, why)) => {
            let first = why.lines().take(2).map(str::trim).collect::<Vec<_>>().join(" ");
            println!("{name} ({}): rejected by seed {seed}: {}", bird.rule, shortened(&first));
            true
        }
        None => {
            println!("{name} ({}): NOT NOTICED in {SEEDS_MAX} seeds", bird.rule);
            false
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(220) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
