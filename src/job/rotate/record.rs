//! What a rotation keeps in Vault, at a path of its own: the pending secret, the one before, and who is at it.
//!
//! One document for each rotation, written only on the condition that nobody has written since: its version is the fencing
//! number. Whoever holds it says so with each write; another host takes over only when that is too long ago, by the clock of
//! Vault, and the one before then finds its number outdated and stops ([`super::lease`]). What consumers read is never written here.

pub use super::glance::Glance;
use super::glance::{held, may_be_taken_over, taken_over};
use super::lease::{Moment, Said};
use super::locks::Locks;
use super::scan::Found;
use super::state::Direction;
use crate::durable::random_hex;
use crate::engine::Credential;
use crate::error::{Failure, Result};
use crate::event::Condition;
use crate::secret::vault::{Document, Vault, Written};
use crate::secret::{Secret, VaultPath};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroize;

/// Who is at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The id of its journal: one for each installation.
    pub journal: String,
    /// For people.
    pub host: String,
    /// For people: by the clock of that host.
    pub until: Timestamp,
    /// For how many seconds it is held after the last write.
    #[serde(default = "quarter")]
    pub seconds: i64,
}

fn quarter() -> i64 {
    15 * 60
}

/// One that came to its end, wherever that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Of the run that recorded its secret.
    pub run: String,
    pub at: Timestamp,
    /// Who ended it: the id of a journal, and for people.
    pub journal: String,
    pub host: String,
    /// Another password is published since.
    pub rotated: bool,
}

/// What was published when Vault was told of a rotation once more, which it had lost: a digest of it, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    pub digest: String,
    pub user: Option<String>,
}

/// So many are remembered.
const REMEMBERED: usize = 50;

/// The document. Wiped when dropped.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    /// The process that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    /// The newest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    closed: Vec<Closed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<String>,
    /// Whose it is, where the name changes with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous_user: Option<String>,
    #[serde(default)]
    back: bool,
    /// Why it went back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The previous one may be known to others: whoever goes on ends all sessions when it is retired.
    #[serde(default)]
    urgent: bool,
    /// The pending one was set although the engine accepted neither: somebody else may be logged in as whoever has it now.
    #[serde(default)]
    forced: bool,
    /// Somebody took over, and the host before may still be about to publish.
    #[serde(default)]
    unfenced: bool,
    /// The previous one is being taken away, or was: nothing may bring it back.
    #[serde(default)]
    retired: bool,
    /// What the engine counted when the pending secret was about to be published. With it, it may have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// What had the previous one when it began and is not moved: somebody wants it locked out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken: Vec<Found>,
    /// Vault had lost it: what it says of the time before is not all there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovered: Option<Recovered>,
    #[serde(default)]
    locks: Locks,
}

impl Content {
    fn pending(&self) -> Option<Credential> {
        let secret = Secret::new(self.pending.clone()?);
        Some(Credential { user: self.pending_user.clone(), secret })
    }

    fn previous(&self) -> Option<Credential> {
        let secret = Secret::new(self.previous.clone()?);
        Some(Credential { user: self.previous_user.clone(), secret })
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.pending.zeroize();
        self.previous.zeroize();
    }
}

/// The document as it is, held by this process from [`Keeper::take`] to [`Keeper::release`].
pub struct Keeper<'a> {
    vault: &'a Vault,
    path: VaultPath,
    version: u64,
    content: Content,
    journal: String,
    host: String,
    /// This process.
    writer: String,
    pub term: SignedDuration,
    /// When it was said last that it is held.
    said: Said,
}

/// How a rotation begins.
pub struct Begun<'a> {
    pub run: &'a str,
    pub urgent: bool,
    /// Of one that Vault lost: it may have been published before.
    pub mark: Option<String>,
    /// What has the secret in force and is locked out.
    pub taken: &'a [Found],
    /// Vault lost it, and is told once more.
    pub recovered: Option<Recovered>,
}

/// Where the document of a rotation is.
pub fn path(below: &str, rotation: &str) -> Result<VaultPath> {
    format!("{below}/{rotation}#/pending")
        .parse()
        .map_err(|wrong: String| Failure::usage(format!("{below} is no path in Vault: {wrong}")))
}

fn read(vault: &Vault, path: &VaultPath) -> Result<(u64, Content)> {
    content(&vault.document(path)?, path)
}

fn content(document: &Document, path: &VaultPath) -> Result<(u64, Content)> {
    if document.version == 0 || document.value().is_null() {
        return Ok((document.version, Content::default()));
    }
    let content = Content::deserialize(document.value()).map_err(|_| {
        Failure::failed(format!("{} in Vault is not what bkp wrote", path.path)).hint(
            "Another program uses this path: give bkp one of its own with `rotate: { vault_path: … }` in the main file",
        )
    })?;
    Ok((document.version, content))
}

/// Whether the holder has said nothing for too long. By the clock of Vault and no other: those of two hosts may differ by hours.
/// Nothing where Vault does not tell its time.
fn is_over(vault: &Vault, document: &Document, holder: &Holder) -> Option<bool> {
    let (now, said) = vault.health().ok().and_then(|health| health.time).zip(document.written)?;
    Some(now.duration_since(said).as_secs() > holder.seconds)
}

/// Looks without taking it.
pub fn glance(vault: &Vault, path: &VaultPath) -> Result<Glance> {
    let (version, content) = read(vault, path)?;
    Ok(Glance {
        version,
        holder: content.holder.clone(),
        begun: content.begun,
        is_open: content.pending.is_some(),
        back: content.back,
        may_be_published: content.mark.is_some(),
        urgent: content.urgent,
        run: content.run.clone().filter(|_| content.pending.is_some()),
        closed: content.closed.clone(),
        locks: content.locks.keys(),
    })
}

impl<'a> Keeper<'a> {
    /// Takes it, unless another host has it. That no other process of this host does is known by a lock.
    pub fn take(
        vault: &'a Vault,
        path: VaultPath,
        (journal, host): (&str, &str),
        term: SignedDuration,
        now: Timestamp,
    ) -> Result<Self> {
        let document = vault.document(&path)?;
        let (version, mut content) = content(&document, &path)?;
        let other = content.holder.as_ref().filter(|holder| holder.journal != journal);
        content.unfenced |= other.is_some();
        if let Some(holder) = content.holder.as_ref().filter(|holder| holder.journal != journal) {
            let is_over = is_over(vault, &document, holder);
            if is_over != Some(true) {
                return Err(held(&path, holder, is_over));
            }
        }
        content.locks.first();
        let (journal, host, writer) = (journal.to_owned(), host.to_owned(), random_hex(8));
        let mut keeper = Keeper { vault, path, version, content, journal, host, writer, term, said: Said::default() };
        keeper.write(now)?;
        Ok(keeper)
    }

    /// Says that this process is still at it; a failure when somebody has taken over.
    pub fn renew(&mut self, now: Timestamp) -> Result<()> {
        self.write(now)
    }

    /// The pending credential and the one that is in force are durable when this returns.
    pub fn record(
        &mut self,
        begun: Begun<'_>,
        (pending, previous): (&Credential, &Credential),
        now: Timestamp,
    ) -> Result<()> {
        self.content.run = Some(begun.run.to_owned());
        (self.content.urgent, self.content.forced) = (begun.urgent, false);
        self.content.begun = Some(now);
        self.content.pending = Some(pending.expose().to_owned());
        self.content.previous = Some(previous.expose().to_owned());
        self.content.pending_user.clone_from(&pending.user);
        self.content.previous_user.clone_from(&previous.user);
        (self.content.back, self.content.why, self.content.mark) = (false, None, begun.mark);
        (self.content.retired, self.content.taken) = (false, begun.taken.to_vec());
        self.content.recovered = begun.recovered;
        self.content.locks.renew();
        self.write(now)?;
        // What counts is what Vault will give, and not that it took it.
        let (_, there) = read(self.vault, &self.path)?;
        let of = |content: &Content| [content.pending(), content.previous()];
        let is_same = of(&there).iter().zip(&of(&self.content)).all(|(there, ours)| match (there, ours) {
            (Some(there), Some(ours)) => there.is(ours),
            _ => false,
        });
        match is_same {
            true => Ok(()),
            false => Err(Failure::failed(format!("Vault does not give back what was written to {}", self.path.path))
                .hint("Look who else writes there; nothing was changed yet")),
        }
    }

    /// `why`: what failed, where nobody asked for it.
    pub fn turn(&mut self, direction: Direction, why: Option<String>, now: Timestamp) -> Result<()> {
        (self.content.back, self.content.why) = (direction == Direction::Back, why);
        // It was not, where there is a way back.
        self.content.retired &= direction == Direction::Forward;
        self.write(now)
    }

    /// What was said to be locked out when it began.
    pub fn taken(&self) -> &[Found] {
        &self.content.taken
    }

    pub fn why_back(&self) -> Option<&str> {
        self.content.why.as_deref()
    }

    /// From now on, whoever goes on with it.
    pub fn urge(&mut self, now: Timestamp) -> Result<()> {
        self.content.urgent = true;
        self.write(now)
    }

    /// Before the engine is told the pending one alone, whatever is there.
    pub fn force(&mut self, now: Timestamp) -> Result<()> {
        self.content.forced = true;
        self.write(now)
    }

    pub fn is_forced(&self) -> bool {
        self.content.forced
    }

    /// Before the previous one is taken away.
    pub fn retire(&mut self, now: Timestamp) -> Result<()> {
        self.content.retired = true;
        self.write(now)
    }

    pub fn recovered(&self) -> Option<&Recovered> {
        self.content.recovered.as_ref()
    }

    pub fn is_retired(&self) -> bool {
        self.content.retired
    }

    pub fn is_urgent(&self) -> bool {
        self.content.urgent
    }

    pub fn set_mark(&mut self, mark: String, now: Timestamp) -> Result<()> {
        self.content.mark = Some(mark);
        self.write(now)
    }

    /// Nothing is pending any more, and nobody is at it. That it was stays known, to all hosts.
    pub fn close(&mut self, rotated: bool, now: Timestamp) -> Result<()> {
        let mut closed = std::mem::take(&mut self.content.closed);
        if let Some(run) = self.content.run.take() {
            let (journal, host) = (self.journal.clone(), self.host.clone());
            closed.push(Closed { run, at: now, journal, host, rotated });
        }
        closed.drain(..closed.len().saturating_sub(REMEMBERED));
        let (holder, locks) = (self.content.holder.take(), std::mem::take(&mut self.content.locks));
        self.content = Content::default();
        (self.content.holder, self.content.closed, self.content.locks) = (holder, closed, locks);
        self.release()
    }

    /// Nobody is at it; what is pending stays for whoever resumes.
    pub fn release(&mut self) -> Result<()> {
        match self.content.holder.take() {
            Some(_) => self.put(),
            None => Ok(()),
        }
    }

    pub fn run(&self) -> Option<&str> {
        self.content.run.as_deref()
    }

    pub fn locks(&self) -> Vec<Secret> {
        self.content.locks.keys()
    }

    pub fn last_closed(&self) -> Option<&str> {
        self.content.closed.last().map(|closed| closed.run.as_str())
    }

    pub fn is_closed(&self, run: &str) -> bool {
        self.content.closed.iter().any(|closed| closed.run == run)
    }

    pub fn pending(&self) -> Option<Credential> {
        self.content.pending()
    }

    pub fn previous(&self) -> Option<Credential> {
        self.content.previous()
    }

    pub fn direction(&self) -> Direction {
        if self.content.back { Direction::Back } else { Direction::Forward }
    }

    pub fn mark(&self) -> Option<&str> {
        self.content.mark.as_deref()
    }

    pub fn fence(&self) -> u64 {
        self.version
    }

    /// How long ago it was said that it is held; nothing when somebody else has taken over.
    pub fn age(&self) -> Option<SignedDuration> {
        self.said.age()
    }

    /// Asked before each thing that cannot be taken back: nobody else can have taken over.
    pub fn condition(&self) -> Condition {
        let (said, term, path) = (self.said.clone(), self.term, self.path.path.clone());
        Arc::new(move || match said.age() {
            Some(age) if age < term => Ok(()),
            Some(age) => Err(may_be_taken_over(&path, age)),
            None => Err(taken_over(&format!("somebody else has taken over {path}"))),
        })
    }

    /// A host that had it before may still be about to publish: then what consumers read has to be written once more, as it is,
    /// so that the version it would follow is outdated.
    pub fn is_unfenced(&self) -> bool {
        self.content.unfenced && self.content.pending.is_some()
    }

    pub fn fenced(&mut self, now: Timestamp) -> Result<()> {
        self.content.unfenced = false;
        self.write(now)
    }

    fn write(&mut self, now: Timestamp) -> Result<()> {
        let until = now.checked_add(self.term).unwrap_or(Timestamp::MAX);
        let (journal, host, seconds) = (self.journal.clone(), self.host.clone(), self.term.as_secs());
        self.content.holder = Some(Holder { journal, host, until, seconds });
        self.put()
    }

    /// A write that took place, and whose answer was lost, is found in the way of the next one: what this very process wrote is no
    /// reason to stop.
    fn put(&mut self) -> Result<()> {
        loop {
            let before = Moment::now();
            self.content.writer = Some(self.writer.clone());
            let value =
                serde_json::to_value(&self.content).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
            if let Written::Version(version) = self.vault.write(&self.path, &Document::new(self.version, value))? {
                self.version = version;
                self.said.set(Some(before));
                return Ok(());
            }
            let (version, there) = read(self.vault, &self.path)?;
            if version <= self.version || there.writer.as_ref() != Some(&self.writer) {
                self.said.set(None);
                return Err(taken_over(&format!("somebody else has taken over {}", self.path.path)));
            }
            self.version = version;
        }
    }
}
