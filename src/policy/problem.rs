//! What is wrong with the configuration, and where: file, line, column, the line itself with a caret, and what to do.
//!
//! Problems are collected, never thrown one by one, so that one look shows all of them.
//! Invariant: a shown line goes through [`super::mask`] first; a value that may be a secret is never repeated. What outlives
//! the moment (journal, log, letters) gets no line at all, but [`Problems::brief`].

use super::mask;
use crate::error::Failure;
use std::fmt;
use std::path::{Path, PathBuf};

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub start: usize,
    pub end: usize,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    #[serde(serialize_with = "super::serialize_path")]
    pub file: PathBuf,
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One file as it was read.
pub struct Document {
    pub path: PathBuf,
    pub text: String,
}

impl Document {
    pub fn origin(&self, place: Place) -> Origin {
        Origin { file: self.path.clone(), line: self.position(place.start).0 }
    }

    /// Line and column (in characters), both counted from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The byte at a line and column, counted from 1.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let lines = self.text.split_inclusive('\n');
        let before: usize = lines.clone().take(line.saturating_sub(1)).map(str::len).sum();
        let line = lines.clone().nth(line.saturating_sub(1)).unwrap_or("");
        let inside = line.char_indices().nth(column.saturating_sub(1)).map_or(line.trim_end().len(), |(at, _)| at);
        (before + inside).min(self.text.len())
    }

    /// What stands here in back quotes, unless it may be a secret.
    pub fn quote(&self, place: Place, text: &str) -> String {
        if self.hides(place) { "(not shown: it may be a secret)".into() } else { format!("`{text}`") }
    }

    /// A key in back quotes. What no colon follows is a part of a value that was mistyped.
    pub fn quote_key(&self, place: Place, text: &str) -> String {
        let after = self.text.get(place.end..).unwrap_or_default();
        match after.trim_start_matches(['"', '\'', ' ']).starts_with(':') {
            true => self.quote(place, text),
            false => "(not shown: it may be a secret)".into(),
        }
    }

    /// Whether a message must not repeat what stands here, because it may be a secret.
    pub fn hides(&self, place: Place) -> bool {
        let (line, column) = self.position(place.start);
        let part = |line: &str| line.chars().skip(column - 1).take(place.end - place.start).collect::<String>();
        part(self.text.lines().nth(line - 1).unwrap_or("")) != part(&mask::by_words(&self.text, line - 1))
    }

    /// Shows the line with the one value that is meant.
    pub fn problem(&self, place: Place, message: impl Into<String>) -> Problem {
        self.shown(place, true, message.into())
    }

    /// Shows the line without any value: what is meant may be a secret.
    pub fn problem_unseen(&self, place: Place, message: impl Into<String>) -> Problem {
        self.shown(place, false, message.into())
    }

    fn shown(&self, place: Place, is_seen: bool, message: String) -> Problem {
        let (line, column) = self.position(place.start);
        let source = self.text.lines().nth(line - 1).unwrap_or("").trim_end();
        let width = self
            .text
            .get(place.start..place.end)
            .map_or(0, |t| t.lines().next().unwrap_or("").trim_end().chars().count());
        let width = width.min((source.chars().count() + 1).saturating_sub(column)).max(1);
        let seen = if is_seen { column - 1..column - 1 + width } else { 0..0 };
        let (shown, caret) = window(&mask::line(&self.text, line - 1, seen), column, width);
        Problem {
            file: self.path.clone(),
            line: Some(line),
            column: Some(column),
            message,
            help: None,
            source_line: Some(shown),
            caret,
        }
    }
}

/// Lines longer than this are cut around the caret.
const SHOWN_WIDTH: usize = 110;

/// The line as shown, and the caret line below it.
fn window(line: &str, column: usize, width: usize) -> (String, String) {
    let visible = |c: char| match c {
        '\t' => '→',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let total = line.chars().count();
    let first = if total <= SHOWN_WIDTH { 0 } else { (column - 1).saturating_sub(SHOWN_WIDTH / 3) };
    let mut shown: String = line.chars().map(visible).skip(first).take(SHOWN_WIDTH).collect();
    let mut indent = column - 1 - first;
    if first > 0 {
        shown.insert(0, '…');
        indent += 1;
    }
    if first + SHOWN_WIDTH < total {
        shown.push('…');
    }
    let width = width.min(SHOWN_WIDTH - indent.min(SHOWN_WIDTH - 1));
    (shown, format!("{}{}", " ".repeat(indent), "^".repeat(width)))
}

/// One thing that is wrong. The position is absent when the whole file is meant.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Problem {
    #[serde(serialize_with = "super::serialize_path")]
    pub file: PathBuf,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
    pub help: Option<String>,
    source_line: Option<String>,
    #[serde(skip)]
    caret: String,
}

impl Problem {
    /// A problem with a file as a whole: it cannot be read, or holds nothing.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Problem {
            file: file.into(),
            line: None,
            column: None,
            message,
            help: None,
            source_line: None,
            caret: String::new(),
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `FILE:LINE:COLUMN: what is wrong`
    fn brief(&self) -> String {
        let at = self.line.zip(self.column).map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        format!("{}{at}: {}", self.file.display(), self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        let mut margin = String::from("  ");
        if let (Some(line), Some(column), Some(source)) = (self.line, self.column, &self.source_line) {
            writeln!(f, ":{line}:{column}: {}", self.message)?;
            margin = " ".repeat(line.to_string().len() + 2);
            writeln!(f, "{margin}|")?;
            writeln!(f, " {line} | {source}")?;
            write!(f, "{margin}| {}", self.caret)?;
        } else {
            write!(f, ": {}", self.message)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{margin}= {help}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, in the order of files and lines. Never empty.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Sorts what was found; `None` when nothing was.
    pub fn from_found(mut found: Vec<Problem>) -> Option<Self> {
        found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        (!found.is_empty()).then_some(Problems(found))
    }

    fn headline(&self) -> String {
        match self.0.len() {
            1 => "the configuration has a problem".into(),
            n => format!("the configuration has {n} problems"),
        }
    }

    /// In one line and without a line of any file, for what outlives the moment.
    pub fn brief(&self) -> Failure {
        const TOLD: usize = 5;
        let mut parts: Vec<String> = self.0.iter().take(TOLD).map(Problem::brief).collect();
        if self.0.len() > TOLD {
            parts.push(format!("and {} more", self.0.len() - TOLD));
        }
        Failure::usage(format!("{}: {}", self.headline(), parts.join("; "))).hint(NEXT)
    }
}

const NEXT: &str = "Correct the configuration, then try it with: bkp config check";

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::usage(problems.to_string()).hint(NEXT)
    }
}

/// `; did you mean …?`, or nothing when no known word is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    match known.into_iter().map(|known| (strsim::damerau_levenshtein(&word, known), known)).min() {
        Some((distance, known)) if distance <= allowed => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_below_its_word_in_any_script() {
        let document = Document { path: "/x.yaml".into(), text: "a: 1\nañadir: naïve\n".into() };
        let start = document.text.find("naïve").unwrap();
        let text = document.problem(Place { start, end: start + "naïve".len() }, "wrong").to_string();
        assert_eq!(text, "/x.yaml:2:9: wrong\n   |\n 2 | añadir: naïve\n   |         ^^^^^");
    }

    #[test]
    fn a_place_beyond_the_end_is_shown_at_the_end() {
        let document = Document { path: "/x.yaml".into(), text: "a".into() };
        assert!(document.problem(Place { start: 9, end: 12 }, "cut").to_string().starts_with("/x.yaml:1:2: cut"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let document =
            Document { path: "/x.yaml".into(), text: format!("k: {}HERE{}", "a".repeat(500), "b".repeat(500)) };
        let text = document.problem(Place { start: 503, end: 507 }, "wrong").to_string();
        let lines: Vec<_> = text.lines().collect();
        let column = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().skip(column).take(4).collect::<String>(), "HERE");
        assert!(lines[2].chars().count() < 130);
    }

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(did_you_mean("shedule", ["schedule", "sources"]), "; did you mean `schedule`?");
        assert_eq!(did_you_mean("Schedule", ["schedule"]), "; did you mean `schedule`?");
        assert_eq!(did_you_mean("mysql", ["sqlite", "volume"]), "");
    }
}
