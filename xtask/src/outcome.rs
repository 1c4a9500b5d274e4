//! What a block of tests came to, read from the words of whichever program ran it.

use std::ops::AddAssign;

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Counts {
    /// Reads the closing lines of the lab and the simulator (`3 passed, 0 failed, 1 skipped`), of cargo-nextest
    /// (`Summary [..] 9 tests run: 9 passed, 2 skipped`) and of cargo test (`test result: ok. 4 passed; 0 failed; 1 ignored`).
    /// A program that counts nothing counts as one. A failed program counts at least one failure, whatever it says.
    pub fn heard(success: bool, lines: &[String]) -> Self {
        let mut counts = Self::default();
        for line in lines.iter().filter(|line| is_closing_line(line)) {
            counts += Self {
                passed: number_before(line, "passed"),
                failed: number_before(line, "failed") + number_before(line, "timed out"),
                skipped: number_before(line, "skipped") + number_before(line, "ignored"),
            };
        }
        if counts == Self::default() {
            counts.passed = u64::from(success);
        }
        if !success {
            counts.failed = counts.failed.max(1);
        }
        counts
    }
}

fn is_closing_line(line: &str) -> bool {
    let line = line.trim_start();
    let counted = line.contains(" passed, ") && line.contains(" failed, ") && line.ends_with(" skipped");
    line.starts_with("Summary [")
        || line.starts_with("test result: ")
        || (counted && line.starts_with(|c: char| c.is_ascii_digit()))
}

fn number_before(line: &str, word: &str) -> u64 {
    let Some(at) = line.find(word) else { return 0 };
    line[..at].split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counts(success: bool, line: &str) -> (u64, u64, u64) {
        let counts = Counts::heard(success, &[line.to_owned()]);
        (counts.passed, counts.failed, counts.skipped)
    }

    #[test]
    fn closing_lines_of_every_runner_are_understood() {
        assert_eq!(counts(true, "12 passed, 0 failed, 3 skipped"), (12, 0, 3));
        assert_eq!(counts(true, "     Summary [   0.512s] 34 tests run: 34 passed, 2 skipped"), (34, 0, 2));
        assert_eq!(
            counts(false, "     Summary [   1.0s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 0 skipped"),
            (3, 2, 0)
        );
        assert_eq!(
            counts(true, "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out"),
            (4, 0, 1)
        );
    }

    #[test]
    fn a_failed_program_never_counts_as_none_failed() {
        assert_eq!(counts(false, "12 passed, 0 failed, 3 skipped"), (12, 1, 3));
        assert_eq!(counts(false, "killed"), (0, 1, 0));
        assert_eq!(counts(true, "nothing to count"), (1, 0, 0));
    }
}
