//! Two passwords for one user of Redis or Valkey, for as long as its clients move from one to the other.
//!
//! A user has any number of them, told by their SHA-256, which can be said again. Users are not copied to replicas, so each
//! server of the group is told; what they should still know after a restart is written to the file of users, or into the
//! configuration. `ACL LOAD` is never used, as it ends sessions, nor `CONFIG SET requirepass` while there are two passwords,
//! as it throws all others away. A new password of whom replicas log in as goes to them and to sentinels, too ([`links`]).

use super::Settings;
use super::connection::{Address, Connection, Reply, refused};
use super::group::{self, Member};
use super::links::{self, Inside};
use crate::durable::crash_point;
use crate::engine::accounts::Session;
use crate::engine::{Accounts, Credential, Login, Node, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

mod only;
mod start;

pub const DEFAULT: &str = "default";
const RULE: &str = "+acl +config|get +config|set +config|rewrite +client|list +client|id +client|kill +info +time";

pub struct Rotation {
    settings: Settings,
    account: String,
    nodes: Vec<Node>,
}

impl Rotation {
    pub fn new(settings: Settings, account: String, nodes: Vec<Node>) -> Self {
        Rotation { settings, account, nodes }
    }

    fn members<'a>(&self, cancel: &'a Cancel) -> Result<Vec<Member<'a>>> {
        group::members(&self.settings, &self.nodes, cancel)
    }

    fn links(&self) -> links::Links<'_> {
        links::Links { settings: &self.settings, account: &self.account }
    }

    /// The hashes of the passwords of the user, and its flags.
    fn user(&self, member: &mut Member<'_>) -> Result<User> {
        let node = member.node.clone();
        let reply = member.connection.ask(&[b"ACL", b"GETUSER", self.account.as_bytes()])?;
        let entries = match reply {
            Reply::List(entries) => entries,
            Reply::Refused(text) if text.contains("unknown command") => {
                return Err(Failure::new(Kind::Refused, format!("{node} knows only one password"))
                    .hint("Rotation without a gap needs Redis 6 or newer, or Valkey"));
            }
            Reply::Refused(text) => return Err(refused(&node.to_string(), "ACL GETUSER", RULE, &text)),
            _ => {
                let what = format!("there is no user `{}` at {node}", self.account);
                return Err(Failure::usage(what).hint(
                    "Correct `account`, or make it there: users are not copied to replicas. See them: ACL LIST",
                ));
            }
        };
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut entries = entries.into_iter();
        while let (Some(Reply::Text(name)), Some(value)) = (entries.next(), entries.next()) {
            fields.insert(String::from_utf8_lossy(&name).into_owned(), value.lines());
        }
        let mut take = |name| fields.remove(name).unwrap_or_default();
        Ok(User { flags: take("flags"), passwords: take("passwords") })
    }

    /// `#HASH` adds a password, `!HASH` removes one; one that is not there is as good as removed.
    fn set(&self, member: &mut Member<'_>, rules: &[String]) -> Result<()> {
        for rule in rules {
            let command: [&[u8]; 4] = [b"ACL", b"SETUSER", self.account.as_bytes(), rule.as_bytes()];
            match member.connection.ask(&command)? {
                Reply::Refused(text) if rule.starts_with('!') && text.contains("does not exist") => {}
                Reply::Refused(text) => return Err(not_set(member, &text)),
                _ => {}
            }
        }
        let there = self.user(member)?.passwords;
        let is_so = |rule: &String| there.iter().any(|hash| *hash == rule[1..]) == rule.starts_with('#');
        if rules.iter().all(is_so) {
            return Ok(());
        }
        let what = format!("{} was told the passwords of `{}`, and has others", member.node, self.account);
        Err(Failure::failed(what)
            .hint("Somebody else changes this user at the same time: look who, and run this again"))
    }

    /// Sessions of the account from before the mark, but for those inside.
    fn older(&self, members: &mut [Member<'_>], mark: &str, inside: &Inside) -> Result<Vec<Session>> {
        let mark = Mark::parse(mark).ok_or_else(|| Failure::failed("the mark of the rotation is not understood"))?;
        let mut old = Vec::new();
        for member in members {
            let (now, run) = (clock(member)?, member.is("run_id").to_owned());
            for client in member.clients()? {
                let number = |name: &str| client.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                let is_own = client.get("user") == Some(&self.account) && !inside.has(&client);
                if is_own && mark.is_after(&run, number("id"), now.saturating_sub(number("age"))) {
                    let from = client.get("addr").cloned().unwrap_or_default();
                    old.push(Session { id: format!("{} {}", member.node, number("id")), client: from });
                }
            }
        }
        Ok(old)
    }

    fn is_default(&self) -> bool {
        self.account == DEFAULT
    }

    /// The older way to say the password of the default user: it must say the same, or a restart could bring it back. All
    /// other passwords go with it.
    fn require(&self, member: &mut Member<'_>, from: &Secret, to: &Secret) -> Result<()> {
        if !self.is_default() || member.setting("requirepass")? != from.expose() {
            return Ok(());
        }
        let command: [&[u8]; 4] = [b"CONFIG", b"SET", b"requirepass", to.expose().as_bytes()];
        links::tell_secret(&mut member.connection, &command, RULE)
    }

    fn must_be_alone(&self, member: &mut Member<'_>, current: &Secret) -> Result<()> {
        let user = self.user(member)?;
        let has = |flag: &str| user.flags.iter().any(|other| other == flag);
        let (name, node) = (&self.account, &member.node);
        let (what, hint) = if has("nopass") {
            (format!("`{name}` at {node} lets in with any password"), "Give it one: ACL SETUSER … resetpass >PASSWORD")
        } else if has("off") {
            (format!("`{name}` at {node} is off"), "Let it in again: ACL SETUSER … on")
        } else if !user.passwords.contains(&hash(current)) {
            (
                format!("`{name}` has another password at {node} than the one that is published"),
                "All servers of a group are rotated together: give this one the same password, ACL SETUSER … >PASSWORD",
            )
        } else if user.passwords.len() > 1 {
            (
                format!("`{name}` has a second password at {node} that bkp did not set"),
                "Find out who uses it; then: ACL GETUSER …, ACL SETUSER … !HASH, and run this again",
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(Kind::Refused, what).hint(hint))
    }

    /// Asked of the server where it can tell without doing it (since Redis 7).
    fn must_be_permitted(&self, member: &mut Member<'_>) -> Result<()> {
        let Some(who) = member.told(&["ACL", "WHOAMI"], RULE)?.into_iter().next() else { return Ok(()) };
        let wanted: [&[&str]; 6] = [
            &["ACL", "SETUSER", "x"],
            &["ACL", "SAVE"],
            &["CONFIG", "REWRITE"],
            &["CONFIG", "SET", "masterauth", "x"],
            &["CLIENT", "LIST"],
            &["CLIENT", "KILL", "ID", "1"],
        ];
        for command in wanted {
            let question: Vec<&[u8]> =
                ["ACL", "DRYRUN", &who].iter().chain(command).map(|word| word.as_bytes()).collect();
            // An older server does not know the question.
            let Some(answer) = member.connection.ask(&question)?.permitted() else { return Ok(()) };
            if answer.lines().first().is_some_and(|said| said != "OK") {
                return Err(refused(&member.node.to_string(), &command[..2].join(" "), RULE, "NOPERM"));
            }
        }
        Ok(())
    }
}

struct User {
    flags: Vec<String>,
    passwords: Vec<String>,
}

impl Accounts for Rotation {
    fn describe(&self) -> String {
        match &self.settings.sentinel {
            Some(sentinel) => format!("{} at the servers of {}", self.account, sentinel.master),
            None => format!("{} at {}", self.account, self.settings.server.location()),
        }
    }

    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        let mut members = self.members(cancel)?;
        let mut notes = Vec::new();
        for member in &mut members {
            self.must_be_alone(member, current)?;
            self.must_be_kept(member)?;
            self.must_be_permitted(member)?;
            notes.extend(self.links().note(member)?);
        }
        notes.extend(self.must_not_be_started_with(current, &members)?);
        self.links().check_sentinels(&mut members)?;
        if members.len() > 1 {
            let nodes: Vec<String> = members.iter().map(|member| member.node.to_string()).collect();
            notes.push(format!("users are not copied to replicas: {} are told one by one", nodes.join(", ")));
        }
        Ok(notes)
    }

    fn save(&self, cancel: &Cancel) -> Result<Secret> {
        let mut text = String::new();
        for member in &mut self.members(cancel)? {
            let lines = member.told(&["ACL", "LIST"], RULE)?;
            let own = format!("user {} ", self.account);
            let rules = lines.iter().find_map(|line| line.strip_prefix(&own)).unwrap_or_default();
            text.push_str(&format!("# {}\nACL SETUSER {} reset {rules}\n", member.node, self.account));
        }
        Ok(Secret::new(text))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.members(&Cancel::default())?.into_iter().map(|member| member.node).collect())
    }

    fn probe(&self, secret: &Credential, node: &Node) -> Login {
        let (cancel, ca_file) = (Cancel::default(), self.settings.server.ca_file.clone());
        let address = Address::Network { host: node.host.clone(), port: node.port, ca_file };
        match login(&address, &self.account, secret, &cancel) {
            Ok(login) => login,
            Err(failure) => Login::Unknown(format!("{node} cannot be asked: {}", failure.full())),
        }
    }

    fn together(&self, logins: Vec<Login>) -> Login {
        Login::of_each(logins)
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let mut members = self.members(cancel)?;
        self.links().check_sentinels(&mut members)?;
        for member in &mut members {
            self.user(member)?;
            // Whether it can be kept is seen before there is something to keep.
            self.keep(member)?;
        }
        let links = self.links();
        let both = [added(pair.current), added(pair.pending)];
        for member in &mut members {
            // Its master accepts the new one by now. That this server does too is the sign that its link was seen with it.
            if member.is_replica() && links.is_used_by(member)? {
                links.renew(member, pair.pending, pair.current, cancel)?;
            }
            self.set(member, &both)?;
            crash_point("rotate-node:accepted");
        }
        links.follow(&mut members, pair.pending, pair.current, cancel)
    }

    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let mut members = self.members(cancel)?;
        self.links().follow(&mut members, pair.pending, pair.current, cancel)?;
        for member in members.iter_mut().rev() {
            self.set(member, &[added(pair.pending)])?;
            self.require(member, pair.current, pair.pending)?;
            self.set(member, &[removed(pair.current)])?;
            crash_point("rotate-node:retired");
            // Before it is seen to be refused: a restart in between would bring it back.
            self.keep(member)?;
        }
        Ok(())
    }

    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let mut members = self.members(cancel)?;
        for member in &mut members {
            self.set(member, &[added(pair.current)])?;
        }
        self.links().follow(&mut members, pair.current, pair.pending, cancel)?;
        for member in members.iter_mut().rev() {
            self.require(member, pair.pending, pair.current)?;
            self.set(member, &[removed(pair.pending)])?;
            crash_point("rotate-node:undone");
            self.keep(member)?;
        }
        Ok(())
    }

    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        self.set_alone(&[credential], cancel)
    }

    fn both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<bool> {
        self.set_alone(&[pair.current, pair.pending], cancel)
    }

    fn persist(&self, cancel: &Cancel) -> Result<()> {
        self.members(cancel)?.iter_mut().try_for_each(|member| self.keep(member))
    }

    fn writes_at_once(&self) -> bool {
        false
    }

    fn mark(&self, cancel: &Cancel) -> Result<String> {
        let mut mark = Mark::default();
        for member in &mut self.members(cancel)? {
            mark.seconds = mark.seconds.max(clock(member)?);
            let number = member.told(&["CLIENT", "ID"], RULE)?.first().and_then(|id| id.parse().ok());
            mark.connections.insert(member.is("run_id").to_owned(), number.unwrap_or_default());
        }
        Ok(mark.to_string())
    }

    fn sessions_before(&self, _: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<Session>> {
        let mut members = self.members(cancel)?;
        let inside = self.links().inside(&mut members)?;
        self.older(&mut members, mark, &inside)
    }

    fn sessions_to_end(&self, _: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<Session>> {
        let mut members = self.members(cancel)?;
        let inside = self.links().inside(&mut members)?.without_names();
        self.older(&mut members, mark, &inside)
    }

    fn end_session(&self, session: &Session, cancel: &Cancel) -> Result<()> {
        let Some((node, number)) = session.id.split_once(' ') else { return Ok(()) };
        for member in self.members(cancel)?.iter_mut().filter(|member| member.node.to_string() == node) {
            // One that is gone by now is not there to be ended.
            member.told(&["CLIENT", "KILL", "ID", number, "SKIPME", "yes"], RULE)?;
        }
        Ok(())
    }
}

/// Servers repeat what they were told, and that is a hash that could be tried against a list of words.
fn not_set(member: &Member<'_>, said: &str) -> Failure {
    refused(&member.node.to_string(), "ACL SETUSER", RULE, code(said))
        .hint("Why, stands in its log, or is answered to the same by hand: ACL SETUSER …")
}

fn code(said: &str) -> &str {
    said.split_whitespace().next().unwrap_or_default()
}

fn login(address: &Address, account: &str, secret: &Secret, cancel: &Cancel) -> Result<Login> {
    let mut connection = Connection::open(address, cancel)?;
    // What it says may repeat what it was sent: only the first word is looked at.
    let unknown = |text: &str| Login::Unknown(format!("{address} answers {}", code(text)));
    match connection.ask(&[b"AUTH", account.as_bytes(), secret.expose().as_bytes()])? {
        Reply::Refused(text) if text.starts_with("WRONGPASS") => return Ok(Login::Refused),
        Reply::Refused(text) => return Ok(unknown(&text)),
        _ => {}
    }
    Ok(match connection.ask(&[b"PING"])? {
        // It lets in; not everybody may ask this, and after a failed save nobody may.
        Reply::Refused(text) if !text.starts_with("NOPERM") && !text.starts_with("MISCONF") => unknown(&text),
        _ => Login::Accepted,
    })
}

fn clock(member: &mut Member<'_>) -> Result<u64> {
    let told = member.told(&["TIME"], RULE)?;
    let seconds = told.first().and_then(|text| text.parse().ok());
    seconds.ok_or_else(|| Failure::failed(format!("{} does not tell the time", member.node)))
}

/// As the server does it.
fn hash(secret: &Secret) -> String {
    hex::encode(Sha256::digest(secret.expose().as_bytes()))
}

pub(super) fn added(secret: &Secret) -> String {
    format!("#{}", hash(secret))
}

fn removed(secret: &Secret) -> String {
    format!("!{}", hash(secret))
}

/// An instant: on servers that were there, by the number of a connection; on those that were started since, by the clock.
#[derive(Debug, Default, PartialEq)]
struct Mark {
    seconds: u64,
    connections: BTreeMap<String, u64>,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.seconds)?;
        self.connections.iter().try_for_each(|(run, number)| write!(f, " {run}={number}"))
    }
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let seconds = words.next()?.parse().ok()?;
        let one =
            |word: &str| word.split_once('=').and_then(|(run, number)| Some((run.to_owned(), number.parse().ok()?)));
        Some(Mark { seconds, connections: words.map(one).collect::<Option<_>>()? })
    }

    /// Whether a connection with this number, opened at this second, is older.
    fn is_after(&self, run: &str, number: u64, opened: u64) -> bool {
        match self.connections.get(run) {
            Some(marked) => number < *marked,
            None => opened < self.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_older_sessions_from_younger_ones_also_after_a_restart() {
        let mark = Mark { seconds: 100, connections: [("a".to_owned(), 7), ("b".to_owned(), 40)].into() };
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        let mark = Mark::parse("100 a=7 b=40").unwrap();
        assert!(mark.is_after("a", 6, 99) && !mark.is_after("a", 8, 99) && mark.is_after("b", 8, 99));
        assert!(!mark.is_after("started since", 3, 101) && mark.is_after("joined since", 3, 99));
        assert_eq!(Mark::parse("100 a"), None);
    }

    #[test]
    fn passwords_are_told_as_the_server_has_them() {
        // ACL SETUSER app >old; ACL GETUSER app
        let old = "#cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4";
        assert_eq!(added(&Secret::new("old".into())), old);
    }
}
