//! A secret in a text: it is the text, or it stands in an address that the text is.

use crate::engine::{Credential, Pair};
use crate::error::{Context, Failure, Kind, Result};
use crate::job::rotate::state::Holds;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::ops::Range;
use zeroize::Zeroizing;

/// A secret that is shorter is not looked for inside of something else: it could stand there by chance.
pub const TELLING: usize = 8;

/// Where the secret stands in an address, or in each address of a list, as it is written there.
pub fn within(text: &str, secret: &Secret) -> Vec<Range<usize>> {
    let encoded = Zeroizing::new(percent_encoded(secret.expose()));
    // `user:SECRET@host` goes before a user of the same name.
    let in_address = Zeroizing::new(format!(":{}@", encoded.as_str()));
    let found: Vec<_> = text.match_indices(in_address.as_str()).map(|(at, _)| at + 1..at + 1 + encoded.len()).collect();
    match found.is_empty() && encoded.len() >= TELLING {
        true => words(text, &encoded).map(|at| at..at + encoded.len()).collect(),
        false => found,
    }
}

/// Where something stands as a word, and not in a longer one.
pub fn words<'t>(text: &'t str, wanted: &'t str) -> impl Iterator<Item = usize> {
    let is_part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c));
    let ends = move |at: usize| !is_part(text[at + wanted.len()..].chars().next());
    let begins = move |at: usize| !is_part(text[..at].chars().next_back());
    text.match_indices(wanted).map(|(at, _)| at).filter(move |at| begins(*at) && ends(*at))
}

/// Where `USER:SECRET` stands in an address, or in each address of a list.
pub fn with_user(text: &str, user: &str, secret: &Secret) -> Vec<Range<usize>> {
    let both = Zeroizing::new(format!("{}:{}", percent_encoded(user), percent_encoded(secret.expose())));
    let wanted = Zeroizing::new(format!("//{}@", both.as_str()));
    text.match_indices(wanted.as_str()).map(|(at, _)| at + 2..at + 2 + both.len()).collect()
}

/// The text with another in each of these places.
pub fn replaced(text: &str, places: &[Range<usize>], new: &str) -> Zeroizing<String> {
    // From the end, so that what comes before stays where it is.
    places.iter().rev().fold(Zeroizing::new(text.to_owned()), |text, place| {
        Zeroizing::new(format!("{}{new}{}", &text[..place.start], &text[place.end..]))
    })
}

/// The text but for the end of its line.
fn line(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// Whether the secret is the text, or stands in it.
pub fn is_in(text: &str, secret: &Secret) -> bool {
    line(text) == secret.expose() || !within(text, secret).is_empty() || is_key(secret) && has_key(text, secret)
}

/// As it is, in one line with its line breaks written out, or encoded as a whole.
fn has_key(text: &str, secret: &Secret) -> bool {
    let key = secret.expose().trim_end();
    let telling = key.lines().filter(|line| !line.starts_with("-----")).max_by_key(|line| line.len());
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(key));
    telling.is_some_and(|line| line.len() >= TELLING && text.contains(line)) || text.contains(encoded.as_str())
}

/// One that signs, as PEM: its name is not told beside it.
fn is_key(secret: &Secret) -> bool {
    secret.expose().starts_with("-----BEGIN ")
}

/// The text with the other credential in the place of the first; `None` where the first is not in it. What ends the last line stays.
pub fn exchanged(text: &str, from: &Credential, to: &Credential) -> Result<Option<Secret>> {
    if is_key(from) && is_key(to) {
        let is_all = text.trim_end() == from.expose().trim_end();
        return Ok(is_all.then(|| Secret::new(format!("{}\n", to.expose().trim_end()))));
    }
    if let (Some(user), Some(other)) = (&from.user, &to.user) {
        let found = with_user(text, user, from);
        return match found.is_empty() {
            true if is_in(text, from) => Err(no_user()),
            true => Ok(None),
            false => {
                let new = Zeroizing::new(format!("{}:{}", percent_encoded(other), percent_encoded(to.expose())));
                Ok(Some(Secret::new(replaced(text, &found, &new).to_string())))
            }
        };
    }
    if line(text) == from.expose() {
        return Ok(Some(Secret::new(format!("{}{}", to.expose(), &text[line(text).len()..]))));
    }
    let found = within(text, from);
    let new = Zeroizing::new(percent_encoded(to.expose()));
    Ok((!found.is_empty()).then(|| Secret::new(replaced(text, &found, &new).to_string())))
}

/// Which of the pair the text holds.
pub fn holds(text: &str, pair: Pair<'_>) -> Result<Holds> {
    let is = |credential| Ok::<_, Failure>(exchanged(text, credential, credential)?.is_some());
    Ok(Holds::of(is(pair.pending)?, is(pair.current)?))
}

/// Where the name changes with the secret, and only the secret is told.
pub fn no_user() -> Failure {
    let what = "the password is told there, and nothing says where its user is, who changes too";
    Failure::new(Kind::Refused, what).hint("Let it be an address (postgres://USER:PASSWORD@…), or tell the consumer by an `env_file` with `user_variable`, or a Secret of Kubernetes with `user_key`")
}

pub fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.~".contains(&b))
}

/// As it stands in an address.
pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if is_plain(&char::from(b).to_string()) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A file that holds a secret.
pub fn read(path: &std::path::Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(user: Option<&str>, secret: &str) -> Credential {
        Credential { user: user.map(str::to_owned), secret: Secret::new(secret.to_owned()) }
    }

    fn done(text: &str, from: &Credential, to: &Credential) -> Option<String> {
        exchanged(text, from, to).unwrap().map(|text| text.expose().to_owned())
    }

    #[test]
    fn a_secret_is_exchanged_where_it_stands() {
        let (old, new) = (credential(None, "p@ss word"), credential(None, "New_1"));
        for (before, after) in [
            ("p@ss word", Some("New_1")),
            ("p@ss word\n", Some("New_1\n")),
            ("p@ss word\r\n", Some("New_1\r\n")),
            ("redis://:p%40ss%20word@cache/0\n", Some("redis://:New_1@cache/0\n")),
            // One for each server.
            ("redis://:p%40ss%20word@a/0;redis://:p%40ss%20word@b/0", Some("redis://:New_1@a/0;redis://:New_1@b/0")),
            ("p@ss word2", None),
            ("", None),
        ] {
            assert_eq!(done(before, &old, &new).as_deref(), after, "{before}");
        }
        let pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEA\n-----END PRIVATE KEY-----\n";
        let key = Secret::new(pem.into());
        let whole = STANDARD_NO_PAD.encode(pem.trim_end());
        for text in [pem, &pem.replace('\n', "\\n"), &format!("KEY={whole}=")] {
            assert!(is_in(text, &key), "{text}");
        }
        assert!(!is_in("-----BEGIN PRIVATE KEY-----\nanother\n", &key));
        assert!(!is_in("a longer text that holds app by chance", &Secret::new("app".into())));
    }

    #[test]
    fn a_user_is_exchanged_with_its_secret_or_not_at_all() {
        let (old, new) = (credential(Some("app_a"), "old-secret"), credential(Some("app_b"), "New_1"));
        let after = done("postgres://app_a:old-secret@db/app\n", &old, &new);
        assert_eq!(after.as_deref(), Some("postgres://app_b:New_1@db/app\n"));
        let both = "postgres://app_a:old-secret@a/app,postgres://app_a:old-secret@b/app";
        let after = both.replace("app_a:old-secret", "app_b:New_1");
        assert_eq!(done(both, &old, &new), Some(after));
        assert_eq!(done("postgres://app_a:other@db/app\n", &old, &new), None);
        let key = |text: &str| credential(Some("its name"), &format!("-----BEGIN PRIVATE KEY-----\n{text}\n"));
        assert_eq!(done(key("old").expose(), &key("old"), &key("new")).as_deref(), Some(key("new").expose()));
        assert_eq!(done("another", &key("old"), &key("new")), None);
        let refused = exchanged("old-secret\n", &old, &new).unwrap_err();
        assert!(refused.full().contains("where its user is") && !refused.full().contains("old-secret"));
    }
}
