//! Collecting: points that retention gives up are forgotten, and what nothing reaches any more is deleted.
//!
//! Start here: [`Collector`] works on the objects of one writer, in this order and without a lock in the store:
//! [`forget`](Collector::forget) leaves a signed tombstone and deletes the point; [`survey`](survey::survey) looks at the
//! store anew; [`mark`](Collector::mark) writes down what it found dead; [`sweep`](Collector::sweep) deletes what was dead in
//! every mark for a day. What may die when is decided in [`protocol`], which a model explores.
//! It stops at anything it cannot read, that is missing, or that it knew and no longer sees. It deletes no kind of object
//! that it does not know, and lifts no lock.

pub mod forgotten;
mod judge;
pub mod protocol;
pub mod records;
pub mod survey;
mod sweep;

pub use survey::{Problems, Survey};
pub use sweep::Swept;

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::repo::keys::{Keyring, Recipients};
use crate::repo::record;
use crate::repo::retention::Rules;
use crate::repo::sign::{Trust, Trusted};
use crate::repo::writer::{Audience, Writer, WriterInfo};
use crate::repo::{Repository, catalog, names};
use crate::store::{self, Entry, Key, Purged, StoreError};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use protocol::{DeadList, Id, Protocol};
use records::{Fence, Mark, SeriesMemory, Tombstone};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Who collects the objects of which writer.
pub struct Collector<'a> {
    pub repository: &'a Repository,
    pub whose: &'a WriterInfo,
    /// Who signs what is written.
    pub by: &'a Writer,
    pub keys: &'a Keyring,
    pub trust: &'a Trust,
    /// Where who brings points here remembers the newest of each series, if that is this host.
    pub newest: Option<PathBuf>,
    /// Whether all numbers of a series must be here, or have been forgotten. A copy is brought what it keeps, the newest first.
    pub whole: bool,
    pub protocol: Protocol,
    pub cancel: &'a Cancel,
}

/// So much later than at the last run, or so much earlier, a clock may have leapt.
const LATER: SignedDuration = SignedDuration::from_hours(45 * 24);
const EARLIER: SignedDuration = SignedDuration::from_mins(5);
/// A run so long after the leap confirms it.
const CONFIRMED: SignedDuration = SignedDuration::from_hours(24);

/// The last mark that can be believed.
#[derive(Debug)]
pub struct Previous {
    pub name: Key,
    pub mark: Mark,
    /// When the marks it refers to were stored, as far as they are there.
    stored: BTreeMap<u32, Timestamp>,
}

/// A point to remove, and why.
pub struct Doomed {
    pub source: String,
    pub point: String,
    pub sequence: Option<u64>,
    pub reason: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Forgotten,
    /// It stays until its lock ends.
    Locked,
}

pub fn id(key: &Key) -> Id {
    let hash = names::sha256(key.as_str().as_bytes());
    Id::from_le_bytes(hash[..16].try_into().expect("half of 32 bytes"))
}

impl Collector<'_> {
    fn store(&self) -> &dyn store::Store {
        &*self.repository.store
    }

    fn writer(&self) -> &str {
        &self.whose.writer
    }

    /// Nothing is deleted on the word of the store alone: the writer's key must be known from elsewhere.
    pub fn check(&self) -> Result<()> {
        let mut trust = self.trust.clone();
        trust.pinned.extend(self.by.trust().pinned);
        match trust.decide(self.writer(), &self.whose.verify_key)? {
            Trusted::Pinned(_) => Ok(()),
            Trusted::FromStore(_) => Err(Failure::new(
                Kind::Key,
                format!("only the store vouches for writer {}, and nothing is deleted on that", self.writer()),
            )
            .hint(format!(
                "If it is yours, add the line `# bkp-writer: {} {}` to the identity file",
                self.writer(),
                self.whose.verify_key
            ))),
        }
    }

    fn recipients(&self) -> Recipients {
        self.by.audience(Audience::Bookkeeping).and(&self.whose.recipient)
    }

    /// What the store's clock says, and whether these credentials may delete at all: before anything is changed.
    pub fn clock(&self) -> Result<Timestamp> {
        let key = names::collector_clock(self.writer());
        self.store().put(&key, Bytes::from_static(b"the time"), None)?;
        let now = self.store().head(&key)?.modified;
        match self.store().purge(&key) {
            Ok(_) => Ok(now),
            Err(StoreError::Denied(why)) => Err(may_not_delete(&self.store().describe(), &why)),
            Err(e) => Err(e.into()),
        }
    }

    /// The newest mark that can be read and whose collector is believed. Without one everything begins anew.
    pub fn previous(&self) -> Result<Option<Previous>> {
        let mut listed = self.store().list(&names::collector(self.writer(), "marks"))?;
        listed.sort_by_key(|entry| (names::mark_number(&entry.key), entry.modified));
        for entry in listed.iter().rev() {
            if let Some(mark) = self.open_mark(&entry.key)? {
                return Ok(Some(Previous::of(entry, mark, &listed)));
            }
        }
        Ok(None)
    }

    fn open_mark(&self, key: &Key) -> Result<Option<Mark>> {
        let what = format!("the mark {key}");
        let sealed = match store::read(self.store(), key) {
            Ok(sealed) => sealed,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        for signer in self.believed()? {
            if let Ok(mark) = record::open::<Mark>(&sealed, self.keys, signer.key(), self.repository.id(), &what)
                && mark.writer == self.writer()
            {
                return Ok(Some(mark));
            }
        }
        Ok(None)
    }

    /// Whose word counts: this collector's, that of the writer itself, and of those whose keys are known here.
    fn believed(&self) -> Result<Vec<Trusted>> {
        let mut trust = self.trust.clone();
        trust.pinned.extend(self.by.trust().pinned);
        let mut signers = Vec::new();
        for info in catalog::writers(self.repository)?.0 {
            match trust.decide(&info.writer, &info.verify_key)? {
                Trusted::FromStore(_) if info.writer != self.whose.writer => {}
                signer => signers.push(signer),
            }
        }
        Ok(signers)
    }

    /// Leaves a tombstone and removes the point. A point whose lock would stop that is left alone.
    pub fn forget(&self, doomed: &Doomed, now: Timestamp) -> Result<Fate> {
        self.cancel.check()?;
        let key = names::point(self.writer(), &doomed.source, &doomed.point);
        let head = match self.store().head(&key) {
            Err(StoreError::NotFound(_)) => return Ok(Fate::Forgotten),
            other => other?,
        };
        if head.retain.is_some_and(|retain| retain.until > now) {
            return Ok(Fate::Locked);
        }
        let object = doomed.sequence.is_some().then(|| store::read(self.store(), &key)).transpose()?;
        let tombstone = Tombstone {
            repository: self.repository.id().to_owned(),
            writer: self.writer().to_owned(),
            source: doomed.source.clone(),
            point: doomed.point.clone(),
            sequence: doomed.sequence,
            reason: doomed.reason.clone(),
            at: now,
            collector: self.by.id().to_owned(),
            object: object.map(|bytes| BASE64.encode(bytes)),
        };
        let sealed = record::seal(&tombstone, self.by, &self.recipients())?;
        let name = names::tombstone(self.writer(), &doomed.source, &doomed.point);
        self.store().put(&name, Bytes::from(sealed), None)?;
        durable::crash_point("prune:tombstone-written");
        let purged = self.store().purge(&key)?;
        durable::crash_point("prune:point-forgotten");
        Ok(if purged == Purged::Gone { Fate::Forgotten } else { Fate::Locked })
    }

    /// Tells sessions that have been silent for too long that nobody waits for them.
    pub fn fence(&self, survey: &Survey) -> Result<Vec<String>> {
        let silent = survey.sessions.iter().filter(|(_, state)| self.protocol.wants_fence(state, survey.now));
        let silent: Vec<String> = silent.map(|(session, _)| session.clone()).collect();
        for session in &silent {
            let fence = Fence {
                repository: self.repository.id().to_owned(),
                writer: self.writer().to_owned(),
                session: session.clone(),
                at: survey.now,
                collector: self.by.id().to_owned(),
            };
            let sealed = record::seal(&fence, self.by, &self.recipients())?;
            self.store().put(&names::fence(self.writer(), session), Bytes::from(sealed), None)?;
            durable::crash_point("prune:fenced");
        }
        Ok(silent)
    }

    /// Writes down what was found. Gives the mark as the next run will find it.
    pub fn mark(
        &self,
        survey: &Survey,
        previous: Option<&Previous>,
        rules: &BTreeMap<String, Rules>,
    ) -> Result<(Previous, DeadList)> {
        let number = previous.map_or(1, |p| p.mark.number.saturating_add(1));
        let before = match previous {
            Some(previous) => records::read_dead_list(self.repository, &previous.mark.dead, self.keys)?,
            None => DeadList::default(),
        };
        let known = |since: &u32| *since == number || previous.is_some_and(|p| p.stored.contains_key(since));
        let since = |object: &Id| Some(before.since(*object, number)).filter(known).unwrap_or(number);
        let dead = DeadList(survey.dead.iter().map(|entry| id(&entry.key)).map(|id| (id, since(&id))).collect());
        let name = names::mark(self.writer(), number);
        let mut marks: BTreeMap<u32, String> = previous.map(|p| p.mark.marks.clone()).unwrap_or_default();
        marks.retain(|number, _| dead.0.values().any(|since| since == number));
        marks.insert(number, name.last().to_owned());
        let pin = records::put_dead_list(self.repository, self.writer(), &dead, &self.recipients())?;
        durable::crash_point("prune:dead-listed");
        let mark = Mark {
            repository: self.repository.id().to_owned(),
            writer: self.writer().to_owned(),
            collector: self.by.id().to_owned(),
            number,
            at: survey.now,
            unconfirmed: previous.and_then(|p| p.doubts(survey.now)),
            marks,
            series: memory(survey, previous, rules),
            sessions: survey.open.clone(),
            objects: survey.objects.number,
            bytes: survey.objects.bytes,
            dead: pin,
        };
        let sealed = record::seal(&mark, self.by, &self.recipients())?;
        self.store().put(&name, Bytes::from(sealed), None)?;
        durable::crash_point("prune:marked");
        self.is_alone(&name, previous, survey.now)?;
        let head = self.store().head(&name)?;
        let stored = previous.map(|p| p.stored.clone()).unwrap_or_default();
        let stored = stored.into_iter().chain([(number, head.modified)]).collect();
        Ok((Previous { name, mark, stored }, dead))
    }

    /// A courtesy and no lock: with two collectors at work each is right by itself, and both would do everything twice.
    fn is_alone(&self, mine: &Key, previous: Option<&Previous>, since: Timestamp) -> Result<()> {
        let known = previous.and_then(|p| names::mark_number(&p.name)).unwrap_or(0);
        let listed = self.store().list(&names::collector(self.writer(), "marks"))?;
        let is_new = |entry: &&Entry| {
            entry.modified >= since && names::mark_number(&entry.key).is_some_and(|number| number > known)
        };
        let other = listed.iter().filter(is_new).find(|entry| entry.key != *mine);
        match other {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                Kind::TryLater,
                format!("another collector is at work on writer {}: it just wrote {}", self.writer(), other.key),
            )
            .hint("Nothing was deleted here. Let one host prune this writer, or run it again later")),
        }
    }
}

impl Previous {
    fn of(entry: &Entry, mark: Mark, listed: &[Entry]) -> Self {
        let stored = |(number, name): (&u32, &String)| {
            let entry = listed.iter().find(|entry| entry.key.last() == name)?;
            Some((*number, entry.modified))
        };
        let stored = mark.marks.iter().filter_map(stored).collect();
        Previous { name: entry.key.clone(), mark, stored }
    }

    /// Since when the store's clock is not to be believed: it leapt, and no later run has confirmed it. What it says then must
    /// not decide which points go.
    pub fn doubts(&self, now: Timestamp) -> Option<Timestamp> {
        let passed = now.duration_since(self.mark.at);
        if passed > LATER || passed < -EARLIER {
            return Some(now);
        }
        self.mark.unconfirmed.filter(|since| now.duration_since(*since) < CONFIRMED)
    }

    /// When the mark of this number was stored.
    pub fn stored(&self, number: u32) -> Option<Timestamp> {
        self.stored.get(&number).copied()
    }

    /// Names of the marks that are still needed.
    fn is_needed(&self, key: &Key) -> bool {
        self.mark.marks.values().any(|name| name == key.last()) || *key == self.mark.dead.key
    }
}

/// What the next run is to remember of each series.
fn memory(
    survey: &Survey,
    previous: Option<&Previous>,
    rules: &BTreeMap<String, Rules>,
) -> BTreeMap<String, SeriesMemory> {
    let mut all: BTreeMap<String, SeriesMemory> = BTreeMap::new();
    for point in &survey.catalog.points {
        let series = all.entry(point.source.clone()).or_default();
        series.points.insert(point.point.clone(), point.sequence);
    }
    // Of a series that nothing is left of, too: its numbers are not asked for again.
    for source in survey.forgotten.keys() {
        all.entry(source.clone()).or_default();
    }
    for (source, series) in &mut all {
        let oldest = series.points.values().copied().min().unwrap_or(0);
        let before = previous.and_then(|p| p.mark.series.get(source));
        series.forgotten = survey.forgotten.get(source).cloned().unwrap_or_default();
        records::forget_below(&mut series.forgotten, oldest);
        series.rules = rules.get(source).copied().or_else(|| before.and_then(|b| b.rules));
    }
    all
}

/// What a host is told that makes backups and is not trusted to delete them.
fn may_not_delete(store: &str, why: &str) -> Failure {
    Failure::new(Kind::Key, format!("these credentials may not delete in {store}, so nothing was changed"))
        .because(why.to_owned())
        .hint(
            "That is as it should be on a host that makes backups: run `bkp prune` where the credentials that may delete are, \
             with --identity and --writer for another host's backups (docs/RETENTION.md)",
        )
}
