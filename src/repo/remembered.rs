//! What was found in objects that never change, remembered on this host: each needs to be opened and its signature checked but
//! once.
//!
//! An object is the same as long as its name, its size and the store's time of it are. For lists only: what decides what is
//! restored, kept or deleted reads the objects themselves. A file that is damaged, or was made by another version or under
//! another signer, is as good as none; nothing here fails.

use crate::durable;
use crate::repo::sign;
use crate::store::Entry;
use ed25519_dalek::VerifyingKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

pub struct Remembered<T> {
    /// Absent: nothing outlives this value.
    path: Option<PathBuf>,
    head: Head,
    known: HashMap<String, Line<T>>,
    is_new: bool,
}

/// The first line.
#[derive(PartialEq, Serialize, Deserialize)]
struct Head {
    version: String,
    signer: String,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    name: String,
    size: u64,
    /// In microseconds, of the store's clock.
    modified: i64,
    value: T,
}

impl<T> Line<T> {
    fn is_of(&self, entry: &Entry) -> bool {
        self.size == entry.size && self.modified == entry.modified.as_microsecond()
    }
}

impl<T: Serialize + DeserializeOwned> Remembered<T> {
    /// What is remembered of objects that `signer` has signed.
    pub fn open(path: Option<PathBuf>, signer: &VerifyingKey) -> Self {
        let head = Head { version: env!("CARGO_PKG_VERSION").to_owned(), signer: sign::key_text(signer) };
        let bytes = path.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let is_ours =
            lines.next().and_then(|line| serde_json::from_slice(line).ok()).is_some_and(|it: Head| it == head);
        let lines = lines.filter(|_| is_ours).filter_map(|line| serde_json::from_slice::<Line<T>>(line).ok());
        let known = lines.map(|line| (line.name.clone(), line)).collect();
        Remembered { path, head, known, is_new: false }
    }

    pub fn get(&self, entry: &Entry) -> Option<&T> {
        self.known.get(entry.key.last()).filter(|line| line.is_of(entry)).map(|line| &line.value)
    }

    pub fn put(&mut self, entry: &Entry, value: T) {
        let name = entry.key.last().to_owned();
        let line = Line { name: name.clone(), size: entry.size, modified: entry.modified.as_microsecond(), value };
        self.known.insert(name, line);
        self.is_new = true;
    }

    /// Writes down what is new, without what is not listed any more.
    pub fn keep(&self, listed: &[Entry]) {
        let Some(path) = self.path.as_ref().filter(|_| self.is_new) else { return };
        let lines = listed.iter().filter_map(|entry| self.known.get(entry.key.last()));
        let mut text = serde_json::to_vec(&self.head).unwrap_or_default();
        for line in lines {
            text.push(b'\n');
            let _ = serde_json::to_writer(&mut text, line);
        }
        // A full disk only costs time: the objects are read again.
        let _ = durable::create_private_directory(durable::parent_of(path))
            .and_then(|()| durable::write(path, &text, 0o600));
    }
}
