//! How hard the cleaner works, by how much is free.
//!
//! Space that is kept free is space in which nothing may lie dead and wait: the fuller the rest, the more of each victim still
//! lives. So while clients write, the cleaner begins late and only keeps up with them; when they are quiet, it works ahead.

/// How much may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// There is enough space.
    Rest,
    /// Only while no client writes.
    Idle,
    /// So many sixteenths of a block for each block that clients write.
    PerBlock { sixteenths: u64 },
    /// The reserve is reached, or writers wait.
    Urgent,
}

/// Free slots at which the pace changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub reserve: u64,
    /// Below it the cleaner keeps up with clients: nothing right there, ever more below, and no limit at the reserve.
    pub busy: u64,
    /// Below it the cleaner works while clients are quiet.
    pub idle: u64,
}

pub(super) fn pace(free: u64, marks: Marks) -> Pace {
    let Marks { reserve, busy, idle } = marks;
    if free <= reserve {
        Pace::Urgent
    } else if free < busy {
        // One block for each that is written at a fifth of the way down.
        Pace::PerBlock { sixteenths: 64 * (busy - free) / (free - reserve) }
    } else if free < idle {
        Pace::Idle
    } else {
        Pace::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_free_the_faster_it_is_copied() {
        let marks = Marks { reserve: 5, busy: 25, idle: 40 };
        assert_eq!(pace(40, marks), Pace::Rest);
        assert_eq!(pace(39, marks), Pace::Idle);
        assert_eq!(pace(25, marks), Pace::Idle);
        assert_eq!(pace(5, marks), Pace::Urgent);
        assert_eq!(pace(3, Marks { busy: 4, ..marks }), Pace::Urgent);
        assert_eq!(pace(21, marks), Pace::PerBlock { sixteenths: 16 });
        let paces: Vec<u64> = (6..25)
            .map(|free| match pace(free, marks) {
                Pace::PerBlock { sixteenths } => sixteenths,
                other => panic!("{other:?} at {free} free slots"),
            })
            .collect();
        assert!(paces.is_sorted_by(|less, more| less > more));
    }
}
