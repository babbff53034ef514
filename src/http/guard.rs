//! Who may look: the check of `Host` on loopback, the token elsewhere.
//!
//! The token is a bearer token for programs, and the password of any user for browsers. It is compared by its keyed hash, whose
//! comparison takes the same time wherever two differ, and is read again now and then, so that a new one counts without a restart.

use super::shown::lock;
use crate::error::{Failure, Result};
use crate::secret::{Secret, SecretRef, Secrets};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is shorter could be guessed.
const SHORTEST: usize = 16;
const READ_AGAIN: Duration = Duration::from_secs(60);

pub struct Guard {
    loopback: bool,
    hosts: Vec<String>,
    token: Option<Token>,
}

struct Token {
    reference: SecretRef,
    secrets: Secrets,
    known: Mutex<Option<(Instant, Secret)>>,
}

/// Why somebody does not get to see anything.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The name that was asked for is none of this server: a page in a browser may have rebound it.
    Host,
    Token,
    /// The token cannot be read, and so nobody can be let in.
    Unreadable(String),
}

impl Guard {
    pub fn new(address: SocketAddr, hosts: &[String], token: Option<SecretRef>, secrets: Secrets) -> Self {
        let token = token.map(|reference| Token { reference, secrets, known: Mutex::default() });
        Guard { loopback: address.ip().is_loopback(), hosts: hosts.to_vec(), token }
    }

    /// Reads the token, so that a server that nobody could use is not begun.
    pub fn ready(&self) -> Result<()> {
        self.token.as_ref().map_or(Ok(()), |token| token.read().map(drop))
    }

    /// A probe tells nothing, and is asked by those who cannot hold a token.
    pub fn admits(&self, headers: &HeaderMap, is_probe: bool) -> std::result::Result<(), Refusal> {
        // With a token, a name that was rebound gives nothing: the browser does not send it there.
        if self.loopback && self.token.is_none() && !self.is_ours(headers) {
            return Err(Refusal::Host);
        }
        match &self.token {
            Some(token) if !is_probe => token.check(headers),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
        let name = without_port(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback || name == "localhost" || self.hosts.contains(&name)
    }
}

/// `[::1]:9427` and `localhost:9427`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

impl Token {
    fn check(&self, headers: &HeaderMap) -> std::result::Result<(), Refusal> {
        let expected = self.read().map_err(|failure| Refusal::Unreadable(failure.full()))?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| given(value.as_bytes()));
        match given {
            // The equality of these hashes takes the same time for all.
            Some(given) if blake3::hash(given.expose().as_bytes()) == blake3::hash(expected.expose().as_bytes()) => {
                Ok(())
            }
            _ => Err(Refusal::Token),
        }
    }

    fn read(&self) -> Result<Secret> {
        let mut known = lock(&self.known);
        if let Some((_, secret)) = known.as_ref().filter(|(at, _)| at.elapsed() < READ_AGAIN) {
            return Ok(secret.clone());
        }
        let secret = self.secrets.read(&self.reference)?;
        if secret.expose().len() < SHORTEST {
            return Err(Failure::usage(format!("the token of `http` is too short ({})", self.reference))
                .hint("Make one with: openssl rand -hex 32"));
        }
        *known = Some((Instant::now(), secret.clone()));
        Ok(secret)
    }
}

/// `Bearer TOKEN`, or `Basic base64(anybody:TOKEN)`.
fn given(authorization: &[u8]) -> Option<Secret> {
    let (scheme, rest) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(rest.trim().to_owned()));
    }
    let pair =
        zeroize::Zeroizing::new(STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?);
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(Secret::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn guard(address: &str, token: Option<&str>) -> (tempfile::TempDir, Guard) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, token.unwrap_or_default()).unwrap();
        let reference = token.map(|_| SecretRef::File(path));
        let hosts = ["bkp.example".to_owned()];
        let guard = Guard::new(address.parse().unwrap(), &hosts, reference, Secrets::default());
        (directory, guard)
    }

    #[test]
    fn on_loopback_only_names_of_loopback_are_answered() {
        let (_directory, guard) = guard("127.0.0.1:9427", None);
        let asked = |host: &str| guard.admits(&headers(&[(header::HOST, host)]), false);
        for host in ["localhost", "localhost:9427", "LOCALHOST:1", "127.0.0.1:9427", "[::1]:9427", "bkp.example"] {
            assert_eq!(asked(host), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:9427", "localhost.evil.example", "10.0.0.1", "", "::1:x"] {
            assert_eq!(asked(host), Err(Refusal::Host), "{host}");
        }
        assert_eq!(guard.admits(&HeaderMap::new(), true), Err(Refusal::Host));
    }

    #[test]
    fn a_token_is_taken_as_bearer_and_as_password() {
        let secret = "0123456789abcdef";
        let (_directory, guard) = guard("0.0.0.0:9427", Some(secret));
        let asked = |value: &str| guard.admits(&headers(&[(header::AUTHORIZATION, value)]), false);
        assert_eq!(asked(&format!("Bearer {secret}")), Ok(()));
        assert_eq!(asked(&format!("Basic {}", STANDARD.encode(format!("anybody:{secret}")))), Ok(()));
        for wrong in ["Bearer 0123456789abcdeg", "Bearer ", "Basic ====", "Digest x", "0123456789abcdef"] {
            assert_eq!(asked(wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(guard.admits(&HeaderMap::new(), false), Err(Refusal::Token));
        assert_eq!(guard.admits(&HeaderMap::new(), true), Ok(()), "a probe");
    }

    #[test]
    fn a_short_token_lets_nobody_in() {
        let (_directory, guard) = guard("0.0.0.0:9427", Some("short"));
        assert!(guard.ready().unwrap_err().next_step().unwrap().contains("openssl"));
        let asked = guard.admits(&headers(&[(header::AUTHORIZATION, "Bearer short")]), false);
        assert!(matches!(asked, Err(Refusal::Unreadable(_))));
    }
}
