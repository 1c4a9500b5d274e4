//! What a command prints: a text for people, one JSON document, or bare names.

use serde::Serialize;
use std::io::Write;

#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// The result of a command. `names`: what `-q` prints, a line each.
    pub fn result(&self, document: &impl Serialize, names: &[String], text: impl FnOnce() -> String) {
        if self.json {
            print(&serde_json::to_string(document).expect("documents are plain data"));
        } else if self.quiet {
            names.iter().for_each(|name| print(name));
        } else {
            print(text().trim_end_matches('\n'));
        }
    }
}

/// One line to standard output, out at once. A reader that has left ends the program quietly, as with any filter.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Columns as wide as their widest cell, two blanks between them. Columns in `right` are numbers.
pub fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| cell.to_string()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> =
        (0..head.len()).map(|column| lines().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in lines() {
        let cells = row.iter().enumerate().map(|(column, cell)| match right.contains(&column) {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:<width$}", width = widths[column]),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
