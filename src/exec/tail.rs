//! The ends of what a command wrote: of standard error for people, of standard output for the terminator.
//!
//! Both keep a bounded number of bytes however much is written. What is told of standard error never shows the secret
//! that went in by standard input, nor any line or value of it, also where the beginning was cut off.

use super::Command;
use crate::error::{Failure, Result};
use crate::secret::Secret;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of standard error that are kept.
const KEPT: usize = 8 << 10;
/// Characters of it that a message repeats.
const TOLD: usize = 1000;
const HIDDEN: &str = "[hidden]";

/// The end of standard error.
#[derive(Default)]
pub struct Complaints {
    bytes: Vec<u8>,
    cut: bool,
}

impl Complaints {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
            self.cut = true;
        }
    }

    /// The last lines in one, without control characters and without `secret`; `None` when there is nothing to tell.
    pub fn text(&self, secret: Option<&Secret>) -> Option<String> {
        let told = self.lines(secret).join(" | ");
        let skip = told.chars().count().saturating_sub(TOLD);
        match (told.is_empty(), skip) {
            (true, _) => None,
            (_, 0) => Some(told),
            _ => Some(format!("…{}", told.chars().skip(skip).collect::<String>())),
        }
    }

    fn lines(&self, secret: Option<&Secret>) -> Vec<String> {
        let words = secret.map(words_of).unwrap_or_default();
        let mut hidden = vec![false; self.bytes.len()];
        for word in &words {
            for at in 0..self.bytes.len() {
                if self.bytes[at..].starts_with(word) {
                    hidden[at..at + word.len()].fill(true);
                }
            }
        }
        if self.cut {
            // The buffer may begin inside of a secret whose first half is gone.
            let longest = words.iter().map(|w| w.len()).max().unwrap_or(0).min(hidden.len());
            hidden[..longest].fill(true);
        }
        let mut shown = Vec::new();
        for at in 0..self.bytes.len() {
            match (hidden[at], at > 0 && hidden[at - 1]) {
                (true, true) => {}
                (true, false) => shown.extend_from_slice(HIDDEN.as_bytes()),
                _ => shown.push(self.bytes[at]),
            }
        }
        let text = String::from_utf8_lossy(&shown);
        text.lines().map(printable).filter(|line| !line.is_empty()).collect()
    }
}

/// Lines of standard error of commands that ended well: warnings, mostly. All clones hold the same.
#[derive(Clone, Debug, Default)]
pub struct Remarks(Arc<Mutex<Vec<String>>>);

impl Remarks {
    pub(super) fn take(&self, complaints: &Complaints, secret: Option<&Secret>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(complaints.lines(secret));
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn printable(line: &str) -> String {
    let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().to_owned()
}

/// Everything in a secret that must not be repeated: all of it, each line, and the value of each `name=value` or `name: value`.
fn words_of(secret: &Secret) -> Vec<&[u8]> {
    let mut words = vec![secret.expose().trim()];
    for line in secret.expose().lines() {
        words.push(line.trim());
        if let Some((_, value)) = line.split_once(['=', ':']) {
            words.push(value.trim());
            words.push(value.trim().trim_matches(['"', '\'']));
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).map(str::as_bytes).collect()
}

/// The end of standard output, compared with the terminator that it must have. White space after it does not count.
pub struct Ending {
    wanted: Vec<u8>,
    end: Vec<u8>,
    space: Vec<u8>,
}

impl Ending {
    /// For the terminator of `command`, when it has one.
    pub fn of(command: &Command) -> Result<Option<Self>> {
        match &command.terminator {
            Some(terminator) if terminator.trim_ascii().is_empty() => Err(Failure::usage("the terminator is empty")),
            terminator => Ok(terminator.as_deref().map(Ending::new)),
        }
    }

    pub fn new(terminator: &str) -> Self {
        Ending { wanted: terminator.trim_ascii_end().as_bytes().to_vec(), end: Vec::new(), space: Vec::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let solid = bytes.trim_ascii_end();
        if !solid.is_empty() {
            self.end.append(&mut self.space);
            self.end.extend_from_slice(last(solid, self.wanted.len()));
            self.end.drain(..self.end.len().saturating_sub(self.wanted.len()));
        }
        // More white space than the terminator is long cannot be inside of it.
        self.space.extend_from_slice(last(&bytes[solid.len()..], self.wanted.len()));
        self.space.drain(..self.space.len().saturating_sub(self.wanted.len()));
    }

    pub fn seen(&self) -> bool {
        self.end == self.wanted
    }
}

fn last(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(length)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(terminator: &str, pieces: &[&str]) -> bool {
        let mut ending = Ending::new(terminator);
        pieces.iter().for_each(|piece| ending.push(piece.as_bytes()));
        ending.seen()
    }

    #[test]
    fn a_terminator_is_seen_however_it_is_cut() {
        assert!(ends("-- Dump completed", &["rows\n-- Dump completed\n"]));
        assert!(ends("-- Dump completed", &["rows\n-- ", "Dump ", " ", "\n-- Dump", " ", "completed", "\n", " \n"]));
        assert!(ends("end\n", &["the e", "n", "d"]));
    }

    #[test]
    fn a_terminator_that_is_not_last_does_not_count() {
        assert!(!ends("-- Dump completed", &["-- Dump completed\n", "more"]));
        assert!(!ends("-- Dump completed", &["-- Dump", &" ".repeat(99), "completed"]));
        assert!(!ends("-- Dump completed", &[]));
        assert!(!ends("-- Dump completed", &["completed"]));
    }

    #[test]
    fn complaints_are_bounded_and_keep_the_end() {
        let mut complaints = Complaints::default();
        for number in 0..100_000 {
            complaints.push(format!("line {number}\n").as_bytes());
        }
        let text = complaints.text(None).unwrap();
        assert!(text.ends_with("line 99998 | line 99999"), "{text}");
        assert!(text.chars().count() <= TOLD + 1 && complaints.bytes.len() <= KEPT);
    }

    #[test]
    fn a_secret_is_hidden_also_where_it_is_cut() {
        let secret = Secret::new("[client]\nuser=backup\npassword=\"hunter2 hunter3\"\n".into());
        let mut complaints = Complaints::default();
        complaints.push(b"\x1b[31mdenied for 'backup' using hunter2 hunter3 in [client]\n");
        let text = complaints.text(Some(&secret)).unwrap();
        assert!(text.contains("denied for '[hidden]' using [hidden] in [hidden]") && !text.contains('\x1b'), "{text}");

        let long = Secret::new("0123456789".repeat(20));
        for filler in KEPT - 199..KEPT {
            let mut complaints = Complaints::default();
            complaints.push(long.expose().as_bytes());
            complaints.push(&vec![b'x'; filler]);
            let hidden = complaints.bytes.iter().any(u8::is_ascii_digit);
            assert!(hidden && !complaints.text(Some(&long)).unwrap().contains(|c: char| c.is_ascii_digit()));
            // The text is long: the message alone would not show that the beginning is hidden.
            complaints.bytes.truncate(300);
            assert!(!complaints.text(Some(&long)).unwrap().contains(|c: char| c.is_ascii_digit()));
        }
    }
}
