//! How a file of variables is read, as Compose reads it, and how a value is written into one.

use super::text::is_plain;
use crate::error::{Failure, Kind, Result};
use std::ops::Range;
use zeroize::Zeroizing;

/// A line that gives a variable a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment<'t> {
    pub name: &'t str,
    /// With its quotes, and without a comment behind it; `None` for one that does not end in its line.
    pub value: Option<Range<usize>>,
}

/// In the order of the file.
pub fn assignments(text: &str) -> Vec<Assignment<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        let rest = line.trim_start();
        let rest = rest.strip_prefix("export ").map_or(rest, str::trim_start);
        let Some((name, value)) = rest.split_once('=') else { continue };
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.is_empty() || name.starts_with('#') || name.contains(char::is_whitespace) {
            continue;
        }
        let begin = start + line.len() - value.len();
        found.push(Assignment { name, value: length_of_value(value).map(|length| begin..begin + length) });
    }
    found
}

fn length_of_value(value: &str) -> Option<usize> {
    match value.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut escaped = false;
            for (at, character) in value.char_indices().skip(1) {
                match character {
                    _ if escaped => escaped = false,
                    '\\' if quote == '"' => escaped = true,
                    other if other == quote => return Some(at + 1),
                    _ => {}
                }
            }
            None
        }
        _ => {
            let comment = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
            Some(value[..comment].trim_end().len())
        }
    }
}

/// What a program reads.
pub fn meant(written: &str) -> Zeroizing<String> {
    let quoted = |quote: char| written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(literal) = quoted('\'') {
        return Zeroizing::new(literal.to_owned());
    }
    let text = quoted('"').map_or_else(
        || written.to_owned(),
        |text| text.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"),
    );
    Zeroizing::new(text.replace("$$", "$"))
}

/// Whether some quotes can hold it.
pub fn is_writable(text: &str) -> bool {
    !text.contains(['\'', '\n', '\r', '\\'])
}

/// A text as a value, in the quotes that were there where they do.
pub fn quoted(before: &str, text: &str) -> Result<String> {
    let quote = before.chars().next().filter(|first| matches!(first, '\'' | '"'));
    match quote {
        Some(quote) if is_plain(text) => Ok(format!("{quote}{text}{quote}")),
        None if is_plain(text) => Ok(text.to_owned()),
        _ if !is_writable(text) => Err(Failure::new(
            Kind::Refused,
            "the password has a quote, a backslash or a line break, and cannot be written there in a way that every program reads alike",
        )
        .hint("Write it there by hand, then run this again")),
        _ => Ok(format!("'{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_found_with_its_value() {
        let text = "# A=1\n\nA=1 # one\r\n export B = \"x#y\"\nnot one\nC='two\nD=\n";
        let found: Vec<_> =
            assignments(text).into_iter().map(|one| (one.name, one.value.map(|value| &text[value]))).collect();
        assert_eq!(found, [("A", Some("1")), ("B", Some("\"x#y\"")), ("C", None), ("D", Some(""))]);
    }
}
