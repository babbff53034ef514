//! What an account asks for besides its password, and how often it lets in. Where that would keep out bkp's logins, or those of
//! consumers because of bkp's, it is said before anything is changed.

use super::Rotation;
use crate::engine::mysql::client::Flavour;
use crate::engine::mysql::session::{Session, text};
use crate::error::{Failure, Kind, Result};

/// More than a rotation logs in, each time with one question.
const LOGINS: u64 = 60;
/// What bkp itself may take of the sessions that an account may have at once.
const OWN: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Conditions {
    variant: String,
    tls: Tls,
    locked: bool,
    expired: bool,
    /// How often it lets in; 0 means that nobody counts.
    at_once: u64,
    logins: u64,
    questions: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    NotNeeded,
    Needed,
    WithCertificate,
}

/// Of the server and of the source.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    requires_tls: bool,
    has_authorities: bool,
    /// For accounts that say nothing of it.
    at_once: u64,
    open: u64,
}

impl Rotation {
    /// Gives what people should know of.
    pub(super) fn check_conditions(&self, session: &mut Session<'_>, flavour: Flavour) -> Result<Vec<String>> {
        let account = text(&self.account);
        let question = match flavour {
            Flavour::Mysql => OF_MYSQL,
            Flavour::Mariadb => OF_MARIADB,
        };
        let rows = session.rows(&format!("{question} = {account}"))?;
        let all: Vec<Conditions> = rows.into_iter().filter_map(|row| Conditions::parse(&account, row)).collect();
        let mut around = Around { has_authorities: self.server.ca_file.is_some(), ..Around::default() };
        for row in session
            .rows("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('require_secure_transport', 'max_user_connections')")?
        {
            match <[String; 2]>::try_from(row) {
                Ok([name, value]) if name == "max_user_connections" => around.at_once = value.parse().unwrap_or(0),
                Ok([_, value]) => around.requires_tls = value == "ON",
                Err(_) => {}
            }
        }
        let sessions = session.rows("SHOW PROCESSLIST")?;
        around.open = sessions.iter().filter(|row| row.get(1) == Some(&self.account)).count() as u64;
        check(&all, around)
    }
}

const OF_MYSQL: &str = "SELECT host, ssl_type, account_locked = 'Y', \
      password_expired = 'Y' OR (COALESCE(password_lifetime, @@global.default_password_lifetime) > 0 AND password_last_changed < \
        NOW() - INTERVAL COALESCE(password_lifetime, @@global.default_password_lifetime) DAY), \
      max_user_connections, max_connections, max_questions \
    FROM mysql.user WHERE user";

const OF_MARIADB: &str = "SELECT Host, ELT(1 + COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0), '', 'ANY', 'X509', 'SPECIFIED'), \
      COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) = 1, \
      COALESCE(JSON_VALUE(Priv, '$.password_last_changed') = 0, 0) OR (COALESCE(NULLIF(JSON_VALUE(Priv, '$.password_lifetime'), -1), \
        @@global.default_password_lifetime) > 0 AND COALESCE(JSON_VALUE(Priv, '$.password_last_changed'), UNIX_TIMESTAMP()) < UNIX_TIMESTAMP() \
        - 86400 * COALESCE(NULLIF(JSON_VALUE(Priv, '$.password_lifetime'), -1), @@global.default_password_lifetime)), \
      COALESCE(JSON_VALUE(Priv, '$.max_user_connections'), 0), COALESCE(JSON_VALUE(Priv, '$.max_connections'), 0), \
      COALESCE(JSON_VALUE(Priv, '$.max_questions'), 0) \
    FROM mysql.global_priv WHERE User";

impl Conditions {
    fn parse(account: &str, row: Vec<String>) -> Option<Conditions> {
        let [host, tls, locked, expired, at_once, logins, questions] = <[String; 7]>::try_from(row).ok()?;
        let number = |text: &str| text.parse().unwrap_or(0);
        Some(Conditions {
            variant: format!("{account}@{}", text(&host)),
            tls: match tls.as_str() {
                "ANY" => Tls::Needed,
                "X509" | "SPECIFIED" => Tls::WithCertificate,
                _ => Tls::NotNeeded,
            },
            locked: locked == "1",
            expired: expired == "1",
            at_once: number(&at_once),
            logins: number(&logins),
            questions: number(&questions),
        })
    }
}

fn check(all: &[Conditions], around: Around) -> Result<Vec<String>> {
    let refused = |what: String, hint: String| Err(Failure::new(Kind::Refused, what).hint(hint));
    let mut notes = Vec::new();
    let is_locked = all.iter().all(|one| one.locked);
    for Conditions { variant, tls, locked, expired, .. } in all {
        if *tls == Tls::WithCertificate {
            return refused(
                format!(
                    "{variant} lets in only with a certificate of the client (REQUIRE X509), and bkp shows none: its password cannot be tried"
                ),
                format!("Let TLS be enough: ALTER USER {variant} REQUIRE SSL; or rotate that account by hand"),
            );
        }
        if *tls == Tls::Needed && !around.has_authorities {
            return refused(
                format!("{variant} lets in only over TLS (REQUIRE SSL), and the source has no `ca_file`"),
                NAME_AUTHORITIES.into(),
            );
        }
        match (locked, is_locked) {
            (true, true) => {
                return refused(
                    format!(
                        "{variant} is locked (ACCOUNT LOCK): whether its password is the one that is published cannot be tried"
                    ),
                    format!("ALTER USER {variant} ACCOUNT UNLOCK; or take the rotation out of the configuration"),
                );
            }
            (true, false) => {
                notes.push(format!("{variant} is locked (ACCOUNT LOCK), and stays so with the new password"))
            }
            (false, _) => {}
        }
        if *expired && !locked {
            return refused(
                format!("the password of {variant} has expired: nobody can work with it"),
                format!(
                    "Set the one that is published once more: ALTER USER {variant} IDENTIFIED BY '…'; or let it not expire: PASSWORD EXPIRE NEVER"
                ),
            );
        }
    }
    if around.requires_tls && !around.has_authorities {
        return refused(
            "the server lets in only over TLS (require_secure_transport), and the source has no `ca_file`".into(),
            NAME_AUTHORITIES.into(),
        );
    }
    // Which of several rows a session came by is not told: of each alone, nothing is known to be taken.
    let around = if all.len() > 1 { Around { open: 0, ..around } } else { around };
    for one in all.iter().filter(|one| !one.locked) {
        notes.extend(one.is_let_in_often_enough(around)?);
    }
    Ok(notes)
}

const NAME_AUTHORITIES: &str = "Give the source `ca_file`, the authority of the server's certificate, in PEM; the certificate must have the name or address in `host` or `nodes`";

impl Conditions {
    fn is_let_in_often_enough(&self, around: Around) -> Result<Vec<String>> {
        let variant = &self.variant;
        let hourly = [(self.logins, "MAX_CONNECTIONS_PER_HOUR"), (self.questions, "MAX_QUERIES_PER_HOUR")];
        let hourly = hourly.into_iter().filter(|(limit, _)| *limit > 0);
        let mut notes = Vec::new();
        for (limit, name) in hourly {
            if limit < LOGINS {
                let what = format!(
                    "{variant} has {name} {limit}, and a rotation logs in up to {LOGINS} times: consumers could be refused by that"
                );
                return Err(Failure::new(Kind::Refused, what)
                    .hint(format!("While it is rotated: ALTER USER {variant} WITH {name} 0")));
            }
            notes.push(format!("{variant} has {name} {limit}: up to {LOGINS} logins of bkp count, too"));
        }
        let (at_once, set) = match self.at_once {
            0 => (around.at_once, "max_user_connections of the server".to_owned()),
            own => (own, format!("ALTER USER {variant} WITH MAX_USER_CONNECTIONS")),
        };
        if at_once == 0 {
            return Ok(notes);
        }
        if at_once < around.open + OWN {
            let what = format!(
                "{variant} is let in {at_once} times at once (MAX_USER_CONNECTIONS), and {} are taken: logins of bkp could keep consumers out",
                around.open
            );
            return Err(Failure::new(Kind::Refused, what).hint(format!("Let there be {OWN} more: {set}")));
        }
        notes.push(format!("{variant} is let in {at_once} times at once (MAX_USER_CONNECTIONS), and each login of bkp is one of them for a moment"));
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rest: &str) -> Conditions {
        let row = format!("%,{rest}").split(',').map(str::to_owned).collect();
        Conditions::parse("'app'", row).unwrap()
    }

    const PLAIN: &str = ",0,0,0,0,0";

    fn says(all: &[&str], around: Around) -> String {
        let all: Vec<Conditions> = all.iter().map(|rest| row(rest)).collect();
        match check(&all, around) {
            Ok(notes) => notes.join("; "),
            Err(failure) => {
                assert_eq!(failure.kind(), Kind::Refused);
                format!("refused: {}", failure.full())
            }
        }
    }

    #[test]
    fn what_would_keep_bkp_out_is_refused() {
        let (none, trusts) = (Around::default(), Around { has_authorities: true, ..Around::default() });
        let requires = Around { requires_tls: true, ..none };
        let table = [
            (PLAIN, none, ""),
            (PLAIN, requires, "refused: the server lets in only over TLS"),
            (PLAIN, Around { has_authorities: true, ..requires }, ""),
            ("ANY,0,0,0,0,0", none, "refused: 'app'@'%' lets in only over TLS (REQUIRE SSL)"),
            ("ANY,0,0,0,0,0", trusts, ""),
            ("X509,0,0,0,0,0", trusts, "refused: 'app'@'%' lets in only with a certificate"),
            ("SPECIFIED,0,0,0,0,0", trusts, "refused: 'app'@'%' lets in only with a certificate"),
            (",1,0,0,0,0", none, "refused: 'app'@'%' is locked"),
            (",0,1,0,0,0", none, "refused: the password of 'app'@'%' has expired"),
        ];
        for (one, around, expected) in table {
            let said = says(&[one], around);
            assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{one}: {said}");
        }
        assert_eq!(
            says(&[PLAIN, ",1,1,0,0,0"], none),
            "'app'@'%' is locked (ACCOUNT LOCK), and stays so with the new password"
        );
    }

    #[test]
    fn bkp_does_not_take_the_logins_that_consumers_need() {
        let open = |open| Around { open, ..Around::default() };
        let table = [
            (",0,0,3,0,0", open(1), "'app'@'%' is let in 3 times at once"),
            (",0,0,3,0,0", open(2), "refused: 'app'@'%' is let in 3 times at once"),
            (",0,0,1,0,0", open(0), "refused: 'app'@'%' is let in 1 times at once"),
            (PLAIN, Around { at_once: 2, ..open(1) }, "refused: 'app'@'%' is let in 2 times at once"),
            (",0,0,0,59,0", open(0), "refused: 'app'@'%' has MAX_CONNECTIONS_PER_HOUR 59"),
            (",0,0,0,0,10", open(0), "refused: 'app'@'%' has MAX_QUERIES_PER_HOUR 10"),
            (",0,0,0,0,1000", open(0), "'app'@'%' has MAX_QUERIES_PER_HOUR 1000: up to"),
        ];
        for (one, around, expected) in table {
            let said = says(&[one], around);
            assert!(said.starts_with(expected), "{one}: {said}");
        }
        // Each row counts its own, and of one that is locked nobody counts.
        let two = says(&[",0,0,10,0,0", ",0,0,5,0,0"], open(8));
        assert!(two.starts_with("'app'@'%' is let in 10 times at once"), "{two}");
        assert!(says(&[",0,0,1,0,0", PLAIN], open(0)).starts_with("refused: "));
        assert!(says(&[",1,0,1,0,0", PLAIN], open(0)).starts_with("'app'@'%' is locked"));
    }
}
