//! Which pages are free, used or waiting. No I/O: a state machine of bits.
//!
//! A page released in window k is needed by checkpoint k-1 until k is durable, and k-1 stays retained until k+1 is durable: so
//! it goes through *released* (this window), *sealed* (recorded as quarantined by a checkpoint being written), *quarantined*
//! (that checkpoint is durable) to free when the next one is durable. What a crash forgets of this is recorded well enough: the
//! recovered checkpoint knows its quarantine, and everything later never happened.

use std::collections::BTreeMap;

use treering_format::checkpoint::PageMap;
use treering_format::units::{PageIndex, SlotIndex};

pub(super) struct PageSpace {
    /// The page number of slot 0's first page.
    first_page: u64,
    slot_pages: u32,
    slots: BTreeMap<SlotIndex, SlotPages>,
    /// The slot that the last page came from: neighbours are written as one.
    current: SlotIndex,
    free: u64,
    used: u64,
    released: Vec<PageIndex>,
    sealed: Vec<PageIndex>,
    quarantined: Vec<PageIndex>,
    /// Free but for somebody who still looks at it. In a checkpoint it is free.
    kept_back: Vec<PageIndex>,
}

/// One bit for each page of a slot, 64 to a word.
struct SlotPages {
    /// Part of a tree, or of a checkpoint's blob.
    used: Vec<u64>,
    /// Used, or released and still waiting.
    busy: Vec<u64>,
    free: u32,
    /// No page of an earlier word is free.
    hint: usize,
}

impl PageSpace {
    pub(super) fn new(first_page: u64, slot_pages: u32) -> PageSpace {
        PageSpace {
            first_page,
            slot_pages,
            slots: BTreeMap::new(),
            current: SlotIndex(0),
            free: 0,
            used: 0,
            released: Vec::new(),
            sealed: Vec::new(),
            quarantined: Vec::new(),
            kept_back: Vec::new(),
        }
    }

    pub(super) fn load(&mut self, maps: Vec<PageMap>) {
        assert!(self.slots.is_empty(), "load of page maps into a space that is in use");
        for map in maps {
            let mut slot = SlotPages::empty(self.slot_pages);
            for index in 0..self.slot_pages {
                let bit = |bytes: &[u8]| bytes[index as usize / 8] >> (index % 8) & 1 == 1;
                if bit(&map.used) {
                    slot.take(index);
                } else if bit(&map.quarantined) {
                    slot.take(index);
                    slot.used[index as usize / 64] &= !mask(index);
                    self.quarantined.push(self.page(map.slot, index));
                }
            }
            self.free += u64::from(slot.free);
            self.used += slot.used.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            self.slots.insert(map.slot, slot);
        }
        self.used -= self.slots.len() as u64 * u64::from(self.padding());
    }

    pub(super) fn add_slot(&mut self, slot: SlotIndex) {
        let before = self.slots.insert(slot, SlotPages::empty(self.slot_pages));
        assert!(before.is_none(), "slot {slot} holds pages already");
        self.free += u64::from(self.slot_pages);
    }

    pub(super) fn available(&self) -> u64 {
        self.free
    }

    pub(super) fn used_pages(&self) -> u64 {
        self.used
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn released(&self) -> impl Iterator<Item = PageIndex> {
        self.released.iter().copied()
    }

    pub(super) fn used_page_list(&self) -> Vec<PageIndex> {
        let used = |(id, slot): (&SlotIndex, &SlotPages)| {
            let bits = (0..self.slot_pages).filter(|index| slot.used[*index as usize / 64] & mask(*index) != 0);
            bits.map(|index| self.page(*id, index)).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(used).collect()
    }

    fn is_used(&self, page: PageIndex) -> bool {
        let Some((slot, index)) = self.place(page) else { return false };
        self.slots.get(&slot).is_some_and(|slot| slot.used[index as usize / 64] & mask(index) != 0)
    }

    pub(super) fn allocate(&mut self) -> Option<PageIndex> {
        let here = self.slots.get(&self.current).is_some_and(|slot| slot.free > 0);
        if !here {
            self.current = self.emptiest().filter(|slot| self.slots[slot].free > 0)?;
        }
        let slot = self.slots.get_mut(&self.current).expect("chosen from the slots");
        let index = slot.first_free();
        slot.take(index);
        self.free -= 1;
        self.used += 1;
        Some(self.page(self.current, index))
    }

    pub(super) fn allocate_run(&mut self, pages: u64) -> Option<PageIndex> {
        let length = u32::try_from(pages).ok().filter(|length| *length > 0)?;
        let found = |(id, slot): (&SlotIndex, &SlotPages)| Some((*id, slot.free_run(self.slot_pages, length)?));
        let (id, first) = self.slots.iter().find_map(found)?;
        let slot = self.slots.get_mut(&id).expect("found among the slots");
        (first..first + length).for_each(|index| slot.take(index));
        self.free -= pages;
        self.used += pages;
        Some(self.page(id, first))
    }

    /// False, and nothing changes, if the page was not in use.
    #[must_use]
    pub(super) fn release(&mut self, page: PageIndex) -> bool {
        if !self.is_used(page) {
            return false;
        }
        let (slot, index) = self.place(page).expect("a used page has a place");
        self.slots.get_mut(&slot).expect("a used page has a slot").used[index as usize / 64] &= !mask(index);
        self.used -= 1;
        self.released.push(page);
        true
    }

    /// Makes a page count as used, wherever it was. False if it did, or if its slot holds no pages.
    pub(super) fn claim(&mut self, page: PageIndex) -> bool {
        let Some((id, index)) = self.place(page) else { return false };
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        let (word, mask) = (index as usize / 64, mask(index));
        if slot.used[word] & mask != 0 {
            return false;
        }
        if slot.busy[word] & mask == 0 {
            slot.take(index);
            self.free -= 1;
        } else {
            slot.used[word] |= mask;
            [&mut self.released, &mut self.sealed, &mut self.quarantined, &mut self.kept_back]
                .into_iter()
                .for_each(|waiting| waiting.retain(|other| *other != page));
        }
        self.used += 1;
        true
    }

    pub(super) fn seal_window(&mut self) -> Vec<PageMap> {
        self.sealed.append(&mut self.released);
        let bitmap_bytes = self.slot_pages.div_ceil(8) as usize;
        let mut quarantined: BTreeMap<SlotIndex, Vec<u8>> = BTreeMap::new();
        for page in &self.sealed {
            let (slot, index) = self.place(*page).expect("a released page has a place");
            let bits = quarantined.entry(slot).or_insert_with(|| vec![0; bitmap_bytes]);
            bits[index as usize / 8] |= 1 << (index % 8);
        }
        let map = |(slot, pages): (&SlotIndex, &SlotPages)| {
            let mut used: Vec<u8> = pages.used.iter().flat_map(|word| word.to_le_bytes()).collect();
            used.truncate(bitmap_bytes);
            if !self.slot_pages.is_multiple_of(8) {
                used[bitmap_bytes - 1] &= (1 << (self.slot_pages % 8)) - 1;
            }
            let quarantined = quarantined.remove(slot).unwrap_or_else(|| vec![0; bitmap_bytes]);
            PageMap { slot: *slot, used, quarantined }
        };
        self.slots.iter().map(map).collect()
    }

    pub(super) fn window_durable(&mut self, keep_back: bool) {
        self.kept_back.append(&mut self.quarantined);
        self.quarantined = std::mem::take(&mut self.sealed);
        if !keep_back {
            self.let_go();
        }
    }

    pub(super) fn let_go(&mut self) -> u64 {
        let pages = std::mem::take(&mut self.kept_back);
        let count = pages.len() as u64;
        for page in pages {
            let (slot, index) = self.place(page).expect("a quarantined page has a place");
            self.slots.get_mut(&slot).expect("a quarantined page has a slot").give_back(index);
            self.free += 1;
        }
        count
    }

    fn emptiest(&self) -> Option<SlotIndex> {
        self.slots.iter().max_by_key(|(_, slot)| slot.free).map(|(id, _)| *id)
    }

    fn page(&self, slot: SlotIndex, index: u32) -> PageIndex {
        PageIndex(self.first_page + slot.0 * u64::from(self.slot_pages) + u64::from(index))
    }

    fn place(&self, page: PageIndex) -> Option<(SlotIndex, u32)> {
        let offset = page.0.checked_sub(self.first_page)?;
        let slot_pages = u64::from(self.slot_pages);
        Some((SlotIndex(offset / slot_pages), (offset % slot_pages) as u32))
    }

    /// Bits of a slot's last word that stand for no page.
    fn padding(&self) -> u32 {
        self.slot_pages.next_multiple_of(64) - self.slot_pages
    }
}

impl SlotPages {
    /// All pages free; the bits past the last one are taken for ever.
    fn empty(pages: u32) -> SlotPages {
        let mut words = vec![0; pages.div_ceil(64) as usize];
        if let (Some(last), false) = (words.last_mut(), pages.is_multiple_of(64)) {
            *last = !(mask(pages) - 1);
        }
        SlotPages { used: words.clone(), busy: words, free: pages, hint: 0 }
    }

    fn take(&mut self, index: u32) {
        let word = index as usize / 64;
        assert!(self.busy[word] & mask(index) == 0, "page {index} of a slot is taken twice");
        self.used[word] |= mask(index);
        self.busy[word] |= mask(index);
        self.free -= 1;
    }

    fn give_back(&mut self, index: u32) {
        let word = index as usize / 64;
        assert!(self.used[word] & mask(index) == 0, "page {index} of a slot is given back while in use");
        self.busy[word] &= !mask(index);
        self.free += 1;
        self.hint = self.hint.min(word);
    }

    fn first_free(&mut self) -> u32 {
        while self.busy[self.hint] == u64::MAX {
            self.hint += 1;
        }
        self.hint as u32 * 64 + self.busy[self.hint].trailing_ones()
    }

    fn free_run(&self, pages: u32, length: u32) -> Option<u32> {
        if self.free < length {
            return None;
        }
        let mut run = 0;
        for index in self.hint as u32 * 64..pages {
            let busy = self.busy[index as usize / 64] & mask(index) != 0;
            run = if busy { 0 } else { run + 1 };
            if run == length {
                return Some(index + 1 - length);
            }
        }
        None
    }
}

fn mask(index: u32) -> u64 {
    1 << (index % 64)
}
