//! Fail-stop. The first error of a log write, a sync, a checkpoint page or a superblock write is kept, and from then on
//! nothing is acknowledged: after a failed fdatasync the kernel may have dropped the pages it could not write, so trying
//! again could report success for data that is gone.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use treering_io::Notify;

use crate::error::Failure;

#[derive(Clone)]
pub(crate) struct Health {
    failure: Rc<RefCell<Option<Rc<Failure>>>>,
    /// Everything that waits for progress listens here too, so that a failure wakes it.
    progress: Notify,
}

impl Health {
    pub(crate) fn new() -> Health {
        Health { failure: Rc::default(), progress: Notify::new() }
    }

    pub(crate) fn check(&self) -> Result<(), Rc<Failure>> {
        match &*self.failure.borrow() {
            Some(failure) => Err(Rc::clone(failure)),
            None => Ok(()),
        }
    }

    pub(crate) fn failure(&self) -> Option<Rc<Failure>> {
        self.failure.borrow().clone()
    }

    pub(crate) fn fail(&self, doing: impl Into<String>, source: io::Error) -> Rc<Failure> {
        let failure = {
            let mut slot = self.failure.borrow_mut();
            Rc::clone(slot.get_or_insert_with(|| {
                let failure = Failure { doing: doing.into(), source };
                tracing::error!("the store stops acknowledging: {failure}");
                Rc::new(failure)
            }))
        };
        self.progress.notify_all();
        failure
    }

    /// Turns the result of a write the store depends on into fail-stop.
    pub(crate) fn require<T>(&self, doing: impl Into<String>, result: io::Result<T>) -> Result<T, Rc<Failure>> {
        result.map_err(|source| self.fail(doing, source))
    }

    /// Waits until `done`, which is asked again at each progress. An error: the store has failed.
    pub(crate) async fn until(&self, mut done: impl FnMut() -> bool) -> Result<(), Rc<Failure>> {
        loop {
            let progress = self.progress.notified();
            self.check()?;
            if done() {
                return Ok(());
            }
            progress.await;
        }
    }

    /// Notified when a write completes, a sync completes, space comes back, or the store fails.
    pub(crate) fn progress(&self) -> &Notify {
        &self.progress
    }
}
