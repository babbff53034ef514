//! Words out: data to standard output, everything else to standard error.
//!
//! A reader that goes away early (`bkp points | head -1`) is no failure. Colour only marks the words `error`, `warning` and
//! `hint`, and only on a terminal that wants it.

use crate::error::{Failure, Result};
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

pub use crate::watch::plain;

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
    pub color: bool,
}

impl Output {
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v: std::ffi::OsString| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let color = !no_color && !set("NO_COLOR") && !dumb && io::stderr().is_terminal();
        Output { json, quiet, color }
    }

    /// Text for standard output; ends with one newline.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        let text = text.trim_end_matches('\n');
        gone_is_fine(writeln!(out, "{text}").and_then(|()| out.flush()))
    }

    /// The one JSON document of a command.
    pub fn document(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
        self.data(&text)
    }

    /// JSON when it was asked for, else what `text` makes.
    pub fn answer(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.document(value) } else { self.data(&text()) }
    }

    /// What is good to know; silent with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// A line of a log, which is written also with `--quiet`.
    pub fn log(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{} {text}", self.marked("warning:", "33"));
    }

    /// A failure with its causes and the next step; with `--json` as a last line for machines too.
    pub fn failure(&self, failure: &Failure) {
        self.told(failure);
        if self.json {
            let _ = writeln!(io::stderr().lock(), "{}", exit_error(failure));
        }
    }

    /// A failure of one part of a command that goes on.
    pub fn told(&self, failure: &Failure) {
        let mut text = format!("{} {failure}\n", self.marked("error:", "31"));
        let mut told = failure.to_string();
        let mut cause = std::error::Error::source(failure);
        while let Some(error) = cause {
            let line = error.to_string();
            if !told.ends_with(&line) {
                text.push_str(&format!("  cause: {line}\n"));
            }
            told = line;
            cause = error.source();
        }
        if let Some(hint) = failure.next_step() {
            text.push_str(&format!("  {} {hint}\n", self.marked("hint:", "36")));
        }
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn marked(&self, word: &str, color: &str) -> String {
        if self.color { format!("\u{1b}[1;{color}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

/// The last line of standard error with `--json`.
pub fn exit_error(failure: &Failure) -> String {
    serde_json::json!({
        "message_type": "exit_error",
        "code": failure.kind().exit_code(),
        "kind": failure.kind(),
        "message": failure.full(),
        "hint": failure.next_step(),
    })
    .to_string()
}

pub fn gone_is_fine(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Failure::from_io(e, || "cannot write to standard output".into())),
    }
}

/// A table without lines. Columns whose title ends in `>` are aligned to the right.
pub fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(titles.iter().map(|t| Cell::new(t.trim_end_matches('>'))));
    for row in rows {
        table.add_row(row);
    }
    for (number, title) in titles.iter().enumerate() {
        let Some(column) = table.column_mut(number) else { continue };
        column.set_padding((0, 2));
        if title.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Lines of `name  value`, the values under each other.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let mut lines = value.lines();
        let mut text = format!("{name:width$}  {}", lines.next().unwrap_or_default());
        for more in lines {
            text.push_str(&format!("\n{:width$}  {more}", ""));
        }
        text
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_lines_and_no_trailing_spaces() {
        let text = table(&["NAME", "SIZE>"], [vec!["a".into(), "1 B".into()], vec!["long".into(), "10 B".into()]]);
        assert_eq!(text, "NAME  SIZE\na      1 B\nlong  10 B");
    }
}
