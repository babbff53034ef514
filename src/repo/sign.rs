//! Signatures: DSSE v1 envelopes with Ed25519 (<https://github.com/secure-systems-lab/dsse>).
//!
//! age does not say who made an object; a signed envelope does. Whose key to believe is decided by [`Trust`]: keys come
//! from the writer's own state or the recovery key file, and from the store only when nothing better is there, aloud.

use crate::error::{Failure, Kind, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Serialize, Deserialize)]
struct SignatureLine {
    keyid: String,
    sig: String,
}

/// The bytes that are signed.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

pub fn key_id(key: &VerifyingKey) -> String {
    hex::encode(&crate::repo::names::sha256(key.as_bytes())[..8])
}

/// `ed25519:` and the public key in base64, as `writers/W.json` and recovery keys have it.
pub fn key_text(key: &VerifyingKey) -> String {
    format!("ed25519:{}", BASE64.encode(key.as_bytes()))
}

pub fn parse_key(text: &str) -> Result<VerifyingKey> {
    text.strip_prefix("ed25519:")
        .and_then(|b64| BASE64.decode(b64).ok())
        .and_then(|bytes| VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok())
        .ok_or_else(|| Failure::new(Kind::Key, "that is not the public key of a writer (ed25519:…)"))
}

pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = key.sign(&pre_authentication(payload_type, payload));
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: BASE64.encode(payload),
        signatures: vec![SignatureLine {
            keyid: key_id(&key.verifying_key()),
            sig: BASE64.encode(signature.to_bytes()),
        }],
    };
    serde_json::to_vec(&envelope).expect("an envelope is plain data")
}

/// A signature without what it is of: that stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detached {
    pub payload_type: String,
    pub keyid: String,
    pub sig: String,
}

/// The signature of an envelope.
pub fn detached(envelope: &[u8], what: &str) -> Result<Detached> {
    let damaged = || Failure::new(Kind::Verification, format!("{what} is not a signed envelope"));
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|e| damaged().because(e))?;
    let line = envelope.signatures.into_iter().next().ok_or_else(damaged)?;
    Ok(Detached { payload_type: envelope.payload_type, keyid: line.keyid, sig: line.sig })
}

impl Detached {
    pub fn make(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let sig = key.sign(&pre_authentication(payload_type, payload));
        let payload_type = payload_type.to_owned();
        Detached { payload_type, keyid: key_id(&key.verifying_key()), sig: BASE64.encode(sig.to_bytes()) }
    }

    /// Whether it is of this payload, of this type, by this key.
    pub fn fits(&self, payload_type: &str, payload: &[u8], key: &VerifyingKey) -> bool {
        let by_key = || {
            let bytes = BASE64.decode(&self.sig).ok()?;
            let signed = pre_authentication(payload_type, payload);
            key.verify_strict(&signed, &Signature::from_slice(&bytes).ok()?).ok()
        };
        self.payload_type == payload_type && by_key().is_some()
    }
}

/// A public key in PEM, for other tools.
pub fn key_pem(key: &VerifyingKey) -> String {
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410): always these bytes, and then the key.
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&PREFIX[..], key.as_bytes()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der))
}

/// The payload, once its signature by `key` is proven. `what` names the object.
pub fn verify(envelope: &[u8], payload_type: &str, key: &VerifyingKey, what: &str) -> Result<Vec<u8>> {
    let bad = |why: &str| Failure::new(Kind::Verification, format!("{what} is not to be believed: {why}"));
    let envelope: Envelope =
        serde_json::from_slice(envelope).map_err(|e| bad("it is not a signed envelope").because(e))?;
    if envelope.payload_type != payload_type {
        return Err(bad("it is signed as something else"));
    }
    let payload = BASE64.decode(&envelope.payload).map_err(|e| bad("its payload is damaged").because(e))?;
    let signed = pre_authentication(payload_type, &payload);
    let by_key = |line: &SignatureLine| {
        let bytes = BASE64.decode(&line.sig).ok()?;
        key.verify_strict(&signed, &Signature::from_slice(&bytes).ok()?).ok()
    };
    if envelope.signatures.iter().any(|line| by_key(line).is_some()) {
        return Ok(payload);
    }
    Err(bad("it is not signed by the writer it claims").hint("Somebody else wrote it, or it was changed; look at who can write to the store, and compare the writer's key with your recovery key file"))
}

/// What an envelope holds, without a look at who signed it: to be shown, or to learn whose key to ask for.
pub fn unverified(envelope: &[u8], what: &str) -> Result<Vec<u8>> {
    let damaged = || Failure::new(Kind::Verification, format!("{what} is damaged"));
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|e| damaged().because(e))?;
    BASE64.decode(&envelope.payload).map_err(|e| damaged().because(e))
}

/// Public keys of writers, and where they come from.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// From a place the store cannot change.
    pub pinned: BTreeMap<String, String>,
}

/// Which key to check a writer's signatures with.
pub enum Trusted {
    Pinned(VerifyingKey),
    /// Only the store vouches for it; users must be told.
    FromStore(VerifyingKey),
}

impl Trusted {
    pub fn key(&self) -> &VerifyingKey {
        match self {
            Trusted::Pinned(key) | Trusted::FromStore(key) => key,
        }
    }
}

impl Trust {
    /// `claimed` is what the store says. A contradiction is a failure: somebody exchanged the key.
    pub fn decide(&self, writer: &str, claimed: &str) -> Result<Trusted> {
        match self.pinned.get(writer) {
            Some(pinned) if pinned == claimed => Ok(Trusted::Pinned(parse_key(pinned)?)),
            Some(pinned) => Err(Failure::new(
                Kind::Verification,
                format!("writers/{writer}.json in the store has another key than the one known here"),
            )
            .hint(format!(
                "The known key is {pinned}. Somebody changed the store: restore nothing from it before you know who"
            ))),
            None => Ok(Trusted::FromStore(parse_key(claimed)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes(&[byte; 32])
    }

    #[test]
    fn a_signature_is_checked_with_its_type_and_key() {
        let envelope = sign("a/b", b"hello", &key(1));
        assert_eq!(verify(&envelope, "a/b", &key(1).verifying_key(), "x").unwrap(), b"hello");
        assert_eq!(verify(&envelope, "a/c", &key(1).verifying_key(), "x").unwrap_err().kind(), Kind::Verification);
        assert_eq!(verify(&envelope, "a/b", &key(2).verifying_key(), "x").unwrap_err().kind(), Kind::Verification);
    }

    #[test]
    fn a_pinned_key_beats_the_store() {
        let known = key_text(&key(1).verifying_key());
        let trust = Trust { pinned: [("w".to_owned(), known.clone())].into() };
        assert!(matches!(trust.decide("w", &known), Ok(Trusted::Pinned(_))));
        assert!(trust.decide("w", &key_text(&key(2).verifying_key())).is_err());
        assert!(matches!(trust.decide("v", &known), Ok(Trusted::FromStore(_))));
    }
}
