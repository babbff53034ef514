//! Two passwords for one account of MySQL or MariaDB, for as long as its clients move from one to the other.
//!
//! MySQL keeps the old one beside the new one (`RETAIN CURRENT PASSWORD`, since 8.0.14), and doing that twice would throw the old
//! one away: whoever calls has tried the pending one first. MariaDB (since 10.4) is told both as verifiers, which can be said
//! again. Which password a session used neither of them tells: sessions are told by their numbers, which only grow.

use super::accounts;
use super::client::{Client, Flavour};
use super::session::{Session, text};
use crate::engine::accounts as rotation;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Server};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use mysql::prelude::Queryable;
use sha1::{Digest, Sha1};
use std::time::Duration;

mod only;

const PORT: u16 = 3306;
const NATIVE: &str = "mysql_native_password";
/// How long a login may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// By how much the instant of a start may seem to move: it is told in whole seconds.
const SAME_START: u64 = 5;

const ACCESS_DENIED: u16 = 1045;
const NO_SUCH_THREAD: u16 = 1094;

pub struct Rotation {
    server: Server,
    account: String,
    nodes: Vec<Node>,
}

impl Rotation {
    pub fn new(server: Server, account: String, nodes: Vec<Node>) -> Self {
        Rotation { server, account, nodes }
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
        let (client, mut session) = Client::connect(&self.server, cancel)?;
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

    fn check_mysql(&self, client: &Client<'_>, session: &mut Session<'_>) -> Result<()> {
        if !client.version.at_least(Flavour::Mysql, (8, 0, 14)) {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} knows only one password for an account", client.version),
            )
            .hint("Rotation without a gap needs MySQL 8.0.14 or newer, or MariaDB 10.4 or newer"));
        }
        let question = format!("SELECT DISTINCT plugin FROM mysql.user WHERE user = {}", text(&self.account));
        let known = ["caching_sha2_password", NATIVE, "sha256_password"];
        if let Some(other) = session.column(&question)?.iter().find(|plugin| !known.contains(&plugin.as_str())) {
            let what = format!("`{}` logs in by {other}, which has no second password", self.account);
            return Err(Failure::new(Kind::Refused, what).hint(format!("Known are: {}", known.join(", "))));
        }
        if self.has_second_password(session)? {
            return Err(self.foreign());
        }
        Ok(())
    }

    fn check_mariadb(&self, client: &Client<'_>, session: &mut Session<'_>, current: &Secret) -> Result<()> {
        if !client.version.at_least(Flavour::Mariadb, (10, 4, 0)) {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} knows only one password for an account", client.version),
            )
            .hint("Rotation without a gap needs MariaDB 10.4 or newer"));
        }
        let expected = Verifiers(vec![native(current)]);
        for (variant, verifiers) in self.verifiers(session)? {
            if verifiers != expected {
                let what = format!("{variant} has another password than the one that is published, or more than one");
                return Err(Failure::new(Kind::Refused, what)
                    .hint("All hosts of an account are rotated together: give them one password, or remove those that nobody uses"));
            }
        }
        Ok(())
    }

    /// Without these, changes fail or sessions are not seen.
    fn check_rights(&self, session: &mut Session<'_>) -> Result<()> {
        let grants = session.column("SHOW GRANTS")?.join("\n");
        let all = grants.lines().any(|line| line.starts_with("GRANT ALL PRIVILEGES ON *.*"));
        let missing = ["CREATE USER", "PROCESS"].into_iter().find(|right| !all && !grants.contains(right));
        let Some(right) = missing else { return Ok(()) };
        let user = self.server.user.as_deref().unwrap_or("the account that bkp uses");
        Err(Failure::new(Kind::Key, format!("`{user}` has not the right {right} at {}", self.server.location()))
            .hint(format!("GRANT {right} ON *.* TO '{user}'@'…'; a role that has it does not count here")))
    }
}

impl Accounts for Rotation {
    fn describe(&self) -> String {
        format!("{} at {}", self.account, self.server.location())
    }

    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        self.with(cancel, |client, session| {
            self.check_rights(session)?;
            let variants = self.variants(session)?;
            match client.version.flavour {
                Flavour::Mysql => self.check_mysql(client, session)?,
                Flavour::Mariadb => self.check_mariadb(client, session, current)?,
            }
            let several = (variants.len() > 1).then(|| {
                format!(
                    "{} is {}: all are changed, and the one is tried that this host logs in as",
                    self.account,
                    variants.join(", ")
                )
            });
            Ok(several.into_iter().collect())
        })
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
        let options = mysql::OptsBuilder::new()
            .ip_or_hostname(Some(&node.host))
            .tcp_port(node.port)
            .prefer_socket(false)
            .user(Some(&self.account))
            .pass(Some(secret.expose()))
            .tcp_connect_timeout(Some(PATIENCE))
            .read_timeout(Some(PATIENCE))
            .write_timeout(Some(PATIENCE));
        let asked = mysql::Conn::new(options).and_then(|mut connection| connection.query_first::<u8, _>("SELECT 1"));
        match asked {
            Ok(_) => Login::Accepted,
            Err(mysql::Error::MySqlError(error)) if error.code == ACCESS_DENIED => Login::Refused,
            Err(mysql::Error::MySqlError(error)) => {
                Login::Unknown(format!("{node} answered with error {}: {}", error.code, error.message))
            }
            Err(error) => Login::Unknown(format!("{node} cannot be asked: {error}")),
        }
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        self.with(cancel, |client, session| match client.version.flavour {
            Flavour::Mysql if self.has_second_password(session)? => Err(self.foreign()),
            Flavour::Mysql => self.alter(session, |_| {
                Ok(format!("IDENTIFIED BY {} RETAIN CURRENT PASSWORD", text(pair.pending.expose())))
            }),
            Flavour::Mariadb => {
                let there = self.verifiers(session)?;
                self.alter(session, |variant| {
                    let known = there.iter().find(|(other, _)| other == variant).map(|(_, verifiers)| verifiers);
                    Ok(Verifiers(vec![native(pair.pending)]).and(known).statement())
                })
            }
        })
    }

    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        self.with(cancel, |client, session| match client.version.flavour {
            Flavour::Mysql => self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned())),
            Flavour::Mariadb => self.alter(session, |_| Ok(Verifiers(vec![native(pair.pending)]).statement())),
        })
    }

    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        self.with(cancel, |client, session| match client.version.flavour {
            // Only one: the pending one never came, or is gone.
            Flavour::Mysql if !self.has_second_password(session)? => Ok(()),
            Flavour::Mysql => {
                self.alter(session, |_| Ok(format!("IDENTIFIED BY {}", text(pair.current.expose()))))?;
                self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))
            }
            Flavour::Mariadb => self.alter(session, |_| Ok(Verifiers(vec![native(pair.current)]).statement())),
        })
    }

    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        self.set_alone(credential, cancel)
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    fn mark(&self, cancel: &Cancel) -> Result<String> {
        self.with(cancel, |_, session| {
            let number = session.number("SELECT CONNECTION_ID()")?;
            Ok(format!("{number} {}", started(session)?))
        })
    }

    fn sessions_before(&self, _: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        let parts = mark.split_once(' ').and_then(|(number, start)| Some((number.parse().ok()?, start.parse().ok()?)));
        let (number, start): (u64, u64) =
            parts.ok_or_else(|| Failure::failed("the mark of the rotation is not understood"))?;
        self.with(cancel, |_, session| {
            if started(session)?.abs_diff(start) > SAME_START {
                return Ok(Vec::new());
            }
            let rows = session.rows("SHOW PROCESSLIST")?;
            let own = |row: &Vec<String>| row.get(1) == Some(&self.account);
            let session = |row: Vec<String>| {
                let id: u64 = row.first()?.parse().ok()?;
                let client = row.get(2).cloned().unwrap_or_default();
                (id < number).then(|| rotation::Session { id: id.to_string(), client })
            };
            Ok(rows.into_iter().filter(own).filter_map(session).collect())
        })
    }

    fn end_session(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        let killed = self.with(cancel, |_, client| client.run(&format!("KILL {}", session.id)));
        match killed {
            Err(failure) if super::session::error_number(&failure.full()) == Some(NO_SUCH_THREAD) => Ok(()),
            killed => killed,
        }
    }
}

/// When the server was started, in seconds.
fn started(session: &mut Session<'_>) -> Result<u64> {
    let now = session.number("SELECT UNIX_TIMESTAMP()")?;
    let rows = session.rows("SHOW GLOBAL STATUS LIKE 'Uptime'")?;
    let up = rows.first().and_then(|row| row.get(1)).and_then(|text| text.parse::<u64>().ok());
    up.map(|up| now.saturating_sub(up)).ok_or_else(|| Failure::failed("the server does not tell when it was started"))
}

/// Of `mysql_native_password`, of which any one lets in. The first is what the server greets with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verifiers(Vec<String>);

impl Verifiers {
    /// From `mysql.global_priv`; `None` where another plug-in takes part.
    fn parse(told: &str) -> Option<Self> {
        let whole: serde_json::Value = serde_json::from_str(told).ok()?;
        let one = |value: &serde_json::Value| {
            let is_native = value["plugin"] == NATIVE;
            value["authentication_string"].as_str().filter(|_| is_native).map(str::to_owned)
        };
        let first = one(&whole)?;
        let list = whole["auth_or"].as_array().map(Vec::as_slice).unwrap_or_default();
        // An empty object stands for the one outside.
        let nested = list.iter().filter(|value| value.as_object().is_some_and(|map| !map.is_empty()));
        let nested: Option<Vec<String>> = nested.map(one).collect();
        Some(Verifiers([vec![first], nested?].concat()))
    }

    fn and(mut self, others: Option<&Verifiers>) -> Self {
        for other in others.iter().flat_map(|others| &others.0) {
            if !self.0.contains(other) {
                self.0.push(other.clone());
            }
        }
        self
    }

    fn statement(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|verifier| format!("{NATIVE} USING {}", text(verifier))).collect();
        format!("IDENTIFIED VIA {}", each.join(" OR "))
    }
}

/// The verifier of a password, made here so that the password stays here.
fn native(secret: &Secret) -> String {
    let twice = Sha1::digest(Sha1::digest(secret.expose().as_bytes()));
    format!("*{}", hex::encode_upper(twice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_those_of_the_server() {
        // SELECT PASSWORD('hunter2')
        assert_eq!(native(&Secret::new("hunter2".into())), "*58815970BE77B3720276F63DB198B1FA42E5CC02");
    }

    #[test]
    fn verifiers_are_read_and_said_again() {
        let one = Verifiers::parse(r#"{"access":0,"plugin":"mysql_native_password","authentication_string":"*A"}"#);
        assert_eq!(one, Some(Verifiers(vec!["*A".into()])));
        let two = r#"{"plugin":"mysql_native_password","authentication_string":"*A",
            "auth_or":[{"plugin":"mysql_native_password","authentication_string":"*B"},{}]}"#;
        let two = Verifiers::parse(two).unwrap();
        assert_eq!(two, Verifiers(vec!["*A".into(), "*B".into()]));
        let again = Verifiers(vec!["*B".into()]).and(Some(&two));
        assert_eq!(
            again.statement(),
            "IDENTIFIED VIA mysql_native_password USING '*B' OR mysql_native_password USING '*A'"
        );
        assert_eq!(Verifiers::parse(r#"{"plugin":"unix_socket","authentication_string":""}"#), None);
    }
}
