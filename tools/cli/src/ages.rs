//! Spans of time as people write and read them.

use std::io::IsTerminal;
use treering_nbd_server::reference::parse_age;

/// Seconds of `90s`, `15m`, `24h`, `7d`, `4w`. For clap.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no span of time: write a number and one of s, m, h, d, w, as in 24h or 7d");
    parse_age(text).map(|age| age.as_secs()).ok_or_else(wrong)
}

/// A past time: `3 min ago` on a terminal, else as RFC 3339.
pub fn past(time: &str, age_seconds: u64) -> String {
    if std::io::stdout().is_terminal() { ago(age_seconds) } else { time.to_owned() }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_one_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("4w", 2_419_200)] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in ["", "7", "d", "1.5h", "-1h", "7 d", "1y", "all"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let told: Vec<String> = [0, 59, 61, 7200, 90_000].into_iter().map(ago).collect();
        assert_eq!(told, ["0 s ago", "59 s ago", "1 min ago", "2 h ago", "1 d ago"]);
    }
}
