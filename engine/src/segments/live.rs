//! Which blocks of one segment the maps show: a bitmap in memory, a bitmap or a short list on disk.

/// First byte of a stored value.
const LIST: u8 = 1;
const BITMAP: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveBits {
    words: Vec<u64>,
    blocks: u32,
}

impl LiveBits {
    pub(crate) fn empty(blocks: u32) -> LiveBits {
        LiveBits { words: vec![0; blocks.div_ceil(64) as usize], blocks }
    }

    /// Sets one bit and returns what it was.
    pub(crate) fn put(&mut self, block: u32, live: bool) -> bool {
        assert!(block < self.blocks, "block {block} of a segment of {}", self.blocks);
        let word = &mut self.words[block as usize / 64];
        let mask = 1u64 << (block % 64);
        let was = *word & mask != 0;
        *word = if live { *word | mask } else { *word & !mask };
        was
    }

    /// How many bits below this block are set.
    pub(crate) fn rank(&self, block: u32) -> u32 {
        let (word, bit) = (block as usize / 64, block % 64);
        let whole: u32 = self.words[..word].iter().map(|w| w.count_ones()).sum();
        whole + self.words.get(word).map_or(0, |w| (w & ((1u64 << bit) - 1)).count_ones())
    }

    pub(crate) fn and(&self, other: &LiveBits) -> LiveBits {
        self.with(other, |a, b| a & b)
    }

    pub(crate) fn or(&self, other: &LiveBits) -> LiveBits {
        self.with(other, |a, b| a | b)
    }

    /// What is set here and not there.
    pub(crate) fn minus(&self, other: &LiveBits) -> LiveBits {
        self.with(other, |a, b| a & !b)
    }

    fn with(&self, other: &LiveBits, word: impl Fn(u64, u64) -> u64) -> LiveBits {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| word(*a, *b)).collect();
        LiveBits { words, blocks: self.blocks }
    }

    /// False past the segment's end.
    pub(crate) fn get(&self, block: u32) -> bool {
        block < self.blocks && self.words[block as usize / 64] >> (block % 64) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// The blocks that are set, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u32> + '_ {
        let without_lowest = |left: &u64| Some(left & (left - 1)).filter(|left| *left != 0);
        self.words.iter().zip((0u32..).step_by(64)).flat_map(move |(word, first)| {
            let left = std::iter::successors(Some(*word).filter(|word| *word != 0), without_lowest);
            left.map(move |left| first + left.trailing_zeros())
        })
    }

    /// A list of block numbers where that is shorter than the bitmap.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = self.count() as usize;
        let mut bytes = Vec::with_capacity(1 + (2 * count).min(self.words.len() * 8));
        if 2 * count < self.words.len() * 8 {
            bytes.push(LIST);
            for block in self.blocks() {
                bytes.extend_from_slice(&(block as u16).to_le_bytes());
            }
        } else {
            bytes.push(BITMAP);
            for word in &self.words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], blocks: u32) -> Result<LiveBits, String> {
        let mut bits = LiveBits::empty(blocks);
        match bytes.split_first() {
            Some((&LIST, list)) if list.len() % 2 == 0 => {
                for pair in list.chunks_exact(2) {
                    let block = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
                    if block >= blocks || bits.put(block, true) {
                        return Err(format!("block {block} is listed twice or lies past {blocks}"));
                    }
                }
            }
            Some((&BITMAP, map)) if map.len() == bits.words.len() * 8 => {
                for (word, eight) in bits.words.iter_mut().zip(map.chunks_exact(8)) {
                    *word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
                }
                if !blocks.is_multiple_of(64) && bits.words.last().is_some_and(|w| w >> (blocks % 64) != 0) {
                    return Err(format!("bits are set past block {blocks}"));
                }
            }
            _ => return Err(format!("{} bytes are neither a list nor a bitmap of {blocks} blocks", bytes.len())),
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn live_bits_come_back_from_their_stored_form(set in proptest::collection::btree_set(0u32..8192, 0..2000)) {
            let mut bits = LiveBits::empty(8192);
            for block in &set {
                prop_assert!(!bits.put(*block, true));
            }
            let back = LiveBits::decode(&bits.encode(), 8192).expect("own encoding");
            prop_assert_eq!(&back, &bits);
            prop_assert_eq!(back.blocks().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
            prop_assert!(bits.encode().len() <= 1025);
        }

        #[test]
        fn damaged_live_bits_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = LiveBits::decode(&bytes, 8192);
        }
    }
}
