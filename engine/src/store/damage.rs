//! Damage of the log in words: which record, and which ranges of which volumes are known to be lost with it.

use treering_format::units::LineId;

use super::load::Loaded;
use crate::disk::BLOCK;
use crate::log::replay::LogDamage;

/// Acknowledged data that the log lost, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first record that is missing or bad, where it should be, and the newest that was known durable.
    pub record: String,
    /// Ranges of volumes that records behind the damage had written; there may have been more.
    pub ranges: Vec<String>,
}

impl Damage {
    pub(super) fn new(damage: &LogDamage, loaded: &Loaded) -> Damage {
        let record = format!(
            "record {} at {} is bad ({}), though record {} and all before it were known durable",
            damage.sequence, damage.address, damage.why, damage.attested
        );
        let name = |line| {
            let (_, volume) = loaded.entries.volumes.iter().find(|(_, v)| v.line == line)?;
            let (_, dot) = loaded.entries.dots.iter().find(|(id, _)| *id == volume.dot)?;
            Some(format!("{}.{}", dot.name, volume.name))
        };
        let range = |(line, from, count): &(LineId, u64, u64)| {
            let whose = name(*line).unwrap_or_else(|| format!("a volume on line {line}"));
            format!("{whose}: bytes {} to {}", from * BLOCK, (from + count) * BLOCK - 1)
        };
        Damage { record, ranges: damage.lost.iter().map(range).collect() }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.record)?;
        for range in &self.ranges {
            write!(f, "\n  {range}")?;
        }
        Ok(())
    }
}
