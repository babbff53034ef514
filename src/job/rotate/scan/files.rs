//! Whether a text or a file has a secret in it.

use crate::job::rotate::delivery::text::{TELLING, is_in, percent_encoded, words};
use crate::secret::Secret;
use std::path::Path;
use zeroize::Zeroizing;

/// What is larger holds data.
const LARGEST: u64 = 64 * 1024;

/// A value, such as that of a variable: the secret, or something it stands in as a word.
pub fn has(text: &str, secret: &Secret) -> bool {
    let encoded = Zeroizing::new(percent_encoded(secret.expose()));
    is_in(text, secret)
        || secret.expose().len() >= TELLING
            && [secret.expose(), encoded.as_str()].iter().any(|wanted| words(text, wanted).next().is_some())
}

/// The value of a variable. A short one that is the whole value could be there by chance, where the name does not say that it is a
/// password: many are that of their user.
pub fn variable_has(name: &str, value: &str, secret: &Secret) -> bool {
    let name = name.to_uppercase();
    let is_told_by_name = || ["PASS", "PWD", "SECRET", "TOKEN", "KEY", "AUTH"].iter().any(|word| name.contains(word));
    has(value, secret) && (secret.expose().len() >= TELLING || value != secret.expose() || is_told_by_name())
}

/// A user that changes with the password.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    pub name: &'a str,
    /// People chose it, and many databases are called as their user. What was made at random is nowhere by chance.
    pub is_chosen: bool,
    /// It is the role that owns, too, and stays that.
    pub is_owner: bool,
}

impl User<'_> {
    /// Whether a variable is this user.
    pub fn is(self, variable: &str, value: &str) -> bool {
        let variable = variable.to_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| variable.contains(word));
        let is_told_by_name =
            || has(&["USER", "LOGIN", "ACCOUNT", "ACCESS", "KEY"]) || has(&["ROLE"]) && !self.is_owner;
        value == self.name && (!self.is_chosen && self.name.len() >= TELLING * 2 || is_told_by_name())
    }
}

/// Lines of settings: `NAME=value`, `name: value`. Comments are passed over.
pub fn lines_have(text: &str, secret: &Secret) -> bool {
    let value_of = |line: &str| {
        let value = line.split_once(['=', ':']).map_or(line, |(_, value)| value).trim();
        value.trim_matches(['"', '\'']).to_owned()
    };
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    is_in(text, secret) || lines.any(|line| has(&Zeroizing::new(value_of(line)), secret) || has(line, secret))
}

/// `None` for what is not there, or is no small file of text; an error is one that cannot be read.
pub fn read(path: &Path) -> std::io::Result<Option<Zeroizing<String>>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(error),
        Ok(_) | Err(_) => return Ok(None),
    }
    let bytes = Zeroizing::new(std::fs::read(path)?);
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_from_what_is_called_as_it() {
        let made = User { name: "AKIA0123456789ABCDEF", is_chosen: false, is_owner: false };
        assert!(made.is("ID", made.name) && !made.is("ID", "another"));
        for name in ["app", "shop_production_db"] {
            let user = User { name, is_chosen: true, is_owner: false };
            for variable in ["PGUSER", "db_user", "DB_USERNAME", "DB_ROLE"] {
                assert!(user.is(variable, name) && !user.is(variable, "application"), "{variable}");
            }
            for variable in ["DB_NAME", "POSTGRES_DB", "DATABASE", "SCHEMA", "BUCKET", "APP"] {
                assert!(!user.is(variable, name), "{variable}={name}");
            }
            let owner = User { is_owner: true, ..user };
            assert!(owner.is("DB_USER", name) && !owner.is("DB_ROLE", name));
        }
    }

    #[test]
    fn a_secret_is_found_where_it_is_a_value() {
        let secret = Secret::new("s3cret-word!".into());
        for text in [
            "s3cret-word!\n",
            "A=1\nDB='s3cret-word!'\n",
            "services:\n  web:\n    environment:\n      - DB=s3cret-word!\n",
            "url: mysql://app:s3cret-word%21@db/app",
            "--requirepass s3cret-word!",
        ] {
            assert!(lines_have(text, &secret), "{text}");
        }
        for text in ["", "# DB=s3cret-word!", "DB=as3cret-word!", "DB=s3cret-word"] {
            assert!(!lines_have(text, &secret), "{text}");
        }
        let short = Secret::new("app".into());
        assert!(variable_has("MYSQL_PASSWORD", "app", &short) && variable_has("URL", "mysql://app:app@db", &short));
        assert!(!variable_has("DB_USER", "app", &short) && variable_has("DB", "s3cret-word!", &secret));
        assert!(lines_have("DB=app\n", &short) && lines_have("DB=mysql://x:app@db", &short));
        assert!(!lines_have("DB=my app\nuser: application\n", &short));
    }
}
