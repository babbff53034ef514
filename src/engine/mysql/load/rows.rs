//! Rows into tables, by several clients at once, in bounded memory.
//!
//! One thread reads the dump and hands statements of rows to whichever client is free: they do not depend on each other
//! while keys are not checked. A statement too long to be kept goes to one client in pieces. Clients commit in batches.
//! The first failure ends all of them.

use super::super::client::{Client, Flavour};
use super::super::script::{Scanner, Visitor};
use super::super::session::name;
use super::super::statement::{Meaning, Token, meaning, tokens};
use crate::error::{Failure, Result};
use crate::event::Context;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use std::io::{self, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const CLIENTS: usize = 4;
/// Longer statements are not kept whole.
const LONG: usize = 4 << 20;
/// Bytes between two commits.
const BATCH: usize = 16 << 20;
const PIECE: usize = 256 << 10;

/// Where the rows of a database of the dump go.
pub struct Destination {
    pub source: String,
    pub target: String,
    /// Only this table.
    pub table: Option<String>,
}

enum Work {
    Whole { destination: usize, statement: Vec<u8> },
    Pieces { destination: usize, pieces: Receiver<Vec<u8>> },
}

pub struct Rows<'a> {
    pub client: &'a Client<'a>,
    pub destinations: &'a [Destination],
    /// Leave the rows out of the binary log.
    pub log_off: bool,
    pub context: Context<'a>,
}

impl Rows<'_> {
    /// Loads all rows of `dump`, and says how many bytes that was.
    pub fn load(&self, dump: &mut dyn Read) -> Result<u64> {
        let failed = AtomicBool::new(false);
        let (queue, work) = bounded(CLIENTS);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let mut statements = Statements::new(self, work.clone(), &failed);
                    scope.spawn(move || {
                        let fed = self.client.feed(&mut statements, self.context.cancel);
                        if fed.is_err() {
                            statements.failed.store(true, Relaxed);
                        }
                        fed
                    })
                })
                .collect();
            drop(work);
            let read = self.distribute(dump, queue, &failed);
            if read.is_err() {
                failed.store(true, Relaxed);
            }
            let mut first = None;
            for client in clients {
                let fed = client.join().unwrap_or_else(|_| Err(Failure::failed("a client's thread broke off")));
                // A client that was stopped because of another's failure has nothing to tell.
                first = first.or(fed.err().filter(|failure| failure.to_string() != STOPPED));
            }
            match (read, first) {
                (Err(failure), None) => Err(failure),
                (_, Some(failure)) => Err(failure),
                (Ok(bytes), None) => Ok(bytes),
            }
        })
    }

    fn distribute(&self, dump: &mut dyn Read, queue: Sender<Work>, failed: &AtomicBool) -> Result<u64> {
        let mut distributor = Distributor {
            rows: self,
            queue,
            failed,
            current: None,
            skipped: false,
            statement: Vec::new(),
            pieces: None,
        };
        let (mut scanner, mut buffer, mut bytes) = (Scanner::new(), vec![0; PIECE], 0);
        loop {
            self.context.cancel.check()?;
            match dump.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    scanner.push(&buffer[..read], &mut distributor)?;
                    self.context.meter.add(read as u64, 0);
                    bytes += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::from_io(error, || "cannot read the dump".into())),
            }
        }
        scanner.finish().map(|()| bytes)
    }

    fn settings(&self) -> Vec<u8> {
        let mariadb = self.client.version.flavour == Flavour::Mariadb;
        let mut text = format!(
            "SET NAMES utf8mb4;\nSET SESSION time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', unique_checks = 0, \
             foreign_key_checks = 0, sql_notes = 0, innodb_lock_wait_timeout = 86400, wait_timeout = 604800, autocommit = {};\n",
            // MariaDB locks an empty table until the transaction that fills it ends.
            u8::from(mariadb)
        );
        if self.client.version.at_least(Flavour::Mariadb, (10, 11, 0)) {
            text.push_str("SET SESSION system_versioning_insert_history = 1;\n");
        }
        if self.log_off {
            text.push_str("SET SESSION sql_log_bin = 0;\n");
        }
        text.into_bytes()
    }
}

/// Reads the dump's statements and hands those of rows on.
struct Distributor<'a> {
    rows: &'a Rows<'a>,
    queue: Sender<Work>,
    failed: &'a AtomicBool,
    /// Where the rows that come now belong.
    current: Option<usize>,
    skipped: bool,
    statement: Vec<u8>,
    pieces: Option<Sender<Vec<u8>>>,
}

const STOPPED: &str = "stopped because another client failed";

impl Distributor<'_> {
    fn send<T>(&self, to: &Sender<T>, what: T) -> Result<()> {
        let mut what = what;
        loop {
            if self.failed.load(Relaxed) {
                return Err(Failure::failed(STOPPED));
            }
            self.rows.context.cancel.check()?;
            what = match to.send_timeout(what, Duration::from_millis(200)) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(Failure::failed(STOPPED)),
            };
        }
    }
}

impl Visitor for Distributor<'_> {
    fn statement(&mut self, text: &[u8], _delimiter: &str) -> Result<()> {
        if let Meaning::Use(database) = meaning(text) {
            self.current = self.rows.destinations.iter().position(|d| d.source == database);
        }
        Ok(())
    }

    fn rows(&mut self, piece: &[u8], begins: bool, ends: bool) -> Result<()> {
        let Some(destination) = self.current else { return Ok(()) };
        if begins {
            let only = self.rows.destinations[destination].table.as_ref();
            self.skipped = only.is_some_and(|table| tokens(piece).get(2) != Some(&Token::Name(table.clone())));
        }
        if self.skipped {
            return Ok(());
        }
        if let Some(pieces) = &self.pieces {
            self.send(pieces, piece.to_vec())?;
        } else {
            self.statement.extend_from_slice(piece);
            if self.statement.len() > LONG && !ends {
                let (pieces, received) = bounded(2);
                self.send(&self.queue, Work::Pieces { destination, pieces: received })?;
                let beginning = std::mem::take(&mut self.statement);
                self.send(&pieces, beginning)?;
                self.pieces = Some(pieces);
            }
        }
        if ends && self.pieces.take().is_none() {
            let statement = std::mem::take(&mut self.statement);
            self.send(&self.queue, Work::Whole { destination, statement })?;
        }
        Ok(())
    }
}

/// What one client reads.
struct Statements<'a> {
    rows: &'a Rows<'a>,
    work: Receiver<Work>,
    failed: &'a AtomicBool,
    current: Vec<u8>,
    at: usize,
    /// After the current bytes: the statement they are the beginning of.
    next: Option<Vec<u8>>,
    pieces: Option<Receiver<Vec<u8>>>,
    used: Option<usize>,
    uncommitted: usize,
    ended: bool,
}

impl<'a> Statements<'a> {
    fn new(rows: &'a Rows<'a>, work: Receiver<Work>, failed: &'a AtomicBool) -> Self {
        let current = rows.settings();
        Statements {
            rows,
            work,
            failed,
            current,
            at: 0,
            next: None,
            pieces: None,
            used: None,
            uncommitted: 0,
            ended: false,
        }
    }

    /// The next bytes; `false` when there are none any more.
    fn refill(&mut self) -> bool {
        (self.at, self.current) = (0, Vec::new());
        if let Some(next) = self.next.take() {
            self.current = next;
            return true;
        }
        if let Some(pieces) = &self.pieces {
            match pieces.recv() {
                Ok(piece) => {
                    self.uncommitted += piece.len();
                    self.current = piece;
                    return true;
                }
                Err(_) => self.pieces = None,
            }
        }
        let Ok(work) = self.work.recv() else {
            let first = !std::mem::replace(&mut self.ended, true);
            if first {
                self.current = b"COMMIT;\n".to_vec();
            }
            return first;
        };
        let destination = match work {
            Work::Whole { destination, statement } => {
                self.next = Some(statement);
                destination
            }
            Work::Pieces { destination, pieces } => {
                self.pieces = Some(pieces);
                destination
            }
        };
        if self.uncommitted > BATCH {
            self.current.extend_from_slice(b"COMMIT;\n");
            self.uncommitted = 0;
        }
        self.uncommitted += self.next.as_ref().map_or(0, Vec::len);
        if self.used != Some(destination) {
            let target = name(&self.rows.destinations[destination].target);
            self.current.extend_from_slice(format!("USE {target};\n").as_bytes());
            self.used = Some(destination);
        }
        true
    }
}

impl Read for Statements<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.failed.load(Relaxed) {
                return Err(Failure::failed(STOPPED).into());
            }
            if self.at < self.current.len() {
                let rest = &self.current[self.at..];
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                self.at += length;
                return Ok(length);
            }
            if !self.refill() {
                // The dump was not read to its end: nothing more is to be committed as if it had been.
                return if self.failed.load(Relaxed) { Err(Failure::failed(STOPPED).into()) } else { Ok(0) };
            }
        }
    }
}
