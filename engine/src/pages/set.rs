//! A set of pages: bits, for pages lie close together.

use std::collections::BTreeMap;

use treering_format::units::PageIndex;

#[derive(Clone, Debug, Default)]
pub(crate) struct PageSet {
    words: BTreeMap<u64, u64>,
}

impl PageSet {
    /// False if it was in the set already.
    pub(crate) fn insert(&mut self, page: PageIndex) -> bool {
        let word = self.words.entry(page.0 / 64).or_default();
        let mask = 1 << (page.0 % 64);
        let new = *word & mask == 0;
        *word |= mask;
        new
    }

    pub(crate) fn remove(&mut self, page: PageIndex) {
        if let Some(word) = self.words.get_mut(&(page.0 / 64)) {
            *word &= !(1 << (page.0 % 64));
        }
    }

    pub(crate) fn contains(&self, page: PageIndex) -> bool {
        self.words.get(&(page.0 / 64)).is_some_and(|word| word >> (page.0 % 64) & 1 == 1)
    }

    /// Takes all pages of another set.
    pub(crate) fn join(&mut self, other: &PageSet) {
        other.words.iter().for_each(|(index, word)| *self.words.entry(*index).or_default() |= word);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PageIndex> + '_ {
        let bits = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        self.words.iter().flat_map(move |(index, word)| bits(*word).map(move |bit| PageIndex(index * 64 + bit)))
    }

    pub(crate) fn len(&self) -> u64 {
        self.words.values().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many of its pages the other set lacks.
    pub(crate) fn missing_in(&self, other: &PageSet) -> u64 {
        let missing = |(index, word): (&u64, &u64)| (word & !other.words.get(index).unwrap_or(&0)).count_ones();
        self.words.iter().map(|entry| u64::from(missing(entry))).sum()
    }
}

impl FromIterator<PageIndex> for PageSet {
    fn from_iter<I: IntoIterator<Item = PageIndex>>(pages: I) -> PageSet {
        let mut set = PageSet::default();
        for page in pages {
            set.insert(page);
        }
        set
    }
}
