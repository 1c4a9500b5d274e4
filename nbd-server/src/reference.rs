//! The grammar of names: `[NAMESPACE/]DOT[.VOLUME][@REF]`, and `DOT@BRANCH.VOLUME` for those used to it.
//!
//! One parser for export names, the control socket and the command line, so that a name means the same at every door. It
//! decides on form only: whether the thing exists, and whether this version can serve it, is for those who ask.
//!
//! REF is a branch, `tag:NAME`, a commit id, or `HEAD`, followed by any number of `~N`, `^` and one `@{AGE}`. A word of
//! six or more hex digits may be a branch or a commit id; the parser keeps it as a [`Start::Name`] and leaves the choice to
//! the one who knows the branches.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A name of a namespace, dot, volume, branch or tag: 1 to 64 of `a-z 0-9 _ -`, with a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub namespace: Option<Name>,
    pub dot: Name,
    pub volume: Option<Name>,
    pub revision: Option<Revision>,
}

/// A point in a dot's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub start: Start,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Head,
    Tag(Name),
    /// A branch, or the (short) id of a commit.
    Name(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `~N`: N commits back. `^` is `~1`.
    Back(u32),
    /// `@{AGE}`: where it stood that long ago.
    Ago(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("{text:?} is no {what}: {rule}", rule = Name::RULE)]
    Name { what: &'static str, text: String },
    #[error("{0:?} names two volumes: give the volume before or behind the @, not both")]
    TwoVolumes(String),
    #[error("{text:?} is no point in history: {why}")]
    Revision { text: String, why: &'static str },
}

impl Name {
    pub const RULE: &'static str = "1 to 64 of a-z, 0-9, _ and -, with a letter or digit first and last";

    pub fn parse(what: &'static str, text: &str) -> Result<Name, ReferenceError> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
        let outer = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = bytes.first().is_some_and(|&c| outer(c)) && bytes.last().is_some_and(|&c| outer(c));
        if ends && bytes.len() <= 64 && bytes.iter().all(|&c| inner(c)) {
            Ok(Name(text.to_owned()))
        } else {
            Err(ReferenceError::Name { what, text: text.to_owned() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let (namespace, rest) = match text.split_once('/') {
            Some((namespace, rest)) => (Some(Name::parse("namespace", namespace)?), rest),
            None => (None, text),
        };
        let (object, revision) = match rest.split_once('@') {
            Some((object, revision)) => (object, Some(revision)),
            None => (rest, None),
        };
        let (dot, volume) = match object.split_once('.') {
            Some((dot, volume)) => (dot, Some(volume)),
            None => (object, None),
        };
        // No revision holds a dot, so one behind the @ begins the volume of the other order.
        let (revision, late_volume) = match revision.and_then(|r| r.split_once('.')) {
            Some((revision, volume)) => (Some(revision), Some(volume)),
            None => (revision, None),
        };
        if volume.is_some() && late_volume.is_some() {
            return Err(ReferenceError::TwoVolumes(text.to_owned()));
        }
        Ok(Reference {
            namespace,
            dot: Name::parse("dot", dot)?,
            volume: volume.or(late_volume).map(|v| Name::parse("volume", v)).transpose()?,
            revision: revision.map(Revision::from_str).transpose()?,
        })
    }
}

impl FromStr for Revision {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Revision, ReferenceError> {
        let wrong = |why| ReferenceError::Revision { text: text.to_owned(), why };
        let end = text.find(['~', '^', '@']).unwrap_or(text.len());
        let (start, mut rest) = text.split_at(end);
        let start = match start.strip_prefix("tag:") {
            Some(tag) => Start::Tag(Name::parse("tag", tag)?),
            None if start == "HEAD" => Start::Head,
            None => Start::Name(Name::parse("branch or commit", start)?),
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(more) = rest.strip_prefix('^') {
                steps.push(Step::Back(1));
                rest = more;
            } else if let Some(more) = rest.strip_prefix('~') {
                let digits = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
                let count = if digits == 0 { Ok(1) } else { more[..digits].parse() };
                steps.push(Step::Back(count.map_err(|_| wrong("the number behind ~ is too large"))?));
                rest = &more[digits..];
            } else if let Some(more) = rest.strip_prefix("@{") {
                let (age, more) = more.split_once('}').ok_or(wrong("@{ is not closed by }"))?;
                let age = parse_age(age).ok_or(wrong("an age is a number and one of s, m, h, d, w, as in @{2h}"))?;
                steps.push(Step::Ago(age));
                rest = more;
            } else {
                return Err(wrong("expected ~N, ^ or @{AGE}"));
            }
        }
        Ok(Revision { start, steps })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}", self.dot)?;
        if let Some(volume) = &self.volume {
            write!(f, ".{volume}")?;
        }
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Head => f.write_str("HEAD")?,
            Start::Tag(name) => write!(f, "tag:{name}")?,
            Start::Name(name) => write!(f, "{name}")?,
        }
        for step in &self.steps {
            match step {
                Step::Back(count) => write!(f, "~{count}")?,
                Step::Ago(age) => write!(f, "@{{{}s}}", age.as_secs())?,
            }
        }
        Ok(())
    }
}

/// A number and one of s, m, h, d, w: `90s`, `7d`.
pub fn parse_age(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        b'w' => 604_800,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Reference {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_form_of_the_product_grammar_is_understood_and_printed_back() {
        for text in [
            "shop",
            "shop.pg",
            "acme/shop",
            "acme/shop.pg@main",
            "shop@HEAD~3",
            "shop.pg@tag:v1",
            "shop@c1f2a9",
            "shop@main@{7200s}",
            "shop@main~1~2",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("shop@main.pg"), parsed("shop.pg@main"));
        assert_eq!(parsed("shop@main^^"), parsed("shop@main~1~1"));
        assert_eq!(parsed("shop@main@{2h}"), parsed("shop@main@{7200s}"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_rule() {
        let long = "a".repeat(65);
        for text in ["", "-a", "a-", "_a", "A", "a b", "a..b", "a.", ".a", "a/", "/a", "a/b/c", "a\0", "ä", &long] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(Name::RULE), "{text}: {error}");
        }
        assert!("a".repeat(64).parse::<Reference>().is_ok());
    }

    #[test]
    fn malformed_points_in_history_are_refused() {
        for text in [
            "a@",
            "a@~1",
            "a@main~99999999999",
            "a@main@{2h",
            "a@main@{}",
            "a@main@{h}",
            "a@main@{2y}",
            "a@main@x",
            "a@main~1x",
            "a@tag:",
            "a@tag:X",
            "a@main@{99999999999999999999s}",
            "a@main@{18446744073709551615w}",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} was accepted");
        }
        assert_eq!("a.b@c.d".parse::<Reference>(), Err(ReferenceError::TwoVolumes("a.b@c.d".into())));
    }
}
