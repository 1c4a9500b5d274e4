//! Feature bits in three classes, and the names that let an old program say what it lacks.
//!
//! A bit is *incompatible* (who does not know it must not open the store), *compatible* (who does not know it may ignore it) or
//! *clear on write* (who does not know it may read, but must clear it before writing, because what it vouches for will then no
//! longer be kept up). Version 0.1 defines no bit; the names below are set aside.

use thiserror::Error;

use super::{STRUCTURE, text};
use crate::bytes::{Reader, Writer};
use crate::error::{DecodeError, require};

pub const CLASS_INCOMPATIBLE: u8 = 0;
pub const CLASS_COMPATIBLE: u8 = 1;
pub const CLASS_CLEAR_ON_WRITE: u8 = 2;

/// The bits that this program knows.
const KNOWN: Features = Features { incompatible: 1 << 0 | 1 << 1 | 1 << 3, compatible: 0, clear_on_write: 0 };

/// A bit and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub class: u8,
    pub bit: u8,
    pub name: &'static str,
}

/// Survivors of cleaned segments lie elsewhere.
pub const FORWARDS: Feature = Feature { class: CLASS_INCOMPATIBLE, bit: 0, name: "forwards" };
/// Snapshots, forks and removed volumes that are still being swept.
pub const VERSIONS: Feature = Feature { class: CLASS_INCOMPATIBLE, bit: 1, name: "versions" };
/// Slots of cleaned survivors.
pub const CONTAINERS: Feature = Feature { class: CLASS_INCOMPATIBLE, bit: 3, name: "containers" };

/// Bits given or promised, so that no two of them meet.
const GIVEN: [Feature; 4] =
    [FORWARDS, VERSIONS, Feature { class: CLASS_INCOMPATIBLE, bit: 2, name: "encryption" }, CONTAINERS];

const NAME_BYTES_MAX: usize = 22;
pub(super) const FEATURE_NAME_BYTES: usize = 2 + NAME_BYTES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    pub incompatible: u64,
    pub compatible: u64,
    pub clear_on_write: u64,
}

/// What a feature bit is called, kept in the store itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureName {
    pub class: u8,
    pub bit: u8,
    /// At most 22 bytes, none of them zero; the field is filled up with zeros.
    pub name: String,
}

/// The store needs what this program cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("open store: it needs features that this program does not know: {}", names.join(", "))]
pub struct UnknownFeatures {
    pub names: Vec<String>,
}

impl super::Superblock {
    /// Refuses a store that needs what this program does not know, naming it. Answers with the feature bits that the next
    /// superblock must carry: when writing, those of the third class that are unknown are cleared.
    pub fn check_features(&self, for_writing: bool) -> Result<Features, UnknownFeatures> {
        let unknown = self.features.incompatible & !KNOWN.incompatible;
        if unknown != 0 {
            let bits = (0..64).filter(|bit| unknown >> bit & 1 == 1);
            return Err(UnknownFeatures {
                names: bits.map(|bit| self.feature_name(CLASS_INCOMPATIBLE, bit)).collect(),
            });
        }
        let kept = if for_writing { KNOWN.clear_on_write } else { u64::MAX };
        Ok(Features { clear_on_write: self.features.clear_on_write & kept, ..self.features })
    }

    /// Whether a bit is set.
    pub fn has_feature(&self, feature: Feature) -> bool {
        let bits = match feature.class {
            CLASS_INCOMPATIBLE => self.features.incompatible,
            CLASS_COMPATIBLE => self.features.compatible,
            _ => self.features.clear_on_write,
        };
        bits >> feature.bit & 1 == 1
    }

    /// Sets a bit and names it, before the first byte that needs it is written.
    pub fn add_feature(&mut self, feature: Feature) {
        if self.has_feature(feature) {
            return;
        }
        let bits = match feature.class {
            CLASS_INCOMPATIBLE => &mut self.features.incompatible,
            CLASS_COMPATIBLE => &mut self.features.compatible,
            _ => &mut self.features.clear_on_write,
        };
        *bits |= 1 << feature.bit;
        let Feature { class, bit, name } = feature;
        self.feature_names.push(FeatureName { class, bit, name: name.to_owned() });
    }

    fn feature_name(&self, class: u8, bit: u8) -> String {
        let stored = self.feature_names.iter().find(|name| (name.class, name.bit) == (class, bit));
        let given = GIVEN.iter().find(|given| (given.class, given.bit) == (class, bit));
        match (stored, given) {
            (Some(stored), _) => stored.name.clone(),
            (None, Some(given)) => given.name.to_owned(),
            (None, None) => format!("incompatible feature bit {bit}"),
        }
    }
}

impl FeatureName {
    pub(super) fn encode(&self, w: &mut Writer) {
        assert!(self.name.len() <= NAME_BYTES_MAX, "encode superblock: feature name \"{}\" is too long", self.name);
        w.u8(self.class);
        w.u8(self.bit);
        w.bytes(self.name.as_bytes());
        w.zeros(NAME_BYTES_MAX - self.name.len());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let class = r.u8("feature_names.class")?;
        let bit = r.u8("feature_names.bit")?;
        require(bit < 64, STRUCTURE, "feature_names.bit", bit, "below 64")?;
        let name = r.slice("feature_names.name", NAME_BYTES_MAX)?;
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES_MAX);
        let name = text("feature_names.name", name, len as u8)?;
        Ok(Self { class, bit, name })
    }
}
