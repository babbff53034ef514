//! The dataset as a replica gets it: `PSYNC`, then an RDB file in the connection.
//!
//! bkp says that it takes data whose end is marked (`capa eof`), so that a server configured for it writes nothing to its disk;
//! the price is the server's `repl-diskless-sync-delay`, 5 s by default. Servers that are configured otherwise tell the length
//! beforehand. Both forms are read here; the mark is no part of the data.

use super::connection::{Connection, Reply, refused};
use crate::error::{Failure, Result};
use std::io::{self, Read};

const MARK: usize = 40;

/// A transfer that has begun.
pub struct Transfer<'a> {
    connection: Connection<'a>,
    form: Form,
    received: u64,
    pub replication_id: String,
    pub offset: u64,
    /// Known where the server told it.
    pub length: Option<u64>,
}

enum Form {
    Length(u64),
    Marked { mark: [u8; MARK], held: Vec<u8>, at: usize, is_over: bool },
}

/// Asks for everything. `Ok(Err(…))` is a server that says no, so that another way can be tried.
pub fn begin<'a>(
    mut connection: Connection<'a>,
    version: Option<&str>,
) -> Result<std::result::Result<Transfer<'a>, Failure>> {
    let server = connection.address.to_string();
    let rule = "+psync +replconf";
    let mut options: Vec<[&str; 3]> = vec![["REPLCONF", "capa", "eof"], ["REPLCONF", "rdb-only", "1"]];
    // Valkey writes an older form for whoever does not say what it understands.
    options.extend(version.map(|version| ["REPLCONF", "version", version]));
    for option in options {
        let words = option.map(str::as_bytes);
        match connection.ask(&words)? {
            Reply::Refused(text) if text.starts_with("ERR") && option[1] != "capa" => {}
            Reply::Refused(text) => return Ok(Err(refused(&server, "REPLCONF", rule, &text))),
            _ => {}
        }
    }
    connection.say(&[&[b"PSYNC", b"?", b"-1"]])?;
    let line = header(&mut connection)?;
    if let Some(text) = line.strip_prefix('-') {
        return Ok(Err(refused(&server, "PSYNC", rule, text)));
    }
    let mut words = line.split(' ');
    let (Some("+FULLRESYNC"), Some(id), Some(Ok(offset))) =
        (words.next(), words.next(), words.next().map(str::parse::<u64>))
    else {
        return Err(Failure::failed(format!("{server} answers PSYNC with something unknown")));
    };
    let id = id.to_owned();
    let line = header(&mut connection)?;
    if let Some(text) = line.strip_prefix('-') {
        return Err(Failure::failed(format!("{server} cannot give its data: {text}"))
            .hint("Its background save failed: look at its log; often the data directory is full or not writable"));
    }
    let (form, length) =
        form(&line).ok_or_else(|| Failure::failed(format!("{server} begins its data in an unknown way")))?;
    Ok(Ok(Transfer { connection, form, received: 0, replication_id: id, offset, length }))
}

/// The next line that says something; empty ones only say that the server is there.
fn header(connection: &mut Connection<'_>) -> Result<String> {
    loop {
        let line = connection.line()?;
        if !line.is_empty() {
            return Ok(line);
        }
    }
}

fn form(line: &str) -> Option<(Form, Option<u64>)> {
    let told = line.strip_prefix('$')?;
    if let Some(mark) = told.strip_prefix("EOF:") {
        let mark = mark.as_bytes().try_into().ok()?;
        return Some((Form::Marked { mark, held: Vec::new(), at: 0, is_over: false }, None));
    }
    let length = told.parse().ok()?;
    Some((Form::Length(length), Some(length)))
}

impl Transfer<'_> {
    fn cut(&self) -> io::Error {
        let text = format!(
            "{} closed the connection after {} bytes, before the end of its data",
            self.connection.address, self.received
        );
        let hint = "Was it stopped or killed, did a failover happen, or is `client-output-buffer-limit replica` or \
                    `repl-timeout` too small? Look at its log, and run the command again";
        Failure::failed(text).hint(hint).into()
    }
}

impl Read for Transfer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let given = match &mut self.form {
            Form::Length(0) => return Ok(0),
            Form::Length(left) => {
                let most = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let read = self.connection.read(&mut into[..most])?;
                *left -= read as u64;
                read
            }
            Form::Marked { mark, held, at, is_over } => {
                // The server sends nothing behind the mark before it is answered, so it is the end of what has come.
                while !*is_over && held.len() - *at <= MARK {
                    held.drain(..*at);
                    *at = 0;
                    let before = held.len();
                    held.resize(before + into.len().max(64 << 10), 0);
                    let read = self.connection.read(&mut held[before..]);
                    held.truncate(before + read.as_ref().map_or(0, |read| *read));
                    if read? == 0 {
                        return Err(self.cut());
                    }
                    *is_over = held.ends_with(mark);
                }
                let given = into.len().min(held.len() - *at - MARK);
                into[..given].copy_from_slice(&held[*at..*at + given]);
                *at += given;
                if given == 0 {
                    return Ok(0);
                }
                given
            }
        };
        if given == 0 {
            return Err(self.cut());
        }
        self.received += given as u64;
        Ok(given)
    }
}
