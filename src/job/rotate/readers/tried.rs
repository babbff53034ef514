//! Whether the keys that read the backups do what they should: the new one opens what is written from now on, and the old one
//! does not. Tried on what the store holds, with these keys alone.

use crate::error::{Failure, Kind, Result};
use crate::event::Context;
use crate::repo::catalog::{self, Wanted};
use crate::repo::check::{self, Request};
use crate::repo::container::decode;
use crate::repo::keys::{Keyring, Operator, Part};
use crate::repo::point::Point;
use crate::repo::proof::Level;
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, names};
use crate::store::{self, Key};
use jiff::Timestamp;
use std::io::Read;

/// Enough of an object to try a key: more than the longest header.
const HEADER: u64 = 64 << 10;

/// The keys as they are to be from now on.
pub struct Readers<'a> {
    pub repository: &'a Repository,
    /// As it is after the change.
    pub writer: &'a Writer,
    pub trust: &'a Trust,
}

impl Readers<'_> {
    /// The newest point of a source, which must have been written with the keys that are in force now; read to its end with nothing
    /// but `new`.
    pub fn reads(&self, new: &Operator, source: &str, context: Context<'_>, now: Timestamp) -> Result<Point> {
        let keys = self.opens(new)?;
        let wanted = Wanted {
            source: Some(source),
            writer: Some(self.writer.id()),
            newest_until: Some(catalog::horizon(now)),
            ..Wanted::default()
        };
        let catalog = catalog::list(self.repository, &keys, self.trust, wanted)?;
        let newest = catalog.latest(source, Some(self.writer.id()), now);
        let sealed = self.writer.sealed();
        let point =
            newest.filter(|point| (point.epoch, point.list) == (sealed.epoch, sealed.list)).ok_or_else(|| {
                Failure::failed(format!("the newest point of {source} is not sealed to data epoch {}", sealed.epoch))
                    .hint(format!("bkp backup {source}, then the same command again"))
            })?;
        let report = check::run(&Request {
            repository: self.repository,
            points: std::slice::from_ref(point),
            level: Some(Level::Readable),
            sample: 1.0,
            turn: 0,
            keys: &keys,
            context,
        })?;
        match report.problems.first() {
            None if !report.proven.is_empty() => Ok(point.clone()),
            problem => {
                let why =
                    problem.map_or_else(String::new, |problem| format!("{}: {}", problem.object, problem.problem));
                let what = format!("point {} cannot be read with the new key", point.id());
                Err(Failure::new(Kind::Verification, what).because(why))
            }
        }
    }

    /// All data epochs, opened by `new` alone.
    pub fn opens(&self, new: &Operator) -> Result<Keyring> {
        let store = &*self.repository.store;
        let opened = new.epochs(store)?;
        let own = opened.get(&self.writer.epoch.number);
        if own.is_none_or(|key| key.to_public().to_string() != self.writer.epoch.recipient) {
            let what = format!("the new key does not open data epoch {}", self.writer.epoch.number);
            return Err(Failure::new(Kind::Key, what).hint("Is that the private half of the key that was given?"));
        }
        let listed = store.list("keys/")?;
        let closed = listed.iter().filter_map(|entry| crate::repo::keys::epoch_number(entry.key.as_str()));
        match closed.into_iter().find(|number| !opened.contains_key(number)) {
            Some(number) => Err(Failure::new(Kind::Key, format!("the new key does not open data epoch {number}"))),
            None => Ok(Keyring::new(opened.into_values())),
        }
    }

    /// Nothing of this opens to `old`: the data epoch in force, and of `point` itself all that is sealed to people.
    pub fn refuses(&self, old: &Part<'_>, point: Option<&Point>) -> Result<()> {
        let streams = point.iter().flat_map(|point| &point.streams).filter_map(|stream| stream.objects.first());
        let of_point = point.iter().flat_map(|point| [point.key(), point.body.key.clone()]);
        let epoch = names::epoch(self.writer.epoch.number);
        for key in [epoch].into_iter().chain(of_point).chain(streams.map(|pin| pin.key.clone())) {
            if self.is_open(&key, old)? {
                return Err(Failure::new(Kind::Verification, format!("{key} opens to the old key"))
                    .hint("Somebody else changes who reads at this moment? Look with: bkp keys list"));
            }
        }
        Ok(())
    }

    fn is_open(&self, key: &Key, old: &Part<'_>) -> Result<bool> {
        let store = &*self.repository.store;
        let size = store.head(key).map_err(Failure::from)?.size;
        let mut header = Vec::new();
        let mut object = store.get(key, Some(0..size.min(HEADER)))?;
        object.read_to_end(&mut header).map_err(|e| Failure::from(store::StoreError::from_reader(e, key)))?;
        match decode::decrypt_by(&header[..], old.identities(), key.as_str()) {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind() == Kind::Key => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
