//! Users, roles and grants as SQL, written by bkp from `SHOW CREATE USER` and `SHOW GRANTS`.
//!
//! Passwords are there as the server keeps them: hashed. Accounts of the server itself are left out. Loaded, an account
//! that exists keeps the password that it has: `IF NOT EXISTS` everywhere, and no statement that could set one again.

use super::client::{Client, Flavour};
use super::rotation::verifier::{self, CACHING, NATIVE, native};
use super::script::{Scanner, Visitor};
use super::session::{Session, error_number, name, text};
use super::statement::{Token, tokens};
use crate::durable::random_hex;
use crate::engine::Comes;
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use std::collections::BTreeMap;

const SYSTEM: [&str; 5] = ["mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys", "PUBLIC"];

/// What there is to say about all accounts, in the order in which it is to be said.
#[derive(Debug, Default, PartialEq)]
pub struct Accounts {
    /// Account → the statement that makes it.
    pub created: BTreeMap<String, String>,
    pub roles: Vec<String>,
    /// Account that is no role → its user, without the host.
    pub users: BTreeMap<String, String>,
    /// Account and statement.
    pub grants: Vec<(String, String)>,
}

/// All accounts. Grants on single tables and routines only where the dump `has` them: servers keep grants on tables that
/// were dropped, and take none on what is not there.
pub fn of_databases(
    session: &mut Session<'_>,
    client: &Client<'_>,
    has: &dyn Fn(&str, &str) -> bool,
) -> Result<Accounts> {
    let mut accounts = read(session, client)?;
    accounts.grants.retain(|(_, grant)| object(grant).is_none_or(|(database, name)| has(&database, &name)));
    Ok(accounts)
}

pub fn read(session: &mut Session<'_>, client: &Client<'_>) -> Result<Accounts> {
    let mut accounts = Accounts::default();
    let mariadb = client.version.flavour == Flavour::Mariadb;
    let role = if mariadb { "is_role" } else { "'N'" };
    if client.version.at_least(Flavour::Mysql, (8, 0, 17)) {
        // Hashes may hold any byte.
        session.run("SET SESSION print_identified_with_as_hex = 1")?;
    }
    let rows = session.rows(&format!("SELECT user, host, {role} FROM mysql.user ORDER BY 3 DESC, 1, 2"))?;
    for row in rows {
        let [user, host, is_role] = <[String; 3]>::try_from(row).unwrap_or_default();
        let own_of_mariadb = mariadb && user == "mysql" && host == "localhost";
        if SYSTEM.contains(&user.as_str()) || own_of_mariadb {
            continue;
        }
        if is_role == "Y" {
            accounts.roles.push(name(&user));
            accounts.created.insert(name(&user), format!("CREATE ROLE IF NOT EXISTS {}", name(&user)));
            accounts.read_grants(session, &name(&user))?;
        } else {
            let account = format!("{}@{}", name(&user), name(&host));
            let quoted = format!("{}@{}", text(&user), text(&host));
            let create = session.one(&format!("SHOW CREATE USER {quoted}")).map_err(|why| gone(why, &account))?;
            accounts.created.insert(account.clone(), creation(&create));
            accounts.users.insert(account.clone(), user.clone());
            accounts.read_grants(session, &account).map_err(|why| gone(why, &account))?;
        }
    }
    if client.version.at_least(Flavour::Mysql, (8, 0, 0)) {
        accounts.read_default_roles(session)?;
    }
    Ok(accounts)
}

/// Who makes accounts for an hour, as Vault does, may drop one between the list and the question for it: the next look is without it.
fn gone(failure: Failure, account: &str) -> Failure {
    match error_number(&failure.full()) {
        Some(1133 | 1141 | 1396) => {
            Failure::new(Kind::TryLater, format!("{account} was dropped while the accounts were read"))
                .hint("Run the command again. If it is there: FLUSH PRIVILEGES makes the server know it")
                .passing()
                .because(failure)
        }
        _ => failure,
    }
}

/// `CREATE USER … [DEFAULT ROLE …] …` without the roles, which may not be there yet.
fn creation(create: &str) -> String {
    let mut text = create.replacen("CREATE USER ", "CREATE USER IF NOT EXISTS ", 1);
    if let Some(from) = text.find(" DEFAULT ROLE ")
        && let Some(length) = text[from..].find(" REQUIRE ")
    {
        text.replace_range(from..from + length, "");
    }
    text
}

impl Accounts {
    fn read_grants(&mut self, session: &mut Session<'_>, account: &str) -> Result<()> {
        for line in session.column(&format!("SHOW GRANTS FOR {account}"))? {
            if let Some(grant) = grant(&line, account) {
                self.grants.push((account.to_owned(), grant));
            }
        }
        Ok(())
    }

    fn read_default_roles(&mut self, session: &mut Session<'_>) -> Result<()> {
        let question =
            "SELECT user, host, default_role_user, default_role_host FROM mysql.default_roles ORDER BY 1, 2, 3, 4";
        let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in session.rows(question)? {
            let [user, host, role, of] = <[String; 4]>::try_from(row).unwrap_or_default();
            let account = format!("{}@{}", name(&user), name(&host));
            roles.entry(account).or_default().push(format!("{}@{}", name(&role), name(&of)));
        }
        for (account, roles) in roles {
            self.grants.push((account.clone(), format!("SET DEFAULT ROLE {} TO {account}", roles.join(", "))));
        }
        Ok(())
    }

    pub fn sql(&self) -> String {
        let mut sql = "-- Users, roles and their grants. Load this after dump.sql.\n".to_owned();
        let (roles, users): (Vec<_>, Vec<_>) = self.created.iter().partition(|(a, _)| self.roles.contains(a));
        for (_, create) in roles.into_iter().chain(users) {
            sql.push_str(&format!("{create};\n"));
        }
        for (_, grant) in self.ordered_grants() {
            sql.push_str(&format!("{grant};\n"));
        }
        sql
    }

    /// Default roles want their grants first.
    pub fn ordered_grants(&self) -> impl Iterator<Item = &(String, String)> {
        let last = |grant: &&(String, String)| grant.1.starts_with("SET DEFAULT ROLE");
        self.grants.iter().filter(move |g| !last(g)).chain(self.grants.iter().filter(last))
    }

    /// The statement that makes an account, as it comes back.
    pub fn creation(&self, account: &str, comes: Comes<'_>) -> String {
        let create = &self.created[account];
        match (comes, self.proof(account)) {
            (Comes::With(password), Some(proof)) => {
                let known = self.known(account, proof, password);
                known.map_or_else(|| create.clone(), |known| create.replacen(proof, &known, 1))
            }
            (Comes::Closed, Some(proof)) => create.replacen(proof, &self.closed(account, proof), 1),
            (Comes::Locked, _) if create.contains(" ACCOUNT UNLOCK") => {
                create.replacen(" ACCOUNT UNLOCK", " ACCOUNT LOCK", 1)
            }
            (Comes::Locked, _) if !create.contains(" ACCOUNT LOCK") => format!("{create} ACCOUNT LOCK"),
            _ => create.clone(),
        }
    }

    /// The verifier of that password in place of the one that is there. Nothing where the account logs in by other means.
    fn known(&self, account: &str, proof: &str, password: &Secret) -> Option<String> {
        if proof.starts_with(" IDENTIFIED BY PASSWORD ") {
            return Some(format!(" IDENTIFIED BY PASSWORD {}", text(&native(password))));
        }
        let Some(ways) = proof.strip_prefix(" IDENTIFIED VIA ") else {
            let plugin = *self.plugins(account).first()?;
            let verifier = String::from_utf8(verifier::of(plugin, password)?).ok()?;
            return Some(format!(" IDENTIFIED WITH {} AS {}", text(plugin), text(&verifier)));
        };
        // By any one of several.
        let (by_password, others): (Vec<&str>, Vec<&str>) = ways.split(" OR ").partition(|way| way.starts_with(NATIVE));
        let own = format!("{NATIVE} USING {}", text(&native(password)));
        let ways: Vec<&str> = [own.as_str()].into_iter().chain(others).collect();
        (!by_password.is_empty()).then(|| format!(" IDENTIFIED VIA {}", ways.join(" OR ")))
    }

    /// Of an account whose plug-in this server does not have: what replaces the old ones, or a password that nobody knows.
    pub fn substitute(&self, account: &str, comes: Comes<'_>, plugins: &[String]) -> String {
        let of_today = match comes {
            Comes::With(password) if plugins.iter().any(|plugin| plugin == CACHING) => verifier::of(CACHING, password),
            _ => None,
        };
        let proof = match of_today.and_then(|verifier| String::from_utf8(verifier).ok()) {
            Some(verifier) => format!("WITH {} AS {}", text(CACHING), text(&verifier)),
            None => format!("BY 'aA1!{}'", random_hex(16)),
        };
        format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED {proof}")
    }

    pub fn is_locked(&self, account: &str) -> bool {
        self.created.get(account).is_some_and(|create| create.contains(" ACCOUNT LOCK"))
    }

    /// A password that nobody knows, in place of that proof.
    fn closed(&self, account: &str, proof: &str) -> String {
        // MariaDB takes no password behind a plug-in that it is told of, and may be told of several.
        if proof.starts_with(" IDENTIFIED VIA ") {
            return format!(" IDENTIFIED VIA mysql_native_password USING '*{}'", random_hex(20).to_uppercase());
        }
        // It names none where it is the usual one.
        let plugin = self.plugins(account).first().map(|plugin| format!(" WITH {}", text(plugin))).unwrap_or_default();
        format!(" IDENTIFIED{plugin} BY 'aA1!{}'", random_hex(16))
    }

    pub fn parse(sql: &[u8]) -> Result<Self> {
        let mut accounts = Accounts::default();
        let mut scanner = Scanner::new();
        scanner.push(sql, &mut accounts)?;
        scanner.finish()?;
        Ok(accounts)
    }

    /// The plugins by which an account proves itself, as far as it names them.
    pub fn plugins(&self, account: &str) -> Vec<&str> {
        let words: Vec<&str> = self.proof(account).unwrap_or_default().split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| ["WITH", "VIA", "OR"].contains(&pair[0]));
        pairs.map(|pair| pair[1].trim_matches(['\'', '`'])).collect()
    }

    /// How an account proves itself: plugin and hash, as text that compares.
    pub fn proof(&self, account: &str) -> Option<&str> {
        let create = self.created.get(account)?;
        let from = create.find(" IDENTIFIED ")?;
        let ends = [" REQUIRE ", " DEFAULT ROLE ", " PASSWORD EXPIRE", " ACCOUNT ", " WITH MAX_"];
        let end = ends.iter().filter_map(|end| create[from..].find(end)).min().map_or(create.len(), |at| from + at);
        Some(&create[from..end])
    }
}

impl Visitor for Accounts {
    fn statement(&mut self, statement: &[u8], _delimiter: &str) -> Result<()> {
        let text = String::from_utf8_lossy(statement).into_owned();
        let Some(account) = account_of(statement) else { return Ok(()) };
        if text.starts_with("CREATE ROLE") {
            self.roles.push(account.clone());
        } else if text.starts_with("CREATE")
            && let Some(user) = user_of(statement)
        {
            self.users.insert(account.clone(), user);
        }
        if text.starts_with("CREATE") {
            self.created.insert(account, text);
        } else {
            self.grants.push((account, text));
        }
        Ok(())
    }

    fn rows(&mut self, _: &[u8], _: bool, _: bool) -> Result<()> {
        Ok(())
    }
}

/// Whom a statement of this module is about.
fn account_of(statement: &[u8]) -> Option<String> {
    let tokens = tokens(statement);
    let before =
        |token: &Token| matches!(token, Token::Word(w) if ["EXISTS", "TO", "FOR", "FROM"].contains(&w.as_str()));
    let create = tokens.iter().position(|t| matches!(t, Token::Word(w) if w == "EXISTS"));
    let at = create.or_else(|| tokens.iter().rposition(before))?;
    match (&tokens[at + 1..], tokens.get(at + 1)?) {
        ([Token::Name(user), Token::Sign('@'), Token::Name(host), ..], _) => {
            Some(format!("{}@{}", name(user), name(host)))
        }
        (_, Token::Name(role)) => Some(name(role)),
        _ => None,
    }
}

/// The user of `CREATE USER IF NOT EXISTS user@host`.
fn user_of(statement: &[u8]) -> Option<String> {
    let mut tokens = tokens(statement).into_iter();
    tokens.find(|token| matches!(token, Token::Word(word) if word == "EXISTS"))?;
    match tokens.next()? {
        Token::Name(user) => Some(user),
        _ => None,
    }
}

/// The one table or routine that a grant is on, after its database.
fn object(grant: &str) -> Option<(String, String)> {
    let tokens = tokens(grant.as_bytes());
    let at = tokens.iter().position(|t| matches!(t, Token::Word(w) if w == "ON"))? + 1;
    let words = tokens[at..].iter().take_while(|t| matches!(t, Token::Word(_))).count();
    match &tokens[at + words..] {
        [Token::Name(database), Token::Sign('.'), Token::Name(name), ..] => Some((database.clone(), name.clone())),
        _ => None,
    }
}

/// One line of `SHOW GRANTS FOR account`, without what MariaDB adds of passwords; `None` for lines about others, and for
/// the right to stand in for anybody that servers give to their first account.
fn grant(line: &str, account: &str) -> Option<String> {
    if line.starts_with("GRANT PROXY ON ''@") || line.starts_with("GRANT PROXY ON ``@") {
        return None;
    }
    if line.starts_with("SET DEFAULT ROLE") || line.starts_with("REVOKE ") {
        return line.trim_end().ends_with(account).then(|| line.to_owned());
    }
    let mark = format!(" TO {account}");
    let end = line.rfind(&mark)? + mark.len();
    let option = ["WITH GRANT OPTION", "WITH ADMIN OPTION"].into_iter().find(|option| line[end..].contains(option));
    let option = option.map(|option| format!(" {option}")).unwrap_or_default();
    let after = line[end..].chars().next();
    (after.is_none() || after == Some(' ')).then(|| format!("{}{option}", &line[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_grant_sets_a_password() {
        let app = "`app`@`%`";
        let line = "GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*31' REQUIRE SSL WITH GRANT OPTION";
        assert_eq!(grant(line, app).unwrap(), "GRANT USAGE ON *.* TO `app`@`%` WITH GRANT OPTION");
        assert_eq!(grant("GRANT SELECT ON *.* TO `r1`", app), None);
        assert_eq!(grant("GRANT PROXY ON ``@`` TO `app`@`%` WITH GRANT OPTION", app), None);
        assert_eq!(object("GRANT EXECUTE ON PROCEDURE `a`.`p` TO `app`@`%`"), Some(("a".into(), "p".into())));
        assert_eq!(object("GRANT SELECT ON `a`.* TO `app`@`%`"), None);
        assert_eq!(grant("SET DEFAULT ROLE `r1` FOR `app`@`%`", app).unwrap(), "SET DEFAULT ROLE `r1` FOR `app`@`%`");
    }

    #[test]
    fn accounts_come_back_from_their_text() {
        let create =
            "CREATE USER `app`@`%` IDENTIFIED WITH 'x' AS 0xAB DEFAULT ROLE `r`@`%` REQUIRE NONE ACCOUNT UNLOCK";
        let mut accounts = Accounts::default();
        accounts.created.insert("`app`@`%`".into(), creation(create));
        accounts.users.insert("`app`@`%`".into(), "app".into());
        accounts.created.insert("`r1`".into(), "CREATE ROLE IF NOT EXISTS `r1`".into());
        accounts.roles.push("`r1`".into());
        accounts.grants.push(("`app`@`%`".into(), "GRANT SELECT ON `to`.* TO `app`@`%`".into()));
        accounts.grants.push(("`app`@`%`".into(), "SET DEFAULT ROLE `r1` FOR `app`@`%`".into()));
        assert_eq!(Accounts::parse(accounts.sql().as_bytes()).unwrap(), accounts);
        assert_eq!(accounts.proof("`app`@`%`"), Some(" IDENTIFIED WITH 'x' AS 0xAB"));
        let closed = accounts.creation("`app`@`%`", Comes::Closed);
        assert!(closed.contains(" IDENTIFIED WITH 'x' BY 'aA1!") && !closed.contains("0xAB"), "{closed}");
        let locked = accounts.creation("`app`@`%`", Comes::Locked);
        assert!(locked.contains("AS 0xAB") && locked.ends_with(" ACCOUNT LOCK"), "{locked}");
        assert_eq!((accounts.plugins("`app`@`%`"), accounts.plugins("`r1`")), (vec!["x"], vec![]));
    }

    /// Verifiers as the servers tell of them; what is logged in by besides stays.
    #[test]
    fn accounts_whose_password_is_known_come_back_with_it_and_no_other() {
        let password = Secret::new("hunter2".into());
        let creation = |proof: &str| {
            let mut accounts = Accounts::default();
            let create = format!("CREATE USER `rot`@`%` IDENTIFIED {proof} REQUIRE NONE");
            accounts.created.insert("`rot`@`%`".into(), creation(&create));
            let told = accounts.creation("`rot`@`%`", Comes::With(&password));
            told.strip_prefix("CREATE USER IF NOT EXISTS `rot`@`%` IDENTIFIED ").unwrap().to_owned()
        };
        let own = "*58815970BE77B3720276F63DB198B1FA42E5CC02";
        assert_eq!(creation("BY PASSWORD '*A'"), format!("BY PASSWORD '{own}' REQUIRE NONE"));
        assert_eq!(
            creation("VIA unix_socket OR mysql_native_password USING '*A' OR mysql_native_password USING '*B'"),
            format!("VIA mysql_native_password USING '{own}' OR unix_socket REQUIRE NONE")
        );
        assert_eq!(creation("VIA unix_socket"), "VIA unix_socket REQUIRE NONE");
        let caching = creation("WITH 'caching_sha2_password' AS 0xAB");
        assert!(
            caching.starts_with("WITH 'caching_sha2_password' AS '$A$005$") && !caching.contains("0xAB"),
            "{caching}"
        );
        assert_eq!(creation("WITH 'auth_socket'"), "WITH 'auth_socket' REQUIRE NONE");
    }

    /// As MariaDB 10.11 tells of an account in the middle of a rotation; it takes `BY` behind no plug-in.
    #[test]
    fn accounts_with_two_passwords_come_back_closed() {
        let mut accounts = Accounts::default();
        let create =
            "CREATE USER `app`@`%` IDENTIFIED VIA mysql_native_password USING '*A' OR mysql_native_password USING '*B'";
        accounts.created.insert("`app`@`%`".into(), creation(create));
        let closed = accounts.creation("`app`@`%`", Comes::Closed);
        let (_, verifier) = closed.split_once(" IDENTIFIED VIA mysql_native_password USING '*").unwrap();
        assert!(verifier.len() == 41 && verifier.ends_with('\''), "{closed}");
    }
}
