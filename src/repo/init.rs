//! Making a repository, registering a writer in one, and changing who can read.
//!
//! `repository.json` is written last: without it there is no repository, and an interrupted `init` is simply run again.

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::repo::keys::{self, Epoch, NamedRecipient, Operator, RecipientList};
use crate::repo::point::FORMAT;
use crate::repo::recipients::{self, Change, Version};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, RepositoryInfo, names};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What every repository carries so that it can be restored without bkp.
const TRAVELLING: [(&str, &str); 3] = [
    ("README.txt", include_str!("restore/README.txt")),
    ("restore/restore.sh", include_str!("restore/restore.sh")),
    ("restore/restore.py", include_str!("restore/restore.py")),
];

/// Private halves of data epochs by number.
type Epochs = std::collections::BTreeMap<u32, age::x25519::Identity>;

/// Name and text of each; a recovery key notes their hashes, for the store could exchange them.
pub fn travelling() -> impl Iterator<Item = (&'static str, &'static str)> {
    TRAVELLING.into_iter()
}

/// A repository that does not exist yet. Its ids are fixed, so that a recovery key can name them before anything is written.
pub struct Prepared {
    pub info: RepositoryInfo,
    pub writer: Writer,
}

pub fn prepare(
    recipients: Vec<NamedRecipient>,
    name: &str,
    state: &Path,
    capabilities: serde_json::Value,
    now: Timestamp,
) -> Result<Prepared> {
    let info = RepositoryInfo { format: FORMAT, id: durable::random_hex(16), created: now, store: capabilities };
    let writer = Writer::generate(&info.id, name, recipients, state, now)?;
    Ok(Prepared { info, writer })
}

impl Prepared {
    pub fn write(self, store: Arc<dyn Store>) -> Result<(Repository, Writer)> {
        let Prepared { info, mut writer } = self;
        if !store.list("w/")?.is_empty() {
            return Err(Failure::new(Kind::Refused, format!("{} holds backups, but no repository.json", store.describe()))
                .hint("Somebody lost or removed that file: put it back from a copy of the store; a new repository would hide those backups"));
        }
        for (name, text) in TRAVELLING {
            store.put(&names::fixed(name), Bytes::from_static(text.as_bytes()), None)?;
        }
        enter(&*store, &mut writer)?;
        first_list(&*store, &mut writer)?;
        match store.put_new(&names::fixed(names::REPOSITORY), json(&info)?, None) {
            Ok(()) => {}
            Err(StoreError::Exists(_)) => return Err(already(&*store)),
            Err(e) => return Err(e.into()),
        }
        durable::crash_point("init:repository-written");
        Ok((Repository::new(store, info), writer))
    }
}

pub fn already(store: &dyn Store) -> Failure {
    Failure::new(Kind::Refused, format!("there is a repository at {} already", store.describe()))
        .hint("To let this host write into it too: bkp init --join")
}

/// The list that a repository begins with. An `init` that was killed may have left one, of another repository.
fn first_list(store: &dyn Store, writer: &mut Writer) -> Result<()> {
    let version = Version {
        format: FORMAT,
        repository: writer.repository.clone(),
        version: recipients::newest_number(store)? + 1,
        writer: writer.id().to_owned(),
        at: writer.info.created,
        recipients: writer.recipients.clone(),
    };
    recipients::put(store, writer, &version)?;
    put_recipients(store, &version.recipients)?;
    (writer.list_version, writer.epoch_list) = (version.version, version.version);
    writer.save()
}

/// Registers this host as one more writer of an existing repository, with the recipients the store names: show them to the user.
pub fn join(repository: &Repository, name: &str, state: &Path, now: Timestamp) -> Result<Writer> {
    let store = &*repository.store;
    let (number, recipients) = recipients::claimed(store)?;
    if recipients.is_empty() {
        return Err(Failure::new(Kind::Key, "the repository names no recipients").hint("Look at keys/ in the store"));
    }
    let mut writer = Writer::generate(repository.id(), name, recipients, state, now)?;
    (writer.list_version, writer.epoch_list) = (number, number);
    enter(store, &mut writer)?;
    // Who was let in meanwhile could not know of this host's epoch.
    for _ in 0..recipients::TRIES {
        let (number, recipients) = recipients::claimed(store)?;
        if number == writer.list_version {
            return Ok(writer);
        }
        (writer.list_version, writer.recipients) = (number, recipients);
        let recipients = writer.recipients.clone();
        begin_epoch(store, &mut writer, (&recipients, number))?;
        writer.save()?;
    }
    Err(recipients::busy())
}

/// Stores a new writer's epoch and public half, and its state here.
fn enter(store: &dyn Store, writer: &mut Writer) -> Result<()> {
    put_new_epoch(store, writer)?;
    writer.save()?;
    store.put_new(&names::writer(writer.id()), json(&writer.info)?, None)?;
    Ok(())
}

/// Stores the writer's epoch under the first free number; several writers share the numbers.
fn put_new_epoch(store: &dyn Store, writer: &mut Writer) -> Result<()> {
    let used = store.list("keys/")?.iter().filter_map(|e| keys::epoch_number(e.key.as_str())).max().unwrap_or(0);
    for number in used + 1..used + 100 {
        match store.put_new(&names::epoch(number), Bytes::from(writer.epoch.sealed_bytes()?), None) {
            Ok(()) => {
                writer.epoch.number = number;
                durable::crash_point("keys:epoch-written");
                return Ok(());
            }
            Err(StoreError::Exists(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::new(Kind::TryLater, "no number is free for a new data epoch"))
}

fn put_recipients(store: &dyn Store, recipients: &[NamedRecipient]) -> Result<()> {
    store.put(&names::fixed(names::RECIPIENTS), json(&RecipientList { recipients: recipients.to_vec() })?, None)?;
    durable::crash_point("keys:recipients-written");
    Ok(())
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}

/// Lets everybody know the public key of a writer, where nobody did yet.
pub fn introduce(repository: &Repository, writer: &super::writer::WriterInfo) -> Result<()> {
    match repository.store.put_new(&names::writer(&writer.writer), json(writer)?, None) {
        Ok(()) | Err(crate::store::StoreError::Exists(_)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Begins a new data epoch: what is written from now on is sealed to a new key. `afresh`: and refers to nothing before it.
///
/// It is sealed to the list of this host. Where that is not the newest one, perhaps nobody has any of its keys any more.
pub fn new_epoch(repository: &Repository, writer: &mut Writer, afresh: bool) -> Result<u32> {
    let store = &*repository.store;
    must_be_newest(store, writer)?;
    let recipients = writer.recipients.clone();
    let identity = begin_epoch(store, writer, (&recipients, writer.list_version))?;
    if let Err(outdated) = must_be_newest(store, writer) {
        // Nothing is sealed to this epoch yet. Whoever changes who reads must open them all, this one included.
        let claimed = recipients::claimed(store)?.1;
        let sealed = Epoch::reseal(writer.epoch.number, &identity, &claimed)?.sealed_bytes()?;
        store.put(&names::epoch(writer.epoch.number), Bytes::from(sealed), None)?;
        return Err(outdated);
    }
    if afresh {
        writer.oldest_reused = writer.epoch.number;
    }
    writer.save()?;
    Ok(writer.epoch.number)
}

fn must_be_newest(store: &dyn Store, writer: &Writer) -> Result<()> {
    let newest = recipients::newest_number(store)?;
    if newest == writer.list_version {
        return Ok(());
    }
    let text = format!(
        "the list of who reads is number {newest}, and this host still seals to number {}: perhaps nobody has those keys any more",
        writer.list_version
    );
    Err(Failure::new(Kind::Refused, text).hint(
        "Give the command here that changed it elsewhere: bkp rotate recipients NAME=KEY, or bkp keys add/remove",
    ))
}

fn begin_epoch(
    store: &dyn Store,
    writer: &mut Writer,
    (recipients, list): (&[NamedRecipient], u32),
) -> Result<age::x25519::Identity> {
    let identity = age::x25519::Identity::generate();
    writer.epoch = Epoch::reseal(0, &identity, recipients)?;
    writer.epoch_list = list;
    put_new_epoch(store, writer)?;
    Ok(identity)
}

/// Changes who reads, and seals every epoch anew. An operator must open the epochs for it. `afresh`: what is written from
/// now on refers to nothing that was written before.
///
/// The list is changed first, and the epochs are sealed until the list they were sealed to is still the newest one: whoever
/// changes it last seals last, so changes made at the same time all come to hold. The state here is saved last: whatever
/// fails before, the command can be given again, and what is written meanwhile is sealed as before.
///
/// An epoch is given up as soon as somebody whom it was sealed to is no longer in the list, whoever took them off: whom the epoch
/// of an object may open to is known by the list its writer went by ([`super::former`]).
pub fn change_recipients(
    repository: &Repository,
    writer: &mut Writer,
    (change, afresh): (&Change, bool),
    operator: &Operator,
    now: Timestamp,
) -> Result<()> {
    let store = &*repository.store;
    let mut trust = writer.trust();
    trust.pinned.extend(operator.trusted.clone());
    let mut opened = open_all(store, operator, Epochs::new())?;
    let mut version = recipients::commit(repository, writer, &trust, change, now)?;
    let mut seen = writer.list_version;
    let mut sealed_to: BTreeSet<String> = writer.recipients.iter().map(NamedRecipient::key).collect();
    for _ in 0..recipients::TRIES {
        sealed_to.extend(recipients::named_after(store, seen)?);
        if !sealed_to.iter().all(|recipient| version.recipients.iter().any(|r| r.key() == *recipient)) {
            let identity = begin_epoch(store, writer, (&version.recipients, version.version))?;
            opened.insert(writer.epoch.number, identity);
            sealed_to = version.recipients.iter().map(NamedRecipient::key).collect();
        }
        seen = version.version;
        reseal(store, writer, &version, &opened)?;
        let newest = recipients::newest(repository, writer, &trust)?;
        let known = opened.len();
        opened = open_all(store, operator, opened)?;
        if newest.version == version.version && opened.len() == known {
            writer.recipients = version.recipients;
            writer.list_version = version.version;
            if afresh {
                writer.oldest_reused = writer.epoch.number;
            }
            return writer.save();
        }
        version = newest;
    }
    Err(recipients::busy())
}

/// Seals every data epoch to the newest list once more: who changed it last may have been overtaken by the last write of somebody
/// before.
pub fn seal_again(repository: &Repository, writer: &mut Writer, trust: &Trust, operator: &Operator) -> Result<()> {
    let store = &*repository.store;
    let mut version = recipients::newest(repository, writer, trust)?;
    for _ in 0..recipients::TRIES {
        let opened = open_all(store, operator, Epochs::new())?;
        reseal(store, writer, &version, &opened)?;
        // Somebody who changed it meanwhile may have sealed before this did.
        let newest = recipients::newest(repository, writer, trust)?;
        if newest.version == version.version {
            return writer.save();
        }
        version = newest;
    }
    Err(recipients::busy())
}

/// Whether somebody can change who reads.
pub fn must_open_all(repository: &Repository, operator: &Operator) -> Result<()> {
    open_all(&*repository.store, operator, Epochs::new()).map(drop)
}

/// Every data epoch there is, in addition to those that are open already; a closed one would be lost to those who come.
fn open_all(store: &dyn Store, operator: &Operator, mut opened: Epochs) -> Result<Epochs> {
    let numbers: Vec<u32> = store.list("keys/")?.iter().filter_map(|e| keys::epoch_number(e.key.as_str())).collect();
    if numbers.iter().all(|number| opened.contains_key(number)) && !numbers.is_empty() {
        return Ok(opened);
    }
    let taken_off = |failure: Failure| {
        match failure.kind() {
        Kind::Key => failure.hint(
            "If that key was just replaced: the new one opens everything. Add it: --new-identity FILE (bkp rotate recipients), or --identity FILE",
        ),
        _ => failure,
    }
    };
    for (number, identity) in operator.epochs(store).map_err(taken_off)? {
        opened.entry(number).or_insert(identity);
    }
    if let Some(closed) = numbers.iter().find(|n| !opened.contains_key(n)) {
        return Err(Failure::new(Kind::Key, format!("this identity does not open data epoch {closed}")).hint(
            "Give all identities that are needed, also the key that takes the place of one: --identity may be repeated",
        ));
    }
    Ok(opened)
}

fn reseal(store: &dyn Store, writer: &mut Writer, version: &Version, opened: &Epochs) -> Result<()> {
    for (number, identity) in opened {
        // What others have sealed to a newer list by now is not sealed to this one again.
        if recipients::newest_number(store)? > version.version {
            return Ok(());
        }
        let epoch = Epoch::reseal(*number, identity, &version.recipients)?;
        store.put(&names::epoch(*number), Bytes::from(epoch.sealed_bytes()?), None)?;
        durable::crash_point("keys:epoch-written");
        if *number == writer.epoch.number {
            writer.epoch = epoch;
        }
    }
    put_recipients(store, &version.recipients)
}
