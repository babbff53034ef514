//! Another key for somebody who reads the backups: the change, its proof, and its records.
//!
//! Every step can be done twice: a command that was killed is given again, finds what is done already, and goes on. The change
//! itself is [`init::change_recipients`]; what is here decides whether it is needed, proves it ([`tried`]), and notes it.

pub mod tried;

use crate::clock;
use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::event::Context;
use crate::job::dependence::Dependence;
use crate::job::recorder::{Recorder, What};
use crate::journal::{Fact, Job, Reason, Rotated, RunEnded};
use crate::repo::catalog::Wanted;
use crate::repo::former::{self, fingerprint};
use crate::repo::keys::{self, AtHand, Keyring, NamedRecipient, Operator};
use crate::repo::point::Point;
use crate::repo::recipients::{Change, Replacement};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, init, recipients, write};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tried::Readers;

/// What the journal calls it. No rotation of the configuration may have this name.
pub const NAME: &str = "recipients";

type Epochs = BTreeMap<u32, age::x25519::Identity>;
type Note<'n> = &'n dyn Fn(&str, Option<String>);

/// One key for another.
pub struct Exchange {
    pub replacement: Replacement,
    /// The key that it takes the place of, or has taken; nothing where that is not known any more, or there was none.
    pub before: Option<String>,
    /// Since when its reader has the key that they have.
    pub since: Timestamp,
    /// The private half of the new one, and nothing else.
    pub private: Option<Operator>,
}

impl Exchange {
    pub fn name(&self) -> &str {
        &self.replacement.new.name
    }

    pub fn print(&self) -> String {
        fingerprint(&self.replacement.new.recipient)
    }

    pub fn is_done(&self) -> bool {
        self.print() == fingerprint(&self.replacement.old)
    }
}

/// What it came to.
#[derive(Default, Serialize)]
pub struct Done {
    pub epoch: u32,
    pub changed: bool,
    /// Data epochs that were sealed anew although nobody's key was changed: the new keys did not open them.
    pub sealed_again: Vec<u32>,
    /// What was seen of each new key; nothing where it was not given.
    pub proven: Vec<String>,
    /// Whose old key was tried, and opens nothing of what is new.
    pub refused: Vec<String>,
    /// The point that was made for the proof, which these were tried on besides the data epoch.
    pub point: Option<String>,
    /// Whose old key was not there to be tried.
    pub untried: Vec<String>,
    /// Whose old key is one of a plug-in, which nobody was asked to use for that.
    pub of_plugins: Vec<String>,
    /// What the keys that were replaced open still.
    pub still_open: Vec<Dependence>,
    /// Sources that somebody was at, who may have begun with the keys from before.
    pub running: Vec<String>,
}

/// What is known and done by whoever asks for it.
pub trait Around {
    /// Names of the sources that are configured.
    fn sources(&self) -> Result<Vec<String>>;
    /// Whether there is one of this name, be it only known by labels.
    fn has_source(&self, name: &str) -> Result<bool>;
    /// Makes a backup of one.
    fn back_up(&self, source: &str) -> Result<()>;
    /// Somebody is at it.
    fn is_locked(&self, source: &str) -> Result<bool>;
    /// What keys from before open of the points of this host.
    fn former(&self) -> Result<Vec<Dependence>>;
}

pub struct Renewal<'a> {
    pub repository: &'a Repository,
    pub exchanges: Vec<Exchange>,
    /// Opens the data epochs there are.
    pub operator: Option<Operator>,
    pub afresh: bool,
    /// The source that is backed up for the proof, where somebody said which.
    pub canary: Option<String>,
    pub reason: Reason,
    pub by: Option<String>,
    pub because: Option<String>,
    pub now: Timestamp,
    pub around: &'a dyn Around,
}

/// Fingerprints before and after, for the records.
struct Prints {
    from: String,
    to: Option<String>,
}

impl Renewal<'_> {
    pub fn is_done(&self) -> bool {
        !self.exchanges.is_empty() && self.exchanges.iter().all(Exchange::is_done)
    }

    pub fn is_to_be_proven(&self) -> bool {
        self.exchanges.iter().any(|one| one.private.is_some())
    }

    pub fn names(&self) -> String {
        match self.exchanges.is_empty() {
            true => "data key".to_owned(),
            false => self.exchanges.iter().map(Exchange::name).collect::<Vec<_>>().join(", "),
        }
    }

    fn change(&self) -> Change {
        Change::Replace(self.exchanges.iter().map(|one| one.replacement.clone()).collect())
    }

    fn trust(&self, writer: &Writer) -> Trust {
        let mut trust = writer.trust();
        let given = self.operator.iter().chain(self.exchanges.iter().filter_map(|one| one.private.as_ref()));
        trust.pinned.extend(given.flat_map(|operator| operator.trusted.clone()));
        trust
    }

    /// Where everybody's key is exchanged, and nobody has tried one of them, perhaps nobody reads any more.
    pub fn leaves_a_reader(&self, writer: &Writer) -> Result<()> {
        let is_exchanged = |reader: &NamedRecipient| self.exchanges.iter().any(|one| one.name() == reader.name);
        if self.is_done() || self.is_to_be_proven() || !writer.recipients.iter().all(is_exchanged) {
            return Ok(());
        }
        Err(Failure::new(Kind::Refused, "nobody would be left who is known to read: the new key was not tried")
            .hint("Add --new-identity FILE, its private half. Nothing was changed"))
    }

    /// Whether it could be done as things are; changes nothing.
    pub fn could_be_done(&self, writer: &Writer) -> Result<()> {
        let Some(operator) = self.operator.as_ref().filter(|_| !self.is_done()) else { return Ok(()) };
        init::must_open_all(self.repository, operator)?;
        recipients::would_take(self.repository, writer, &self.trust(writer), &self.change())
    }

    /// Where everything is as it is wanted, and no run that was killed has left its end to be noted, that is said, and no more: the
    /// journal would tell of a rotation that there was none of.
    pub fn run(&self, mut writer: Writer, recorder: &Recorder, context: Context<'_>) -> Result<Done> {
        if self.is_done() && !self.is_open(recorder)? {
            if self.afresh && writer.oldest_reused < writer.epoch.number {
                // The data epoch in force began when the last key was taken off, or later.
                writer.oldest_reused = writer.epoch.number;
                writer.save()?;
            }
            let done = self.prove_all(&mut writer, &Epochs::new(), context, &|_, _| {})?;
            return Ok(Done { changed: false, ..done });
        }
        let what = What::source(Job::Rotate, NAME, Some(NAME));
        let act = |run: &str| self.act(writer, (recorder, run), context);
        recorder.run_named(what, self.reason, act, |_, run| RunEnded::well(run, false))
    }

    /// What somebody before wrote late, to the list before: the new keys do not open that. Numbers of these data epochs.
    fn seal_again(&self, writer: &mut Writer) -> Result<Vec<u32>> {
        let Some(operator) = &self.operator else { return Ok(Vec::new()) };
        let store = &*self.repository.store;
        let mut closed = BTreeSet::new();
        for private in self.exchanges.iter().filter_map(|one| one.private.as_ref()) {
            let opened = match private.epochs(store) {
                Err(failure) if failure.kind() == Kind::Key => Epochs::new(),
                opened => opened?,
            };
            let all = store.list("keys/")?;
            let numbers = all.iter().filter_map(|entry| keys::epoch_number(entry.key.as_str()));
            closed.extend(numbers.filter(|number| !opened.contains_key(number)));
        }
        if !closed.is_empty() {
            init::seal_again(self.repository, writer, &self.trust(writer), operator)?;
        }
        Ok(closed.into_iter().collect())
    }

    fn is_open(&self, recorder: &Recorder) -> Result<bool> {
        let state = recorder.journal().state()?;
        let last = state.rotations.get(NAME).and_then(|known| known.last.as_ref());
        Ok(last.is_some_and(|(_, last)| !last.is_end() && last.to == self.prints().to))
    }

    fn prints(&self) -> Prints {
        let join = |prints: Vec<String>| prints.join(", ");
        let before = |one: &Exchange| one.before.as_deref().map_or_else(|| "-".to_owned(), fingerprint);
        Prints {
            from: join(self.exchanges.iter().map(before).collect()),
            to: Some(join(self.exchanges.iter().map(Exchange::print).collect())),
        }
    }

    fn act(&self, mut writer: Writer, journal: (&Recorder, &str), context: Context<'_>) -> Result<Done> {
        let of_epoch =
            |writer: &Writer| format!("epoch {} ({})", writer.epoch.number, fingerprint(&writer.epoch.recipient));
        let mut prints = match self.exchanges.is_empty() {
            true => Prints { from: of_epoch(&writer), to: None },
            false => self.prints(),
        };
        let before = self.opened();
        if !self.is_done() {
            self.make(&mut writer, &|state, note| self.note(journal, &prints, state, note))?;
            durable::crash_point("recipients:changed");
        }
        if self.exchanges.is_empty() {
            prints.to = Some(of_epoch(&writer));
        }
        let note = |state: &str, note: Option<String>| self.note(journal, &prints, state, note);
        let afresh = if self.afresh { "; everything is stored again" } else { "" };
        let (epoch, list) = (writer.epoch.number, writer.list_version);
        note("accepted", Some(format!("data epoch {epoch}, recipient list {list}{afresh}")));
        let done = self.prove_all(&mut writer, &before, context, &note).map_err(|failure| {
            let text = format!("the new keys are in force, and not proven: {}", failure.full());
            Failure::new(failure.kind(), text).hint("Mend it, then give the same command again")
        })?;
        note("rotated", self.left_open(&done));
        Ok(done)
    }

    /// What was not seen, for the records.
    fn left_open(&self, done: &Done) -> Option<String> {
        let mut told = Vec::new();
        if !self.exchanges.is_empty() && done.proven.is_empty() {
            told.push("not proven: the new key was not given".to_owned());
        }
        if !done.untried.is_empty() {
            told.push(format!("old key not tried: {}", done.untried.join(", ")));
        }
        if !done.of_plugins.is_empty() {
            told.push(format!("old key not tried, as it is one of a plug-in: {}", done.of_plugins.join(", ")));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    fn note(&self, (recorder, run): (&Recorder, &str), prints: &Prints, state: &str, note: Option<String>) {
        recorder.note(&[Fact::Rotation(Box::new(Rotated {
            run: run.to_owned(),
            rotation: NAME.to_owned(),
            source: "repository".to_owned(),
            account: self.names(),
            state: state.to_owned(),
            by: self.by.clone(),
            because: self.because.clone(),
            from: Some(prints.from.clone()),
            to: prints.to.clone(),
            note,
            ..Rotated::default()
        }))]);
    }

    fn make(&self, writer: &mut Writer, note: Note<'_>) -> Result<()> {
        let store = &*self.repository.store;
        let list = recipients::newest_number(store)?;
        note("planned", None);
        let changed = match &self.operator {
            Some(operator) if !self.exchanges.is_empty() => {
                let change = self.change();
                init::change_recipients(self.repository, writer, (&change, self.afresh), operator, self.now)
            }
            _ => init::new_epoch(self.repository, writer, self.afresh).map(drop),
        };
        changed.inspect_err(|failure| {
            // A list that is there already is gone on with; without one, nothing has begun.
            let is_mine = !self.exchanges.is_empty() && recipients::newest_number(store).ok() != Some(list);
            let has_begun = is_mine || !self.exchanges.is_empty() && list > writer.list_version;
            if !has_begun {
                note("rolled_back", Some(format!("nothing was changed: {}", failure.full())));
            }
        })
    }

    /// The data epochs that there are before the change, as far as they open.
    fn opened(&self) -> Epochs {
        let opened = self.operator.as_ref().map(|operator| operator.epochs(&*self.repository.store));
        opened.and_then(Result::ok).unwrap_or_default()
    }

    fn prove_all(&self, writer: &mut Writer, before: &Epochs, context: Context<'_>, note: Note<'_>) -> Result<Done> {
        let sealed_again = self.seal_again(writer)?;
        let writer = &*writer;
        let running = self.running(writer)?;
        let trust = self.trust(writer);
        let readers = Readers { repository: self.repository, writer, trust: &trust };
        let (proven, point) = self.prove(&readers, context)?;
        if !proven.is_empty() {
            note("proven", Some(proven.join("; ")));
            durable::crash_point("recipients:proven");
        }
        let id = point.as_ref().map(|point| point.id().to_owned());
        let epoch = writer.epoch.number;
        let mut done = Done { epoch, changed: true, sealed_again, proven, point: id, running, ..Done::default() };
        self.try_old(&readers, before, point.as_ref(), &mut done)?;
        let all_refused = done.untried.is_empty() && done.of_plugins.is_empty();
        if !done.refused.is_empty() && all_refused {
            note("refused", None);
            durable::crash_point("recipients:refused");
        }
        let from: Vec<String> =
            self.exchanges.iter().filter_map(|one| one.before.as_deref()).map(fingerprint).collect();
        done.still_open = self.around.former()?;
        done.still_open.retain(|one| from.contains(&one.fingerprint) && !one.series.is_empty());
        Ok(done)
    }

    /// Whoever kept the old key may have kept all that it opened.
    fn try_old(&self, readers: &Readers<'_>, before: &Epochs, point: Option<&Point>, done: &mut Done) -> Result<()> {
        for one in &self.exchanges {
            let name = one.name().to_owned();
            let Some(old) = one.before.as_deref() else {
                // The key that they have, and nothing is known of one before it: there is none, unless a list is missing.
                let all_is_known = one.is_done() && former::all(self.repository, readers.trust)?.1.is_empty();
                done.untried.extend((!all_is_known).then_some(name));
                continue;
            };
            let kept = before.iter().filter(|(number, _)| **number != done.epoch).map(|(_, key)| key.clone());
            let at_hand = self.operator.as_ref().map(|operator| operator.part(old, Keyring::new(kept))).transpose()?;
            match at_hand {
                Some(AtHand::Yes(old)) => {
                    readers.refuses(&old, point)?;
                    done.refused.push(name);
                }
                Some(AtHand::OfPlugin) => done.of_plugins.push(name),
                Some(AtHand::No) | None => done.untried.push(name),
            }
        }
        Ok(())
    }

    /// Makes a backup and reads it with each new key alone; where nothing is configured to be backed up, opens all data epochs.
    fn prove(&self, readers: &Readers<'_>, context: Context<'_>) -> Result<(Vec<String>, Option<Point>)> {
        let new: Vec<(&str, &Operator)> =
            self.exchanges.iter().filter_map(|one| Some((one.name(), one.private.as_ref()?))).collect();
        for (_, private) in &new {
            readers.opens(private)?;
        }
        if new.is_empty() {
            return Ok((Vec::new(), None));
        }
        let Some(source) = self.source(readers)? else {
            let what = |(name, _)| {
                format!("the new key of {name} alone opens every data epoch; no source is configured to be backed up")
            };
            return Ok((new.into_iter().map(what).collect(), None));
        };
        self.around.back_up(&source)?;
        let (mut proven, mut read) = (Vec::new(), None);
        for (name, private) in new {
            let point = readers.reads(private, &source, context, clock::now())?;
            proven
                .push(format!("point {} of {source} was read to its end with the new key of {name} alone", point.id()));
            read = Some(point);
        }
        Ok((proven, read))
    }

    /// The one that was named, or that whose newest point is smallest.
    fn source(&self, readers: &Readers<'_>) -> Result<Option<String>> {
        if let Some(named) = &self.canary {
            return self.around.has_source(named)?.then(|| Some(named.clone())).ok_or_else(|| {
                Failure::usage(format!("no source is called `{named}`")).hint("List them with: bkp config show")
            });
        }
        let wanted = Wanted {
            writer: Some(readers.writer.id()),
            newest_until: Some(catalog::horizon(self.now)),
            ..Wanted::default()
        };
        let listed = catalog::list(self.repository, &readers.writer.keyring(), readers.trust, wanted)?;
        let size = |name: &String| listed.latest(name, None, self.now).map_or(u64::MAX, |point| point.bytes);
        Ok(self.around.sources()?.into_iter().min_by_key(size))
    }

    /// Whoever has a source locked once the new keys are in force may have loaded the ones before.
    fn running(&self, writer: &Writer) -> Result<Vec<String>> {
        let old = write::unended(self.repository, writer)?.into_iter().filter(|(_, sealed)| *sealed != writer.sealed());
        let mut sources: Vec<String> =
            self.around.sources()?.into_iter().chain(old.map(|(source, _)| source)).collect();
        sources.sort();
        sources.dedup();
        let mut running = Vec::new();
        for source in sources {
            if self.around.is_locked(&source)? {
                running.push(source);
            }
        }
        Ok(running)
    }
}
