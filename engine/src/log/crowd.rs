//! Who flushes, and for whom a sync waits.
//!
//! A sync serves everybody who waits when it begins. Clients that flush each write come back soon after they were served, all at about
//! the same time, and the next sync serves all of them again. But two halves that are out of step stay so: each comes while the other's
//! sync is under way, and a sync that serves half of them takes as long as one that serves all. So where somebody waits who did not ride in
//! the last sync, the next one waits for those who did, and from then on they are one crowd.
//!
//! It waits no longer than the last sync took. Where that was in vain the next sync waits for nobody, after the second time three, and
//! so on: clients that have something else to do between two flushes cost others next to nothing.

use std::cell::Cell;

use treering_format::units::OrderNumber;

/// The shortest and the longest wait, in nanoseconds: an answer is answered in the one, and the other is little beside a slow sync.
const SHORTEST_NS: u64 = 100_000;
const LONGEST_NS: u64 = 1_000_000;

/// Syncs that wait for nobody after waits in vain, at the most.
const MOST_SKIPPED: u32 = 1023;

/// A client, as one who flushes: the sync that it waited for last.
#[derive(Default)]
pub(crate) struct Flusher(Cell<u64>);

/// Of one log.
pub(super) struct Crowd {
    /// The sync that began last, what it makes durable, and how many clients wait or waited for it.
    last: u64,
    reaches: OrderNumber,
    rode: u64,
    /// How long a sync takes, in nanoseconds.
    takes_ns: u64,
    /// Clients that wait for the next one, and how many of them rode in the last one.
    waiting: u64,
    back: u64,
    /// Syncs that are to wait for nobody, and how many they were after the last wait.
    to_skip: u32,
    skipped: u32,
}

impl Default for Crowd {
    fn default() -> Crowd {
        // No client has ridden in the first.
        let (reaches, last) = (OrderNumber(0), 1);
        Crowd { last, reaches, rode: 0, takes_ns: 0, waiting: 0, back: 0, to_skip: 0, skipped: 0 }
    }
}

impl Crowd {
    /// A client waits until `order` is durable, which it is not yet.
    pub(super) fn comes(&mut self, flusher: &Flusher, order: OrderNumber) {
        let rides = if order <= self.reaches { self.last } else { self.last + 1 };
        let rode = flusher.0.get();
        if rode >= rides {
            return;
        }
        flusher.0.set(rides);
        if rides == self.last {
            self.rode += 1;
        } else {
            self.waiting += 1;
            self.back += u64::from(rode == self.last);
        }
    }

    /// Nobody is missing who may come soon, or nobody waits who would be out of step.
    pub(super) fn is_together(&self) -> bool {
        self.waiting == self.back || self.back >= self.rode
    }

    /// For how many nanoseconds the next sync is to wait for those who are missing.
    pub(super) fn patience(&mut self) -> Option<u64> {
        if self.is_together() {
            return None;
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        Some(self.takes_ns.clamp(SHORTEST_NS, LONGEST_NS))
    }

    /// The wait has ended.
    pub(super) fn waited(&mut self) {
        self.skipped = if self.is_together() { 0 } else { (2 * self.skipped + 1).min(MOST_SKIPPED) };
        self.to_skip = self.skipped;
    }

    /// The next sync begins, and makes everything up to `order` durable.
    pub(super) fn departs(&mut self, order: OrderNumber) {
        self.last += 1;
        self.reaches = order;
        self.rode = std::mem::take(&mut self.waiting);
        self.back = 0;
    }

    /// It has ended.
    pub(super) fn arrives(&mut self, took_ns: u64) {
        self.takes_ns = took_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients that publish one operation and wait for it.
    struct Clients {
        crowd: Crowd,
        flushers: Vec<Flusher>,
        order: u64,
    }

    impl Clients {
        fn new(count: usize) -> Clients {
            let flushers = (0..count).map(|_| Flusher::default()).collect();
            Clients { crowd: Crowd::default(), flushers, order: 0 }
        }

        fn come(&mut self, who: impl IntoIterator<Item = usize>) {
            for client in who {
                self.order += 1;
                self.crowd.comes(&self.flushers[client], OrderNumber(self.order));
            }
        }

        fn sync(&mut self) {
            self.crowd.departs(OrderNumber(self.order));
        }
    }

    #[test]
    fn two_halves_out_of_step_become_one_and_stay_so() {
        let mut clients = Clients::new(8);
        clients.come(0..4);
        clients.sync();
        clients.come(4..8);
        clients.crowd.arrives(300_000);
        assert_eq!(clients.crowd.patience(), Some(300_000), "the first half comes back soon");
        clients.come(0..3);
        assert!(!clients.crowd.is_together());
        clients.come(3..4);
        assert!(clients.crowd.is_together());
        clients.crowd.waited();
        for _ in 0..3 {
            clients.sync();
            clients.come(0..1);
            assert_eq!(clients.crowd.patience(), None, "in step, whoever is first goes at once");
            clients.come(1..8);
            assert_eq!(clients.crowd.patience(), None);
        }
    }

    #[test]
    fn one_client_waits_for_nobody_however_many_flushes_it_has_under_way() {
        let mut clients = Clients::new(1);
        for _ in 0..5 {
            clients.come([0, 0, 0]);
            assert_eq!(clients.crowd.patience(), None);
            clients.sync();
        }
    }

    #[test]
    fn a_client_counts_once_whatever_it_asks_for() {
        let mut clients = Clients::new(2);
        clients.come([0]);
        clients.sync();
        let published = OrderNumber(clients.order);
        clients.come([1]);
        clients.crowd.comes(&clients.flushers[1], published);
        clients.come([1]);
        assert_eq!((clients.crowd.waiting, clients.crowd.back), (1, 0));
    }

    #[test]
    fn who_asks_for_what_is_on_its_way_already_rides_in_that_sync() {
        let mut clients = Clients::new(3);
        clients.come(0..2);
        clients.sync();
        // Its operation was published before the sync began.
        let published = OrderNumber(clients.order);
        clients.crowd.comes(&clients.flushers[2], published);
        clients.come(0..2);
        assert_eq!(clients.crowd.patience(), None);
        clients.sync();
        clients.come([2]);
        assert!(clients.crowd.patience().is_some(), "the other two rode in the last one");
    }

    #[test]
    fn clients_that_do_not_come_back_soon_are_waited_for_ever_more_seldom() {
        let mut clients = Clients::new(2);
        let mut waits = 0;
        for sync in 0..10_000 {
            clients.come([sync % 2]);
            if clients.crowd.patience().is_some() {
                waits += 1;
                clients.crowd.waited();
            }
            clients.sync();
        }
        assert!((10..=20).contains(&waits), "{waits} waits");
    }

    #[test]
    fn a_wait_is_as_long_as_a_sync_within_bounds() {
        for (took, wait) in [(5_000, SHORTEST_NS), (400_000, 400_000), (20_000_000, LONGEST_NS)] {
            let mut clients = Clients::new(2);
            clients.come([0]);
            clients.sync();
            clients.crowd.arrives(took);
            clients.come([1]);
            assert_eq!(clients.crowd.patience(), Some(wait));
        }
    }
}
