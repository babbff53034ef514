//! Keys that sign tokens, and their public halves as verifiers read them (JSON Web Key, RFC 7517).

use crate::error::{Failure, Result};
use crate::policy::SigningAlgorithm;
use crate::secret::Secret;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// The half that signs.
pub enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// In PKCS #8, as PEM: what every library reads.
pub fn make(algorithm: SigningAlgorithm) -> Result<Secret> {
    made(algorithm).ok_or_else(|| Failure::failed("no key could be made"))
}

fn made(algorithm: SigningAlgorithm) -> Option<Secret> {
    let der = Zeroizing::new(match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
            pair.to_pkcs8v1().ok()?.as_ref().to_vec()
        }
        // Without the public half in it, which some libraries refuse.
        SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().ok()?.to_pkcs8v1().ok()?.as_ref().to_vec(),
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
            AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).ok()?.as_ref().to_vec()
        }
    });
    let text = Zeroizing::new(STANDARD.encode(&*der));
    let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    for line in text.as_bytes().chunks(64) {
        writeln!(pem, "{}", std::str::from_utf8(line).ok()?).ok()?;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Some(Secret::new(pem.as_str().to_owned()))
}

impl Signer {
    /// Whatever people made by openssl, too. `None`: it is no key, or of another kind.
    pub fn read(pem: &Secret) -> Option<Signer> {
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).ok()?;
        let bytes = der.secret_der();
        let ecdsa = || {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            EcdsaKeyPair::from_pkcs8(algorithm, bytes)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, bytes))
                .ok()
        };
        let rsa = || RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes)).ok();
        let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok();
        ecdsa().map(Signer::Ecdsa).or_else(|| ed25519().map(Signer::Ed25519)).or_else(|| rsa().map(Signer::Rsa))
    }

    /// Without a name.
    pub fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Ecdsa(pair) => {
                // 4, x, y
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "alg": "ES256", "use": "sig" })
            }
            Signer::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA", "use": "sig" })
            }
            Signer::Rsa(pair) => {
                let number = |number: aws_lc_rs::io::Positive<'_>| text(number.big_endian_without_leading_zero());
                let (n, e) = (number(pair.public_key().modulus()), number(pair.public_key().exponent()));
                json!({ "kty": "RSA", "n": n, "e": e, "alg": "RS256", "use": "sig" })
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Signer::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

/// Whether a signature is that of the key whose public half verifiers read.
pub fn verifies(public: &Value, message: &[u8], signature: &[u8]) -> bool {
    verified(public, message, signature).is_some()
}

fn verified(public: &Value, message: &[u8], signature: &[u8]) -> Option<()> {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(public[name].as_str()?.trim_end_matches('=')).ok();
    match (public["kty"].as_str()?, public["crv"].as_str()) {
        ("EC", Some("P-256")) => {
            let point = [vec![4], bytes("x")?, bytes("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).ok()
        }
        ("OKP", Some("Ed25519")) => UnparsedPublicKey::new(&ED25519, bytes("x")?).verify(message, signature).ok(),
        ("RSA", _) => {
            let components = PublicKeyComponents { n: bytes("n")?, e: bytes("e")? };
            components.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).ok()
        }
        _ => None,
    }
}

/// A name that follows from the key alone (RFC 7638).
pub fn thumbprint(public: &Value) -> String {
    let names: &[&str] = match public["kty"].as_str() {
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        _ => &["e", "kty", "n"],
    };
    let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":{}", public[*name])).collect();
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{{{}}}", members.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_kind_sign_what_their_public_half_verifies() {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256] {
            let [one, other] = [(); 2].map(|()| Signer::read(&make(algorithm).unwrap()).unwrap());
            let signature = one.sign(b"a token").unwrap();
            assert!(verifies(&one.public(), b"a token", &signature), "{algorithm:?}");
            assert!(!verifies(&one.public(), b"another", &signature));
            assert!(!verifies(&other.public(), b"a token", &signature));
            assert_eq!(one.public()["alg"], algorithm.name());
        }
        assert!(Signer::read(&Secret::new("hunter2".into())).is_none());
    }

    /// The example of RFC 7638, section 3.1.
    #[test]
    fn a_name_is_the_thumbprint_of_the_key() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let public = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
        assert_eq!(thumbprint(&public), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
