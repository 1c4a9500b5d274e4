//! The harness's random numbers: one stream per seed, apart from the simulated host's, so that a draw more in one of the two
//! does not change the other. Repeatable; not for secrets.

/// splitmix64: small, and good enough to choose with.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    /// Words that come before the stream's own, the next one last.
    given: Vec<u64>,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0x5452_4545_5249_4e47, given: Vec::new() }
    }

    /// A stream that begins with the words in `bytes`: whoever chooses them (a fuzzer) chooses what is drawn.
    pub fn given(bytes: &[u8]) -> Random {
        let words = bytes.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        Random { given: words.rev().collect(), ..Random::new(0) }
    }

    /// A stream of its own for part of a run.
    pub fn fork(&mut self) -> Random {
        Random { state: self.word(), given: Vec::new() }
    }

    pub fn word(&mut self) -> u64 {
        if let Some(word) = self.given.pop() {
            return word;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound` (which is not zero).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number in `low..=high`, each order of magnitude as likely as the next.
    pub fn scale(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2() + 1;
        let top = (low.max(1) << self.below(u64::from(doublings) + 1).min(62)).min(high);
        self.between(low, top.max(low))
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
