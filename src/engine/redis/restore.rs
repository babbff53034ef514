//! Keys into a server that runs and is empty, one by one with `RESTORE`.
//!
//! The server itself checks each value, so that versions that do not fit are told by it. Users come along, except `default`,
//! whose password would change under those who are connected. It is not one step: after a failure the server has a part.

use super::connection::{Connection, Reply, refused};
use super::load::{self, loaded, must_be_equal, only_whole};
use super::rdb::{self, Key, Visit};
use super::{Settings, client, sentinel};
use crate::clock;
use crate::engine::{LoadRun, Loaded, Origin};
use crate::error::{Failure, Kind, Result};
use crc_fast::{CrcAlgorithm, checksum};
use std::io::Read;

/// Sent before the answers are read.
const BYTES: usize = 1 << 20;
const COMMANDS: usize = 512;

pub fn into_empty(origin: &dyn Origin, settings: &Settings, run: &LoadRun<'_>) -> Result<Loaded> {
    only_whole(run)?;
    let cancel = run.context.cancel;
    let address = match &settings.sentinel {
        Some(sentinel) => sentinel::master(settings, sentinel, cancel)?,
        None => client::address(&settings.server)?,
    };
    let mut connection = client::connect(&settings.server, &address, cancel)?;
    must_be_empty(&mut connection)?;
    let users = load::stored(origin)?.users;
    let mut data = origin.stream(super::dump::DATA)?;
    let mut restore = Restore { connection, batch: Vec::new(), bytes: 0, database: 0 };
    let now = clock::now().as_millisecond();
    let walked = rdb::walk(Counted { data: &mut data, run }, now, Some(&mut restore));
    let census =
        walked.and_then(|census| restore.flush().map(|()| census)).map_err(|failure| leftover(failure, &address))?;
    must_be_equal(origin, &census).map_err(|failure| leftover(failure, &address))?;
    let mut loaded = loaded(&census);
    loaded.warnings.extend(restore.users(&users)?);
    Ok(loaded)
}

fn leftover(failure: Failure, address: &impl std::fmt::Display) -> Failure {
    let text = format!("the restore into {address} stopped half-way: {}", failure.full());
    Failure::new(failure.kind(), text).hint(
        "The server was empty and has a part of the data now: FLUSHALL removes it, and the restore can be run again",
    )
}

fn must_be_empty(connection: &mut Connection<'_>) -> Result<()> {
    let server = connection.address.to_string();
    let told = match connection.ask(&[b"INFO", b"keyspace"])? {
        Reply::Refused(text) => return Err(refused(&server, "INFO", "+info", &text)),
        reply => reply.lines(),
    };
    if told.iter().any(|line| line.starts_with("db")) {
        return Err(Failure::new(Kind::Refused, format!("{server} has keys already; nothing was changed"))
            .hint("Restore into an empty server, or into a new directory with --to"));
    }
    Ok(())
}

struct Counted<'a, 'r> {
    data: &'a mut dyn Read,
    run: &'a LoadRun<'r>,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.run.context.cancel.check()?;
        let read = self.data.read(into)?;
        self.run.context.meter.add(read as u64, 0);
        Ok(read)
    }
}

struct Restore<'a> {
    connection: Connection<'a>,
    batch: Vec<Vec<Vec<u8>>>,
    bytes: usize,
    database: u64,
}

impl Restore<'_> {
    fn add(&mut self, command: Vec<Vec<u8>>) -> Result<()> {
        self.bytes += command.iter().map(Vec::len).sum::<usize>();
        self.batch.push(command);
        if self.bytes >= BYTES || self.batch.len() >= COMMANDS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let words: Vec<Vec<&[u8]>> = batch.iter().map(|c| c.iter().map(Vec::as_slice).collect()).collect();
        let commands: Vec<&[&[u8]]> = words.iter().map(Vec::as_slice).collect();
        self.connection.say(&commands)?;
        for command in &commands {
            if let Reply::Refused(text) = self.connection.reply()? {
                let name = String::from_utf8_lossy(command[0]);
                let what = match command.get(1).filter(|_| name != "FUNCTION") {
                    Some(key) => format!("{name} of `{}`", String::from_utf8_lossy(key).escape_debug()),
                    None => name.into_owned(),
                };
                let rule = "+restore +select +function|load";
                return Err(refused(&self.connection.address.to_string(), &what, rule, &text));
            }
        }
        Ok(())
    }

    /// Makes the users that were stored, and tells what is left to do.
    fn users(&mut self, lines: &[String]) -> Result<Vec<String>> {
        let mut made = 0;
        let mut warnings = Vec::new();
        for line in lines {
            let words = words(line);
            let ["user", name, rules @ ..] = words.as_slice() else { continue };
            if *name == "default" {
                continue;
            }
            let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes(), b"reset"];
            command.extend(rules.iter().map(|rule| rule.as_bytes()));
            match self.connection.ask(&command)? {
                // Its text would repeat a rule, which may be the hash of a password.
                Reply::Refused(_) => warnings.push(format!("the server did not take the user `{name}`")),
                _ => made += 1,
            }
        }
        if made > 0 {
            warnings.push(format!("{made} users were made; ACL SAVE (or CONFIG REWRITE) keeps them over a restart"));
        }
        Ok(warnings)
    }
}

impl Visit for Restore<'_> {
    fn key(&mut self, key: &Key<'_>) -> Result<()> {
        if key.database != self.database {
            self.database = key.database;
            self.add(vec![b"SELECT".to_vec(), key.database.to_string().into_bytes()])?;
        }
        let mut value = key.value.to_vec();
        value.extend((key.version as u16).to_le_bytes());
        let checksum = checksum(CrcAlgorithm::Crc64Redis, &value);
        value.extend(checksum.to_le_bytes());
        let expires = key.expires.unwrap_or(0).to_string().into_bytes();
        self.add(vec![b"RESTORE".to_vec(), key.name.to_vec(), expires, value, b"ABSTTL".to_vec()])
    }

    fn functions(&mut self, code: &[u8]) -> Result<()> {
        self.add(vec![b"FUNCTION".to_vec(), b"LOAD".to_vec(), code.to_vec()])
    }
}

/// Words of a line of an ACL file; what stands in parentheses is one.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = if rest.starts_with('(') { rest.find(')').map(|at| at + 1) } else { rest.find(' ') };
        let (word, more) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = more.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_users_stay_together() {
        assert_eq!(words("user a on ~x* (+get ~y) +set"), ["user", "a", "on", "~x*", "(+get ~y)", "+set"]);
    }
}
