//! The form of what MinIO's admin API is told and answers: sealed with a key made of the secret key of who asks.
//!
//! `salt (32) | how (1) | nonce (8)`, then pieces of 16 KiB with a tag each, numbered, the last one marked: the STREAM
//! construction, as in github.com/secure-io/sio-go. Requests are sealed the way that MinIO takes from FIPS clients, answers
//! come in any of the three.

use crate::error::{Failure, Result};
use crate::secret::Secret;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

const SALT: usize = 32;
const NONCE: usize = 8;
const HEAD: usize = SALT + 1 + NONCE;
const PIECE: usize = 16 * 1024;
const TAG: usize = 16;

/// Ways to make the key and to seal with it, by their numbers.
const ARGON2_AES: u8 = 0;
const ARGON2_CHACHA: u8 = 1;
const PBKDF2_AES: u8 = 2;

const PBKDF2_ROUNDS: NonZeroU32 = NonZeroU32::new(8192).expect("it is not zero");
const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 1;
const ARGON2_LANES: u32 = 4;

pub fn seal(secret: &Secret, text: &[u8]) -> Result<Vec<u8>> {
    let mut head = [0; HEAD];
    getrandom::fill(&mut head)
        .map_err(|e| Failure::failed("the kernel gives no random bytes").because(e.to_string()))?;
    head[SALT] = PBKDF2_AES;
    let mut stream = Stream::of(secret, &head).ok_or_else(unreadable)?;
    let mut sealed = head.to_vec();
    let mut rest = text;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        rest = after;
        sealed.extend(stream.seal(piece, rest.is_empty()).ok_or_else(unreadable)?);
        if rest.is_empty() {
            return Ok(sealed);
        }
    }
}

pub fn open(secret: &Secret, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    open_all(secret, sealed).ok_or_else(unreadable)
}

fn open_all(secret: &Secret, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (head, mut rest) = sealed.split_first_chunk::<HEAD>()?;
    let mut stream = Stream::of(secret, head)?;
    let mut text = Zeroizing::new(Vec::with_capacity(sealed.len()));
    loop {
        let (piece, after) = rest.split_at(rest.len().min(PIECE + TAG));
        rest = after;
        text.extend_from_slice(&stream.open(piece, rest.is_empty())?);
        if rest.is_empty() {
            return Some(text);
        }
    }
}

fn unreadable() -> Failure {
    Failure::failed("what MinIO answered cannot be opened with the secret key of `admin`")
        .hint("See that `endpoint` is MinIO itself, and no proxy that changes what it says")
}

struct Stream {
    key: LessSafeKey,
    nonce: [u8; NONCE],
    /// Ties the pieces to each other.
    first_tag: [u8; TAG],
    number: u32,
}

impl Stream {
    fn of(secret: &Secret, head: &[u8; HEAD]) -> Option<Self> {
        let (salt, how, nonce) = (&head[..SALT], head[SALT], head.last_chunk::<NONCE>()?);
        let mut bytes = Zeroizing::new([0u8; 32]);
        match how {
            PBKDF2_AES => pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                PBKDF2_ROUNDS,
                salt,
                secret.expose().as_bytes(),
                bytes.as_mut(),
            ),
            ARGON2_AES | ARGON2_CHACHA => {
                let params = Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32)).ok()?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(secret.expose().as_bytes(), salt, bytes.as_mut()).ok()?;
            }
            _ => return None,
        }
        let algorithm = if how == ARGON2_CHACHA { &aead::CHACHA20_POLY1305 } else { &aead::AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, bytes.as_ref()).ok()?);
        let mut stream = Stream { key, nonce: *nonce, first_tag: [0; TAG], number: 0 };
        let mut nothing = [];
        let nonce = stream.next_nonce()?;
        let tag = stream.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut nothing).ok()?;
        stream.first_tag = tag.as_ref().try_into().ok()?;
        Some(stream)
    }

    fn seal(&mut self, piece: &[u8], is_last: bool) -> Option<Vec<u8>> {
        let (nonce, data) = (self.next_nonce()?, self.data(is_last));
        let mut sealed = piece.to_vec();
        self.key.seal_in_place_append_tag(nonce, data, &mut sealed).ok()?;
        Some(sealed)
    }

    fn open(&mut self, piece: &[u8], is_last: bool) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, data) = (self.next_nonce()?, self.data(is_last));
        let mut opened = Zeroizing::new(piece.to_vec());
        let length = self.key.open_in_place(nonce, data, &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }

    fn data(&self, is_last: bool) -> Aad<[u8; 1 + TAG]> {
        let mut data = [0; 1 + TAG];
        data[0] = if is_last { 0x80 } else { 0 };
        data[1..].copy_from_slice(&self.first_tag);
        Aad::from(data)
    }

    fn next_nonce(&mut self) -> Option<Nonce> {
        let mut nonce = [0; NONCE + 4];
        nonce[..NONCE].copy_from_slice(&self.nonce);
        nonce[NONCE..].copy_from_slice(&self.number.to_le_bytes());
        self.number = self.number.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_same_secret_only() {
        let secret = Secret::new("minio-secret-1".into());
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let text = vec![7u8; length];
            let sealed = seal(&secret, &text).unwrap();
            assert_eq!(*open(&secret, &sealed).unwrap(), text, "{length}");
            assert!(open(&Secret::new("another".into()), &sealed).is_err());
            let mut damaged = sealed.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(open(&secret, &damaged).is_err());
            assert!(open(&secret, &sealed[..sealed.len() - 1]).is_err(), "{length}: the end is missing");
        }
        assert!(open(&secret, b"<html>a proxy</html>").is_err());
    }
}
