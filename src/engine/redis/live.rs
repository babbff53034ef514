//! Replaces what a server holds while it runs. Every database is loaded into one that is empty, and one transaction
//! exchanges them (`SWAPDB`): until then clients see nothing of it, and nothing of what they see changes.
//!
//! The server holds both then, so memory is watched. What was replaced stays where it was exchanged to: what came into it
//! after the safety backup is nowhere else. Users that exist keep their passwords and rules; those that are missing are made before
//! the data go live, and taken away again where these do not.

use super::connection::{Connection, Reply};
use super::fitting::must_fit;
use super::leftovers::{self, MARK_ASIDE, MARK_STAGED, marked, occupied};
use super::load::{self, loaded, must_be_equal, only_whole};
use super::rdb::{self, Key, Visit};
use super::restore::{Restore, told, walk_of};
use super::{Settings, dump};
use crate::clock;
use crate::durable::crash_point;
use crate::engine::{Leftover, LoadRun, Loaded, Origin};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::collections::{BTreeMap, BTreeSet};

const RULE: &str = "+select +restore +function|load +set +del +dbsize +multi +exec +swapdb +flushdb +config|get";
/// Databases of a server that does not tell how many it has.
const DATABASES: u64 = 16;
/// Of the memory that a server may use, so much stays free for its clients.
const SPARE_MEMORY: u64 = 16 << 20;

pub fn replace(origin: &dyn Origin, settings: &Settings, run: &LoadRun<'_>) -> Result<Loaded> {
    only_whole(run)?;
    let cancel = run.context.cancel;
    let mut connection = super::restore::connect(settings, cancel)?;
    must_be_able(&mut connection)?;
    must_fit(origin, &mut connection)?;
    let left = leftovers::all(&mut connection)?;
    let plan = Plan::of(origin, &mut connection)?;
    let users = load::stored(origin)?.users;
    let address = connection.address.clone();
    let mut staging = Staging {
        restore: Restore::new(connection),
        spares: &plan.staged,
        sent: BTreeMap::new(),
        functions: Vec::new(),
    };
    let mut made = Vec::new();
    let outcome = staging.load(origin, run).and_then(|loaded| {
        let told = staging.restore.new_users(&users, run.returning, &mut made)?;
        crash_point("restore:before-live");
        staging.exchange(&plan).map(|()| (loaded, told))
    });
    let (mut loaded, told) = match outcome {
        Ok(done) => done,
        Err(failure) => return Err(cleared(failure, settings, &address, (&plan, &made))),
    };
    crash_point("restore:after-live");
    loaded.warnings.extend(plan.put_aside());
    loaded.warnings.extend(told);
    loaded.warnings.extend(left.iter().map(Leftover::told));
    Ok(loaded)
}

fn must_be_able(connection: &mut Connection<'_>) -> Result<()> {
    let server = connection.address.to_string();
    let info = told(connection, &[b"INFO"], "+info")?;
    let is = |line: &str| info.iter().any(|told| told.trim() == line);
    let refused = |reason: &str| Failure::new(Kind::Refused, format!("{server} {reason}; nothing was changed"));
    if is("redis_mode:cluster") || is("server_mode:cluster") {
        return Err(refused("is a node of a cluster, which cannot exchange databases").hint(
            "Restore into a new directory with --to; stop the server, exchange the directories, start it again",
        ));
    }
    if is("role:slave") {
        return Err(refused("is a replica: what it holds is its master's").hint("Point the source at the master"));
    }
    Ok(())
}

/// Which databases are exchanged for which.
struct Plan {
    /// Number in the point → the empty database that it is loaded into.
    staged: BTreeMap<u64, u64>,
    /// Of those that hold keys now and are not in the point: what they are exchanged with.
    emptied: BTreeMap<u64, u64>,
    /// What held keys when the restore began.
    occupied: BTreeSet<u64>,
}

impl Plan {
    fn of(origin: &dyn Origin, connection: &mut Connection<'_>) -> Result<Self> {
        let server = connection.address.to_string();
        let number = |part: &String| part.strip_prefix("db")?.split('/').next()?.parse().ok();
        let coming: BTreeSet<u64> = origin.fingerprint().parts.keys().filter_map(number).collect();
        let occupied: BTreeSet<u64> = occupied(connection)?.into_iter().collect();
        let all = count(connection)?;
        let mut free = (0..all).rev().filter(|n| !coming.contains(n) && !occupied.contains(n));
        let mut take = |live: u64| {
            let spare = free.next().filter(|_| live < all).ok_or_else(|| {
                let text = format!(
                    "{server} has {all} databases, of which {} hold keys: too few are empty to load {} beside them; nothing was changed",
                    occupied.len(),
                    coming.len()
                );
                Failure::new(Kind::Refused, text).hint(
                    "Raise `databases` of the server; or restore into a new directory with --to, stop the server, exchange the directories",
                )
            })?;
            Ok((live, spare))
        };
        // What other restores left may be the only copy of something: it stays.
        let left: BTreeSet<u64> = marked(connection)?.into_iter().map(|(number, _)| number).collect();
        let staged = coming.iter().map(|live| take(*live)).collect::<Result<_>>()?;
        let emptied = occupied
            .iter()
            .filter(|n| !coming.contains(n) && !left.contains(n))
            .map(|live| take(*live))
            .collect::<Result<_>>()?;
        Ok(Plan { staged, emptied, occupied })
    }

    fn exchanged(&self) -> impl Iterator<Item = (&u64, &u64)> {
        self.staged.iter().chain(&self.emptied)
    }

    /// Says where what was replaced is. Nothing tells whether somebody wrote after the safety backup, so it stays.
    fn put_aside(&self) -> Vec<String> {
        let old = self.exchanged().filter(|(live, _)| self.occupied.contains(live));
        let told = |(live, spare): (&u64, &u64)| {
            format!(
                "what database {live} was before is kept in database {spare}, for somebody may have written after the safety \
                 backup; when nobody needs it: redis-cli -n {spare} FLUSHDB ASYNC"
            )
        };
        old.map(told).collect()
    }
}

/// How many databases there are.
fn count(connection: &mut Connection<'_>) -> Result<u64> {
    Ok(match connection.ask(&[b"CONFIG", b"GET", b"databases"])? {
        Reply::Refused(_) => DATABASES,
        reply => reply.lines().last().and_then(|told| told.parse().ok()).unwrap_or(DATABASES),
    })
}

fn flush(connection: &mut Connection<'_>, database: u64) -> Result<()> {
    told(connection, &[b"SELECT", database.to_string().as_bytes()], RULE)?;
    told(connection, &[b"FLUSHDB", b"ASYNC"], RULE).map(drop)
}

/// Removes what was loaded and made for nothing. Only databases that this restore has marked are emptied.
fn cleared(
    failure: Failure,
    settings: &Settings,
    server: &impl std::fmt::Display,
    (plan, made): (&Plan, &[String]),
) -> Failure {
    // Also after a signal: what is left would only puzzle.
    let never = Cancel::default();
    let removed = super::restore::connect(settings, &never).and_then(|mut connection| {
        let emptied: Result<()> = plan.staged.values().try_for_each(|spare| {
            told(&mut connection, &[b"SELECT", spare.to_string().as_bytes()], RULE)?;
            match connection.ask(&[b"EXISTS", MARK_STAGED.as_bytes()])? {
                Reply::Number(1) => flush(&mut connection, *spare),
                _ => Ok(()),
            }
        });
        // A right that the restore itself does not need: each is tried, whatever became of the others.
        let gone = made
            .iter()
            .map(|user| told(&mut connection, &[b"ACL", b"DELUSER", user.as_bytes()], "+acl|deluser").map(drop));
        let gone: Vec<Result<()>> = gone.collect();
        gone.into_iter().fold(emptied, Result::and)
    });
    if removed.is_ok() {
        return failure;
    }
    let text = format!("{failure}; what was loaded into {server} could not be removed");
    let commands: Vec<String> = plan.staged.values().map(|spare| format!("redis-cli -n {spare} FLUSHDB")).collect();
    let users = match made {
        [] => String::new(),
        made => format!("; users that it made: ACL DELUSER {}", made.join(" ")),
    };
    Failure::new(failure.kind(), text).because(failure.full()).hint(format!(
        "Where a database has the key {MARK_STAGED}, it is of this restore and can be emptied: {}{users}",
        commands.join(", ")
    ))
}

/// Keys on their way into empty databases.
struct Staging<'a> {
    restore: Restore<'a>,
    spares: &'a BTreeMap<u64, u64>,
    /// Database of the point → keys.
    sent: BTreeMap<u64, u64>,
    functions: Vec<Vec<u8>>,
}

impl Staging<'_> {
    fn load(&mut self, origin: &dyn Origin, run: &LoadRun<'_>) -> Result<Loaded> {
        for spare in self.spares.values() {
            self.restore.select(*spare)?;
            self.restore.add(vec![b"SET".to_vec(), MARK_STAGED.into(), b"1".to_vec()])?;
        }
        self.restore.flush()?;
        crash_point("restore:target-begun");
        let mut data = origin.stream(dump::DATA)?;
        let now = clock::now().as_millisecond();
        let census = rdb::walk(walk_of(&mut data, run), now, Some(self))?;
        self.restore.flush()?;
        must_be_equal(origin, &census)?;
        self.must_hold_what_was_sent()?;
        crash_point("restore:data-written");
        Ok(loaded(&census))
    }

    /// Keys that somebody else wrote there would become live. Some of ours may have passed their time.
    fn must_hold_what_was_sent(&mut self) -> Result<()> {
        for (database, spare) in self.spares {
            let most = self.sent.get(database).copied().unwrap_or(0) + 1;
            let connection = &mut self.restore.connection;
            told(connection, &[b"SELECT", spare.to_string().as_bytes()], RULE)?;
            let held = told(connection, &[b"DBSIZE"], RULE)?;
            let held: u64 = held.first().and_then(|told| told.parse().ok()).unwrap_or(u64::MAX);
            if held > most {
                let text = format!("somebody else writes into database {spare}, which was empty; nothing was changed");
                return Err(Failure::new(Kind::TryLater, text).hint("Run the command again when that has ended"));
            }
        }
        Ok(())
    }

    /// All at once, or nothing.
    fn exchange(&mut self, plan: &Plan) -> Result<()> {
        let connection = &mut self.restore.connection;
        let mut commands: Vec<Vec<Vec<u8>>> = vec![vec![b"MULTI".to_vec()]];
        let mut say = |words: &[&str]| commands.push(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        for (live, spare) in plan.exchanged() {
            let (live_number, spare) = (live.to_string(), spare.to_string());
            say(&["SELECT", &spare]);
            say(&["DEL", MARK_STAGED]);
            say(&["SWAPDB", &live_number, &spare]);
            if plan.occupied.contains(live) {
                say(&["SET", MARK_ASIDE, "1"]);
            }
        }
        let functions = self.functions.iter();
        commands.extend(
            functions.map(|code| vec![b"FUNCTION".to_vec(), b"LOAD".to_vec(), b"REPLACE".to_vec(), code.clone()]),
        );
        commands.push(vec![b"EXEC".to_vec()]);
        let words: Vec<Vec<&[u8]>> = commands.iter().map(|c| c.iter().map(Vec::as_slice).collect()).collect();
        connection.say(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut queued = Ok(());
        for command in &commands[..commands.len() - 1] {
            if let Reply::Refused(text) = connection.reply()? {
                let name = String::from_utf8_lossy(&command[0]).into_owned();
                queued =
                    queued.and(Err(super::connection::refused(&connection.address.to_string(), &name, RULE, &text)));
            }
        }
        let done = connection.reply()?;
        queued?;
        match done {
            Reply::List(replies) => replies.into_iter().try_for_each(|reply| match reply {
                // Not one of these can be refused once it was queued, but for functions.
                Reply::Refused(text) => Err(Failure::failed(format!(
                    "the databases were exchanged, but {} refused a part: {text}",
                    connection.address
                ))
                .hint("Look at FUNCTION LIST; the keys are those of the point")),
                _ => Ok(()),
            }),
            _ => Err(Failure::failed(format!("{} did not exchange the databases", connection.address))),
        }
    }

    fn must_have_memory(&mut self) -> Result<()> {
        let connection = &mut self.restore.connection;
        let lines = told(connection, &[b"INFO", b"memory"], "+info")?;
        let number = |name: &str| {
            lines.iter().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':')?.parse::<u64>().ok())
        };
        match (number("used_memory"), number("maxmemory")) {
            (Some(used), Some(most)) if most > 0 && used + SPARE_MEMORY > most => {
                let text = format!(
                    "{} has no room to hold the old data and the new at once: {used} bytes of maxmemory {most} are used; nothing was changed",
                    connection.address
                );
                Err(Failure::new(Kind::Refused, text).hint(
                    "Raise maxmemory for the restore (CONFIG SET maxmemory), or restore into a new directory with --to and exchange the directories",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Visit for Staging<'_> {
    fn key(&mut self, key: &Key<'_>) -> Result<()> {
        let Some(spare) = self.spares.get(&key.database) else {
            let text = format!("database {} is not in the fingerprint of the point", key.database);
            return Err(Failure::new(Kind::Verification, text));
        };
        *self.sent.entry(key.database).or_default() += 1;
        if self.restore.is_full(key.value.len()) {
            self.restore.flush()?;
            self.must_have_memory()?;
        }
        self.restore.key(&Key { database: *spare, ..*key })
    }

    fn functions(&mut self, code: &[u8]) -> Result<()> {
        self.functions.push(code.to_vec());
        Ok(())
    }
}
