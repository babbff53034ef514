//! Variables in values, as Compose writes them: `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?message}`,
//! `${VAR?message}`, `${VAR:+value}`, `${VAR+value}`, and `$$` for a dollar sign.
//!
//! They are replaced in scalars after the YAML was parsed, so that a value can never change the structure of a file.
//! Stricter than Compose in two points, because an empty path in a backup is worse than an error: a variable that is not
//! set and has no default is a problem, and so is `$VAR` without braces, which people mean in two ways.

use std::ops::Range;

/// What is wrong with a variable, and where in the text.
#[derive(Debug, PartialEq)]
pub struct Wrong {
    pub at: Range<usize>,
    /// A variable that is not set: its name is in the message.
    pub is_named: bool,
    pub message: String,
    pub help: String,
}

pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of one value.
pub fn expand(text: &str, lookup: Lookup) -> Result<String, Wrong> {
    let mut expanded = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|n| n + at) {
        expanded.push_str(&text[at..dollar]);
        let rest = &text[dollar + 1..];
        if rest.starts_with('$') {
            expanded.push('$');
            at = dollar + 2;
        } else if rest.starts_with('{') {
            let end = closing_brace(text, dollar).ok_or_else(|| Wrong {
                at: dollar..text.len(),
                is_named: false,
                message: "`${` is never closed".into(),
                help: "write ${NAME}, or $$ for a dollar sign".into(),
            })?;
            expanded.push_str(&one(text, dollar..end, lookup)?);
            at = end;
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            return Err(Wrong {
                at: dollar..dollar + 1 + length,
                is_named: false,
                message: "a `$` without braces can mean two things".into(),
                help: "write ${NAME} for the variable as it is now, or $$NAME to keep the dollar sign".into(),
            });
        } else {
            expanded.push('$');
            at = dollar + 1;
        }
    }
    expanded.push_str(&text[at..]);
    Ok(expanded)
}

/// The offset after the brace that closes the one at `dollar + 1`; defaults may hold variables of their own.
fn closing_brace(text: &str, dollar: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut previous = ' ';
    for (at, c) in text[dollar..].char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(dollar + at + 1);
                }
            }
            _ => {}
        }
        previous = c;
    }
    None
}

/// One `${…}`.
fn one(text: &str, at: Range<usize>, lookup: Lookup) -> Result<String, Wrong> {
    let inner = &text[at.start + 2..at.end - 1];
    let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(length);
    let wrong = |message: String, help: String| Wrong { at: at.clone(), is_named: true, message, help };
    let unnamed = |message: String, help: String| Wrong { is_named: false, ..wrong(message, help) };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(unnamed(
            "this is not the name of a variable".into(),
            "write ${NAME}, or $$ for a dollar sign".into(),
        ));
    }
    let counts_empty = rest.starts_with(':');
    let mut characters = rest.strip_prefix(':').unwrap_or(rest).chars();
    let (operator, word) = (characters.next(), characters.as_str());
    let value = lookup(name).filter(|value| !(counts_empty && value.is_empty()));
    let word_start = at.end - 1 - word.len();
    let word = || expand(word, lookup).map_err(|w| Wrong { at: w.at.start + word_start..w.at.end + word_start, ..w });
    match (operator, value) {
        (Some('-' | '?'), Some(value)) => Ok(value),
        (None, Some(value)) if !counts_empty => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => word(),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let message = word()?;
            let why = if message.is_empty() { String::new() } else { format!(": {message}") };
            Err(wrong(format!("the variable {name} is not set{why}"), "set it in the environment of bkp".into()))
        }
        (None, None) if !counts_empty => Err(wrong(
            format!("the variable {name} is not set"),
            format!("set it in the environment of bkp, or give a default: ${{{name}:-value}}"),
        )),
        _ => Err(unnamed(
            "this is not a variable".into(),
            "known forms: ${NAME}, ${NAME:-default}, ${NAME:?message}, ${NAME:+value}".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand_here(text: &str) -> Result<String, Wrong> {
        expand(text, &|name| match name {
            "HOST" => Some("db1".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST} $$ }".into()),
            _ => None,
        })
    }

    #[test]
    fn variables_as_in_compose() {
        let table = [
            ("plain", "plain"),
            ("${HOST}", "db1"),
            ("a-${HOST}-b", "a-db1-b"),
            ("${NONE:-x}", "x"),
            ("${NONE-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NONE:-}", ""),
            ("${NONE:-${HOST}/é}", "db1/é"),
            ("${NONE:-${NONE2:-deep}}", "deep"),
            ("${HOST:?needed}", "db1"),
            ("${HOST:+yes}${NONE:+no}${EMPTY+set}", "yesset"),
            ("$${HOST} costs 5$ or $1", "${HOST} costs 5$ or $1"),
            ("$$$$", "$$"),
            // A value is never looked at again.
            ("${TRICK}", "${HOST} $$ }"),
        ];
        for (given, expected) in table {
            assert_eq!(expand_here(given).unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let table = [
            ("x ${NONE}", 2..9, "the variable NONE is not set"),
            ("${NONE:?set it to the host}", 0..27, "the variable NONE is not set: set it to the host"),
            ("${EMPTY:?}", 0..10, "the variable EMPTY is not set"),
            ("é$HOME/x", 2..7, "a `$` without braces can mean two things"),
            ("a${HOST", 1..7, "`${` is never closed"),
            ("${}", 0..3, "this is not the name of a variable"),
            ("${1A}", 0..5, "this is not the name of a variable"),
            ("${HOST!x}", 0..9, "this is not a variable"),
            ("${HOST:}", 0..8, "this is not a variable"),
            ("${HOSTé}", 0..9, "this is not a variable"),
            ("${HOST:é}", 0..10, "this is not a variable"),
            ("${A:-${NONE}}", 5..12, "the variable NONE is not set"),
        ];
        for (given, at, message) in table {
            let wrong = expand_here(given).unwrap_err();
            assert_eq!((wrong.at, wrong.message.as_str()), (at, message), "{given}");
        }
    }
}
