//! The public keys that verifiers read: a list in one field of a secret of Vault, written on the condition that nobody has
//! written since. What it says of its keys is all that has to be remembered: since when one is there (`iat`), and until when
//! tokens of one that signs no more may be valid (`exp`). Verifiers pass over both.

use super::keys::{self, Signer};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::VaultPath;
use crate::secret::vault::{Document, Vault, Written};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Between two others that write.
const ATTEMPTS: usize = 5;

/// As it is read by verifiers.
#[derive(Clone, Debug, Default)]
pub struct Keys(pub Vec<Value>);

impl Keys {
    /// A whole answer (`{"keys": […]}`), or the list itself.
    pub fn of(value: &Value) -> Option<Keys> {
        value.as_array().or_else(|| value["keys"].as_array()).cloned().map(Keys)
    }

    pub fn find(&self, kid: &str) -> Option<&Value> {
        self.0.iter().find(|key| key["kid"] == kid)
    }

    /// Whether a verifier would take what it signs.
    pub fn knows(&self, kid: &str, signer: &Signer) -> bool {
        let message = crate::durable::random_hex(32);
        let (Some(public), Some(signature)) = (self.find(kid), signer.sign(message.as_bytes())) else { return false };
        keys::verifies(public, message.as_bytes(), &signature)
    }

    /// Refused where somebody else's key has this name: to put this one there would be the end of that one's tokens.
    pub fn add(&mut self, kid: &str, signer: &Signer, now: Timestamp) -> Result<()> {
        if self.knows(kid, signer) {
            return Ok(());
        }
        if self.find(kid).is_some() {
            let what =
                format!("the list of public keys has another one of the name {kid}, whose tokens would be refused");
            return Err(
                Failure::new(Kind::Refused, what).hint("Give that one another name (`kid`), there and where it signs")
            );
        }
        let mut public = signer.public();
        public["kid"] = json!(kid);
        public["iat"] = json!(now.as_second());
        self.0.push(public);
        Ok(())
    }

    /// Somebody else's of that name stays.
    pub fn remove_own(&mut self, kid: &str, signer: &Signer) {
        if self.knows(kid, signer) {
            self.remove(kid);
        }
    }

    pub fn remove(&mut self, kid: &str) {
        self.0.retain(|key| key["kid"] != kid);
    }

    /// Since when all of them are there.
    pub fn youngest(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|key| time(key, "iat")).max()
    }

    pub fn expires(&self, kid: &str) -> Option<Timestamp> {
        time(self.find(kid)?, "exp")
    }

    /// Unless that was noted already. What was noted for a time before `not_before` was so for another rotation.
    pub fn let_expire(&mut self, kid: &str, at: Timestamp, not_before: Option<Timestamp>) {
        let is_noted = self.expires(kid).is_some_and(|noted| not_before.is_none_or(|least| noted >= least));
        if !is_noted {
            self.set_expiry(kid, Some(at));
        }
    }

    /// Nothing: it signs again.
    pub fn set_expiry(&mut self, kid: &str, at: Option<Timestamp>) {
        let Some(key) = self.0.iter_mut().find(|key| key["kid"] == kid).and_then(Value::as_object_mut) else { return };
        match at {
            Some(at) => drop(key.insert("exp".into(), json!(at.as_second()))),
            None => drop(key.remove("exp")),
        }
    }
}

fn time(key: &Value, name: &str) -> Option<Timestamp> {
    Timestamp::from_second(key[name].as_i64()?).ok()
}

pub fn read(vault: &Vault, path: &VaultPath) -> Result<Keys> {
    keys_of(&vault.document(path)?, path)
}

fn keys_of(document: &Document, path: &VaultPath) -> Result<Keys> {
    let mut at = document.value();
    for key in &path.field {
        at = &at[key.as_str()];
    }
    let list = at.as_array().cloned();
    list.map(Keys).ok_or_else(|| {
        Failure::new(Kind::Key, format!("ref+vault://{path} is no list of keys"))
            .hint("Publish the key that is in force there first: {\"keys\": [{\"kty\": …, \"kid\": …}]}, as docs/ROTATION_KEYS.md shows")
    })
}

pub fn change(place: (&Vault, &Cancel), path: &VaultPath, change: impl Fn(&mut Keys)) -> Result<Keys> {
    try_change(place, path, |keys| {
        change(keys);
        Ok(())
    })
}

/// Again, where somebody else wrote in between. Gives what is there then.
pub fn try_change(
    (vault, cancel): (&Vault, &Cancel),
    path: &VaultPath,
    change: impl Fn(&mut Keys) -> Result<()>,
) -> Result<Keys> {
    for _ in 0..ATTEMPTS {
        let document = vault.document(path)?;
        let before = keys_of(&document, path)?;
        let mut after = before.clone();
        change(&mut after)?;
        if after.0 == before.0 {
            return Ok(after);
        }
        let mut value = document.value().clone();
        let mut at = &mut value;
        for key in &path.field {
            at = &mut at[key.as_str()];
        }
        *at = Value::Array(after.0.clone());
        cancel.check()?;
        if vault.write(path, &Document::new(document.version, value))? != Written::Outdated {
            return Ok(after);
        }
    }
    Err(Failure::new(Kind::TryLater, format!("others write to ref+vault://{path} all the time")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::SigningAlgorithm;

    #[test]
    fn a_key_of_the_same_name_is_not_taken_for_this_one() {
        let [one, other] = [(); 2].map(|()| Signer::read(&keys::make(SigningAlgorithm::Es256).unwrap()).unwrap());
        let mut all = Keys::default();
        all.add("k", &one, Timestamp::UNIX_EPOCH).unwrap();
        let before = all.0.clone();
        all.add("k", &one, Timestamp::MAX).unwrap();
        assert_eq!(all.add("k", &other, Timestamp::UNIX_EPOCH).unwrap_err().kind(), Kind::Refused);
        all.remove_own("k", &other);
        assert_eq!(all.0, before);
        all.add("l", &other, Timestamp::UNIX_EPOCH).unwrap();
        all.remove_own("k", &one);
        assert!(all.find("k").is_none() && all.knows("l", &other));
    }

    #[test]
    fn what_was_noted_for_another_rotation_is_not_believed() {
        let signer = Signer::read(&keys::make(SigningAlgorithm::Es256).unwrap()).unwrap();
        let [before, least, noted, now] = [100, 200, 300, 400].map(|at| Timestamp::from_second(at).unwrap());
        let mut all = Keys::default();
        all.add("k", &signer, Timestamp::UNIX_EPOCH).unwrap();
        let mut then = |noted: Option<Timestamp>, not_before| {
            all.set_expiry("k", noted);
            all.let_expire("k", now, not_before);
            all.expires("k").unwrap()
        };
        assert_eq!(then(None, None), now);
        assert_eq!(then(Some(noted), None), noted);
        assert_eq!((then(Some(least), Some(least)), then(Some(noted), Some(least))), (least, noted));
        assert_eq!(then(Some(before), Some(least)), now, "a host that was overtaken noted it");
    }
}
