//! Command lines, taken apart by hand: a verb asks for the options it knows and refuses what is left.

use anyhow::{Context, Result, bail};

pub struct Arguments {
    left: Vec<String>,
}

impl Arguments {
    pub fn from_command_line() -> Self {
        Self { left: std::env::args().skip(1).collect() }
    }

    /// The first word, whatever it is.
    pub fn word(&mut self) -> Option<String> {
        (!self.left.is_empty()).then(|| self.left.remove(0))
    }

    /// Whether `--name` was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|word| word != name);
        self.left.len() != before
    }

    /// The number after `--name`.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(at) = self.left.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 == self.left.len() {
            bail!("{name} wants a number");
        }
        let value = self.left.remove(at + 1);
        self.left.remove(at);
        value.replace('_', "").parse().map(Some).with_context(|| format!("{name} wants a number, not `{value}`"))
    }

    /// All words that are left; options among them are refused.
    pub fn words(self) -> Result<Vec<String>> {
        match self.left.iter().find(|word| word.starts_with('-')) {
            Some(option) => bail!("there is no option {option} here; `cargo xtask help` lists them"),
            None => Ok(self.left),
        }
    }

    /// Everything that is left, for another program to understand.
    pub fn rest(self) -> Vec<String> {
        self.left
    }
}
