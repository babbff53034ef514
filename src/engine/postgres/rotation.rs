//! Passwords of PostgreSQL, which knows one for each role: two logins of one owner take turns, so that nobody is without one. A
//! single role is changed where somebody has accepted the gap.
//!
//! The server is told verifiers that are made here (SCRAM-SHA-256), never passwords, so that its log has none. Whoever's turn is
//! over has neither a password nor the right to log in. Standbys are waited for until they have replayed each change. A server
//! that asks for a password in clear or as MD5 is told none, neither that of the account nor of who changes it.

use super::client::Clients;
use super::login::{self, Client};
use super::roles::{self, Pair as Roles};
use super::session::Session;
use super::sql::{name, text};
use crate::backoff::pause;
use crate::durable::random_hex;
use crate::engine::accounts as rotation;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Server};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::Place;
use crate::secret::Secret;
use serde::Deserialize;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const PORT: u16 = 5432;
/// How long a standby may take to replay what was just changed.
const REPLAYS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

pub struct Rotation {
    server: Server,
    account: String,
    logins: Option<[String; 2]>,
    nodes: Vec<Node>,
    /// Found with the first question.
    clients: OnceLock<Clients>,
}

#[derive(Deserialize)]
struct Backend {
    pid: i64,
    client: String,
}

#[derive(Deserialize)]
struct Role {
    open: bool,
}

impl Rotation {
    pub fn new(server: Server, account: String, logins: Option<[String; 2]>, nodes: Vec<Node>) -> Self {
        Rotation { server, account, logins, nodes, clients: OnceLock::new() }
    }

    fn user<'c>(&'c self, credential: &'c Credential) -> &'c str {
        credential.user.as_deref().unwrap_or(&self.account)
    }

    /// Everybody whom this is about.
    fn names(&self) -> Vec<&str> {
        let logins = self.logins.iter().flatten().filter(|login| **login != self.account);
        std::iter::once(&self.account).chain(logins).map(String::as_str).collect()
    }

    /// What was opened for one call, and is closed with it.
    fn with<T>(&self, cancel: &Cancel, work: impl FnOnce(&Clients, &mut Session<'_>) -> Result<T>) -> Result<T> {
        let clients = match self.clients.get() {
            Some(clients) => clients,
            None => {
                self.must_not_give_away_its_own()?;
                let found = Clients::find(&self.server, cancel)?;
                self.clients.get_or_init(|| found)
            }
        };
        let mut session = Session::open(clients, &clients.maintenance, cancel)?;
        let worked = work(clients, &mut session)?;
        session.close()?;
        Ok(worked)
    }

    /// One change, which is on disk and on every standby when this returns.
    fn alter(&self, user: &str, how: &str, cancel: &Cancel) -> Result<()> {
        let statement = Secret::new(format!("set synchronous_commit = local; alter role {} {how}", name(user)));
        let position = self.with(cancel, |_, session| {
            session.run(statement.expose())?;
            let row = session.row("select pg_current_wal_lsn()::text as position")?;
            Ok(row["position"].as_str().unwrap_or_default().to_owned())
        })?;
        self.wait_for_standbys(&position, cancel)
    }

    fn set_password(&self, credential: &Credential, cancel: &Cancel) -> Result<()> {
        let verifier = Secret::new(postgres_protocol::password::scram_sha_256(credential.expose().as_bytes()));
        self.alter(self.user(credential), &format!("login password {}", text(verifier.expose())), cancel)
    }

    fn wait_for_standbys(&self, position: &str, cancel: &Cancel) -> Result<()> {
        let question = format!(
            "select case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn() >= {}::pg_lsn, false) else true end",
            text(position)
        );
        let begun = Instant::now();
        for node in &self.nodes {
            while self.ask(node, &question)?.first().and_then(|row| row.first()).map(String::as_str) != Some("t") {
                cancel.check()?;
                if begun.elapsed() > REPLAYS || !pause(PAUSE, &|| cancel.check().is_err()) {
                    cancel.check()?;
                    let what = format!("the standby {node} has not replayed the change up to {position} yet");
                    return Err(Failure::new(Kind::TryLater, what)
                        .hint("See how far it is: SELECT * FROM pg_stat_replication; then: bkp rotate resume"));
                }
            }
        }
        Ok(())
    }

    /// A question to one of the nodes, as the one who may change the account.
    fn ask(&self, node: &Node, question: &str) -> Result<Vec<Vec<String>>> {
        let (user, password) = (self.server.user.as_deref().unwrap_or("postgres"), self.server.password()?);
        login::ask(node, &self.client(user, password.as_ref(), false), question).map_err(|trouble| match trouble.is_unsafe() {
            true => not_answered(node, user, &trouble),
            false => Failure::new(Kind::TryLater, format!("{node} cannot be asked as {user}: {trouble}"))
                .hint("Who changes the account must be let in at each of `nodes` (pg_hba.conf), to see its sessions and what it replayed"),
        })
    }

    fn client<'c>(&'c self, user: &'c str, password: Option<&'c Secret>, is_tried: bool) -> Client<'c> {
        Client { user, password, database: "postgres", ca_file: self.server.ca_file.as_deref(), is_tried }
    }

    /// The programs of PostgreSQL would answer whatever a server asks for.
    fn must_not_give_away_its_own(&self) -> Result<()> {
        let is_over_the_network = self.server.place == Place::Host && self.server.socket.is_none();
        if !is_over_the_network || self.server.password()?.is_none() {
            return Ok(());
        }
        let (host, port) = self.server.address(PORT)?;
        match self.ask(&Node { host, port }, "select 1") {
            Err(failure) if failure.kind() == Kind::Refused => Err(failure),
            // Whatever else is wrong, they say it.
            _ => Ok(()),
        }
    }

    /// Whether the server asks that user for a password, and in a way in which it can be told.
    fn may_ask(&self, node: &Node, user: &str, secret: &Secret, told: Told) -> Result<()> {
        match login::ask(node, &self.client(user, Some(secret), true), "select 1") {
            Err(trouble) if trouble.is_unsafe() && !(told == Told::BySettings && trouble.is_about_md5()) => {
                Err(not_answered(node, user, &trouble))
            }
            Err(trouble) if trouble.is_not_let_in() => {
                let what = format!("{node} does not let {user} in from this host, whatever the password: {trouble}");
                Err(Failure::new(Kind::Refused, what).hint(format!(
                    "A line of its pg_hba.conf, such as: host all {user} ADDRESS/32 scram-sha-256; then: SELECT pg_reload_conf(). Where there is one for TLS only (hostssl), give the source `ca_file`"
                )))
            }
            // The rest is found out when it counts.
            _ => Ok(()),
        }
    }

    /// PgBouncer has a list of passwords of its own, lets in with what it has there, and does not say that a password is wrong.
    fn must_be_no_pooler(&self, node: &Node, current: &Credential) -> Result<()> {
        let console = Client { database: "pgbouncer", ..self.client(self.user(current), Some(current), true) };
        match login::ask(node, &console, "select 1") {
            Err(trouble) if trouble.is_of_a_pooler() => {
                let what = format!("{node} is PgBouncer: what it says of a password says nothing of the server");
                Err(Failure::new(Kind::Refused, what).hint(
                    "Name the servers behind it in `nodes`, and let a consumer of its own (`command`) tell and reload the pooler",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Those of one user that are older than an instant, if that is told.
    fn sessions(&self, user: &str, before: Option<u64>, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        let before = before.map_or_else(String::new, |micros| {
            format!(" and backend_start < to_timestamp({}.{:06})", micros / 1_000_000, micros % 1_000_000)
        });
        let question = format!(
            "select pid, concat_ws(' ', coalesce(client_addr::text, 'a socket'), nullif(application_name, ''), \
               'since ' || to_char(backend_start, 'HH24:MI:SS')) as client \
             from pg_stat_activity where usename = {}{before}",
            text(user)
        );
        let here: Vec<Backend> = self.with(cancel, |_, session| session.rows(&question))?;
        let of = |id: String, client: String| rotation::Session { id, client };
        let mut all: Vec<_> = here.into_iter().map(|one| of(one.pid.to_string(), one.client)).collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let there = self.ask(node, &format!("{question} and pg_is_in_recovery()"))?;
            all.extend(there.into_iter().filter_map(|row| {
                let [pid, client] = <[String; 2]>::try_from(row).ok()?;
                Some(of(format!("{pid}@{number}"), format!("{client} at {node}")))
            }));
        }
        Ok(all)
    }
}

fn understood(mark: &str) -> Result<u64> {
    mark.parse().map_err(|_| Failure::failed("the mark of the rotation is not understood"))
}

/// What a server goes by when it says how it wants a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    ByTheVerifier,
    /// The role has no password: where `md5` lets in both, it goes by `password_encryption`, and will not once there is a verifier.
    BySettings,
}

/// For a server that wants a password in a way that others could listen to.
fn not_answered(node: &Node, user: &str, trouble: &login::Trouble) -> Failure {
    Failure::new(Kind::Refused, format!("{node} is not told the password of {user}: {trouble}")).hint(
        "Say scram-sha-256 for it in pg_hba.conf, not trust, password or md5, and reload that (SELECT pg_reload_conf()); a password that was set before is to be set once more, with password_encryption = 'scram-sha-256'",
    )
}

impl Accounts for Rotation {
    fn describe(&self) -> String {
        let location = self.server.location();
        match &self.logins {
            Some([one, other]) => format!("{} ({one} and {other} by turns) at {location}", self.account),
            None => format!("{} at {location}", self.account),
        }
    }

    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        for node in &self.nodes {
            self.ask(node, "select 1")?;
        }
        let user = self.user(current);
        // Whose turn comes has no password yet: with any, the server says whether it lets ask for one.
        let any = Secret::new(random_hex(16));
        let other = self.logins.iter().flatten().find(|login| *login != user).map(|other| (other.as_str(), &any));
        for node in self.nodes()? {
            self.must_be_no_pooler(&node, current)?;
            self.may_ask(&node, user, &current.secret, Told::ByTheVerifier)?;
            if let Some((other, any)) = other {
                self.may_ask(&node, other, any, Told::BySettings)?;
            }
        }
        let location = self.server.location();
        self.with(cancel, |clients, session| match &self.logins {
            Some(logins) => {
                let pair = Roles { owner: &self.account, logins };
                roles::check_pair(clients, session, &pair, user, &location)
            }
            None => {
                let mut notes = roles::check_one(clients, session, &self.account, &location)?;
                notes.push(format!(
                    "{} has one password: from its change until a consumer was moved, that one is refused when it logs in anew. \
                     With `logins`, two roles take turns and nobody is",
                    self.account
                ));
                Ok(notes)
            }
        })
    }

    fn save(&self, cancel: &Cancel) -> Result<Secret> {
        self.with(cancel, |_, session| roles::definition(session, &self.names()))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        rotation::nodes_of(&self.server, &self.nodes, PORT)
    }

    fn probe(&self, credential: &Credential, node: &Node) -> Login {
        let user = self.user(credential);
        match login::ask(node, &self.client(user, Some(credential), true), "select 1") {
            Ok(_) => Login::Accepted,
            Err(trouble) if trouble.is_wrong_password() => Login::Refused,
            Err(trouble) if trouble.is_about_the_database() => Login::Accepted,
            Err(trouble) => Login::Unknown(format!("{node} cannot be asked as {user}: {trouble}")),
        }
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        self.set_password(pair.pending, cancel)
    }

    /// Of one role, the old password went with the new one.
    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        match &self.logins {
            Some(_) => self.alter(self.user(pair.current), "nologin password null", cancel),
            None => Ok(()),
        }
    }

    /// Of one role, the pending password never came: otherwise there is no way back.
    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        match &self.logins {
            Some(_) => self.alter(self.user(pair.pending), "nologin password null", cancel),
            None => Ok(()),
        }
    }

    /// Of a role that may not log in, the password opens nothing.
    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let mut changed = false;
        if self.log_in(credential)? != Login::Accepted {
            self.set_password(credential, cancel)?;
            changed = true;
        }
        let own = self.user(credential);
        for other in self.logins.iter().flatten().filter(|login| *login != own) {
            let question = format!("select rolcanlogin as open from pg_roles where rolname = {}", text(other));
            let there: Vec<Role> = self.with(cancel, |_, session| session.rows(&question))?;
            if there.iter().any(|role| role.open) {
                self.alter(other, "nologin password null", cancel)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Microseconds of the server's clock.
    fn mark(&self, cancel: &Cancel) -> Result<String> {
        self.with(cancel, |_, session| {
            let row = session.row("select (extract(epoch from clock_timestamp()) * 1000000)::bigint::text as now")?;
            Ok(row["now"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Where names take turns, whoever is still there under the old one, since whenever.
    fn sessions_before(&self, pair: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        if self.logins.is_some() {
            return self.sessions(self.user(pair.current), None, cancel);
        }
        self.sessions(&self.account, Some(understood(mark)?), cancel)
    }

    fn sessions_of(&self, credential: &Credential, mark: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        match &self.logins {
            Some(_) => self.sessions(self.user(credential), Some(understood(mark)?), cancel),
            None => Ok(Vec::new()),
        }
    }

    fn end_session(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        let (pid, number) = session.id.split_once('@').unwrap_or((&session.id, ""));
        let question = format!("select pg_terminate_backend({pid})");
        match number.parse::<usize>().ok().and_then(|number| self.nodes.get(number)) {
            Some(node) => self.ask(node, &question).map(drop),
            None => self.with(cancel, |_, session| session.run(&question)),
        }
    }

    fn has_gap(&self) -> bool {
        self.logins.is_none()
    }
}
