//! A secret in a text: it is the text, or it stands in an address that the text is.

use crate::error::{Context, Result};
use crate::secret::Secret;
use std::ops::Range;
use zeroize::Zeroizing;

/// A secret that is shorter is not looked for inside of something else: it could stand there by chance.
const TELLING: usize = 8;

/// Where the secret stands in an address, as it is written there.
pub fn within(text: &str, secret: &Secret) -> Option<Range<usize>> {
    let encoded = Zeroizing::new(percent_encoded(secret.expose()));
    // `user:SECRET@host` goes before a user of the same name.
    let in_address = Zeroizing::new(format!(":{}@", encoded.as_str()));
    let only = |wanted: &str| {
        let mut all = text.match_indices(wanted);
        let first = all.next()?.0;
        all.next().is_none().then_some(first)
    };
    if let Some(at) = only(&in_address) {
        return Some(at + 1..at + 1 + encoded.len());
    }
    let at = only(&encoded).filter(|_| encoded.len() >= TELLING)?;
    Some(at..at + encoded.len())
}

/// The text with the other secret in the place of the first; `None` where the first is not in it. What ends the last line stays.
pub fn exchanged(text: &str, from: &Secret, to: &Secret) -> Option<Secret> {
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line == from.expose() {
        return Some(Secret::new(format!("{}{}", to.expose(), &text[line.len()..])));
    }
    let range = within(text, from)?;
    let new = Zeroizing::new(percent_encoded(to.expose()));
    Some(Secret::new(format!("{}{}{}", &text[..range.start], new.as_str(), &text[range.end..])))
}

/// Whether the secret is the text, or stands in it.
pub fn is_in(text: &str, secret: &Secret) -> bool {
    exchanged(text, secret, secret).is_some()
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

    #[test]
    fn a_secret_is_exchanged_where_it_stands() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let (old, new) = (secret("p@ss word"), secret("New_1"));
        let done = |text| exchanged(text, &old, &new).map(|text| text.expose().to_owned());
        for (before, after) in [
            ("p@ss word", Some("New_1")),
            ("p@ss word\n", Some("New_1\n")),
            ("p@ss word\r\n", Some("New_1\r\n")),
            ("redis://:p%40ss%20word@cache/0\n", Some("redis://:New_1@cache/0\n")),
            ("p@ss word2", None),
            ("", None),
        ] {
            assert_eq!(done(before).as_deref(), after, "{before}");
        }
        assert!(!is_in("a longer text that holds app by chance", &secret("app")));
    }
}
