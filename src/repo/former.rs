//! Keys that could read once, and what they still open.
//!
//! Whoever is let in gets all data epochs that there are, and whoever is taken off gets none that begins afterwards; an epoch is given
//! up when one of its readers is taken off ([`super::init::change_recipients`]). So a key opens an object, directly or by its
//! epoch, exactly when the list that the object's writer went by is older than the one that took the key off. What does not say
//! by which list it was sealed counts as older than all.

use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::keys::{self, Role};
use crate::repo::names;
use crate::repo::point::Point;
use crate::repo::recipients::{self, Version};
use crate::repo::sealed::SealedBy;
use crate::repo::sign::Trust;
use crate::store::Store;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A key that is in no list any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    pub name: String,
    pub role: Role,
    pub recipient: String,
    /// Number of the first list without it, and when that was made.
    pub without: u32,
    pub removed: Timestamp,
    /// Somebody who is known here signed that list.
    pub vouched: bool,
}

/// Whether a point opens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    Not,
    /// Only what it refers to of earlier points.
    InPart,
    Whole,
}

/// Of a public key: enough to tell which one it is.
pub fn fingerprint(recipient: &str) -> String {
    hex::encode(&names::sha256(keys::bare(recipient).as_bytes())[..6])
}

/// Those that are known, and numbers of lists that are missing or damaged: whom these alone named is not.
pub fn all(repository: &Repository, trust: &Trust) -> Result<(Vec<Former>, Vec<u32>)> {
    let history = recipients::history(repository, trust)?;
    Ok((of(&history.versions), history.unknown))
}

/// Why one of these public keys opens nothing that `keys/` has, as far as the lists in the store tell: nobody vouches for them.
pub fn taken_off(store: &dyn Store, keys: &[String]) -> Option<Failure> {
    let newest = recipients::newest_number(store).ok()?;
    let lists = (1..=newest).rev().filter_map(|number| recipients::claimed_version(store, number).ok().flatten());
    let mut lists: Vec<Version> = lists.collect();
    // An `init` that was killed left one of a repository that never was.
    let id = lists.first()?.repository.clone();
    lists.retain(|list| list.repository == id);
    let reader = |list: &Version| list.recipients.iter().find(|reader| keys.contains(&reader.key())).cloned();
    let last = lists.iter().position(|list| reader(list).is_some())?;
    let (name, removed) = (reader(&lists[last])?.name, lists[last.checked_sub(1)?].at.strftime("%Y-%m-%d"));
    Some(Failure::new(Kind::Key, format!("the key of {name} in this identity was taken off on {removed}")).hint(
        "Whoever reads today has another one: bkp keys list. What was written before still opens to the old one by hand: README.txt in the repository",
    ))
}

fn of(history: &[(Version, bool)]) -> Vec<Former> {
    let Some((newest, _)) = history.last() else { return Vec::new() };
    let mut former: BTreeMap<String, Former> = BTreeMap::new();
    for pair in history.windows(2) {
        let [(before, _), (after, vouched)] = pair else { continue };
        let has = |version: &Version, key: &str| version.recipients.iter().any(|r| r.key() == key);
        for reader in before.recipients.iter().filter(|r| !has(after, &r.key()) && !has(newest, &r.key())) {
            let gone = Former {
                name: reader.name.clone(),
                role: reader.role,
                recipient: reader.recipient.clone(),
                without: after.version,
                removed: after.at,
                vouched: *vouched,
            };
            former.insert(reader.key(), gone);
        }
    }
    let mut former: Vec<Former> = former.into_values().collect();
    former.sort_by_key(|one| one.without);
    former
}

impl Former {
    /// Data epochs of what it opens of a point. 0 stands for those that an older version did not note.
    pub fn epochs(&self, point: &Point) -> Vec<u32> {
        let itself = SealedBy { epoch: point.epoch, list: point.list };
        [itself].into_iter().chain(point.sealed()).filter(|s| s.list < self.without).map(|s| s.epoch).collect()
    }

    pub fn opens(&self, point: &Point) -> Opens {
        let opens = |sealed: SealedBy| sealed.list < self.without;
        let has_parts = || point.sealed().any(opens);
        match opens(SealedBy { epoch: point.epoch, list: point.list }) {
            true => Opens::Whole,
            false if has_parts() => Opens::InPart,
            false => Opens::Not,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::keys::NamedRecipient;

    fn history(lists: &[&[&str]]) -> Vec<(Version, bool)> {
        let reader = |name: &&str| NamedRecipient {
            name: (*name).into(),
            role: Role::Operator,
            recipient: format!("age1{name}"),
            added: Timestamp::UNIX_EPOCH,
        };
        let version = |(at, list): (usize, &&[&str])| Version {
            format: 1,
            repository: "r".into(),
            version: at as u32 + 1,
            writer: "w".into(),
            at: Timestamp::from_second(at as i64).unwrap(),
            recipients: list.iter().map(reader).collect(),
        };
        lists.iter().enumerate().map(|list| (version(list), true)).collect()
    }

    #[test]
    fn a_key_is_gone_since_the_last_list_that_dropped_it() {
        let gone =
            |lists: &[&[&str]]| of(&history(lists)).into_iter().map(|one| (one.name, one.without)).collect::<Vec<_>>();
        assert_eq!(gone(&[]), []);
        assert_eq!(gone(&[&["ana"], &["ana", "luis"]]), []);
        assert_eq!(gone(&[&["ana"], &["ana", "luis"], &["luis"]]), [("ana".to_owned(), 3)]);
        // Whoever comes back gets everything that was written meanwhile, too.
        assert_eq!(gone(&[&["ana", "x"], &["x"], &["ana", "x"], &["x"]]), [("ana".to_owned(), 4)]);
        assert_eq!(gone(&[&["ana", "x"], &["x"], &["ana", "x"]]), []);
    }
}
