//! What servers keep of passwords, computed here: so it is told whether a password is the one of an account without a login, and
//! MariaDB is given verifiers and never passwords.

use super::super::session::text;
use crate::durable::random_hex;
use crate::secret::Secret;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(in crate::engine::mysql) const NATIVE: &str = "mysql_native_password";
pub(in crate::engine::mysql) const CACHING: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";

/// The plug-ins of MySQL that have a second password.
pub(super) const OF_MYSQL: [&str; 3] = [CACHING, NATIVE, SHA256];

const SALT: usize = 20;
/// What `sha256_password` always takes, and `caching_sha2_password` unless it is told otherwise.
const ROUNDS: u32 = 5000;

/// Whether MySQL keeps this of that password. `None` where it is not understood.
pub(super) fn is_of(plugin: &str, kept: &[u8], secret: &Secret) -> Option<bool> {
    let password = secret.expose().as_bytes();
    match plugin {
        NATIVE => Some(native(secret).as_bytes() == kept),
        // `$A$005$`, salt and digest: thousands of rounds, in hexadecimal.
        CACHING => {
            let (rounds, rest) = kept.strip_prefix(b"$A$")?.split_at_checked(3)?;
            let rounds = u32::from_str_radix(std::str::from_utf8(rounds).ok()?, 16).ok()?;
            let (salt, digest) = rest.strip_prefix(b"$")?.split_at_checked(SALT)?;
            Some(sha256_crypt(password, salt, rounds * 1000) == digest)
        }
        SHA256 => {
            let (salt, digest) = kept.strip_prefix(b"$5$")?.split_at_checked(SALT)?;
            Some(sha256_crypt(password, salt, ROUNDS) == digest.strip_prefix(b"$")?)
        }
        _ => None,
    }
}

/// What MySQL would keep of that password. `None` where its plug-in is not understood.
pub(in crate::engine::mysql) fn of(plugin: &str, secret: &Secret) -> Option<Vec<u8>> {
    let salt = random_hex(SALT / 2).into_bytes();
    let digest = sha256_crypt(secret.expose().as_bytes(), &salt, ROUNDS);
    match plugin {
        NATIVE => Some(native(secret).into_bytes()),
        CACHING => Some([&b"$A$005$"[..], &salt, &digest].concat()),
        SHA256 => Some([&b"$5$"[..], &salt, b"$", &digest].concat()),
        _ => None,
    }
}

/// The digest of SHA-crypt (U. Drepper, 2007). MySQL's salts are longer than those that libraries of it take.
fn sha256_crypt(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
    let filled = |block: &[u8], length: usize| -> Vec<u8> { block.iter().copied().cycle().take(length).collect() };
    let alternate = Sha256::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Sha256::new().chain_update(password).chain_update(salt);
    first.update(filled(&alternate, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &alternate[..] } else { password });
        bits >>= 1;
    }
    let mut digest = first.finalize();
    let of_password = filled(&Sha256::digest(password.repeat(password.len())), password.len());
    let of_salt = filled(&Sha256::digest(salt.repeat(16 + usize::from(digest[0]))), salt.len());
    for round in 0..rounds {
        let is_odd = round & 1 == 1;
        let mut next = Sha256::new().chain_update(if is_odd { &of_password[..] } else { &digest[..] });
        if round % 3 != 0 {
            next.update(&of_salt);
        }
        if round % 7 != 0 {
            next.update(&of_password);
        }
        digest = next.chain_update(if is_odd { &digest[..] } else { &of_password[..] }).finalize();
    }
    crypt_text(&digest)
}

/// Three bytes become four letters, in an order of its own.
fn crypt_text(digest: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letters = |group: u32, count: u32| (0..count).map(move |at| LETTERS[(group >> (6 * at) & 63) as usize]);
    let byte = |at: usize| u32::from(digest[at]);
    let groups = [(0, 10, 20), (21, 1, 11), (12, 22, 2), (3, 13, 23), (24, 4, 14), (15, 25, 5), (6, 16, 26)];
    let groups = groups.into_iter().chain([(27, 7, 17), (18, 28, 8), (9, 19, 29)]);
    let whole = groups.flat_map(|(high, middle, low)| letters(byte(high) << 16 | byte(middle) << 8 | byte(low), 4));
    whole.chain(letters(byte(31) << 8 | byte(30), 3)).collect()
}

/// Of `mysql_native_password` in MariaDB, of which any one lets in. The first is what the server greets with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verifiers(pub Vec<String>);

impl Verifiers {
    /// From `mysql.global_priv`; `None` where another plug-in takes part.
    pub fn parse(told: &str) -> Option<Self> {
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

    pub fn and(mut self, others: Option<&Verifiers>) -> Self {
        for other in others.iter().flat_map(|others| &others.0) {
            if !self.0.contains(other) {
                self.0.push(other.clone());
            }
        }
        self
    }

    /// This one, where it is among them.
    pub fn of(&self, verifier: &str) -> Self {
        Verifiers(self.0.iter().filter(|one| *one == verifier).cloned().collect())
    }

    pub fn statement(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|verifier| format!("{NATIVE} USING {}", text(verifier))).collect();
        format!("IDENTIFIED VIA {}", each.join(" OR "))
    }
}

/// The verifier of a password, made here so that the password stays here.
pub(in crate::engine::mysql) fn native(secret: &Secret) -> String {
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

    /// As MySQL 9.7 made them, with salts that are no text.
    #[test]
    fn what_a_password_became_is_told_from_its_salt() {
        let is = |plugin: &str, kept: &[u8], password: &str| is_of(plugin, kept, &Secret::new(password.into()));
        let caching = b"$A$00A$y/o>\x10M|uU<\t\x1fdl\x14[OV\r7ciRAnpKiCQ2O9MC3xNbV5Xd3PYw4kO8T2.VUT835iW5";
        assert_eq!(is(CACHING, caching, "pässword-old"), Some(true));
        assert_eq!(is(CACHING, caching, "pässword-new"), Some(false));
        let long = b"$A$00A$@x\x15\x1ei&5-*{OX\x139E*\x15a\n\x03HFkB3xcw5Ort2fPRRznvpxFoU1bPz6iywknJUSnKYL2";
        assert_eq!(is(CACHING, long, &"long-".repeat(14)), Some(true), "longer than a block");
        let sha256 = b"$5$xu\x05_ZL\x0bhC0Pc\x1b;F{^X'#$fM4wdVAzgrHzsx4JsNVnYQlgRP06S8jVQXeRyIXsuMA";
        assert_eq!((is(SHA256, sha256, "x"), is(SHA256, sha256, "y")), (Some(true), Some(false)));
        let native = b"*58815970BE77B3720276F63DB198B1FA42E5CC02";
        assert_eq!((is(NATIVE, native, "hunter2"), is(NATIVE, native, "")), (Some(true), Some(false)));
        assert_eq!((is(CACHING, b"", "x"), is("ed25519", b"x", "x")), (None, None));
    }

    #[test]
    fn what_is_made_of_a_password_is_told_to_be_of_it() {
        let [password, other] = ["pässword", "another"].map(|text| Secret::new(text.into()));
        for plugin in OF_MYSQL {
            let made = of(plugin, &password).unwrap();
            assert_eq!(is_of(plugin, &made, &password), Some(true), "{plugin}");
            assert_eq!(is_of(plugin, &made, &other), Some(false), "{plugin}");
        }
        assert_eq!(of("ed25519", &password), None);
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
