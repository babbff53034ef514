//! The archive of a snapshot: `meta.json`, `state.bin`, and their SHA-256 sums, in a tar in a gzip; checked while it passes by.
//!
//! Who reads through [`Checked`] gets the bytes as they are, and the end of them only when the archive is whole and every sum is
//! right: a snapshot that was cut or changed is never seen to end. `SHA256SUMS.sealed` is for Vault, which alone can open it.

use super::state::{self, Census};
use crate::error::{Context as _, Failure, Kind, Result};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";
const SEALED: &str = "SHA256SUMS.sealed";
const AGAIN: &str = "Nothing was made of it. Run it again; when it happens again, look at Vault's own log and disk";
/// Of the small files.
const SMALL: u64 = 4 << 20;
/// Pieces on their way to be checked.
const PIECES: usize = 16;

/// What a whole archive has.
pub struct Contents {
    pub index: u64,
    pub term: u64,
    /// SHA-256 of the state, as the archive itself has it.
    pub state: String,
    /// Nothing where the entries have a form that is not known here.
    pub census: Option<Census>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    index: u64,
    term: u64,
    size: u64,
}

/// Reads a whole archive, and fails unless it is one.
pub fn read(data: impl Read) -> Result<Contents> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(data));
    let (mut sums, mut small, mut census) = (BTreeMap::new(), BTreeMap::new(), None);
    for entry in archive.entries().map_err(not_whole)? {
        let mut entry = entry.map_err(not_whole)?;
        let name = entry.path().map_err(not_whole)?.display().to_string();
        let length = entry.size();
        let mut hashing = Hashing { inner: &mut entry, hash: Sha256::new(), length: 0 };
        match name.as_str() {
            STATE => census = state::read(&mut hashing).map_err(not_whole)?,
            _ if length <= SMALL => {
                let mut bytes = Vec::new();
                hashing.read_to_end(&mut bytes).map_err(not_whole)?;
                small.insert(name.clone(), bytes);
            }
            _ => _ = io::copy(&mut hashing, &mut io::sink()).map_err(not_whole)?,
        }
        if hashing.length != length {
            return Err(damaged(&format!("{name} is shorter than it should be")));
        }
        sums.insert(name, (hex::encode(hashing.hash.finalize()), length));
    }
    // To the end, where gzip has a sum of its own.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(not_whole)?;
    judge(&sums, &small, census)
}

fn judge(
    sums: &BTreeMap<String, (String, u64)>,
    small: &BTreeMap<String, Vec<u8>>,
    census: Option<Census>,
) -> Result<Contents> {
    let file = |name: &str| small.get(name).ok_or_else(|| damaged(&format!("it has no {name}")));
    let told = String::from_utf8_lossy(file(SUMS)?).into_owned();
    let told: BTreeMap<&str, &str> =
        told.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
    if file(SEALED)?.is_empty() {
        return Err(damaged(&format!("{SEALED} is empty")));
    }
    for (name, (sum, _)) in sums.iter().filter(|(name, _)| !matches!(name.as_str(), SUMS | SEALED)) {
        match told.get(name.as_str()) {
            Some(told) if told == sum => {}
            Some(_) => return Err(damaged(&format!("{name} is not what its SHA-256 sum says"))),
            None => return Err(damaged(&format!("it has a {name} without a SHA-256 sum"))),
        }
    }
    if let Some(missing) = told.keys().find(|name| !sums.contains_key(**name)) {
        return Err(damaged(&format!("it has no {missing}")));
    }
    let meta: Meta = serde_json::from_slice(file(META)?).map_err(|_| damaged(&format!("{META} is not understood")))?;
    let (state, length) = sums.get(STATE).ok_or_else(|| damaged(&format!("it has no {STATE}")))?;
    if meta.size != *length {
        return Err(damaged(&format!("{STATE} has {length} bytes, and {META} says {}", meta.size)));
    }
    Ok(Contents { index: meta.index, term: meta.term, state: state.clone(), census })
}

fn damaged(what: &str) -> Failure {
    Failure::new(Kind::Verification, format!("the snapshot of Vault is damaged: {what}")).hint(AGAIN)
}

fn not_whole(error: io::Error) -> Failure {
    Failure::new(Kind::Verification, "the snapshot of Vault is damaged or was cut").because(error).hint(AGAIN)
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    length: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}

/// Checks what is read through it, beside it.
pub struct Checked<R> {
    inner: R,
    checking: Option<Checking>,
    contents: Option<Contents>,
}

struct Checking {
    pieces: SyncSender<Vec<u8>>,
    thread: JoinHandle<Result<Contents>>,
}

impl Checking {
    fn begin() -> io::Result<Self> {
        let (pieces, incoming) = sync_channel(PIECES);
        let incoming = Incoming { pieces: incoming, current: Vec::new(), at: 0 };
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || read(incoming))?;
        Ok(Checking { pieces, thread })
    }

    fn end(self) -> Result<Contents> {
        drop(self.pieces);
        self.thread.join().unwrap_or_else(|_| Err(Failure::failed("the check of the snapshot stopped")))
    }
}

impl<R: Read> Checked<R> {
    pub fn new(inner: R) -> Result<Self> {
        let checking = Checking::begin().context(|| "cannot start the check of the snapshot".into())?;
        Ok(Checked { inner, checking: Some(checking), contents: None })
    }

    /// `None` unless everything was read.
    pub fn contents(self) -> Option<Contents> {
        self.contents
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let is_end = read == 0 && !buffer.is_empty();
        // Who checks ends early only where something is wrong.
        let gone = |checking: &Checking| checking.pieces.send(buffer[..read].to_vec()).is_err();
        if (is_end || self.checking.as_ref().is_some_and(gone))
            && let Some(checking) = self.checking.take()
        {
            self.contents = Some(checking.end()?);
            if !is_end {
                return Err(damaged("something follows its end").into());
            }
        }
        Ok(read)
    }
}

struct Incoming {
    pieces: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.current, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    const META_JSON: &str = r#"{"Version":1,"ID":"bolt-snapshot","Index":44,"Term":3,"Size":5}"#;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn sums(state: &[u8]) -> String {
        let line = |name: &str, bytes: &[u8]| format!("{}  {name}\n", hex::encode(Sha256::digest(bytes)));
        line(META, META_JSON.as_bytes()) + &line(STATE, state)
    }

    fn good() -> Vec<u8> {
        let state = b"\x04\x0a\x02ab";
        packed(&[(META, META_JSON.as_bytes()), (STATE, state), (SUMS, sums(state).as_bytes()), (SEALED, b"s")])
    }

    fn through(bytes: &[u8]) -> Result<Contents> {
        let mut checked = Checked::new(bytes)?;
        let mut copy = Vec::new();
        checked.read_to_end(&mut copy).context(|| "read".into())?;
        assert_eq!(copy, bytes, "the bytes are as they were");
        Ok(checked.contents().expect("everything was read"))
    }

    #[test]
    fn a_whole_archive_tells_what_it_has() {
        let contents = through(&good()).unwrap();
        assert_eq!((contents.index, contents.term), (44, 3));
        assert_eq!(contents.census.unwrap().entries, 1);
    }

    #[test]
    fn one_that_is_cut_anywhere_never_ends() {
        let good = good();
        for length in 0..good.len() {
            let failure = through(&good[..length]).err().unwrap_or_else(|| panic!("{length} bytes of {}", good.len()));
            assert_eq!(failure.kind(), Kind::Verification, "{failure}");
        }
        assert!(through(&[&good[..], b"more"].concat()).is_err());
    }

    #[test]
    fn what_is_not_as_its_sums_say_is_told_by_name() {
        let (state, other) = (b"\x04\x0a\x02ab", b"\x04\x0a\x02ax");
        let sums = sums(state);
        let (meta, sums) = (META_JSON.as_bytes(), sums.as_bytes());
        let table: [(&[(&str, &[u8])], &str); 6] = [
            (&[(META, meta), (STATE, other), (SUMS, sums), (SEALED, b"s")], "state.bin is not what"),
            (&[(META, b"{}"), (STATE, state), (SUMS, sums), (SEALED, b"s")], "meta.json is not what"),
            (&[(META, meta), (STATE, state), (SEALED, b"s")], "no SHA256SUMS"),
            (&[(META, meta), (STATE, state), (SUMS, sums)], "no SHA256SUMS.sealed"),
            (&[(META, meta), (SUMS, sums), (SEALED, b"s")], "no state.bin"),
            (&[(META, meta), (STATE, state), ("x", b""), (SUMS, sums), (SEALED, b"s")], "a x without"),
        ];
        for (files, words) in table {
            let failure = through(&packed(files)).err().expect(words);
            assert!(failure.full().contains(words), "{}", failure.full());
        }
    }
}
