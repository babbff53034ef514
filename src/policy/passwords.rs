//! What new passwords are like: the keys `password` of a rotation, validated.
//!
//! Both alphabets are safe in addresses and in `.env` files; a password policy of Vault makes none that is not.

use super::raw;
use super::reading::{Field, Reader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRule {
    pub length: usize,
    pub alphabet: Alphabet,
}

/// Safe in addresses, in `.env` files and between quotes of every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    UrlSafe,
    Alphanumeric,
}

impl Alphabet {
    /// A password has characters of each of these.
    pub fn classes(self) -> &'static [&'static str] {
        const ALL: [&str; 4] = ["ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", "_-"];
        match self {
            Alphabet::UrlSafe => &ALL,
            Alphabet::Alphanumeric => &ALL[..3],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Alphabet::UrlSafe => "url_safe",
            Alphabet::Alphanumeric => "alphanumeric",
        }
    }
}

impl Default for PasswordRule {
    fn default() -> Self {
        PasswordRule { length: 40, alphabet: Alphabet::UrlSafe }
    }
}

impl Reader<'_> {
    pub(super) fn password_rule(&self, field: &Field<raw::Password>) -> Option<PasswordRule> {
        let raw = field.value.as_ref()?;
        let length = raw.length.as_ref().and_then(|field| match field.value? {
            length @ 24..=128 => usize::try_from(length).ok(),
            _ => self.wrong(field.place, "expected 24 to 128 characters"),
        });
        let alphabet = match raw.alphabet.as_ref().and_then(|field| field.value) {
            Some(raw::Alphabet::Alphanumeric) => Alphabet::Alphanumeric,
            Some(raw::Alphabet::UrlSafe) | None => Alphabet::UrlSafe,
        };
        Some(PasswordRule { length: length.unwrap_or(PasswordRule::default().length), alphabet })
    }

    pub(super) fn vault_policy(&self, field: &Field<raw::Password>) -> Option<String> {
        let raw = field.value.as_ref()?;
        let name = self.text(&raw.vault_policy, policy_name)?;
        if let Some(length) = &raw.length {
            let help = "leave it out: the policy of Vault has a length of its own";
            return self.wrong_with_help(length.place, "`length` and `vault_policy` do not go together", help);
        }
        Some(name)
    }
}

/// Part of the path of a request.
fn policy_name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match !text.is_empty() && text.bytes().all(good) && !text.starts_with('.') {
        true => Ok(text.to_owned()),
        false => Err("expected the name of a password policy, of letters, digits and . _ -".into()),
    }
}
