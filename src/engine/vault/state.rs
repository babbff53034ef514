//! The entries of a snapshot: `state.bin`, records of protobuf `{ 1: key, 2: value }`, each after its length.
//!
//! Keys can be read and values cannot: the barrier encrypts them, and leaves them as they are until they are written again.
//! So counts and digests tell one state of Vault from another without any key, and the one entry that the unseal keys open
//! tells which of them open this snapshot. A form that is not known is no fault of the snapshot: then nothing is told.

use crate::engine::{Fingerprint, FingerprintPart};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// How the fingerprint is made.
const METHOD: &str = "vault-1";
/// Vault takes entries of a megabyte, and of more only where it was told to.
const ENTRY: u64 = 256 << 20;

/// The root key as the unseal keys, or the one who unseals by itself, have wrapped it. Only new keys make it another one.
const WRAPPED: &str = "core/hsm/barrier-unseal-keys";
/// How it is sealed. Not encrypted, for who would decrypt it?
const SEAL: &str = "core/seal-config";

/// What the entries are.
#[derive(Default)]
pub struct Census {
    pub entries: u64,
    groups: BTreeMap<String, (u64, blake3::Hasher)>,
    policies: BTreeMap<String, String>,
    /// Which unseal keys open it: the same for every snapshot that the same keys open, another one after a `rekey`.
    pub generation: Option<String>,
    pub seal: serde_json::Value,
}

impl Census {
    fn count(&mut self, key: &str, value: &[u8]) {
        self.entries += 1;
        let (count, digest) = self.groups.entry(group(key)).or_default();
        *count += 1;
        for part in [key.as_bytes(), value] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        if let Some(name) = key.strip_prefix("sys/policy/") {
            self.policies.insert(format!("policy {name}"), blake3::hash(value).to_hex().to_string());
        }
        match key {
            WRAPPED => self.generation = Some(hex::encode(&Sha256::digest(value)[..8])),
            SEAL => self.seal = serde_json::from_slice(value).unwrap_or_default(),
            _ => {}
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let part = |(name, (count, digest)): (&String, &(u64, blake3::Hasher))| {
            (name.clone(), FingerprintPart { count: *count, digest: digest.finalize().to_hex().to_string() })
        };
        let parts = self.groups.iter().map(part).collect();
        Fingerprint { method: METHOD.into(), parts, objects: self.policies.clone() }
    }

    /// Counts by kind.
    pub fn inventory(&self) -> BTreeMap<String, u64> {
        let of = |prefix: &str| self.groups.keys().filter(|name| name.starts_with(prefix)).count() as u64;
        let in_group = |name: &str| self.groups.get(name).map_or(0, |(count, _)| *count);
        let all = [
            ("entries", self.entries),
            ("mounts", of("logical/")),
            ("logins", of("auth/")),
            ("policies", self.policies.len() as u64),
            ("tokens", in_group("sys/token")),
            ("leases", in_group("sys/expire")),
        ];
        all.into_iter().map(|(what, count)| (what.to_owned(), count)).collect()
    }
}

/// Mounts by their ids; all else by its first words.
fn group(key: &str) -> String {
    let words = |number: usize| key.split('/').take(number).collect::<Vec<_>>().join("/");
    match key.split('/').next().unwrap_or_default() {
        "logical" | "auth" | "sys" => words(2),
        "namespaces" => words(4),
        _ => words(1),
    }
}

/// Whether nothing changes there unless somebody asks for it. Vault itself counts, elects, renews and forgets elsewhere.
pub fn is_settled(part: &str) -> bool {
    let word = part.split('/').next().unwrap_or_default();
    matches!(word, "logical" | "auth" | "namespaces") || part == "sys/policy"
}

/// Reads all of it. `None` where the form is not known; it is read to its end all the same.
pub fn read(data: &mut dyn Read) -> io::Result<Option<Census>> {
    let mut census = Census::default();
    let mut entry = Vec::new();
    loop {
        let length = match number(data)? {
            Some(Number::End) => return Ok(Some(census)),
            Some(Number::Is(length)) if length <= ENTRY => length,
            _ => break,
        };
        entry.clear();
        if data.take(length).read_to_end(&mut entry)? as u64 != length {
            break;
        }
        let Some((key, value)) = fields(&entry) else { break };
        census.count(key, value);
    }
    io::copy(data, &mut io::sink())?;
    Ok(None)
}

enum Number {
    End,
    Is(u64),
}

/// Seven bits a byte, the lowest first. `None`: it is no number.
fn number(data: &mut dyn Read) -> io::Result<Option<Number>> {
    let (mut value, mut byte) = (0, [0]);
    for shift in (0..64).step_by(7) {
        if data.take(1).read(&mut byte)? == 0 {
            return Ok((shift == 0).then_some(Number::End));
        }
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(Some(Number::Is(value)));
        }
    }
    Ok(None)
}

fn fields(mut entry: &[u8]) -> Option<(&str, &[u8])> {
    let (mut key, mut value) = (None, &[][..]);
    while !entry.is_empty() {
        let Number::Is(tag) = number(&mut entry).ok()?? else { return None };
        match tag & 7 {
            0 => _ = number(&mut entry).ok()??,
            2 => {
                let Number::Is(length) = number(&mut entry).ok()?? else { return None };
                let (field, rest) = entry.split_at_checked(usize::try_from(length).ok()?)?;
                entry = rest;
                match tag >> 3 {
                    1 => key = Some(std::str::from_utf8(field).ok()?),
                    2 => value = field,
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some((key?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut state = Vec::new();
        for (key, value) in entries {
            let mut entry = vec![0x0a, key.len() as u8];
            entry.extend(key.as_bytes());
            entry.extend([0x12, value.len() as u8 | 0x80, 0]);
            entry.extend(*value);
            state.push(entry.len() as u8);
            state.extend(entry);
        }
        state
    }

    fn census(entries: &[(&str, &[u8])]) -> Census {
        read(&mut &state(entries)[..]).unwrap().expect("its form is known")
    }

    #[test]
    fn entries_are_counted_by_where_they_belong() {
        let census = census(&[
            (SEAL, br#"{"type":"shamir","secret_threshold":3}"#),
            (WRAPPED, b"wrapped"),
            ("logical/1f/a", b"x"),
            ("logical/1f/b/c", b"y"),
            ("logical/2e/a", b"z"),
            ("sys/policy/shop", b"p"),
            ("sys/token/id/h1", b"t"),
        ]);
        let fingerprint = census.fingerprint();
        let parts: Vec<_> = fingerprint.parts.iter().map(|(name, part)| (name.as_str(), part.count)).collect();
        assert_eq!(parts, [("core", 2), ("logical/1f", 2), ("logical/2e", 1), ("sys/policy", 1), ("sys/token", 1)]);
        assert!(fingerprint.objects.contains_key("policy shop"));
        assert_eq!(census.inventory()["mounts"], 2);
        assert_eq!(census.seal["secret_threshold"], 3);
    }

    #[test]
    fn the_generation_is_that_of_the_unseal_keys_and_of_nothing_else() {
        let generation =
            |wrapped: &[u8], other: &[u8]| census(&[(WRAPPED, wrapped), ("core/keyring", other)]).generation;
        assert_eq!(generation(b"one", b"x"), generation(b"one", b"y"));
        assert_ne!(generation(b"one", b"x"), generation(b"two", b"x"));
        assert_eq!(census(&[("core/keyring", b"x")]).generation, None);
    }

    #[test]
    fn a_form_that_is_not_known_is_read_to_its_end_and_tells_nothing() {
        for bad in [&[0xff; 20][..], &[5, 0x0a, 1][..], &[2, 0x0a, 9][..], &[3, 0x12, 1, 7][..]] {
            let mut rest = bad;
            assert!(read(&mut rest).unwrap().is_none(), "{bad:?}");
            assert!(rest.is_empty());
        }
    }
}
