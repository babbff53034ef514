//! What is looked at before anything is changed, and what people should know of besides.

use super::verifier::{CACHING, OF_MYSQL, Verifiers, is_of, native};
use super::{Rotation, number_of};
use crate::engine::Credential;
use crate::engine::mysql::client::{Client, Flavour};
use crate::engine::mysql::session::{Session, text};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;

/// An account that is locked after fewer refused logins could be locked by one that was looked for, and one of a straggler.
const FEWEST_ATTEMPTS: u64 = 3;

const DENIED: [u16; 2] = [1142, 1044];

/// Of an account.
#[derive(Default)]
struct Seen {
    /// The server forgets at a change whom it knows.
    caches: bool,
    /// It is locked after so and so many refusals.
    locks: bool,
}

impl Rotation {
    pub(super) fn look_before(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        for node in self.replicas() {
            self.ask(node, "SELECT 1")?;
        }
        let (variants, seen, may_end, mut warnings) = self.with(cancel, |client, session| {
            let may_end = self.check_rights(client, session)?;
            let variants = self.variants(session)?;
            let notes = self.check_conditions(session, client.version.flavour)?;
            let seen = match client.version.flavour {
                Flavour::Mysql => self.check_mysql(client, session, current)?,
                Flavour::Mariadb => self.check_mariadb(client, session, current)?,
            };
            Ok((variants, seen, may_end, notes))
        })?;
        if variants.len() > 1 {
            warnings.push(format!(
                "{} is {}: all are changed, and the one is tried that this host logs in as",
                self.account,
                variants.join(", ")
            ));
        }
        if !may_end {
            warnings.push(format!(
                "{} could not end old sessions in an emergency: GRANT CONNECTION_ADMIN (in MariaDB: CONNECTION ADMIN) ON *.* TO it",
                self.admin()
            ));
        }
        if seen.caches {
            warnings.extend(self.without_encryption(variants.len() > 1, seen.locks, cancel)?);
        }
        Ok(warnings)
    }

    fn check_mysql(&self, client: &Client<'_>, session: &mut Session<'_>, current: &Secret) -> Result<Seen> {
        if !client.version.at_least(Flavour::Mysql, (8, 0, 14)) {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} knows only one password for an account", client.version),
            )
            .hint("Rotation without a gap needs MySQL 8.0.14 or newer, or MariaDB 10.4 or newer"));
        }
        let question = format!(
            "SELECT host, plugin, HEX(authentication_string), \
               COALESCE(JSON_EXTRACT(User_attributes, '$.Password_locking.failed_login_attempts'), 0) \
             FROM mysql.user WHERE user = {} ORDER BY host",
            text(&self.account)
        );
        let mut seen = Seen::default();
        for row in session.rows(&question)? {
            let [host, plugin, kept, attempts] = <[String; 4]>::try_from(row).unwrap_or_default();
            let variant = format!("{}@{}", text(&self.account), text(&host));
            if !OF_MYSQL.contains(&plugin.as_str()) {
                let what = format!("{variant} logs in by {plugin}, which has no second password");
                return Err(Failure::new(Kind::Refused, what).hint(format!("Known are: {}", OF_MYSQL.join(", "))));
            }
            // Where it is not understood, it is not shown to be the same.
            if hex::decode(&kept).ok().and_then(|kept| is_of(&plugin, &kept, current)) != Some(true) {
                return Err(another(&variant));
            }
            let attempts = attempts.parse().unwrap_or(0);
            if (1..FEWEST_ATTEMPTS).contains(&attempts) {
                let what = format!("{variant} is locked after {attempts} wrong passwords, and a rotation must try one");
                return Err(Failure::new(Kind::Refused, what)
                    .hint(format!("ALTER USER {variant} FAILED_LOGIN_ATTEMPTS {FEWEST_ATTEMPTS}; or more")));
            }
            seen.caches |= plugin == CACHING;
            seen.locks |= attempts > 0;
        }
        if self.has_second_password(session)? {
            return Err(self.foreign());
        }
        Ok(seen)
    }

    fn check_mariadb(&self, client: &Client<'_>, session: &mut Session<'_>, current: &Secret) -> Result<Seen> {
        if !client.version.at_least(Flavour::Mariadb, (10, 4, 0)) {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} knows only one password for an account", client.version),
            )
            .hint("Rotation without a gap needs MariaDB 10.4 or newer"));
        }
        self.check_validation(session)?;
        let expected = Verifiers(vec![native(current)]);
        for (variant, verifiers) in self.verifiers(session)? {
            if verifiers != expected {
                return Err(another(&variant));
            }
        }
        let attempts = session.number("SELECT @@global.max_password_errors")?;
        if attempts < FEWEST_ATTEMPTS {
            let what = format!("accounts are locked after {attempts} wrong passwords, and a rotation must try one");
            return Err(Failure::new(Kind::Refused, what)
                .hint(format!("SET GLOBAL max_password_errors = {FEWEST_ATTEMPTS}; or more")));
        }
        Ok(Seen::default())
    }

    /// MariaDB is given verifiers, of which a plug-in for passwords can say nothing: with that option, none is taken.
    fn check_validation(&self, session: &mut Session<'_>) -> Result<()> {
        let plugins = "SELECT plugin_name FROM information_schema.plugins \
            WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE' AND @@global.strict_password_validation";
        match session.column(plugins)?.first() {
            None => Ok(()),
            Some(plugin) => {
                let what = format!(
                    "the server takes no verifiers (strict_password_validation, {plugin}), and bkp tells it no passwords"
                );
                Err(Failure::new(Kind::Refused, what)
                    .hint("SET GLOBAL strict_password_validation = OFF; what bkp makes is 40 characters by chance"))
            }
        }
    }

    /// Without these, changes fail or sessions are not seen. Whether it may end sessions, too.
    fn check_rights(&self, client: &Client<'_>, session: &mut Session<'_>) -> Result<bool> {
        let grants = session.column("SHOW GRANTS")?.join("\n");
        let all = grants.lines().any(|line| line.starts_with("GRANT ALL PRIVILEGES ON *.*"));
        let admin = self.admin();
        let lacks = |right: &str, on: &str| {
            let what = format!("{admin} has not the right {right} on {on} at {}", self.server.location());
            let hint = format!("GRANT {right} ON {on} TO {admin}@'…'; a role that has it does not count here");
            Failure::new(Kind::Key, what).hint(hint)
        };
        if let Some(right) = ["CREATE USER", "PROCESS"].into_iter().find(|right| !all && !grants.contains(right)) {
            return Err(lacks(right, "*.*"));
        }
        let table = if client.version.flavour == Flavour::Mariadb { "global_priv" } else { "user" };
        session.rows(&format!("SELECT 1 FROM mysql.{table} LIMIT 1")).map_err(|failure| match number_of(&failure) {
            Some(number) if DENIED.contains(&number) => lacks("SELECT", "mysql.*"),
            _ => failure,
        })?;
        Ok(all || ["CONNECTION ADMIN", "CONNECTION_ADMIN", "SUPER"].iter().any(|right| grants.contains(right)))
    }

    /// The server knows again who logged in once with a whole password. At a change it forgets, and who neither encrypts nor asks for
    /// its key is refused until somebody else logged in; some of them together would lock the account.
    fn without_encryption(&self, has_several: bool, locks: bool, cancel: &Cancel) -> Result<Option<String>> {
        let question = format!(
            "SELECT DISTINCT processlist_host FROM performance_schema.threads \
             WHERE processlist_user = {} AND connection_type = 'TCP/IP' ORDER BY 1",
            text(&self.account)
        );
        let account = &self.account;
        let meaning = "a client that neither uses TLS nor asks for the server's public key (get-server-public-key, \
            allowPublicKeyRetrieval) is refused for the moment between the change and a login of bkp";
        let (who, are_seen) = match self.with(cancel, |_, session| session.column(&question)) {
            Ok(clients) if clients.is_empty() => return Ok(None),
            Ok(clients) => (format!("{account} has sessions without TLS, from {}", clients.join(", ")), true),
            Err(_) => {
                let how = format!("GRANT SELECT ON performance_schema.threads TO {}", self.admin());
                (format!("whether {account} has sessions without TLS cannot be seen ({how})"), false)
            }
        };
        let several = "; at hosts that bkp does not log in from, until a client of there does with the whole password";
        let several = if has_several { several } else { "" };
        let warning = format!("{who}: with {CACHING}, {meaning}{several}");
        if !locks {
            return Ok(Some(warning));
        }
        let locked = format!("{warning}; and some of these lock the account (FAILED_LOGIN_ATTEMPTS)");
        match are_seen {
            true => Err(Failure::new(Kind::Refused, locked).hint(
                "Let them use TLS or ask for the key; or while it is rotated: ALTER USER … FAILED_LOGIN_ATTEMPTS 0",
            )),
            false => Ok(Some(locked)),
        }
    }
}

fn another(variant: &str) -> Failure {
    let what = format!("{variant} has another password than the one that is published, or more than one");
    Failure::new(Kind::Refused, what)
        .hint("All hosts of an account are rotated together: give them one password, or remove those that nobody uses")
}
