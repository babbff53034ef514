//! Who reads, as a list that grows by versions (`docs/FORMAT.md` §1): the appearance of the next number is the change.
//!
//! A version is created and never overwritten: of two who change the list at once one finds the number taken, reads again, and
//! applies its change to what is there by then. A version counts only when a writer that is known here signed it; else
//! whoever can write to the store could make themselves a reader.

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::repo::keys::{self, NamedRecipient, RecipientList};
use crate::repo::point::FORMAT;
use crate::repo::sign::{self, Trust};
use crate::repo::writer::{Writer, WriterInfo};
use crate::repo::{Repository, names};
use crate::store::{self, Store, StoreError};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const PAYLOAD_TYPE: &str = "application/vnd.bkp.recipients+json";

/// How often a change is applied to a list that others have changed meanwhile.
pub const TRIES: u32 = 8;

/// The signed content of `keys/recipients-NNNN.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub format: u32,
    pub repository: String,
    pub version: u32,
    /// Who changed it.
    pub writer: String,
    pub at: Timestamp,
    pub recipients: Vec<NamedRecipient>,
}

/// One change of the list.
pub enum Change {
    Add(NamedRecipient),
    /// By name or public key.
    Remove(String),
    /// Other keys for people who read already.
    Replace(Vec<Replacement>),
}

/// A key that somebody gets for the one before.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Public key.
    pub old: String,
    pub new: NamedRecipient,
}

impl Replacement {
    /// The list with it; the same when it has it already.
    fn apply(&self, mut list: Vec<NamedRecipient>) -> Result<Vec<NamedRecipient>> {
        let Replacement { old, new } = self;
        if let Some(other) = list.iter().find(|r| r.key() == new.key() && r.name != new.name) {
            return Err(Failure::usage(format!("that is the key of `{}` already: {}", other.name, new.recipient)));
        }
        let Some(found) = list.iter_mut().find(|r| r.name == new.name) else {
            return Err(Failure::usage(format!("`{}` is not a recipient any more", new.name))
                .hint("Somebody took them off meanwhile; look with: bkp keys list"));
        };
        if found.key() == keys::bare(old) && found.key() != new.key() {
            *found = new.clone();
        } else if found.key() != new.key() {
            let text = format!("`{}` was given another key meanwhile: {}", new.name, found.recipient);
            return Err(Failure::new(Kind::Refused, text)
                .hint("Ask who did it. To take that key over here: bkp rotate recipients NAME=THAT-KEY"));
        }
        Ok(list)
    }
}

impl Change {
    /// The list with this change; `None` when `list` has it already. `own` is what this host sealed to so far: when that has
    /// it as well, nothing is left to be done.
    fn apply(&self, list: &[NamedRecipient], own: &[NamedRecipient]) -> Result<Option<Vec<NamedRecipient>>> {
        match self {
            Change::Add(new) => {
                let same = |r: &&NamedRecipient| r.key() == new.key() && r.name == new.name;
                let near = |r: &&NamedRecipient| r.key() == new.key() || r.name == new.name;
                match list.iter().find(near) {
                    Some(found) if same(&found) && !own.iter().any(|r| same(&r)) => Ok(None),
                    Some(found) => {
                        Err(Failure::usage(format!("`{}` ({}) is a recipient already", found.name, found.recipient)))
                    }
                    None => Ok(Some(list.iter().chain([new]).cloned().collect())),
                }
            }
            Change::Remove(name) => {
                let named = |r: &NamedRecipient| r.name == *name || r.key() == keys::bare(name);
                let rest: Vec<_> = list.iter().filter(|r| !named(r)).cloned().collect();
                if rest.is_empty() {
                    return Err(Failure::new(Kind::Refused, "that is the last recipient: nobody could restore")
                        .hint("Add another one first: bkp keys add"));
                }
                match (rest.len() < list.len(), own.iter().any(named)) {
                    (true, _) => Ok(Some(rest)),
                    (false, true) => Ok(None),
                    (false, false) => {
                        Err(Failure::usage(format!("`{name}` is not a recipient"))
                            .hint("List them with: bkp keys list"))
                    }
                }
            }
            Change::Replace(all) => {
                let changed = all.iter().try_fold(list.to_vec(), |list, one| one.apply(list))?;
                let is_left = |one: &&Replacement| {
                    keys::bare(&one.old) != one.new.key() && changed.iter().any(|r| r.key() == keys::bare(&one.old))
                };
                if let Some(left) = all.iter().find(is_left) {
                    let text = format!("somebody else reads with the old key of `{}`, too", left.new.name);
                    return Err(Failure::new(Kind::Refused, text)
                        .hint("Give everybody who has it another key in the same command: bkp keys list"));
                }
                Ok((changed != list).then_some(changed))
            }
        }
    }
}

/// The number of the newest version; 0 when there is none.
pub fn newest_number(store: &dyn Store) -> Result<u32> {
    let numbers = store.list("keys/")?.into_iter().filter_map(|e| names::recipients_number(e.key.as_str()));
    Ok(numbers.max().unwrap_or(0))
}

/// Public keys that the lists after number `seen` name, whoever they are from.
pub fn named_after(store: &dyn Store, seen: u32) -> Result<BTreeSet<String>> {
    let mut named = BTreeSet::new();
    for number in seen + 1..=newest_number(store)? {
        named.extend(claimed_version(store, number)?.into_iter().flat_map(|v| v.recipients).map(|r| r.key()));
    }
    Ok(named)
}

/// One of the lists, as the store has it; nothing where it is not there. Nobody vouches for it.
pub fn claimed_version(store: &dyn Store, number: u32) -> Result<Option<Version>> {
    let key = names::recipients(number);
    let envelope = match store::read(store, &key) {
        Ok(envelope) => envelope,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let payload = sign::unverified(&envelope, key.as_str())?;
    serde_json::from_slice(&payload).map(Some).map_err(|e| damaged(key.as_str()).because(e))
}

/// All lists of a repository.
pub struct History {
    /// The first one first, each with whether somebody who is known signed it.
    pub versions: Vec<(Version, bool)>,
    /// Numbers of those that are missing or damaged: whom they alone named is not known.
    pub unknown: Vec<u32>,
}

pub fn history(repository: &Repository, trust: &Trust) -> Result<History> {
    let store = &*repository.store;
    let mut claimed = Vec::new();
    for number in 1..=newest_number(store)? {
        let version = match claimed_version(store, number) {
            Err(failure) if failure.kind() == Kind::TryLater => return Err(failure),
            version => version.ok().flatten(),
        };
        claimed.push((number, version));
    }
    let (versions, unknown) = of_repository(claimed, repository.id());
    let is_sound = |number: u32, version: &Version| {
        let key = names::recipients(number);
        let verify = |signer: &String| {
            let envelope = store::read(store, &key)?;
            sign::verify(&envelope, PAYLOAD_TYPE, &sign::parse_key(signer)?, key.as_str())
        };
        version.version == number && trust.pinned.get(&version.writer).is_some_and(|s| verify(s).is_ok())
    };
    let judged = |(number, version): (u32, Version)| {
        let is_sound = is_sound(number, &version);
        (version, is_sound)
    };
    Ok(History { versions: versions.into_iter().map(judged).collect(), unknown })
}

/// Those of this repository; and numbers of those that are missing, damaged, or another's that was put there.
fn of_repository(claimed: Vec<(u32, Option<Version>)>, id: &str) -> (Vec<(u32, Version)>, Vec<u32>) {
    let (mut own, mut unknown) = (Vec::new(), Vec::new());
    for (number, version) in claimed {
        match version {
            Some(version) if version.repository == id => own.push((number, version)),
            // An `init` that was killed left one of a repository that never was, before all others.
            Some(_) if own.is_empty() && unknown.is_empty() => {}
            _ => unknown.push(number),
        }
    }
    (own, unknown)
}

/// What the store says, for people to compare. Nobody vouches for it.
pub fn claimed(store: &dyn Store) -> Result<(u32, Vec<NamedRecipient>)> {
    let number = newest_number(store)?;
    if number > 0 {
        let key = names::recipients(number);
        let payload = sign::unverified(&store::read(store, &key)?, key.as_str())?;
        let version: Version = serde_json::from_slice(&payload).map_err(|e| damaged(key.as_str()).because(e))?;
        return Ok((number, version.recipients));
    }
    match store::read(store, &names::fixed(names::RECIPIENTS)) {
        Ok(bytes) => {
            let list: RecipientList =
                serde_json::from_slice(&bytes).map_err(|e| damaged(names::RECIPIENTS).because(e))?;
            Ok((0, list.recipients))
        }
        Err(StoreError::NotFound(_)) => Ok((0, Vec::new())),
        Err(e) => Err(e.into()),
    }
}

fn damaged(key: &str) -> Failure {
    Failure::failed(format!("{key} is damaged")).hint("Put it back from a copy of the store")
}

/// The list as it is now, signed by somebody in `trust`. Without any version it is what `writer` knows, as number 0.
pub fn newest(repository: &Repository, writer: &Writer, trust: &Trust) -> Result<Version> {
    let store = &*repository.store;
    let number = newest_number(store)?;
    if number < writer.list_version {
        return Err(Failure::new(
            Kind::Verification,
            format!("the list of recipients is number {number}; this host has seen {}", writer.list_version),
        )
        .hint(
            "Somebody removed the newer ones from the store: put keys/ back from a copy before you change who reads",
        ));
    }
    if number == 0 {
        return Ok(Version {
            format: FORMAT,
            repository: repository.id().to_owned(),
            version: 0,
            writer: writer.id().to_owned(),
            at: writer.info.created,
            recipients: writer.recipients.clone(),
        });
    }
    let key = names::recipients(number);
    let envelope = store::read(store, &key)?;
    let parse =
        |payload: &[u8]| serde_json::from_slice::<Version>(payload).map_err(|e| damaged(key.as_str()).because(e));
    let claimed = parse(&sign::unverified(&envelope, key.as_str())?)?;
    let signer = trust.pinned.get(&claimed.writer).ok_or_else(|| unknown(store, &claimed, key.as_str()))?;
    let version = parse(&sign::verify(&envelope, PAYLOAD_TYPE, &sign::parse_key(signer)?, key.as_str())?)?;
    if version.repository != repository.id() || version.version != number {
        return Err(Failure::new(Kind::Verification, format!("{key} is not to be believed: it was moved")));
    }
    Ok(version)
}

fn unknown(store: &dyn Store, version: &Version, key: &str) -> Failure {
    let info = store::read(store, &names::writer(&version.writer)).ok();
    let info = info.and_then(|bytes| serde_json::from_slice::<WriterInfo>(&bytes).ok());
    let line = info.map_or_else(String::new, |i| format!(" `# bkp-writer: {} {}`", i.writer, i.verify_key));
    Failure::new(
        Kind::Key,
        format!("the list of recipients was changed by writer {}, and nobody vouches for that here", version.writer),
    )
    .because(key.to_owned())
    .hint(format!("If that host is yours, add its line{line} to the identity file and run the command again"))
}

/// Makes the change the next version, whatever others do meanwhile. Gives the list that has it.
pub fn commit(
    repository: &Repository,
    writer: &Writer,
    trust: &Trust,
    change: &Change,
    now: Timestamp,
) -> Result<Version> {
    for _ in 0..TRIES {
        let current = newest(repository, writer, trust)?;
        let Some(recipients) = change.apply(&current.recipients, &writer.recipients)? else { return Ok(current) };
        let next =
            Version { version: current.version + 1, writer: writer.id().to_owned(), at: now, recipients, ..current };
        match put(&*repository.store, writer, &next) {
            Err(failure) if failure.kind() == Kind::TryLater => {}
            other => return other.map(|()| next),
        }
    }
    Err(busy())
}

/// Whether a change could be made to the list as it is now.
pub fn would_take(repository: &Repository, writer: &Writer, trust: &Trust, change: &Change) -> Result<()> {
    let current = newest(repository, writer, trust)?;
    change.apply(&current.recipients, &writer.recipients).map(drop)
}

/// Stores one version; [`Kind::TryLater`] when its number is taken.
pub fn put(store: &dyn Store, writer: &Writer, version: &Version) -> Result<()> {
    let payload = serde_json::to_vec(version).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
    let envelope = sign::sign(PAYLOAD_TYPE, &payload, &writer.signing);
    match store.put_new(&names::recipients(version.version), Bytes::from(envelope), None) {
        Ok(()) => {}
        Err(StoreError::Exists(_)) => return Err(busy()),
        Err(e) => return Err(e.into()),
    }
    durable::crash_point("keys:list-written");
    Ok(())
}

pub fn busy() -> Failure {
    Failure::new(Kind::TryLater, "somebody else is changing who reads at this moment")
        .hint("Try again: run the same command once more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_another_repository_is_only_passed_over_before_all_others() {
        let list = |(number, id): (usize, &&str)| {
            let version = Version {
                format: FORMAT,
                repository: (*id).to_owned(),
                version: number as u32 + 1,
                writer: "w".into(),
                at: Timestamp::UNIX_EPOCH,
                recipients: Vec::new(),
            };
            (number as u32 + 1, Some(version).filter(|_| !id.is_empty()))
        };
        let of = |ids: &[&str]| {
            let (own, unknown) = of_repository(ids.iter().enumerate().map(list).collect(), "r");
            (own.into_iter().map(|(number, _)| number).collect::<Vec<_>>(), unknown)
        };
        assert_eq!(of(&["r", "r", "r"]), (vec![1, 2, 3], vec![]));
        assert_eq!(of(&["x", "r", "r"]), (vec![2, 3], vec![]), "an init that was killed left it");
        assert_eq!(of(&["r", "x", "r"]), (vec![1, 3], vec![2]), "somebody put it over a list");
        assert_eq!(of(&["", "x", "r"]), (vec![3], vec![1, 2]));
    }
}
