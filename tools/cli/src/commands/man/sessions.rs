//! What the commands of history print, in sessions on a store with the dot `shop` and its snapshots `monday` and `tuesday`.
//!
//! `tests/sessions.rs` plays each of them, with a server under load and without one, and compares.

const SESSIONS: [(&str, &str); 12] = [
    ("treering-fork", include_str!("../../../sessions/fork.txt")),
    ("treering-reset", include_str!("../../../sessions/reset.txt")),
    ("treering-snapshot-create", include_str!("../../../sessions/snapshot-create.txt")),
    ("treering-snapshot-ls", include_str!("../../../sessions/snapshot-ls.txt")),
    ("treering-snapshot-prune", include_str!("../../../sessions/snapshot-prune.txt")),
    ("treering-snapshot-rm", include_str!("../../../sessions/snapshot-rm.txt")),
    ("treering-snapshot-set", include_str!("../../../sessions/snapshot-set.txt")),
    ("treering-snapshot-show", include_str!("../../../sessions/snapshot-show.txt")),
    (
        "treering-store-check",
        concat!(
            include_str!("../../../sessions/store-check.txt"),
            include_str!("../../../sessions/store-check-repair.txt")
        ),
    ),
    ("treering-store-df", include_str!("../../../sessions/store-df.txt")),
    ("treering-store-grow", include_str!("../../../sessions/store-grow.txt")),
    ("treering-store-scrub", include_str!("../../../sessions/store-scrub.txt")),
];

/// By the name of its page.
pub fn of(page: &str) -> Option<&'static str> {
    SESSIONS.iter().find(|(name, _)| *name == page).map(|(_, text)| *text)
}
