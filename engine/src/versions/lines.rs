//! Which line was forked from which, kept for as long as anything lies on them.
//!
//! A map names its blocks by line; what can be rebuilt without a map is rebuilt from the descriptors of a line up to the place
//! where the path leaves it for the parent line. So an entry stays while a head, a version or another line needs it.

use std::collections::BTreeMap;

use treering_format::catalog::LineEntry;
use treering_format::units::LineId;

#[derive(Default)]
pub(super) struct Origins(BTreeMap<LineId, Origin>);

#[derive(Default)]
struct Origin {
    entry: Option<LineEntry>,
    /// Heads and versions on it, lines forked from it.
    users: u32,
}

impl Origins {
    /// One more head or version lies on the line.
    pub(super) fn hold(&mut self, line: LineId) {
        self.0.entry(line).or_default().users += 1;
    }

    /// The line was forked from another.
    pub(super) fn fork(&mut self, line: LineId, entry: LineEntry) {
        self.0.entry(line).or_default().entry = Some(entry);
        self.hold(entry.parent_line);
    }

    /// One head or version fewer. Calls `gone` with each line whose entry nobody needs any more.
    pub(super) fn release(&mut self, line: LineId, gone: &mut impl FnMut(LineId)) {
        let mut next = Some(line);
        while let Some(line) = next.take() {
            let Some(origin) = self.0.get_mut(&line) else { return };
            origin.users = origin.users.saturating_sub(1);
            if origin.users > 0 {
                return;
            }
            let entry = self.0.remove(&line).and_then(|origin| origin.entry);
            if let Some(entry) = entry {
                gone(line);
                next = Some(entry.parent_line);
            }
        }
    }

    pub(super) fn entry(&self, line: LineId) -> Option<LineEntry> {
        self.0.get(&line)?.entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treering_format::units::{LogAddress, SegmentId};

    #[test]
    fn a_line_is_known_until_nothing_lies_on_it_or_on_its_forks() {
        let (one, two, three) = (LineId(1), LineId(2), LineId(3));
        let from = |parent_line| LineEntry { parent_line, fork_position: LogAddress::new(SegmentId(1), 7) };
        let mut origins = Origins::default();
        origins.hold(one);
        for (line, parent) in [(two, one), (three, two)] {
            origins.hold(line);
            origins.fork(line, from(parent));
        }
        let mut gone = Vec::new();
        origins.release(two, &mut |line| gone.push(line));
        origins.release(one, &mut |line| gone.push(line));
        assert_eq!((gone.len(), origins.entry(two)), (0, Some(from(one))));
        origins.release(three, &mut |line| gone.push(line));
        assert_eq!((gone, origins.entry(two), origins.0.len()), (vec![three, two], None, 0));
    }
}
