//! What was read ahead of its reader, by log address.
//!
//! An address names one content for ever, so nothing here can become stale: it is taken once by the read that it was meant for,
//! or forgotten when newer ones need the room. Only what verified is kept. A read that finds its blocks on their way waits
//! for them; if they do not come, it reads for itself and says what is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use treering_format::units::LogAddress;
use treering_io::{Buffer, Notify};

/// Clones are the same store of runs.
#[derive(Clone)]
pub(crate) struct Ahead {
    limit_blocks: u64,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    runs: HashMap<LogAddress, Rc<Run>>,
    /// By age.
    order: BTreeMap<u64, LogAddress>,
    next_age: u64,
    blocks: u64,
    taken: u64,
}

/// Blocks that lie one behind the other in the log.
pub(crate) struct Run {
    age: u64,
    blocks: u64,
    content: RefCell<Content>,
    came: Notify,
}

enum Content {
    Coming,
    Here(Buffer),
    Failed,
}

impl Ahead {
    /// Holds at most `limit_bytes` bytes, those on their way included.
    pub(crate) fn new(limit_bytes: u64) -> Ahead {
        Ahead { limit_blocks: limit_bytes / crate::disk::BLOCK, state: Rc::default() }
    }

    /// A place for a run that the caller is about to read; None if it is here already, or if all room is taken by runs on their way.
    pub(crate) fn reserve(&self, address: LogAddress, blocks: u64) -> Option<Rc<Run>> {
        let mut state = self.state.borrow_mut();
        if state.runs.contains_key(&address) {
            return None;
        }
        while state.blocks + blocks > self.limit_blocks {
            let oldest = *state.order.first_key_value()?.1;
            if matches!(*state.runs[&oldest].content.borrow(), Content::Coming) {
                return None;
            }
            state.remove(oldest);
        }
        let age = state.next_age;
        state.next_age += 1;
        state.blocks += blocks;
        let run = Rc::new(Run { age, blocks, content: RefCell::new(Content::Coming), came: Notify::new() });
        state.order.insert(age, address);
        state.runs.insert(address, Rc::clone(&run));
        Some(run)
    }

    /// The content of exactly this run, if it was read ahead.
    pub(crate) async fn take(&self, address: LogAddress, blocks: u64) -> Option<Buffer> {
        let run = {
            let mut state = self.state.borrow_mut();
            if state.runs.get(&address)?.blocks != blocks {
                return None;
            }
            state.remove(address)
        };
        loop {
            let came = run.came.notified();
            match run.content.replace(Content::Coming) {
                Content::Coming => came.await,
                Content::Here(buffer) => {
                    self.state.borrow_mut().taken += 1;
                    return Some(buffer);
                }
                Content::Failed => return None,
            }
        }
    }

    /// Runs that a read took.
    pub(crate) fn taken(&self) -> u64 {
        self.state.borrow().taken
    }
}

impl State {
    fn remove(&mut self, address: LogAddress) -> Rc<Run> {
        let run = self.runs.remove(&address).expect("a run in the order is here");
        self.order.remove(&run.age);
        self.blocks -= run.blocks;
        run
    }
}

impl Run {
    /// The run was read and verified; None if it could not be.
    pub(crate) fn came(&self, content: Option<Buffer>) {
        *self.content.borrow_mut() = content.map_or(Content::Failed, Content::Here);
        self.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK;
    use treering_format::units::SegmentId;

    fn at(block: u32) -> LogAddress {
        LogAddress::new(SegmentId(1), block)
    }

    fn taken(ahead: &Ahead, block: u32, blocks: u64) -> Option<Option<u8>> {
        let take = std::pin::pin!(ahead.take(at(block), blocks));
        futures_util::FutureExt::now_or_never(take).map(|buffer| buffer.map(|buffer| buffer[0]))
    }

    #[test]
    fn run_is_taken_once_and_only_whole() {
        let ahead = Ahead::new(8 * BLOCK);
        ahead.reserve(at(4), 2).expect("there is room").came(Some(Buffer::from(&[7u8; 8192][..])));
        assert!(ahead.reserve(at(4), 2).is_none(), "it is here");
        assert_eq!(taken(&ahead, 4, 1), Some(None), "half of it");
        assert_eq!(taken(&ahead, 4, 2), Some(Some(7)));
        assert_eq!(taken(&ahead, 4, 2), Some(None), "it is gone");
    }

    #[test]
    fn oldest_runs_go_first_but_none_that_is_on_its_way() {
        let ahead = Ahead::new(4 * BLOCK);
        let first = ahead.reserve(at(10), 2).expect("there is room");
        let second = ahead.reserve(at(20), 2).expect("there is room");
        assert!(ahead.reserve(at(30), 2).is_none(), "both are on their way");
        first.came(None);
        second.came(Some(Buffer::from(&[2u8; 8192][..])));
        ahead.reserve(at(30), 2).expect("the first has come to nothing and goes").came(None);
        assert_eq!(taken(&ahead, 20, 2), Some(Some(2)));
        assert_eq!(taken(&ahead, 30, 2), Some(None), "it failed: the reader must read for itself");
        assert!(ahead.reserve(at(40), 5).is_none(), "more than all room");
    }
}
