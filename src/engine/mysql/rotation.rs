//! Two passwords for one account of MySQL or MariaDB, for as long as its clients move from one to the other.
//!
//! MySQL keeps the old one beside the new one (`RETAIN CURRENT PASSWORD`, since 8.0.14), and doing that twice would throw the old
//! one away: whoever calls has tried the pending one first. MariaDB (since 10.4) is told both as verifiers, which can be said
//! again. Which password a session used neither of them tells: sessions are told by their numbers, which only grow.

mod conditions;
mod demands;
mod encrypted;
mod network;
mod only;
mod preflight;
mod sessions;
pub(super) mod verifier;

use super::accounts;
use super::client::{Client, Flavour, Found};
use super::session::{Session, error_number, text};
use crate::backoff::pause;
use crate::engine::accounts as rotation;
use crate::engine::{Accounts, Credential, Demands, Login, Node, Pair, Server};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use verifier::{NATIVE, Verifiers, native};

const PORT: u16 = 3306;
/// How long a replica may take to replay what was just changed.
const REPLAYS: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

pub struct Rotation {
    server: Server,
    account: String,
    nodes: Vec<Node>,
    client: Found,
    /// With what each node let in last.
    lets_in: Mutex<BTreeMap<Node, Secret>>,
}

impl Rotation {
    pub fn new(server: Server, account: String, nodes: Vec<Node>) -> Self {
        Rotation { server, account, nodes, client: Found::default(), lets_in: Mutex::default() }
    }

    /// `'app'@'%'`, quoted: every host that the account may come from.
    fn variants(&self, session: &mut Session<'_>) -> Result<Vec<String>> {
        let question = format!("SELECT host FROM mysql.user WHERE user = {} ORDER BY host", text(&self.account));
        let hosts = session.column(&question)?;
        if hosts.is_empty() {
            let at = self.server.location();
            return Err(Failure::usage(format!("there is no account `{}` at {at}", self.account))
                .hint("Correct `account`; list them: SELECT user, host FROM mysql.user"));
        }
        Ok(hosts.iter().map(|host| format!("{}@{}", text(&self.account), text(host))).collect())
    }

    /// One statement for all of them: it takes place for all or for none.
    fn alter(&self, session: &mut Session<'_>, how: impl Fn(&str) -> Result<String>) -> Result<()> {
        let variants = self.variants(session)?;
        let parts = variants.iter().map(|variant| Ok(format!("{variant} {}", how(variant)?)));
        let statement = format!("ALTER USER {}", parts.collect::<Result<Vec<_>>>()?.join(", "));
        let statement = Secret::new(statement);
        session.run(statement.expose())
    }

    /// What was opened for one call, and is closed with it.
    fn with<T>(&self, cancel: &Cancel, work: impl FnOnce(&Client<'_>, &mut Session<'_>) -> Result<T>) -> Result<T> {
        let (client, mut session) = Client::connect_again(&self.server, &self.client, cancel)?;
        let worked = work(&client, &mut session).map_err(|failure| client.explain(failure))?;
        session.close()?;
        Ok(worked)
    }

    fn has_second_password(&self, session: &mut Session<'_>) -> Result<bool> {
        let question = format!(
            "SELECT COUNT(*) FROM mysql.user WHERE user = {} AND JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL",
            text(&self.account)
        );
        Ok(session.number(&question)? > 0)
    }

    fn foreign(&self) -> Failure {
        let what = format!("`{}` has a second password that bkp did not set", self.account);
        Failure::new(Kind::Refused, what)
            .hint("Find out who uses it; then: ALTER USER … DISCARD OLD PASSWORD, and run this again")
    }

    /// The verifiers that MariaDB has for each host.
    fn verifiers(&self, session: &mut Session<'_>) -> Result<Vec<(String, Verifiers)>> {
        let question = format!("SELECT Host, Priv FROM mysql.global_priv WHERE User = {}", text(&self.account));
        let rows = session.rows(&question)?;
        let one = |row: Vec<String>| {
            let [host, told] = <[String; 2]>::try_from(row).unwrap_or_default();
            let verifiers = Verifiers::parse(&told).ok_or_else(|| {
                let what = format!("`{}`@`{host}` does not log in by {NATIVE} alone", self.account);
                Failure::new(Kind::Refused, what)
                    .hint("Rotation needs accounts that do: ALTER USER … IDENTIFIED VIA mysql_native_password")
            })?;
            Ok((format!("{}@{}", text(&self.account), text(&host)), verifiers))
        };
        rows.into_iter().map(one).collect()
    }

    /// Each node, where there are several: one of them may be the server itself.
    fn replicas(&self) -> &[Node] {
        if self.nodes.len() > 1 { &self.nodes } else { &[] }
    }

    /// Who changes the account, for people.
    fn admin(&self) -> String {
        self.server.user.as_deref().map_or_else(|| "the account that bkp uses".into(), text)
    }

    fn client<'c>(&'c self, user: &'c str, password: Option<&'c Secret>) -> network::Client<'c> {
        network::Client { user, password, ca_file: self.server.ca_file.as_deref() }
    }

    fn log_in_at(&self, node: &Node, secret: &Secret) -> Login {
        network::log_in(node, &self.client(&self.account, Some(secret)))
    }

    /// A question to one of the nodes, as the one who may change the account.
    fn ask(&self, node: &Node, question: &str) -> Result<Vec<Vec<String>>> {
        let (user, password) = (self.server.user.as_deref().unwrap_or("root"), self.server.password()?);
        network::ask(node, &self.client(user, password.as_ref()), question).map_err(|said| {
            Failure::new(Kind::TryLater, format!("as {}: {said}", self.admin()))
                .hint("Who changes the account must be let in at each of several `nodes`, to see its sessions and what was replayed")
        })
    }

    /// Nodes that follow are not tried before they know of the change: refused logins count there.
    fn wait_for_replicas(
        &self,
        session: &mut Session<'_>,
        flavour: Flavour,
        good: &Credential,
        cancel: &Cancel,
    ) -> Result<()> {
        let account = text(&self.account);
        let question = match flavour {
            Flavour::Mysql => format!(
                "SELECT host, HEX(authentication_string), JSON_EXTRACT(User_attributes, '$.additional_password') IS NULL \
                 FROM mysql.user WHERE user = {account}"
            ),
            Flavour::Mariadb => format!(
                "SELECT Host, JSON_EXTRACT(Priv, '$.authentication_string'), JSON_EXTRACT(Priv, '$.auth_or') \
                 FROM mysql.global_priv WHERE User = {account}"
            ),
        };
        let wanted = if self.replicas().is_empty() { Vec::new() } else { session.rows(&question)? };
        let begun = Instant::now();
        for node in self.replicas() {
            loop {
                let there = self.ask(node, &question)?;
                if wanted.iter().all(|row| there.contains(row)) {
                    break;
                }
                cancel.check()?;
                if begun.elapsed() > REPLAYS || !pause(PAUSE, &|| cancel.check().is_err()) {
                    cancel.check()?;
                    return Err(Failure::new(
                        Kind::TryLater,
                        format!("{node} has not replayed the change of {} yet", self.account),
                    )
                    .hint("See how far it is: SHOW REPLICA STATUS; then: bkp rotate resume"));
                }
            }
            self.probe(good, node);
        }
        Ok(())
    }

    fn lets_in(&self) -> MutexGuard<'_, BTreeMap<Node, Secret>> {
        self.lets_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Servers count refusals in a row, and lock accounts for them: a good login ends the row.
    fn end_refusals(&self, refused: &Secret, node: &Node) {
        let good = self.lets_in().get(node).filter(|good| good.expose() != refused.expose()).cloned();
        if let Some(good) = good
            && self.log_in_at(node, &good) == Login::Refused
        {
            self.lets_in().remove(node);
        }
    }

    /// With `caching_sha2_password`, a change lets the server forget whom it knows: who neither encrypts nor asks for its key is
    /// refused until somebody has logged in. What comes of it is seen by those who try it later.
    fn is_known_again(&self, nodes: &[Node], good: &Credential) {
        for node in nodes {
            self.probe(good, node);
        }
    }

    /// By their verifiers: a history of passwords refuses the password itself, and each host gets back its own.
    fn take_back(&self, client: &Client<'_>, session: &mut Session<'_>, current: &Credential) -> Result<()> {
        let question = format!(
            "SELECT host, plugin, HEX(JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password'))) \
             FROM mysql.user WHERE user = {} AND JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL",
            text(&self.account)
        );
        let takes_hex = client.version.at_least(Flavour::Mysql, (8, 0, 17));
        let one = |row: Vec<String>| {
            let [host, plugin, kept] = <[String; 3]>::try_from(row).unwrap_or_default();
            let variant = format!("{}@{}", text(&self.account), text(&host));
            match takes_hex {
                true => format!("{variant} IDENTIFIED WITH {} AS 0x{kept}", text(&plugin)),
                false => format!("{variant} IDENTIFIED BY {}", text(current.expose())),
            }
        };
        let parts: Vec<String> = session.rows(&question)?.into_iter().map(one).collect();
        let statement = Secret::new(format!("ALTER USER {}", parts.join(", ")));
        session.run(statement.expose())
    }
}

impl Accounts for Rotation {
    fn describe(&self) -> String {
        format!("{} at {}", self.account, self.server.location())
    }

    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        self.look_before(current, cancel)
    }

    fn demands(&self, cancel: &Cancel) -> Result<Option<Demands>> {
        self.demanded(cancel)
    }

    fn save(&self, cancel: &Cancel) -> Result<Secret> {
        self.with(cancel, |client, session| {
            let all = accounts::read(session, client)?;
            let own = format!("{}@", super::session::name(&self.account));
            let of_account = |account: &str| account.starts_with(&own);
            let created = all.created.iter().filter(|(account, _)| of_account(account)).map(|(_, create)| create);
            let granted = all.grants.iter().filter(|(account, _)| of_account(account)).map(|(_, grant)| grant);
            let statements: Vec<String> = created.chain(granted).map(|statement| format!("{statement};\n")).collect();
            Ok(Secret::new(statements.concat()))
        })
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        rotation::nodes_of(&self.server, &self.nodes, PORT)
    }

    fn probe(&self, secret: &Credential, node: &Node) -> Login {
        let login = self.log_in_at(node, secret);
        match login {
            Login::Accepted => drop(self.lets_in().insert(node.clone(), secret.secret.clone())),
            Login::Refused => self.end_refusals(secret, node),
            Login::Partly | Login::Unknown(_) => {}
        }
        login
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            match client.version.flavour {
                Flavour::Mysql if self.has_second_password(session)? => return Err(self.foreign()),
                Flavour::Mysql => self.alter(session, |_| {
                    Ok(format!("IDENTIFIED BY {} RETAIN CURRENT PASSWORD", text(pair.pending.expose())))
                })?,
                Flavour::Mariadb => {
                    let there = self.verifiers(session)?;
                    self.alter(session, |variant| {
                        let known = there.iter().find(|(other, _)| other == variant).map(|(_, verifiers)| verifiers);
                        // The old one next: not every client goes on to a third one, and somebody else may have added his.
                        let old = known.map(|known| known.of(&native(pair.current)));
                        Ok(Verifiers(vec![native(pair.pending)]).and(old.as_ref()).and(known).statement())
                    })?;
                }
            }
            self.is_known_again(&nodes, pair.current);
            self.wait_for_replicas(session, client.version.flavour, pair.current, cancel)
        })
    }

    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            match client.version.flavour {
                Flavour::Mysql => self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))?,
                Flavour::Mariadb => self.alter(session, |_| Ok(Verifiers(vec![native(pair.pending)]).statement()))?,
            }
            self.is_known_again(&nodes, pair.pending);
            self.wait_for_replicas(session, client.version.flavour, pair.pending, cancel)
        })
    }

    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            match client.version.flavour {
                // Only one: the pending one never came, or is gone.
                Flavour::Mysql if !self.has_second_password(session)? => return Ok(()),
                Flavour::Mysql => {
                    self.take_back(client, session, pair.current)?;
                    self.is_known_again(&nodes, pair.current);
                    self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))?;
                }
                Flavour::Mariadb => self.alter(session, |_| Ok(Verifiers(vec![native(pair.current)]).statement()))?,
            }
            self.is_known_again(&nodes, pair.current);
            self.wait_for_replicas(session, client.version.flavour, pair.current, cancel)
        })
    }

    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        self.set_alone(credential, cancel)
    }

    fn both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<bool> {
        self.set_both(pair, cancel)
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    fn mark(&self, cancel: &Cancel) -> Result<String> {
        self.take_mark(cancel)
    }

    fn sessions_before(&self, _: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        self.older_than(mark, cancel)
    }

    fn end_session(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        self.end(session, cancel)
    }
}

/// Of the server's error, through its client or over the network.
fn number_of(failure: &Failure) -> Option<u16> {
    let full = failure.full();
    let network = full.split_once("answered with error ").and_then(|(_, rest)| rest.split(':').next()?.parse().ok());
    network.or_else(|| error_number(&full))
}
