//! A client kept open: questions, rows, and what its errors mean.
//!
//! Rows come in the client's batch format: fields apart by tabs, escapes undone here. NULL is the word `NULL`: a question
//! that must tell it from text asks differently. The first error ends the client and thereby the session.

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::exec::Conversation;

/// Dropped, it lets the client go in order, unless that is still at work: killing one takes seconds.
pub struct Session<'a> {
    /// Absent once it is closed.
    conversation: Option<Box<dyn Conversation + 'a>>,
    mark: String,
    /// An answer is not yet heard to its end.
    waits: bool,
}

pub type Row = Vec<String>;

/// What every session begins with, whatever the server's defaults are. Some wait for hours while rows go elsewhere, and
/// must not be ended for it.
const SETTINGS: &str = "SET NAMES utf8mb4; \
    SET SESSION sql_mode='', time_zone='+00:00', sql_quote_show_create=1, wait_timeout=604800";

impl<'a> Session<'a> {
    pub fn begin(conversation: Box<dyn Conversation + 'a>) -> Result<Self> {
        let mark = format!("bkp-{}", durable::random_hex(8));
        let mut session = Session { conversation: Some(conversation), mark, waits: false };
        session.run(SETTINGS)?;
        Ok(session)
    }

    /// All rows of the answer.
    pub fn rows(&mut self, question: &str) -> Result<Vec<Row>> {
        self.waits = true;
        let client = self.conversation.as_deref_mut().ok_or_else(|| Failure::failed("the client is closed"))?;
        client.say(&format!("{question};\nSELECT '{}';\n", self.mark))?;
        let mut rows = Vec::new();
        loop {
            let line = client.hear()?;
            if line == self.mark {
                self.waits = false;
                return Ok(rows);
            }
            rows.push(line.split('\t').map(plain).collect());
        }
    }

    pub fn run(&mut self, statement: &str) -> Result<()> {
        self.rows(statement).map(drop)
    }

    /// The first field of the first row; empty when there is none.
    pub fn one(&mut self, question: &str) -> Result<String> {
        let rows = self.rows(question)?;
        Ok(rows.into_iter().flatten().next().unwrap_or_default())
    }

    /// The first field of every row.
    pub fn column(&mut self, question: &str) -> Result<Vec<String>> {
        Ok(self.rows(question)?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    pub fn number(&mut self, question: &str) -> Result<u64> {
        let text = self.one(question)?;
        text.parse().map_err(|_| Failure::failed(format!("the server answered `{text}` where a number was expected")))
    }

    pub fn close(mut self) -> Result<()> {
        self.conversation.take().map_or(Ok(()), Conversation::close)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(conversation) = self.conversation.take().filter(|_| !self.waits) {
            let _ = conversation.close();
        }
    }
}

/// Undoes the escapes of the batch format.
fn plain(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    text
}

/// A name in back quotes.
pub fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

/// Text in quotes, for sessions whose `sql_mode` is plain.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A list of texts for `IN (…)`, which must not be empty.
pub fn texts(values: &[String]) -> String {
    match values {
        [] => "NULL".to_owned(),
        _ => values.iter().map(|v| text(v)).collect::<Vec<_>>().join(","),
    }
}

/// Says what a refused login or connection means. Other failures of a client are told without the statement that it
/// repeats, which may hold rows or hashes.
pub fn explain(failure: Failure, at: &str, user: &str) -> Failure {
    let full = failure.full();
    let in_a_statement = full.contains(") at line ");
    if let Some(error) = full.rfind("ERROR ").filter(|_| in_a_statement) {
        let error = &full[error..];
        return Failure::new(failure.kind(), format!("the server at {at} refused a statement: {error}"))
            .hint(trouble(error).unwrap_or("See what the server says; nothing that was begun counts as done"));
    }
    if let Some(hint) = trouble(&full) {
        return failure.hint(hint);
    }
    let has = |numbers: &[u16]| numbers.iter().any(|n| error_number(&full) == Some(*n));
    if has(&[1045, 1698]) {
        return Failure::new(Kind::Key, format!("the server at {at} refused the login of {user}"))
            .hint("Look at `user` and `password` of the source; log in by hand with the same ones")
            .because(failure);
    }
    if has(&[2002, 2003, 2005]) {
        return Failure::failed(format!("no server answers at {at}"))
            .hint("See whether it runs, and whether `host`, `port` or `socket` is right")
            .because(failure);
    }
    failure
}

/// What helps against errors of whose text that is not plain.
fn trouble(message: &str) -> Option<&'static str> {
    match error_number(message) {
        _ if message.contains("No space left on device") || message.contains("rrno: 28") => Some(NO_ROOM),
        Some(1021 | 1114) => Some(NO_ROOM),
        Some(1153 | 2020) => Some(
            "A row is longer than max_allowed_packet of the server: SET GLOBAL max_allowed_packet = 1073741824; and run the command again",
        ),
        _ => None,
    }
}

const NO_ROOM: &str = "The disk of the server is full: make room where its data is, and run the command again; nothing that was begun counts as done";

/// The number in `ERROR 1045 (28000): …` or `Got error: 1045: …`.
pub fn error_number(message: &str) -> Option<u16> {
    let after = ["ERROR ", "rror: "].iter().filter_map(|mark| message.find(mark).map(|at| at + mark.len()));
    after.into_iter().find_map(|at| {
        let rest = message[at..].trim_start_matches(|c: char| c == '(' || c.is_whitespace());
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_batch_format_are_undone() {
        assert_eq!(plain("a\\tb\\nc\\\\d\\0"), "a\tb\nc\\d\0");
        assert_eq!((name("a`b"), text("it's \\")), ("`a``b`".into(), "'it''s \\\\'".into()));
    }

    #[test]
    fn error_numbers_are_found() {
        assert_eq!(error_number("mysql ended with status 1: ERROR 1045 (28000): Access denied"), Some(1045));
        assert_eq!(error_number("mysqldump: Got error: 1412: Table definition has changed"), Some(1412));
        assert_eq!(error_number("nothing of the kind"), None);
    }
}
