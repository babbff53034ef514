//! The dump on its way to the sink: objects counted, definitions kept aside, the beginning waited for.
//!
//! What is kept aside is everything except rows, in a file of the run: it becomes a stream of its own, which tells a
//! restore what to make before the rows come.

use super::script::{Scanner, Visitor};
use super::session::name;
use super::statement::{Meaning, Token, meaning, tokens};
use crate::error::{Context as _, Failure, Result};
use crate::event::Context;
use crate::exec::Output;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};

/// The dump program writes this once its transaction has begun.
const BEGUN: &[u8] = b"-- Current Database";
const PIECE: usize = 64 << 10;

pub struct Observed<'a> {
    output: Output<'a>,
    context: Context<'a>,
    /// Read already, and not handed on yet.
    ahead: Vec<u8>,
    scanner: Scanner,
    found: Found,
    ended: bool,
}

struct Found {
    counts: BTreeMap<&'static str, u64>,
    databases: BTreeSet<String>,
    definitions: BufWriter<File>,
    /// The database that statements are about.
    current: String,
    /// What the last statement of rows began with.
    last: Vec<u8>,
    with_rows: BTreeSet<String>,
}

/// What the dump was, seen from outside.
pub struct Seen {
    pub counts: BTreeMap<&'static str, u64>,
    pub definitions: File,
    pub longest_statement: u64,
    /// Tables of which there is a row at least; as [`super::catalog::Table::path`] calls them.
    pub with_rows: BTreeSet<String>,
}

impl<'a> Observed<'a> {
    /// `definitions` is an empty file.
    pub fn new(output: Output<'a>, definitions: File, context: Context<'a>) -> Self {
        let counts = BTreeMap::from([("tables", 0), ("views", 0), ("triggers", 0), ("sequences", 0)]);
        let found = Found {
            counts,
            databases: BTreeSet::new(),
            definitions: BufWriter::new(definitions),
            current: String::new(),
            last: Vec::new(),
            with_rows: BTreeSet::new(),
        };
        Observed { output, context, ahead: Vec::new(), scanner: Scanner::new(), found, ended: false }
    }

    /// Returns once the dump's transaction has begun. A failure when the dump ends before that.
    pub fn wait_for_beginning(&mut self) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        while !self.ahead.windows(BEGUN.len()).any(|window| window == BEGUN) {
            match self.output.read(&mut buffer) {
                Ok(0) => return Err(Failure::failed("the dump ended before its first database")),
                Ok(read) => self.ahead.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::from_io(error, || "cannot read the dump".into())),
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Seen> {
        if !self.ended {
            return Err(Failure::failed("the dump was not read to its end"));
        }
        self.found.counts.insert("databases", self.found.databases.len() as u64);
        let kept = || "cannot keep the definitions of the dump".to_owned();
        let Found { counts, definitions, with_rows, .. } = self.found;
        let mut definitions = definitions.into_inner().map_err(io::IntoInnerError::into_error).context(kept)?;
        definitions.rewind().context(kept)?;
        Ok(Seen { counts, definitions, longest_statement: self.scanner.longest, with_rows })
    }
}

impl Read for Observed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.context.cancel.check()?;
        let read = if self.ahead.is_empty() {
            loop {
                match self.output.read(buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other?,
                }
            }
        } else {
            let read = self.ahead.len().min(buffer.len());
            buffer[..read].copy_from_slice(&self.ahead[..read]);
            self.ahead.drain(..read);
            read
        };
        if read == 0 && !buffer.is_empty() {
            self.scanner.finish()?;
            self.ended = true;
        }
        self.scanner.push(&buffer[..read], &mut self.found)?;
        self.context.meter.add(read as u64, 0);
        Ok(read)
    }
}

impl Found {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

impl Visitor for Found {
    fn statement(&mut self, text: &[u8], delimiter: &str) -> Result<()> {
        match meaning(text) {
            Meaning::CreateDatabase(name) => _ = self.databases.insert(name),
            Meaning::Use(database) => (self.current, self.last) = (database, Vec::new()),
            Meaning::Table(_) => self.count("tables"),
            Meaning::View(_) => self.count("views"),
            Meaning::Trigger { .. } => self.count("triggers"),
            Meaning::Sequence(_) => self.count("sequences"),
            _ => {}
        }
        let out = &mut self.definitions;
        let written = match delimiter {
            ";" => out.write_all(text).and_then(|()| out.write_all(b";\n")),
            other => writeln!(out, "DELIMITER {other}")
                .and_then(|()| out.write_all(text))
                .and_then(|()| writeln!(out, "\n{other}\nDELIMITER ;")),
        };
        written.context(|| "cannot keep the definitions of the dump".into())
    }

    fn rows(&mut self, piece: &[u8], begins: bool, _ends: bool) -> Result<()> {
        if begins && self.last != piece {
            if let Some(Token::Name(table)) = tokens(piece).get(2) {
                self.with_rows.insert(format!("{}.{}", name(&self.current), name(table)));
            }
            self.last = piece.to_vec();
        }
        Ok(())
    }
}
