//! Versions: what volumes were at past cuts, and what belongs to whom.

#[allow(dead_code, reason = "the fold takes it up next")]
mod tree;
