//! Who is reading an older root. A slot or page that was freed may be written again only after every read that began before
//! it was freed has ended: such a read may still be on its way to the old content.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use treering_io::Notify;

#[derive(Clone, Default)]
pub(crate) struct Readers(Rc<Inner>);

#[derive(Default)]
struct Inner {
    epoch: Cell<u64>,
    begun: Cell<u64>,
    active: RefCell<BTreeMap<u64, u64>>,
    ended: Notify,
}

impl Readers {
    /// A read begins; it ends when the ticket is dropped.
    pub(crate) fn enter(&self) -> Ticket {
        let epoch = self.0.epoch.get();
        self.0.begun.set(self.0.begun.get() + 1);
        *self.0.active.borrow_mut().entry(epoch).or_insert(0) += 1;
        Ticket { readers: self.clone(), epoch }
    }

    /// How many reads have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.get()
    }

    /// Waits for the end of every read that began before this call.
    pub(crate) async fn drain(&self) {
        let epoch = self.0.epoch.get();
        self.0.epoch.set(epoch + 1);
        loop {
            let ended = self.0.ended.notified();
            if self.0.active.borrow().first_key_value().is_none_or(|(oldest, _)| *oldest > epoch) {
                return;
            }
            ended.await;
        }
    }
}

pub(crate) struct Ticket {
    readers: Readers,
    epoch: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let inner = &self.readers.0;
        let mut active = inner.active.borrow_mut();
        let count = active.get_mut(&self.epoch).expect("a ticket is counted");
        *count -= 1;
        if *count == 0 {
            active.remove(&self.epoch);
            inner.ended.notify_all();
        }
    }
}
