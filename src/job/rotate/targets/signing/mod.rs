//! Keys that sign tokens: another one is published to verifiers first, signs when they have had time to read it, and the one
//! before is taken from them when the last token of it has passed.
//!
//! Nobody logs in with such a key: it "lets in" where verifiers can read a public key that verifies what it signs. What has to be
//! waited for is longer than a process should live: then it ends and says until when, and whoever resumes goes on.

mod jwks;
mod keys;

use super::Given;
use crate::backoff::pause;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Session, Sight};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::http::{self, ANSWER, Answer};
use crate::policy::{Rotation, SigningKey, Told, duration_text};
use crate::secret::Secret;
use crate::secret::vault::Vault;
use jiff::{SignedDuration, Timestamp};
use jwks::Keys;
use keys::Signer;
use reqwest::Url;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is not longer is waited for at once.
const SHORT: SignedDuration = SignedDuration::from_secs(60);

pub struct SigningKeys<'e> {
    key: SigningKey,
    vault: &'e Vault,
    urgent: bool,
    /// Who is told the key alone, by a file.
    by_file: Vec<String>,
}

impl<'e> SigningKeys<'e> {
    pub fn new(key: &SigningKey, rotation: &Rotation, vault: &'e Vault, given: &Given) -> Self {
        let by_file = rotation.consumers.iter().filter(|consumer| matches!(consumer.told, Told::SecretFile(_)));
        let by_file = by_file.map(|consumer| consumer.name.clone()).collect();
        SigningKeys { key: key.clone(), vault, urgent: given.urgent, by_file }
    }

    /// Where it can be looked at, and whether that is Vault itself.
    fn places(&self) -> Result<Vec<(Node, Option<Url>)>> {
        let place = |text: &str| {
            let wrong = || Failure::usage(format!("{text} is no address of a server"));
            let url = Url::parse(text).map_err(|_| wrong())?;
            let host = url.host_str().ok_or_else(wrong)?.to_owned();
            Ok((Node { host, port: url.port_or_known_default().ok_or_else(wrong)? }, url))
        };
        let (vault, _) = place(&self.vault.settings().address)?;
        let served = self.key.served.iter().map(|text| place(text).map(|(node, url)| (node, Some(url))));
        std::iter::once(Ok((vault, None))).chain(served).collect()
    }

    /// What begins in this second, has begun by then: Vault tells whole seconds.
    fn at_latest(&self) -> Result<Timestamp> {
        Ok(self.now()?.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX))
    }

    /// By the clock of Vault: another host may go on.
    fn now(&self) -> Result<Timestamp> {
        self.vault.health()?.time.ok_or_else(|| {
            Failure::new(Kind::TryLater, "Vault does not tell the time").hint("See that it is not sealed: vault status")
        })
    }

    fn change(&self, cancel: &Cancel, how: impl Fn(&mut Keys)) -> Result<Keys> {
        jwks::change((self.vault, cancel), &self.key.jwks, how)
    }

    fn try_change(&self, cancel: &Cancel, how: impl Fn(&mut Keys) -> Result<()>) -> Result<Keys> {
        jwks::try_change((self.vault, cancel), &self.key.jwks, how)
    }

    fn look(&self, credential: &Credential, place: Option<&Url>) -> Result<Login> {
        let (kid, signer) = named(credential)?;
        let keys = jwks::read(self.vault, &self.key.jwks)?;
        let is_there = keys.knows(kid, &signer);
        let Some(url) = place else {
            // Its tokens are let in for some time yet: until then nothing is to be done.
            return Ok(match keys.expires(kid).filter(|_| is_there && !self.urgent) {
                Some(end) if self.now()? < end => Login::Unknown(format!("{} until {end}", may_be_valid(kid))),
                _ if is_there => Login::Accepted,
                _ => Login::Refused,
            });
        };
        let served = fetch(url)?;
        Ok(match (is_there, served.knows(kid, &signer)) {
            (true, true) => Login::Accepted,
            (false, false) => Login::Refused,
            _ => Login::Unknown(format!("{url} does not serve yet what is published in Vault")),
        })
    }

    /// At once where it is soon; otherwise whoever resumes goes on.
    fn wait_until(&self, end: Timestamp, what: &str, cancel: &Cancel) -> Result<()> {
        if self.urgent {
            return Ok(());
        }
        loop {
            let left = end.duration_since(self.now()?);
            if left <= SignedDuration::ZERO {
                return Ok(());
            }
            if left > SHORT {
                return Err(Failure::new(Kind::TryLater, format!("{what} until {end}")).hint(
                    "Then go on: bkp rotate resume NAME; the daemon does so by itself. Until then both keys are good",
                ));
            }
            pause(Duration::from_millis(500), &|| cancel.check().is_err());
            cancel.check()?;
        }
    }
}

impl Accounts for SigningKeys<'_> {
    fn describe(&self) -> String {
        format!("the key whose public half is at ref+vault://{}", self.key.jwks)
    }

    fn preflight(&self, current: &Credential, _: &Cancel) -> Result<Vec<String>> {
        let (kid, signer) = named(current)?;
        let mut notes = vec![format!(
            "the new key signs {} after its public half is published, and the old one stays for {} after the last consumer was moved; where that is longer than a minute, the rotation ends with exit code 75 in between and is resumed",
            duration_text(self.key.overlap),
            duration_text(self.key.lifetime)
        )];
        if !self.by_file.is_empty() && kid != keys::thumbprint(&signer.public()) {
            notes.push(format!(
                "{} has the key from a file, and its name, {kid}, is not its thumbprint: who takes the name from Vault signs with the old key under the new name until it is moved, and these tokens are refused. List and publish the key by its thumbprint, and let who signs make that",
                self.by_file.join(" and ")
            ));
        }
        Ok(notes)
    }

    fn mint(&self) -> Result<Option<Credential>> {
        let secret = keys::make(self.key.algorithm)?;
        let signer = Signer::read(&secret).ok_or_else(|| Failure::failed("no key could be made"))?;
        Ok(Some(Credential { user: Some(keys::thumbprint(&signer.public())), secret }))
    }

    fn save(&self, _: &Cancel) -> Result<Secret> {
        let keys = jwks::read(self.vault, &self.key.jwks)?;
        Ok(Secret::new(serde_json::json!({ "keys": keys.0 }).to_string()))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        let all: BTreeSet<Node> = self.places()?.into_iter().map(|(node, _)| node).collect();
        Ok(all.into_iter().collect())
    }

    fn probe(&self, credential: &Credential, node: &Node) -> Login {
        let login =
            |url: Option<&Url>| self.look(credential, url).unwrap_or_else(|failure| Login::Unknown(failure.full()));
        match self.places() {
            // Several may be served by one host.
            Ok(places) => {
                Login::of_all(places.iter().filter(|(place, _)| place == node).map(|(_, url)| login(url.as_ref())))
            }
            Err(failure) => Login::Unknown(failure.full()),
        }
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let (kid, signer) = named(pair.pending)?;
        let since = self.at_latest()?;
        self.try_change(cancel, |keys| keys.add(kid, &signer, since)).map(drop)
    }

    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let (kid, signer) = named(pair.current)?;
        self.change(cancel, |keys| keys.remove_own(kid, &signer)).map(drop)
    }

    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let ((pending, signer), (current, _)) = (named(pair.pending)?, named(pair.current)?);
        let back = |keys: &mut Keys| {
            keys.remove_own(pending, &signer);
            keys.set_expiry(current, None);
        };
        self.change(cancel, back).map(drop)
    }

    /// Other keys of the list are other people's.
    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let (kid, signer) = named(credential)?;
        let since = self.at_latest()?;
        let before = jwks::read(self.vault, &self.key.jwks)?;
        let after = self.try_change(cancel, |keys| {
            keys.add(kid, &signer, since)?;
            keys.set_expiry(kid, None);
            Ok(())
        })?;
        Ok(before.0 != after.0)
    }

    fn forget(&self, kid: &str, cancel: &Cancel) -> Result<()> {
        jwks::change((self.vault, cancel), &self.key.jwks, |keys| keys.remove(kid)).map(drop)
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Every verifier has read the youngest key: those that remember what they read have asked again by then.
    fn settle_before_publishing(&self, cancel: &Cancel) -> Result<()> {
        let keys = jwks::read(self.vault, &self.key.jwks)?;
        let overlap = SignedDuration::try_from(self.key.overlap).unwrap_or(SignedDuration::MAX);
        match keys.youngest().and_then(|since| since.checked_add(overlap).ok()) {
            Some(end) => self.wait_until(end, "verifiers may not have read the new key", cancel),
            None => Ok(()),
        }
    }

    fn mark(&self, _: &Cancel) -> Result<String> {
        Ok(self.now()?.to_string())
    }

    /// Until when tokens of it may be valid is written beside the key. Of a key that is not listed, none is.
    fn drain_before_retiring(&self, pair: Pair<'_>, mark: Option<&str>, cancel: &Cancel) -> Result<()> {
        let (kid, _) = named(pair.current)?;
        if self.urgent {
            return Ok(());
        }
        let lifetime = SignedDuration::try_from(self.key.lifetime).unwrap_or(SignedDuration::MAX);
        let end = self.at_latest()?.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        // It signed until it was published that another one does.
        let not_before = mark.and_then(|mark| mark.parse::<Timestamp>().ok()?.checked_add(lifetime).ok());
        let keys = self.change(cancel, |keys| keys.let_expire(kid, end, not_before))?;
        match keys.expires(kid) {
            Some(end) => self.wait_until(end, &may_be_valid(kid), cancel),
            None => Ok(()),
        }
    }

    /// A token is none: it has its time.
    fn sessions_before(&self, _: Pair<'_>, _: &str, _: &Cancel) -> Result<Vec<Session>> {
        Ok(Vec::new())
    }

    fn sight(&self, _: &Cancel) -> Result<Sight> {
        Ok(Sight::Passed(match self.urgent {
            false => "every token that it signed has had its `lifetime`".into(),
            true => "tokens that it signed are not waited for: they are refused with it".into(),
        }))
    }

    /// It signs again.
    fn stays(&self, credential: &Credential, _: &Credential, cancel: &Cancel) -> Result<()> {
        let (kid, _) = named(credential)?;
        self.change(cancel, |keys| keys.set_expiry(kid, None)).map(drop)
    }

    /// A token cannot be ended: it is refused when the key is gone.
    fn end_session(&self, _: &Session, _: &Cancel) -> Result<()> {
        Ok(())
    }
}

fn may_be_valid(kid: &str) -> String {
    format!("tokens that were signed with the key {kid} may be valid")
}

fn named(credential: &Credential) -> Result<(&str, Signer)> {
    let kid = credential.user.as_deref().ok_or_else(|| Failure::usage("nothing says which key it is"))?;
    let signer = Signer::read(credential).ok_or_else(|| {
        Failure::new(Kind::Key, "what is published is no key that signs by ES256, EdDSA or RS256")
            .hint("It is a private key as PEM (-----BEGIN PRIVATE KEY-----), without a password")
    })?;
    Ok((kid, signer))
}

/// What verifiers are served.
fn fetch(url: &Url) -> Result<Keys> {
    let away = |why: String| Failure::new(Kind::TryLater, format!("{url} does not serve the public keys")).because(why);
    let client = http::Peer { name: "who serves the public keys", ca_file: None, by_proxies: true }.client(ANSWER)?;
    let bytes = match http::send(client.get(url.clone()), |_| None)? {
        Answer::Done(bytes) => bytes,
        Answer::Refused(_, why) | Answer::Away(why) => return Err(away(why)),
    };
    let value = serde_json::from_slice(&bytes).map_err(|_| away("it is no JSON".into()))?;
    Keys::of(&value).ok_or_else(|| away("it has no `keys`".into()))
}
