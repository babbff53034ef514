//! A file of variables, such as the `.env` of a Compose project: one value in it is exchanged, and not another byte.
//!
//! The file is exchanged whole, with its mode and owner; what it was stays beside it as `.bkp-prev` until the rotation is over.
//! The variable is the secret, or an address that holds it. New secrets need no quotes; an old one that does gets single ones.
//! Where names take turns, the user is exchanged in the same step: before the secret in the address, or in a variable of its own.

use super::Delivery;
use super::text::{is_plain, percent_encoded, read, with_user, within};
use crate::durable::{self, TempFile};
use crate::engine::{Credential, Pair};
use crate::error::{Context, Failure, Kind, Result};
use crate::job::rotate::state::Holds;
use crate::secret::Secret;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub struct EnvFile {
    path: PathBuf,
    variable: String,
    user_variable: Option<String>,
}

/// What is exchanged together.
struct Found {
    secret: Place,
    /// The value of the variable that is the user.
    user: Option<Range<usize>>,
}

/// Where a secret stands in the text of a file, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It is the value: with its quotes.
    Whole(Range<usize>),
    /// It is in the value.
    Within(Range<usize>),
    /// `USER:SECRET` is in the value.
    WithUser(Range<usize>),
}

impl EnvFile {
    pub fn new(path: &Path, variable: &str, user_variable: Option<&str>) -> Self {
        let user_variable = user_variable.map(str::to_owned);
        EnvFile { path: path.to_owned(), variable: variable.to_owned(), user_variable }
    }

    /// Where the file itself is, if this is a link to it.
    fn real(&self) -> Result<PathBuf> {
        std::fs::canonicalize(&self.path).context(|| format!("cannot find {}", self.path.display()))
    }

    /// Where the value stands in the text, with its quotes.
    fn value(&self, text: &str, variable: &str) -> Result<Range<usize>> {
        let refused = |why: &str, hint: &str| {
            let text = format!("{variable} in {} {why}", self.path.display());
            Failure::new(Kind::Refused, text).hint(hint)
        };
        let mut found = assignments(text, variable);
        let value = found.pop().ok_or_else(|| refused("is not there", "Correct `variable` of the consumer"))?;
        if !found.is_empty() {
            return Err(refused(
                "is there more than once",
                "Remove all but the last one, which is the one that counts",
            ));
        }
        value.ok_or_else(|| refused("spans several lines", "Write the value in one line"))
    }

    /// Where a credential stands; `None` when it is not the one that is there.
    fn find(&self, text: &str, credential: &Credential) -> Result<Option<Found>> {
        let value = self.value(text, &self.variable)?;
        let Some(user) = &credential.user else {
            return Ok(place(text, &value, credential).map(|secret| Found { secret, user: None }));
        };
        if let Some(secret) = place_with_user(text, &value, user, credential) {
            return Ok(Some(Found { secret, user: None }));
        }
        let Some(secret) = place(text, &value, credential) else { return Ok(None) };
        let Some(variable) = &self.user_variable else {
            let (name, path) = (&self.variable, self.path.display());
            let what = format!("{name} in {path} is the password, and nothing says where its user is, who changes too");
            return Err(Failure::new(Kind::Refused, what)
                .hint("Add `user_variable` to the consumer, or use an address: postgres://USER:PASSWORD@…"));
        };
        let there = self.value(text, variable)?;
        Ok((meant(&text[there.clone()]).as_str() == user).then_some(Found { secret, user: Some(there) }))
    }

    fn copy_aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{name}.bkp-prev"))
    }
}

impl Delivery for EnvFile {
    fn holds(&self, pair: Pair<'_>) -> Result<Holds> {
        let text = read(&self.real()?)?;
        Ok(match (self.find(&text, pair.pending)?, self.find(&text, pair.current)?) {
            (Some(_), _) => Holds::Pending,
            (None, Some(_)) => Holds::Current,
            (None, None) => Holds::Other,
        })
    }

    fn deliver(&self, pair: Pair<'_>, to: Holds) -> Result<()> {
        let (from, to) = if to == Holds::Pending { (pair.current, pair.pending) } else { (pair.pending, pair.current) };
        let path = self.real()?;
        let text = read(&path)?;
        let Some(found) = self.find(&text, from)? else {
            let what = format!("{} in {} is not the password that was expected", self.variable, path.display());
            return Err(Failure::new(Kind::Refused, what).hint("Somebody changed it: correct it, then run this again"));
        };
        let written = found.exchanged(&text, to)?;
        let aside = self.copy_aside(&path);
        if !aside.exists() {
            exchange(&path, &aside, text.as_bytes())?;
        }
        exchange(&path, &path, written.as_bytes())
    }

    fn settle(&self) -> Result<()> {
        let aside = self.copy_aside(&self.real()?);
        match std::fs::remove_file(&aside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(|| format!("cannot remove {}", aside.display()))
            }
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let user = self.user_variable.as_ref().map_or_else(String::new, |user| format!("{user} and "));
        format!("change {user}{} in {}", self.variable, self.path.display())
    }
}

impl Found {
    /// The text with another credential in these places.
    fn exchanged(self, text: &str, to: &Credential) -> Result<Zeroizing<String>> {
        let user = to.user.as_deref().unwrap_or_default();
        let secret = match self.secret {
            Place::Whole(range) => (range.clone(), quoted(&text[range], to.expose())?),
            Place::Within(range) => (range, percent_encoded(to.expose())),
            Place::WithUser(range) => (range, format!("{}:{}", percent_encoded(user), percent_encoded(to.expose()))),
        };
        let mut all = vec![secret];
        if let Some(range) = self.user {
            all.push((range.clone(), quoted(&text[range], user)?));
        }
        // From the end, so that what comes before stays where it is.
        all.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut written = Zeroizing::new(text.to_owned());
        for (range, new) in all {
            written = Zeroizing::new(format!("{}{new}{}", &written[..range.start], &written[range.end..]));
        }
        Ok(written)
    }
}

/// Writes a file in one step, with mode and owner of `like`.
pub(super) fn exchange(like: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let metadata = std::fs::metadata(like).context(what)?;
    let mut file = TempFile::create_in(durable::parent_of(path), 0o600).context(what)?;
    file.write_all(bytes).context(what)?;
    let made = file.file().metadata().context(what)?;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(&*file.file(), Some(metadata.uid()), Some(metadata.gid())).context(what)?;
    }
    let mode = std::fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777);
    file.file().set_permissions(mode).context(what)?;
    file.commit(path).context(what)
}

/// The values of a variable, without a comment behind them; `None` for one that does not end in its line.
fn assignments(text: &str, variable: &str) -> Vec<Option<Range<usize>>> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        let rest = line.trim_start();
        let rest = rest.strip_prefix("export ").map_or(rest, str::trim_start);
        let Some(after) = rest.strip_prefix(variable).map(str::trim_start) else { continue };
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else { continue };
        let begin = start + line.len() - value.len();
        found.push(length_of_value(value).map(|length| begin..begin + length));
    }
    found
}

fn length_of_value(value: &str) -> Option<usize> {
    match value.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut escaped = false;
            for (at, character) in value.char_indices().skip(1) {
                match character {
                    _ if escaped => escaped = false,
                    '\\' if quote == '"' => escaped = true,
                    other if other == quote => return Some(at + 1),
                    _ => {}
                }
            }
            None
        }
        _ => {
            let comment = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
            Some(value[..comment].trim_end().len())
        }
    }
}

/// What a program reads.
fn meant(written: &str) -> Zeroizing<String> {
    let quoted = |quote: char| written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(literal) = quoted('\'') {
        return Zeroizing::new(literal.to_owned());
    }
    let text = quoted('"').map_or_else(
        || written.to_owned(),
        |text| text.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"),
    );
    Zeroizing::new(text.replace("$$", "$"))
}

fn place(text: &str, value: &Range<usize>, secret: &Secret) -> Option<Place> {
    let written = &text[value.clone()];
    if meant(written).as_str() == secret.expose() {
        return Some(Place::Whole(value.clone()));
    }
    let found = within(written, secret)?;
    Some(Place::Within(value.start + found.start..value.start + found.end))
}

/// `USER:SECRET@`, as in an address.
fn place_with_user(text: &str, value: &Range<usize>, user: &str, secret: &Secret) -> Option<Place> {
    let found = with_user(&text[value.clone()], user, secret)?;
    Some(Place::WithUser(value.start + found.start..value.start + found.end))
}

/// A text as a value, in the quotes that were there where they do.
fn quoted(before: &str, text: &str) -> Result<String> {
    let quote = before.chars().next().filter(|first| matches!(first, '\'' | '"'));
    match quote {
        Some(quote) if is_plain(text) => Ok(format!("{quote}{text}{quote}")),
        None if is_plain(text) => Ok(text.to_owned()),
        _ if text.contains(['\'', '\n', '\r', '\\']) => Err(Failure::new(
            Kind::Refused,
            "the old password cannot be written back in a way that every program reads alike",
        )
        .hint("Put the copy that ends with .bkp-prev in its place by hand")),
        _ => Ok(format!("'{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "New_password-0123456789";

    /// What a file holds after the password was exchanged, and after it was exchanged back.
    fn both_ways(before: &str, old: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, before).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let [old, new] = [old, NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        let file = EnvFile::new(&path, "DB", None);
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.deliver(pair, Holds::Pending).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
        let there = std::fs::read_to_string(&path).unwrap();
        let aside = directory.path().join(".env.bkp-prev");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), before);
        for path in [&path, &aside] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
        }
        file.deliver(pair, Holds::Current).unwrap();
        assert_eq!(file.holds(pair).unwrap(), Holds::Current);
        file.settle().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        (there, std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn one_value_is_exchanged_and_not_another_byte() {
        for (before, old) in [
            ("# the database\r\nA=1\nDB=old-password # ours\nB='x'", "old-password"),
            ("  export DB = \"old-password\"\nDBX=old-password\n", "old-password"),
            ("DB='old password#1'\n", "old password#1"),
            ("DB=mysql://app:old-password@db:3306/app?x=1\n", "old-password"),
            ("DB=\"mysql://app:app@db/app\"\n", "app"),
            ("DB=mysql://app:p%40ss%2Fword@db/app\n", "p@ss/word"),
        ] {
            let (there, back) = both_ways(before, old);
            let written = percent_encoded(old);
            let expected = match before.contains(&format!(":{written}@")) {
                true => before.replacen(&format!(":{written}@"), &format!(":{NEW}@"), 1),
                false => before.replacen(old, NEW, 1),
            };
            assert_eq!(there, expected);
            assert_eq!(back, before);
        }
    }

    #[test]
    fn the_user_is_exchanged_in_the_same_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let of = |user: &str, secret: &str| Credential { user: Some(user.into()), secret: Secret::new(secret.into()) };
        let (old, new) = (of("app_a", "old-password"), of("app_b", NEW));
        let pair = Pair { current: &old, pending: &new };
        for (variable, before) in [
            (None, "DB=postgres://app_a:old-password@db/app_a\nDB_USER=app_a\n".to_owned()),
            (Some("DB_USER"), "DB_USER='app_a' # who\nX=app_a\nDB=old-password\n".to_owned()),
            (Some("DB_USER"), "DB=\"old-password\"\nDB_USER=app_a\n".to_owned()),
        ] {
            std::fs::write(&path, &before).unwrap();
            let file = EnvFile::new(&path, "DB", variable);
            assert_eq!(file.holds(pair).unwrap(), Holds::Current);
            file.deliver(pair, Holds::Pending).unwrap();
            assert_eq!(file.holds(pair).unwrap(), Holds::Pending);
            let there = std::fs::read_to_string(&path).unwrap();
            let expected = match variable {
                None => before.replace("app_a:old-password", &format!("app_b:{NEW}")),
                Some(_) => before
                    .replace("old-password", NEW)
                    .replace("DB_USER='app_a'", "DB_USER='app_b'")
                    .replace("DB_USER=app_a", "DB_USER=app_b"),
            };
            assert_eq!(there, expected);
            file.deliver(pair, Holds::Current).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
        // The password of the one with the name of the other is neither.
        std::fs::write(&path, format!("DB={NEW}\nDB_USER=app_a\n")).unwrap();
        assert_eq!(EnvFile::new(&path, "DB", Some("DB_USER")).holds(pair).unwrap(), Holds::Other);
        let failure = EnvFile::new(&path, "DB", None).holds(pair).unwrap_err();
        assert!(failure.full().contains("nothing says where its user is"), "{}", failure.full());
    }

    #[test]
    fn dollars_mean_what_compose_takes_them_for() {
        let (there, back) = both_ways("DB=pa$$word1\n", "pa$word1");
        assert_eq!(there, format!("DB={NEW}\n"));
        assert_eq!(back, "DB='pa$word1'\n");
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let [old, new] = ["old-password", NEW].map(|text| Credential::from(Secret::new(text.to_owned())));
        let pair = Pair { current: &old, pending: &new };
        let holds = |text: &str| {
            std::fs::write(&path, text).unwrap();
            EnvFile::new(&path, "DB", None).holds(pair)
        };
        for (text, why) in [
            ("A=1\n", "is not there"),
            ("DB=old-password\nDB=old-password\n", "more than once"),
            ("DB=\"old-\npassword\"\n", "several lines"),
        ] {
            let failure = holds(text).unwrap_err();
            assert!(failure.full().contains(why) && failure.next_step().is_some(), "{text}");
            assert!(!failure.full().contains("old-password"));
        }
        assert_eq!(holds("DB=another\n").unwrap(), Holds::Other);
        let failure = EnvFile::new(&path, "DB", None).deliver(pair, Holds::Pending).unwrap_err();
        assert!(failure.full().contains("not the password that was expected"));
    }
}
