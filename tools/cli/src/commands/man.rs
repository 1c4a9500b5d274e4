//! `treering man`: a manual page for each command, from the same definitions as `--help`, and with a session of what it prints.

mod sessions;

use super::{Arguments, Common};
use crate::output::print;
use clap::{Args, CommandFactory};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use treering_nbd_server::control::{Kind, Trouble};

const EXAMPLES: &str = "\
Example:
  treering man ~/.local/share/man/man1 && man treering-snapshot-create";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Man {
    /// The folder to write them into, made if need be
    folder: PathBuf,
}

impl Man {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let failed = |error: io::Error| {
            Trouble::new(Kind::Other, format!("writing manual pages into {}: {error}", self.folder.display()))
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        let pages = write_pages(&command, &self.folder).map_err(failed)?;
        if !common.quiet {
            print(&format!("{pages} pages in {}", self.folder.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The page of a command and of all below it; how many.
fn write_pages(command: &clap::Command, folder: &Path) -> io::Result<usize> {
    // `treering-snapshot-create`; clap has put it together.
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = Vec::new();
    write_page(command, name, &mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    let mut pages = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages += write_pages(below, folder)?;
    }
    Ok(pages)
}

fn write_page(command: &clap::Command, name: &str, to: &mut Vec<u8>) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).manual("Treering");
    page.render_title(to)?;
    page.render_name_section(to)?;
    page.render_synopsis_section(to)?;
    page.render_description_section(to)?;
    page.render_options_section(to)?;
    if command.has_subcommands() {
        page.render_subcommands_section(to)?;
    }
    if let Some(notes) = command.get_after_help() {
        as_it_stands("NOTES", &notes.to_string(), to)?;
    }
    match sessions::of(name) {
        Some(session) => as_it_stands("SESSION", session, to),
        None => Ok(()),
    }
}

/// A section whose lines are not filled.
fn as_it_stands(title: &str, text: &str, to: &mut Vec<u8>) -> io::Result<()> {
    writeln!(to, ".SH {title}\n.nf")?;
    for line in text.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(to, "{guard}{escaped}")?;
    }
    writeln!(to, ".fi")
}
