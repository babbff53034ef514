//! What the user may do, read from `SHOW GRANTS`, and what a complete dump needs.
//!
//! `information_schema` hides what a user may not see, so that a count made by that user cannot reveal what is missing:
//! privileges are compared before anything is dumped. Privileges for single tables do not count: the others stay hidden.

use super::client::{Client, Flavour, Version};
use super::session::{Session, name};
use crate::error::{Failure, Kind, Result};
use std::collections::BTreeSet;

/// Privileges of one user.
#[derive(Debug, Default)]
pub struct Grants {
    user: String,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    revoked: bool,
    privileges: BTreeSet<String>,
    /// A pattern of databases, `*` for all; and the object, `*` for all.
    database: String,
    object: String,
}

impl Grants {
    pub fn read(session: &mut Session<'_>, client: &Client<'_>) -> Result<Self> {
        let user = session.one("SELECT CURRENT_USER()")?;
        let roles = match client.version.at_least(Flavour::Mysql, (8, 0, 0)) {
            true => session.one("SELECT CURRENT_ROLE()")?,
            false => "NONE".to_owned(),
        };
        let question = match roles.as_str() {
            "NONE" => "SHOW GRANTS".to_owned(),
            roles => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
        };
        Ok(Grants::parse(&user, &session.column(&question)?))
    }

    fn parse(user: &str, lines: &[String]) -> Self {
        Grants { user: user.to_owned(), rules: lines.iter().filter_map(|line| rule(line)).collect() }
    }

    pub fn may(&self, privilege: &str, database: &str) -> bool {
        self.may_on(privilege, database, "*")
    }

    /// Everywhere.
    pub fn may_globally(&self, privilege: &str) -> bool {
        self.rules.iter().any(|rule| !rule.revoked && rule.database == "*" && rule.has(privilege))
    }

    fn may_on(&self, privilege: &str, database: &str, object: &str) -> bool {
        let fits = |rule: &&Rule| {
            rule.has(privilege) && matches(&rule.database, database) && (rule.object == "*" || rule.object == object)
        };
        let mut allowed = false;
        for rule in self.rules.iter().filter(fits) {
            if rule.revoked {
                return false;
            }
            allowed = true;
        }
        allowed
    }

    /// `'backup'@'%'`, as GRANT wants it.
    fn account(&self) -> String {
        let (user, host) = self.user.rsplit_once('@').unwrap_or((&self.user, "%"));
        format!("{}@{}", name(user), name(host))
    }

    fn refuse(&self, what: &str, privileges: &[&str], scope: &str) -> Failure {
        let (list, verb) = (privileges.join(", "), if privileges.len() == 1 { "is" } else { "are" });
        Failure::new(Kind::Refused, format!("{} may not dump {what} completely: {list} {verb} missing", self.user))
            .hint(format!("GRANT {list} ON {scope} TO {};", self.account()))
    }

    /// Whether the list of databases can be whole.
    pub fn must_see_all_databases(&self) -> Result<()> {
        if self.may_globally("SHOW DATABASES") || self.may_globally("SELECT") {
            return Ok(());
        }
        Err(self.refuse("the server", &["SHOW DATABASES"], "*.*"))
    }

    /// Everything of `database`.
    pub fn must_dump(&self, database: &str, version: &Version) -> Result<()> {
        let needed = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];
        let missing: Vec<&str> = needed.into_iter().filter(|privilege| !self.may(privilege, database)).collect();
        if !missing.is_empty() {
            let scope = format!("{}.*", name(database).replace('_', "\\_").replace('%', "\\%"));
            return Err(self.refuse(&format!("database {database}"), &missing, &scope));
        }
        if self.may_globally("SELECT") || self.may_globally("SHOW_ROUTINE") || self.may_globally("SHOW CREATE ROUTINE")
        {
            return Ok(());
        }
        let routines = format!("the routines of database {database}");
        if version.at_least(Flavour::Mysql, (8, 0, 20)) {
            return Err(self.refuse(&routines, &["SHOW_ROUTINE"], "*.*"));
        }
        let own = self.may("SHOW CREATE ROUTINE", database);
        match version.at_least(Flavour::Mysql, (8, 0, 0)) {
            true => Err(self.refuse(&routines, &["SELECT"], "*.*")),
            false if own || self.may_on("SELECT", "mysql", "proc") => Ok(()),
            false => Err(self.refuse(&routines, &["SELECT"], "`mysql`.`proc`")),
        }
    }

    /// Users and their grants.
    pub fn must_dump_accounts(&self) -> Result<()> {
        match self.may("SELECT", "mysql") {
            true => Ok(()),
            false => Err(self.refuse("users and grants", &["SELECT"], "`mysql`.*")),
        }
    }

    /// The short global read lock that binds dump and fingerprint.
    pub fn may_flush(&self, version: &Version) -> bool {
        let fine = version.at_least(Flavour::Mysql, (8, 0, 23)) && self.may_globally("FLUSH_TABLES");
        fine || self.may_globally("RELOAD")
    }

    pub fn may_read_position(&self) -> bool {
        ["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"].iter().any(|p| self.may_globally(p))
    }
}

impl Rule {
    fn has(&self, privilege: &str) -> bool {
        // ALL holds every static privilege, and on *.* also what was made later.
        self.privileges.contains(privilege) || self.privileges.contains("ALL PRIVILEGES")
    }
}

/// `GRANT SELECT, SHOW VIEW ON `shop`.* TO …`. Roles, proxies and privileges for columns or routines are none of these.
fn rule(line: &str) -> Option<Rule> {
    let (revoked, rest) = match line.strip_prefix("REVOKE ") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix("GRANT ")?),
    };
    let (privileges, rest) = rest.split_once(" ON ")?;
    if privileges.contains('(') || privileges.contains('`') {
        return None;
    }
    let privileges = privileges.split(',').map(|p| p.trim().to_uppercase()).collect();
    let (database, rest) = identifier(rest.strip_prefix("TABLE ").unwrap_or(rest))?;
    let (object, _) = identifier(rest.strip_prefix('.')?)?;
    Some(Rule { revoked, privileges, database, object })
}

/// A name at the beginning: quoted, or `*`.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some(("*".to_owned(), rest));
    }
    let rest = text.strip_prefix('`')?;
    let mut name = String::new();
    let mut characters = rest.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '`' {
            name.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == '`') {
            characters.next();
            name.push('`');
        } else {
            return Some((name, &rest[at + 1..]));
        }
    }
    None
}

/// `%` and `_` stand for others, unless a backslash is before them.
fn matches(pattern: &str, database: &str) -> bool {
    fn from(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['%', rest @ ..] => (0..=name.len()).any(|at| from(rest, &name[at..])),
            ['_', rest @ ..] => !name.is_empty() && from(rest, &name[1..]),
            ['\\', exact, rest @ ..] | [exact, rest @ ..] => name.first() == Some(exact) && from(rest, &name[1..]),
        }
    }
    let characters = |text: &str| text.chars().collect::<Vec<_>>();
    pattern == "*" || pattern == database || from(&characters(pattern), &characters(database))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(lines: &[&str]) -> Grants {
        Grants::parse("backup@%", &lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_missing_is_named_with_the_grant_that_gives_it() {
        let grants =
            grants(&["GRANT USAGE ON *.* TO `backup`@`%`", "GRANT SELECT, SHOW VIEW ON `shop`.* TO `backup`@`%`"]);
        let failure = grants.must_dump("shop", &Version::of_server("9.7.4")).unwrap_err();
        assert_eq!(failure.to_string(), "backup@% may not dump database shop completely: TRIGGER, EVENT are missing");
        assert_eq!(failure.next_step(), Some("GRANT TRIGGER, EVENT ON `shop`.* TO `backup`@`%`;"));
        assert!(grants.must_see_all_databases().is_err());
    }

    #[test]
    fn patterns_revokes_and_single_tables() {
        let some = grants(&[
            "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `sh\\_p%`.* TO `backup`@`%`",
            "GRANT SELECT ON `other`.`one` TO `backup`@`%`",
            "GRANT SHOW_ROUTINE ON *.* TO `backup`@`%`",
        ]);
        assert!(some.must_dump("sh_p1", &Version::of_server("8.0.36")).is_ok());
        assert!(some.must_dump("shop1", &Version::of_server("8.0.36")).is_err() && !some.may("SELECT", "other"));
        let all = grants(&["GRANT ALL PRIVILEGES ON *.* TO `b`@`%`", "REVOKE SELECT ON `mysql`.* FROM `b`@`%`"]);
        assert!(all.may("EVENT", "any") && !all.may("SELECT", "mysql"));
        assert!(matches("a``b", "a``b") && rule("GRANT SELECT ON `a``b`.* TO x").unwrap().database == "a`b");
    }
}
