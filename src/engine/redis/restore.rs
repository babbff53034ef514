//! Keys into a server that runs and is empty, one by one with `RESTORE`.
//!
//! The server itself checks each value, so that versions that do not fit are told by it. Users come along, except `default`,
//! whose password would change under those who are connected. It is not one step: after a failure the server has a part.

use super::connection::{Connection, Reply, refused};
use super::fitting::must_fit;
use super::leftovers::{self, MARK_WHOLE, in_part};
use super::load::{self, loaded, must_be_equal, only_whole};
use super::rdb::{self, Census, Key, Visit};
use super::{Settings, client, sentinel};
use crate::clock;
use crate::durable::crash_point;
use crate::engine::{Comes, LoadRun, Loaded, Origin, Returning};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crc_fast::{CrcAlgorithm, checksum};
use std::io::Read;

/// Sent before the answers are read.
const BYTES: usize = 1 << 20;
const COMMANDS: usize = 512;

pub fn into_empty(origin: &dyn Origin, settings: &Settings, run: &LoadRun<'_>) -> Result<Loaded> {
    only_whole(run)?;
    let mut connection = connect(settings, run.context.cancel)?;
    must_fit(origin, &mut connection)?;
    must_be_empty(&mut connection)?;
    let address = connection.address.clone();
    let users = load::stored(origin)?.users;
    let mut restore = Restore::new(connection);
    let census = restore.everything(origin, run).map_err(|failure| in_part(failure, &address))?;
    let mut loaded = loaded(&census);
    loaded.warnings.extend(restore.users(&users, run.returning, &mut Vec::new())?);
    Ok(loaded)
}

/// To the server that takes writes.
pub fn connect<'a>(settings: &Settings, cancel: &'a Cancel) -> Result<Connection<'a>> {
    let address = match &settings.sentinel {
        Some(sentinel) => sentinel::master(settings, sentinel, cancel)?,
        None => client::address(&settings.server)?,
    };
    client::connect(&settings.server, &address, cancel)
}

/// The lines of an answer that must not be a refusal.
pub fn told(connection: &mut Connection<'_>, command: &[&[u8]], rule: &str) -> Result<Vec<String>> {
    match connection.ask(command)? {
        Reply::Refused(text) => {
            let name = String::from_utf8_lossy(command[0]).into_owned();
            Err(refused(&connection.address.to_string(), &name, rule, &text))
        }
        reply => Ok(reply.lines()),
    }
}

fn must_be_empty(connection: &mut Connection<'_>) -> Result<()> {
    let server = connection.address.to_string();
    if leftovers::occupied(connection)?.is_empty() {
        return Ok(());
    }
    if connection.ask(&[b"EXISTS", MARK_WHOLE.as_bytes()])? == Reply::Number(1) {
        let text = format!("{server} holds a part of a restore that goes on, or was killed; nothing was changed");
        return Err(Failure::new(Kind::Refused, text).hint("When no restore goes on: FLUSHALL, and run this again"));
    }
    Err(Failure::new(Kind::Refused, format!("{server} has keys already; nothing was changed"))
        .hint("Restore into an empty server, into a new directory with --to, or in place"))
}

/// Reads data on its way to a server.
pub fn walk_of<'a, 'r>(data: &'a mut dyn Read, run: &'a LoadRun<'r>) -> impl Read + use<'a, 'r> {
    Counted { data, run }
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

/// Commands on their way to a server, many at once.
pub struct Restore<'a> {
    pub connection: Connection<'a>,
    batch: Vec<Vec<Vec<u8>>>,
    bytes: usize,
    database: Option<u64>,
}

impl<'a> Restore<'a> {
    pub fn new(connection: Connection<'a>) -> Self {
        Restore { connection, batch: Vec::new(), bytes: 0, database: None }
    }

    fn everything(&mut self, origin: &dyn Origin, run: &LoadRun<'_>) -> Result<Census> {
        self.select(0)?;
        self.add(vec![b"SET".to_vec(), MARK_WHOLE.into(), b"1".to_vec()])?;
        self.flush()?;
        crash_point("restore:target-begun");
        let mut data = origin.stream(super::dump::DATA)?;
        let now = clock::now().as_millisecond();
        let census = rdb::walk(walk_of(&mut data, run), now, Some(self))?;
        must_be_equal(origin, &census)?;
        self.flush()?;
        crash_point("restore:data-written");
        self.select(0)?;
        self.add(vec![b"DEL".to_vec(), MARK_WHOLE.into()])?;
        self.flush()?;
        Ok(census)
    }

    pub fn select(&mut self, database: u64) -> Result<()> {
        if self.database == Some(database) {
            return Ok(());
        }
        self.database = Some(database);
        self.add(vec![b"SELECT".to_vec(), database.to_string().into_bytes()])
    }

    /// Whether one more would not be sent together with those before it.
    pub fn is_full(&self, next: usize) -> bool {
        self.bytes + next >= BYTES
    }

    pub fn add(&mut self, command: Vec<Vec<u8>>) -> Result<()> {
        self.bytes += command.iter().map(Vec::len).sum::<usize>();
        self.batch.push(command);
        if self.bytes >= BYTES || self.batch.len() >= COMMANDS { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<()> {
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
                let rule = "+restore +select +set +del +function|load";
                return Err(refused(&self.connection.address.to_string(), &what, rule, &text));
            }
        }
        Ok(())
    }

    /// The same of those that are not there yet: others keep their passwords and rules. Whom a restore before this one locked, and
    /// was killed, is told.
    pub fn new_users(
        &mut self,
        lines: &[String],
        returning: Option<&Returning>,
        made: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        let (mut new, mut off) = (Vec::new(), Vec::new());
        for line in lines {
            let words = words(line);
            let [_, name, rules @ ..] = words.as_slice() else { continue };
            let there = self.connection.ask(&[b"ACL", b"GETUSER", name.as_bytes()])?;
            if there == Reply::Nothing {
                new.push(line.clone());
            } else if rules.contains(&"on") && there.lines().iter().any(|word| word == "off") {
                off.push((*name).to_owned());
            }
        }
        let mut warnings = self.users(&new, returning, made)?;
        if !off.is_empty() {
            let names = off.join(", ");
            warnings.push(format!("users are off, and were on at the time of the point (ACL SETUSER … on): {names}"));
        }
        Ok(warnings)
    }

    /// Makes the users that were stored, and tells what is left to do.
    fn users(
        &mut self,
        lines: &[String],
        returning: Option<&Returning>,
        made: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        let mut locked = Vec::new();
        let mut warnings = Vec::new();
        for line in lines {
            let words = words(line);
            let ["user", name, rules @ ..] = words.as_slice() else { continue };
            if *name == "default" {
                continue;
            }
            let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes(), b"reset"];
            let comes = Returning::of(returning, name);
            let rules = coming(rules, comes);
            command.extend(rules.iter().map(|rule| rule.as_bytes()));
            if matches!(comes, Comes::Locked) {
                locked.push((*name).to_owned());
            }
            match self.connection.ask(&command)? {
                // Its text would repeat a rule, which may be the hash of a password.
                Reply::Refused(_) => warnings.push(format!("the server did not take the user `{name}`")),
                _ => made.push((*name).to_owned()),
            }
        }
        if !locked.is_empty() {
            let names = locked.join(", ");
            warnings.push(format!("users came back off, for nothing here knows of them (ACL SETUSER … on): {names}"));
        }
        if !made.is_empty() {
            let made = made.len();
            warnings.push(format!("{made} users were made; ACL SAVE (or CONFIG REWRITE) keeps them over a restart"));
        }
        Ok(warnings)
    }
}

impl Visit for Restore<'_> {
    fn key(&mut self, key: &Key<'_>) -> Result<()> {
        self.select(key.database)?;
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

/// The rules of a user, as it comes back.
fn coming(rules: &[&str], comes: Comes<'_>) -> Vec<String> {
    // `#` begins the hash of a password.
    let opens = |rule: &str| rule.starts_with('#') || rule == "nopass";
    let is_closed = matches!(comes, Comes::Closed | Comes::With(_));
    let kept = rules.iter().filter(|rule| !is_closed || !opens(rule)).map(|rule| (*rule).to_owned());
    kept.chain(match comes {
        Comes::With(password) => Some(super::rotation::added(password)),
        Comes::Locked => Some("off".to_owned()),
        Comes::AsItWas | Comes::Closed => None,
    })
    .collect()
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
    fn users_come_back_with_the_password_that_is_known_of_them_or_with_none() {
        let rules = ["on", "#ab", "nopass", "~*", "+@all"];
        let old = crate::secret::Secret::new("old".into());
        assert_eq!(coming(&rules, Comes::AsItWas), rules);
        assert_eq!(coming(&rules, Comes::Closed), ["on", "~*", "+@all"]);
        assert_eq!(coming(&rules, Comes::Locked).last().unwrap(), "off");
        let with = coming(&rules, Comes::With(&old));
        assert_eq!(with[..3], ["on", "~*", "+@all"]);
        assert!(with.len() == 4 && with[3].starts_with("#cba06b57"), "{with:?}");
    }

    #[test]
    fn selectors_of_users_stay_together() {
        assert_eq!(words("user a on ~x* (+get ~y) +set"), ["user", "a", "on", "~x*", "(+get ~y)", "+set"]);
    }
}
