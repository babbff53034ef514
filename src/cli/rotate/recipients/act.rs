//! The change, its proof, and its records.
//!
//! Every step can be done twice: a command that was killed is given again, finds what is done already, and goes on. The change
//! itself is [`init::change_recipients`]; what is here decides whether it is needed, proves it, and notes it.

use super::Arguments;
use crate::cli::environment::Environment;
use crate::cli::rotate::{canary, reason};
use crate::clock;
use crate::durable;
use crate::error::{Failure, Result};
use crate::job::dependence::Dependence;
use crate::job::recorder::{Recorder, What};
use crate::job::rotate::readers::{NAME, Readers};
use crate::journal::{Fact, Job, Rotated, RunEnded};
use crate::repo::catalog::Wanted;
use crate::repo::former::fingerprint;
use crate::repo::keys::{Keyring, Operator};
use crate::repo::point::Point;
use crate::repo::recipients::{Change, Replacement};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, init, recipients, write};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// One key for another.
pub struct Exchange {
    pub replacement: Replacement,
    /// The key that it takes the place of, or has taken; nothing where that is not known any more.
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

    pub fn unchanged(&self) -> String {
        let since = self.since.strftime("%Y-%m-%d");
        format!("{} has this key since {since}: nothing was changed", crate::cli::output::plain(self.name()))
    }
}

/// What it came to.
#[derive(Serialize)]
pub struct Done {
    pub epoch: u32,
    pub changed: bool,
    /// What was seen of each new key; nothing where it was not given.
    pub proven: Vec<String>,
    /// Whose old key was tried, and opens nothing of what is new.
    pub refused: Vec<String>,
    /// Whose old key was not there to be tried.
    pub untried: Vec<String>,
    /// What the keys that were replaced open still.
    pub still_open: Vec<Dependence>,
    /// Sources that somebody was at, who may have begun with the keys from before.
    pub running: Vec<String>,
}

pub struct Renewal<'a> {
    pub env: &'a Environment,
    pub repository: &'a Repository,
    pub arguments: &'a Arguments,
    pub exchanges: Vec<Exchange>,
    /// Opens the data epochs there are.
    pub operator: Option<Operator>,
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

    pub fn replacements(&self) -> Vec<Replacement> {
        self.exchanges.iter().map(|one| one.replacement.clone()).collect()
    }

    pub fn names(&self) -> String {
        match self.exchanges.is_empty() {
            true => "data key".to_owned(),
            false => self.exchanges.iter().map(Exchange::name).collect::<Vec<_>>().join(", "),
        }
    }

    pub fn trust(&self, writer: &Writer) -> Trust {
        let mut trust = writer.trust();
        let given = self.operator.iter().chain(self.exchanges.iter().filter_map(|one| one.private.as_ref()));
        trust.pinned.extend(given.flat_map(|operator| operator.trusted.clone()));
        trust
    }

    /// Where everything is as it is wanted, and no run that was killed has left its end to be noted, that is said, and no more: the
    /// journal would tell of a rotation that there was none of.
    pub fn run(&self, mut writer: Writer) -> Result<Done> {
        let recorder = self.env.recorder()?;
        if self.is_done() && !self.is_open(&recorder)? {
            if self.arguments.afresh && writer.oldest_reused < writer.epoch.number {
                // The data epoch in force began when the last key was taken off, or later.
                writer.oldest_reused = writer.epoch.number;
                writer.save()?;
            }
            return self.prove_all(&writer, &BTreeMap::new(), &|_, _| {}).map(|done| Done { changed: false, ..done });
        }
        let what = What::source(Job::Rotate, NAME, Some(NAME));
        let act = |run: &str| self.act(writer, run, &recorder);
        recorder.run_named(what, reason(self.env), act, |_, run| RunEnded::well(run, false))
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

    fn act(&self, mut writer: Writer, run: &str, recorder: &Recorder) -> Result<Done> {
        let of_epoch =
            |writer: &Writer| format!("epoch {} ({})", writer.epoch.number, fingerprint(&writer.epoch.recipient));
        let mut prints = match self.exchanges.is_empty() {
            true => Prints { from: of_epoch(&writer), to: None },
            false => self.prints(),
        };
        let before = self.opened();
        if !self.is_done() {
            self.change(&mut writer, &|state, note| self.note((recorder, run), &prints, state, note))?;
            durable::crash_point("recipients:changed");
        }
        if self.exchanges.is_empty() {
            prints.to = Some(of_epoch(&writer));
        }
        let note = |state: &str, note: Option<String>| self.note((recorder, run), &prints, state, note);
        let afresh = if self.arguments.afresh { "; everything is stored again" } else { "" };
        let (epoch, list) = (writer.epoch.number, writer.list_version);
        note("accepted", Some(format!("data epoch {epoch}, recipient list {list}{afresh}")));
        let done = self.prove_all(&writer, &before, &note).map_err(|failure| {
            let text = format!("the new keys are in force, and not proven: {}", failure.full());
            Failure::new(failure.kind(), text).hint("Mend it, then give the same command again")
        })?;
        let unproven = || {
            (!self.exchanges.is_empty() && done.proven.is_empty()).then_some("not proven: the new key was not given")
        };
        let untried = (!done.untried.is_empty()).then(|| format!("old key not tried: {}", done.untried.join(", ")));
        let told: Vec<String> = unproven().map(str::to_owned).into_iter().chain(untried).collect();
        note("rotated", (!told.is_empty()).then(|| told.join("; ")));
        Ok(done)
    }

    fn note(&self, (recorder, run): (&Recorder, &str), prints: &Prints, state: &str, note: Option<String>) {
        recorder.note(&[Fact::Rotation(Box::new(Rotated {
            run: run.to_owned(),
            rotation: NAME.to_owned(),
            source: "repository".to_owned(),
            account: self.names(),
            state: state.to_owned(),
            by: self.env.asker(),
            because: self.arguments.because.clone(),
            from: Some(prints.from.clone()),
            to: prints.to.clone(),
            note,
            ..Rotated::default()
        }))]);
    }

    fn change(&self, writer: &mut Writer, note: &dyn Fn(&str, Option<String>)) -> Result<()> {
        let (env, afresh, store) = (self.env, self.arguments.afresh, &*self.repository.store);
        let list = recipients::newest_number(store)?;
        note("planned", None);
        let changed = match &self.operator {
            Some(operator) if !self.exchanges.is_empty() => {
                let change = Change::Replace(self.replacements());
                init::change_recipients(self.repository, writer, (&change, afresh), operator, env.now)
            }
            _ => init::new_epoch(self.repository, writer, afresh).map(drop),
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
    fn opened(&self) -> BTreeMap<u32, age::x25519::Identity> {
        let opened = self.operator.as_ref().map(|operator| operator.epochs(&*self.repository.store));
        opened.and_then(Result::ok).unwrap_or_default()
    }

    fn prove_all(
        &self,
        writer: &Writer,
        before: &BTreeMap<u32, age::x25519::Identity>,
        note: &dyn Fn(&str, Option<String>),
    ) -> Result<Done> {
        let running = self.running(writer)?;
        let trust = self.trust(writer);
        let readers = Readers { repository: self.repository, writer, trust: &trust };
        let (proven, point) = self.prove(&readers)?;
        if !proven.is_empty() {
            note("proven", Some(proven.join("; ")));
            durable::crash_point("recipients:proven");
        }
        let (mut refused, mut untried) = (Vec::new(), Vec::new());
        for one in &self.exchanges {
            let operator = self.operator.as_ref();
            let old = one.before.as_deref().zip(operator).map(|(old, operator)| operator.only(&[old]));
            let Some(old) = old.filter(|old| !old.is_empty()) else {
                untried.push(one.name().to_owned());
                continue;
            };
            // Whoever kept the old key may have kept all that it opened.
            let kept = before.iter().filter(|(number, _)| **number != writer.epoch.number).map(|(_, key)| key.clone());
            readers.refuses(&old.join(Keyring::new(kept)), point.as_ref())?;
            refused.push(one.name().to_owned());
        }
        if !refused.is_empty() && untried.is_empty() {
            note("refused", None);
            durable::crash_point("recipients:refused");
        }
        let from: Vec<String> =
            self.exchanges.iter().filter_map(|one| one.before.as_deref()).map(fingerprint).collect();
        let mut still_open = crate::cli::former::look(self.env, self.repository)?;
        still_open.retain(|one| from.contains(&one.fingerprint) && !one.series.is_empty());
        Ok(Done { epoch: writer.epoch.number, changed: true, proven, refused, untried, still_open, running })
    }

    /// Makes a backup and reads it with each new key alone; where nothing is configured to be backed up, opens all data epochs.
    fn prove(&self, readers: &Readers<'_>) -> Result<(Vec<String>, Option<Point>)> {
        let new: Vec<(&str, &Operator)> =
            self.exchanges.iter().filter_map(|one| Some((one.name(), one.private.as_ref()?))).collect();
        for (_, private) in &new {
            readers.opens(private)?;
        }
        if new.is_empty() {
            return Ok((Vec::new(), None));
        }
        let Some(source) = self.canary(readers)? else {
            let what = |(name, _)| {
                format!("the new key of {name} alone opens every data epoch; no source is configured to be backed up")
            };
            return Ok((new.into_iter().map(what).collect(), None));
        };
        let (code, first) = canary::settled(self.env, &["backup", &source])?;
        if !canary::is_well(code) {
            return Err(Failure::failed(format!("the backup of {source} failed: {first}")));
        }
        let progress = self.env.progress();
        let (mut proven, mut read) = (Vec::new(), None);
        for (name, private) in new {
            let point = readers.reads(private, &source, self.env.context(&progress), clock::now())?;
            proven
                .push(format!("point {} of {source} was read to its end with the new key of {name} alone", point.id()));
            read = Some(point);
        }
        Ok((proven, read))
    }

    /// The source whose newest point is smallest.
    fn canary(&self, readers: &Readers<'_>) -> Result<Option<String>> {
        let configuration = self.env.configuration()?;
        if let Some(named) = &self.arguments.canary {
            let known = self.env.source(named)?.is_some();
            return known.then(|| Some(named.clone())).ok_or_else(|| {
                Failure::usage(format!("no source is called `{named}`")).hint("List them with: bkp config show")
            });
        }
        let wanted = Wanted {
            writer: Some(readers.writer.id()),
            newest_until: Some(catalog::horizon(self.env.now)),
            ..Wanted::default()
        };
        let listed = catalog::list(self.repository, &readers.writer.keyring(), readers.trust, wanted)?;
        let sources = configuration.policies.iter().flat_map(|policy| &policy.sources).map(|source| &source.name);
        let size = |name: &&String| listed.latest(name, None, self.env.now).map_or(u64::MAX, |point| point.bytes);
        Ok(sources.min_by_key(size).cloned())
    }

    /// Whoever has a source locked once the new keys are in force may have loaded the ones before.
    fn running(&self, writer: &Writer) -> Result<Vec<String>> {
        let places = self.env.places(self.repository)?;
        let configured = self.env.configuration()?.policies.iter().flat_map(|policy| &policy.sources);
        let old = write::unended(self.repository, writer)?.into_iter().filter(|(_, sealed)| *sealed != writer.sealed());
        let mut sources: Vec<String> =
            configured.map(|source| source.name.clone()).chain(old.map(|(source, _)| source)).collect();
        sources.sort();
        sources.dedup();
        sources.retain(|source| places.is_locked(source));
        Ok(sources)
    }
}
