//! Deliberately broken variants of the engine. Each breaks one rule that the checks must notice; the simulator runs them and
//! fails if it finds nothing. Without the feature `canary` every question here is answered no at compile time.

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A flush is answered without a sync (O1).
    FlushWithoutSync,
    /// Replay goes on past a record that does not continue the chain (O2).
    ReplayIgnoresChain,
    /// Replay takes a record whose payload is torn (O3).
    TornRecordAccepted,
    /// A freed slot is used again before any checkpoint (O4).
    SlotReusedAtOnce,
    /// Reads do not verify checksums (O9).
    ChecksumIgnored,
    /// What a dead server left in shared memory is not published again (O12).
    ArenaNotReplayed,
    /// A lone durable write answers a flush although earlier records were only written.
    DurableWriteTrustsEarlier,
    /// A rewrite goes into the payload of a record that was sealed already.
    AbsorbAcrossRecords,
    /// A record goes where zeros are still under way.
    ZerosOverRecords,
    /// What a merge displaces stays live.
    OverlayLeak,
    /// The checkpoint shows records that were never synced.
    FoldAheadOfDurability,
    /// Liveness of what is replayed is taken as known.
    ReplayDoesNotSetBits,
    /// A sweep frees what the version's parent shows.
    IgnoreParent,
    /// A sweep frees what the version's child shows.
    IgnoreChild,
    /// A version that several go on from is swept at once.
    NoHiding,
    /// A child counts as its grandparent's as soon as the sweep of its parent is asked for.
    EarlyReparent,
    /// A freed slot is used again after one checkpoint, while the older one still needs it.
    SlotReusedAfterOne,
    /// A head frees what it displaces although a version shows it.
    FreeShared,
    /// Cuts are applied when everything of the round is merged.
    CutsAfterMerges,
    /// A snapshot shows what was published until its cut was durable.
    CutWhenWritten,
    /// Pages and slots are given out while somebody looks at the store as it was.
    PinForgotten,
    /// A repair takes for a version what was written after its cut.
    RepairIgnoresCut,
    /// A repair makes a version's pages as young as a head's.
    RepairBornLate,
    /// A repair without a checkpoint takes the oldest catalog for the newest.
    CatalogOfAnyTime,
    /// A repair without a checkpoint believes that a slot still holds what its header says.
    HeadersBelieved,
    /// A repair leaves in the maps what no slot holds.
    LostStaysInMaps,
    /// The dots of one snapshot are cut one after another.
    CutPerVolume,
    /// A container is freed when one of its pieces is dead.
    ContainerForgetsOwn,
    /// A segment is moved although it holds records that the fold has not reached.
    CleanerAheadOfFold,
    /// A segment is freed although it holds records that the fold has not reached.
    SegmentFreedAheadOfFold,
    /// What was moved is looked for in a container that is not written yet.
    InstallBeforeWritten,
    /// What lives in a container is what was copied, less what dies from then on, whatever the bits say.
    CountsKeptAsDeltas,
    /// A head takes the pages of the swept version for its own as soon as the cursor has moved.
    PageFreedWithSlice,
    /// Checkpoints forget how far a sweep came.
    CursorForgotten,
    /// A sweep compares with the child as it was when the sweep began.
    SweptChild,
    /// A merge judges a compressed extent by the piece that it displaced, not by where the extent starts.
    KeyInsteadOfStart,
    /// A thinned version does not say that some of what it shows is gone.
    ThinnedNotFlagged,
    /// What a checkpoint writes of the catalog is not kept free for it.
    ReserveForgetsCatalog,
    /// Writes use up what is kept for deleting.
    WritesTakeDeleteReserve,
    /// A writer that was held is never told that space has come back.
    HeldForGood,
}

#[cfg(feature = "canary")]
mod on {
    use std::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<super::Canary>> = Cell::new(by_environment());
    }

    /// A whole server is broken from outside, by the rule's name: real clients must reject it as the simulator does.
    fn by_environment() -> Option<super::Canary> {
        let broken = [super::Canary::FlushWithoutSync, super::Canary::CutPerVolume];
        let wanted = std::env::var_os("TREERING_CANARY")?;
        Some(*broken.iter().find(|canary| wanted == *format!("{canary:?}")).expect("TREERING_CANARY names a rule"))
    }

    /// Breaks one rule for every store opened by this thread, until it is set again.
    pub fn set(canary: Option<super::Canary>) {
        BROKEN.set(canary);
    }

    pub(crate) fn is(canary: super::Canary) -> bool {
        BROKEN.get() == Some(canary)
    }
}

#[cfg(feature = "canary")]
pub(crate) use on::is;
#[cfg(feature = "canary")]
pub use on::set;

#[cfg(not(feature = "canary"))]
pub(crate) const fn is(_: Canary) -> bool {
    false
}
