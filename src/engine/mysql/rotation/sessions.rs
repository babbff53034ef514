//! Which sessions of the account are older than an instant, at the server and at each of several nodes. Neither MySQL nor MariaDB
//! tells which password a session used, or since when it is there: sessions are told by their numbers, which only grow until the
//! server is started again, and then none is left from before.

use super::Rotation;
use crate::engine::accounts as rotation;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;

/// By how much the instant of a start may seem to move: it is told in whole seconds.
const SAME_START: u64 = 5;

const NO_SUCH_THREAD: u16 = 1094;
const MAY_NOT_KILL: u16 = 1095;

const QUESTION: &str = "SELECT CONNECTION_ID(), UNIX_TIMESTAMP(), CONCAT(@@hostname, ':', @@port, ' ', @@server_id)";

type Rows = Vec<Vec<String>>;
type Ask<'a> = dyn FnMut(&str) -> Result<Rows> + 'a;

/// An instant at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    /// Of the next session, nearly.
    number: u64,
    /// Seconds since 1970.
    started: u64,
    taken: u64,
    server: String,
}

impl Mark {
    fn take(ask: &mut Ask<'_>) -> Result<Mark> {
        let untold = || Failure::failed("the server does not tell when it was started");
        let row = ask(QUESTION)?.into_iter().next().unwrap_or_default();
        let [number, taken, server] = <[String; 3]>::try_from(row).map_err(|_| untold())?;
        let rows = ask("SHOW GLOBAL STATUS LIKE 'Uptime'")?;
        let up = rows.first().and_then(|row| row.get(1)).and_then(|text| text.parse::<u64>().ok());
        let (number, taken) = number.parse().ok().zip(taken.parse::<u64>().ok()).ok_or_else(untold)?;
        Ok(Mark { number, started: taken.saturating_sub(up.ok_or_else(untold)?), taken, server })
    }

    fn line(&self) -> String {
        format!("{} {} {} {}", self.number, self.started, self.taken, self.server)
    }

    fn parse(line: &str) -> Option<Mark> {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let (number, started, taken) = (number()?, number()?, number()?);
        Some(Mark { number, started, taken, server: words.next()?.to_owned() })
    }

    /// Below which number a session of that server, as it is now, is older than these marks.
    fn oldest_young(now: &Mark, marks: &[Mark]) -> u64 {
        let started_since = |before: u64| now.started > before.saturating_add(SAME_START);
        match marks.iter().find(|mark| mark.server == now.server) {
            Some(mark) if started_since(mark.started) => 0,
            Some(mark) => mark.number,
            None if marks.iter().all(|mark| started_since(mark.taken)) => 0,
            // It came in the place of another one, and was there before: nothing is known of its sessions.
            None => u64::MAX,
        }
    }
}

impl Rotation {
    /// The server of the source, and each node where there are several. The answers with what `KILL` needs to find them again.
    fn at_each<T>(&self, cancel: &Cancel, work: impl Fn(&mut Ask<'_>) -> Result<T>) -> Result<Vec<(String, T)>> {
        let here = self.with(cancel, |_, session| work(&mut |question| session.rows(question)))?;
        let mut all = vec![(String::new(), here)];
        for (number, node) in self.replicas().iter().enumerate() {
            all.push((format!("@{number}"), work(&mut |question| self.ask(node, question))?));
        }
        Ok(all)
    }

    pub(super) fn take_mark(&self, cancel: &Cancel) -> Result<String> {
        let marks = self.at_each(cancel, |ask| Mark::take(ask))?;
        let lines: Vec<String> = marks.iter().map(|(_, mark)| mark.line()).collect();
        Ok(lines.join("\n"))
    }

    pub(super) fn older_than(&self, marks: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        let marks: Option<Vec<Mark>> = marks.lines().map(Mark::parse).collect();
        let marks = marks.ok_or_else(|| Failure::failed("the mark of the rotation is not understood"))?;
        let found = self.at_each(cancel, |ask| {
            let now = Mark::take(ask)?;
            let before = Mark::oldest_young(&now, &marks);
            let rows = ask("SHOW PROCESSLIST")?.into_iter().filter(|row| row.get(1) == Some(&self.account));
            let one = |row: Vec<String>| {
                let number: u64 = row.first()?.parse().ok()?;
                (number < before).then(|| (number, row.get(2).cloned().unwrap_or_default()))
            };
            Ok((now.server, rows.filter_map(one).collect::<Vec<_>>()))
        })?;
        // A node may be the server of the source.
        let mut seen = std::collections::BTreeSet::new();
        let found = found.into_iter().filter(|(_, (server, _))| seen.insert(server.clone()));
        let sessions = found.flat_map(|(place, (_, sessions))| {
            sessions.into_iter().map(move |(number, client)| (format!("{number}{place}"), client))
        });
        Ok(sessions.map(|(id, client)| rotation::Session { id, client }).collect())
    }

    pub(super) fn end(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        let (number, place) = session.id.split_once('@').unwrap_or((&session.id, ""));
        let statement = format!("KILL {number}");
        let killed = match place.parse::<usize>().ok().and_then(|number| self.replicas().get(number)) {
            Some(node) => self.ask(node, &statement).map(drop),
            None => self.with(cancel, |_, client| client.run(&statement)),
        };
        let Err(failure) = killed else { return Ok(()) };
        match super::number_of(&failure) {
            Some(NO_SUCH_THREAD) => Ok(()),
            Some(MAY_NOT_KILL) => {
                let what = format!("{} may not end the session of {}", self.admin(), session.client);
                Err(Failure::new(Kind::Key, what).hint(
                    "GRANT CONNECTION_ADMIN (in MariaDB: CONNECTION ADMIN) ON *.* TO it, and go on: bkp rotate resume",
                ))
            }
            _ => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64, started: u64, taken: u64, server: &str) -> Mark {
        Mark { number, started, taken, server: server.into() }
    }

    #[test]
    fn marks_are_kept_as_lines() {
        let one = mark(7, 100, 200, "db-1:3306 1");
        assert_eq!((one.line().as_str(), Mark::parse(&one.line())), ("7 100 200 db-1:3306 1", Some(one.clone())));
        assert_eq!(Mark::parse("7 100"), None);
    }

    #[test]
    fn sessions_are_told_by_the_mark_of_their_own_server() {
        let marks = [mark(70, 100, 1000, "one"), mark(9, 50, 1001, "two")];
        let below = |started, server: &str| Mark::oldest_young(&mark(500, started, 2000, server), &marks);
        assert_eq!((below(101, "one"), below(49, "two")), (70, 9));
        assert_eq!(below(1500, "one"), 0, "started again: whatever there is, is younger");
        assert_eq!(below(1500, "three"), 0, "and so is all of one that was not there");
        assert_eq!(below(500, "three"), u64::MAX, "a standby that took over: nobody knows");
    }
}
