//! `bkp rotate recipients`: another key for those who read the backups, and a new data epoch for what is written from now on.
//!
//! Every step can be done twice: the command that was killed is given again, finds what is done already, and goes on. The change
//! itself is [`init::change_recipients`]; what is here decides whether it is needed, proves it, and notes it.

use super::canary;
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::format::count;
use crate::cli::keys;
use crate::cli::output::plain;
use crate::clock;
use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::job::dependence::Dependence;
use crate::job::recorder::{Recorder, What};
use crate::job::rotate::readers::{NAME, Readers};
use crate::journal::{Fact, Job, Rotated, RunEnded};
use crate::repo::catalog::Wanted;
use crate::repo::former::{self, fingerprint};
use crate::repo::keys::{Keyring, Operator, named_recipient};
use crate::repo::point::Point;
use crate::repo::recipients::{Change, Replacement};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, init, recipients, write};
use crate::secret::SecretRef;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
With no NAME=KEY, only a new data epoch begins: nobody's key changes.
What an old key could open before, it still opens: `bkp secrets` tells which points those are.

Examples:
  bkp rotate recipients ana=age1… --identity ana.txt --dry-run
  bkp rotate recipients ana=$(age-keygen -y ana-2027.txt) --identity ana.txt --new-identity ana-2027.txt
  bkp rotate recipients ana=age1… --identity recovery-key.txt --because INC-42 --afresh")]
pub struct Arguments {
    /// Who reads already, and the public key that is to take the place of theirs
    #[arg(value_name = "NAME=KEY")]
    keys: Vec<String>,
    /// The private half of a new key: a backup is made, and read with it alone
    #[arg(long, value_name = "FILE")]
    new_identity: Vec<PathBuf>,
    /// Store volumes and deduplicated dumps again from now on, so that no new point needs what an old key opens
    #[arg(long)]
    afresh: bool,
    /// The source that is backed up for the proof [default: the one whose newest point is smallest]
    #[arg(long, value_name = "SOURCE")]
    canary: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// The reason, for the journal: a ticket, an incident
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
}

/// What it came to.
#[derive(Serialize)]
struct Done {
    epoch: u32,
    /// What was seen of the new key; nothing where it was not given.
    proven: Option<String>,
    /// The old key was tried, and opens nothing of what is new.
    refused: bool,
    /// What the keys that were replaced open still.
    still_open: Vec<Dependence>,
    /// Sources of which a backup was running, which ends with the keys from before.
    running: Vec<String>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository()?;
        let _lock = keys::lock(env, &repository)?;
        let writer = env.writer(&repository)?;
        let replacements = self.replacements(env, &repository, &writer)?;
        let operator = match replacements.is_empty() && !env.has_identity() {
            true => None,
            false => Some(self.operator(env)?),
        };
        let new = match self.new_identity.as_slice() {
            [] => None,
            files => Some(Operator::read(files)?),
        };
        let rotation = Rotation { env, repository: &repository, arguments: &self, replacements, operator, new };
        if self.dry_run {
            return rotation.show(&writer);
        }
        let recorder = env.recorder()?;
        let what = What::source(Job::Rotate, NAME, Some(NAME));
        let act = |run: &str| rotation.act(writer, run, &recorder);
        let done = recorder.run_named(what, super::reason(env), act, |_, run| RunEnded::well(run, false))?;
        rotation.report(&done)
    }

    /// Whoever has the new key opens what a run that was killed has sealed to it already.
    fn operator(&self, env: &Environment) -> Result<Operator> {
        keys::needs_identity(env)?;
        let files: Vec<PathBuf> = env.globals.identity.iter().chain(&self.new_identity).cloned().collect();
        Operator::read(&files)
    }

    /// What is to take whose place, those included that have it already.
    fn replacements(&self, env: &Environment, repository: &Repository, writer: &Writer) -> Result<Vec<Replacement>> {
        let former = former::all(repository, &writer.trust())?;
        let one = |text: &String| {
            let (name, key) = text.split_once('=').ok_or_else(|| {
                Failure::usage(format!("`{text}` is not NAME=KEY"))
                    .hint("bkp rotate recipients ana=age1…; bkp keys list tells the names")
            })?;
            let Some(known) = writer.recipients.iter().find(|r| r.name == name) else {
                let names: Vec<_> = writer.recipients.iter().map(|r| r.name.as_str()).collect();
                return Err(Failure::usage(format!("`{name}` is none of those who read: {}", names.join(", ")))
                    .hint(format!("To let somebody in: bkp keys add {name} KEY")));
            };
            let new = named_recipient(name, known.role, key, env.now)?;
            if let Some(gone) = former.iter().find(|gone| gone.recipient == new.recipient) {
                let text = format!("that key was taken off on {}: {}", gone.removed.strftime("%Y-%m-%d"), gone.name);
                return Err(Failure::new(Kind::Refused, text)
                    .hint("Make a new one: age-keygen -o FILE. If it is meant: bkp keys add, then bkp keys remove"));
            }
            Ok(Replacement { old: known.recipient.clone(), new })
        };
        self.keys.iter().map(one).collect()
    }
}

struct Rotation<'a> {
    env: &'a Environment,
    repository: &'a Repository,
    arguments: &'a Arguments,
    replacements: Vec<Replacement>,
    /// Opens the data epochs there are.
    operator: Option<Operator>,
    /// The new keys, and no other.
    new: Option<Operator>,
}

impl Rotation<'_> {
    fn is_done(&self) -> bool {
        !self.replacements.is_empty() && self.replacements.iter().all(|one| one.old == one.new.recipient)
    }

    fn act(&self, mut writer: Writer, run: &str, recorder: &Recorder) -> Result<Done> {
        let env = self.env;
        let before = writer.sealed();
        let prints = self.prints(&writer, recorder)?;
        let note = |state: &str, note: Option<String>| {
            recorder.note(&[Fact::Rotation(Box::new(Rotated {
                run: run.to_owned(),
                rotation: NAME.to_owned(),
                source: "repository".to_owned(),
                account: self.names(),
                state: state.to_owned(),
                by: env.asker(),
                because: self.arguments.because.clone(),
                from: Some(prints.0.clone()),
                to: Some(prints.1.clone()),
                note,
                ..Rotated::default()
            }))]);
        };
        let kept = self.kept(&writer)?;
        if !self.is_done() {
            let store = &*self.repository.store;
            let list = recipients::newest_number(store)?;
            note("planned", None);
            let changed = self.change(&mut writer);
            if let Err(failure) = &changed
                && recipients::newest_number(store).ok() == Some(list)
            {
                note("rolled_back", Some(format!("nothing was changed: {}", failure.full())));
            }
            changed?;
            durable::crash_point("recipients:changed");
        }
        note("accepted", Some(format!("data epoch {}, recipient list {}", writer.epoch.number, writer.list_version)));
        let running = self.running(&writer, before)?;
        let trust = self.trust(&writer);
        let readers = Readers { repository: self.repository, writer: &writer, trust: &trust };
        let (proven, point) = match &self.new {
            None => (None, None),
            Some(new) => {
                let (what, point) = self.prove(&readers, new)?;
                note("proven", Some(what.clone()));
                durable::crash_point("recipients:proven");
                (Some(what), point)
            }
        };
        let refused = !kept.is_empty();
        if refused {
            readers.refuses(&kept, point.as_ref())?;
            note("refused", None);
            durable::crash_point("recipients:refused");
        }
        let unproven = proven.is_none().then(|| "not proven: the private half of the new key was not given".to_owned());
        note("rotated", unproven);
        let still_open = self.still_open(&prints.0)?;
        Ok(Done { epoch: writer.epoch.number, proven, refused, still_open, running })
    }

    fn change(&self, writer: &mut Writer) -> Result<()> {
        let (env, afresh) = (self.env, self.arguments.afresh);
        match &self.operator {
            Some(operator) if !self.replacements.is_empty() => {
                let change = Change::Replace(self.replacements.clone());
                init::change_recipients(self.repository, writer, (&change, afresh), operator, env.now)
            }
            _ => init::new_epoch(self.repository, writer, afresh).map(drop),
        }
    }

    /// Fingerprints of the keys before and after. Whoever goes on with a run that was killed has the old ones from its records.
    fn prints(&self, writer: &Writer, recorder: &Recorder) -> Result<(String, String)> {
        if self.replacements.is_empty() {
            let now = fingerprint(&writer.epoch.recipient);
            return Ok((format!("epoch {} ({now})", writer.epoch.number), "a new data epoch".to_owned()));
        }
        let of = |key: fn(&Replacement) -> &str| {
            self.replacements.iter().map(|one| fingerprint(key(one))).collect::<Vec<_>>().join(", ")
        };
        let (from, to) = (of(|one| &one.old), of(|one| &one.new.recipient));
        if !self.is_done() {
            return Ok((from, to));
        }
        let state = recorder.journal().state()?;
        let last = state.rotations.get(NAME).and_then(|known| known.last.as_ref());
        let open = last.filter(|(_, last)| last.to.as_ref() == Some(&to));
        Ok((open.and_then(|(_, last)| last.from.clone()).unwrap_or(from), to))
    }

    fn names(&self) -> String {
        match self.replacements.is_empty() {
            true => "data key".to_owned(),
            false => self.replacements.iter().map(|one| one.new.name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }

    /// What somebody may have who kept the old keys, and all that they opened: those keys, and the data epochs from before.
    fn kept(&self, writer: &Writer) -> Result<Keyring> {
        let Some(operator) = &self.operator else { return Ok(Keyring::new([])) };
        let new: Vec<&str> = self.replacements.iter().map(|one| one.new.recipient.as_str()).collect();
        let recipients = operator.recipients();
        let is_old = |key: &&str| !new.contains(key) && !writer.recipients.iter().any(|r| r.recipient == *key);
        let replaced: Vec<&str> =
            self.replacements.iter().map(|one| one.old.as_str()).filter(|k| !new.contains(k)).collect();
        let gone = recipients.iter().map(String::as_str).filter(|key| replaced.contains(key) || is_old(key));
        let old = operator.only(&gone.collect::<Vec<_>>());
        if old.is_empty() || self.is_done() {
            return Ok(old);
        }
        Ok(old.join(Keyring::new(operator.epochs(&*self.repository.store)?.into_values())))
    }

    fn trust(&self, writer: &Writer) -> Trust {
        let mut trust = writer.trust();
        let given = [&self.operator, &self.new].into_iter().flatten();
        trust.pinned.extend(given.flat_map(|operator| operator.trusted.clone()));
        trust
    }

    /// Makes a backup and reads it with the new key alone; where nothing is configured to be backed up, opens all data epochs.
    fn prove(&self, readers: &Readers<'_>, new: &Operator) -> Result<(String, Option<Point>)> {
        readers.opens(new)?;
        let Some(source) = self.canary(readers)? else {
            return Ok((
                "the new key alone opens every data epoch; no source is configured to be backed up".to_owned(),
                None,
            ));
        };
        let (code, first) = canary::settled(self.env, &["backup", &source])?;
        if !canary::is_well(code) {
            return Err(Failure::failed(format!("the new keys are in force, but the backup of {source} failed"))
                .because(first)
                .hint("Mend it, then give the same command again; or prove it with another source: --canary SOURCE"));
        }
        let progress = self.env.progress();
        let point = readers.reads(new, &source, self.env.context(&progress), clock::now())?;
        let what = format!("point {} of {source} was read to its end with the new key alone", point.id());
        Ok((what, Some(point)))
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

    /// Who began before the change, and has the source yet.
    fn running(&self, writer: &Writer, before: crate::repo::sealed::SealedBy) -> Result<Vec<String>> {
        let places = self.env.places(self.repository)?;
        let unended = write::unended(self.repository, writer)?;
        let old = unended.into_iter().filter(|(_, sealed)| *sealed <= before && *sealed != writer.sealed());
        let is_busy = |source: &String| places.lock(source).is_err_and(|e| e.kind() == Kind::Locked);
        let mut sources: Vec<String> = old.map(|(source, _)| source).filter(is_busy).collect();
        sources.dedup();
        Ok(sources)
    }

    /// Of the points that this host may list.
    fn still_open(&self, from: &str) -> Result<Vec<Dependence>> {
        let mut former = crate::cli::former::look(self.env, self.repository)?;
        former.retain(|one| from.contains(&one.fingerprint) && !one.series.is_empty());
        Ok(former)
    }

    fn others(&self) -> Result<Vec<String>> {
        let own = self.env.writer(self.repository)?;
        let all = catalog::writers(self.repository)?.0;
        Ok(all.into_iter().filter(|w| w.writer != own.id()).map(|w| format!("{} ({})", w.name, w.writer)).collect())
    }

    fn show(&self, writer: &Writer) -> Ran {
        if let Some(operator) = &self.operator {
            init::must_open_all(self.repository, operator)?;
        }
        let changes: Vec<_> = self
            .replacements
            .iter()
            .map(|one| {
                serde_json::json!({
                    "name": one.new.name, "from": fingerprint(&one.old), "to": fingerprint(&one.new.recipient),
                    "done": one.old == one.new.recipient,
                })
            })
            .collect();
        let others = self.others()?;
        let document = serde_json::json!({
            "dry_run": true, "rotation": NAME, "epoch": writer.epoch.number, "changes": changes, "other_hosts": others,
            "proof": self.new.is_some(),
        });
        self.env.output.answer(&document, || {
            let mut lines: Vec<String> = self
                .replacements
                .iter()
                .map(|one| {
                    let (from, to) = (fingerprint(&one.old), fingerprint(&one.new.recipient));
                    format!("{}: {from} → {to}", plain(&one.new.name))
                })
                .collect();
            lines.push(format!(
                "a new data epoch after {}; all there are are sealed to the new keys, too",
                writer.epoch.number
            ));
            lines.push(match &self.new {
                Some(_) => "then a backup is made, and read with the new key alone".to_owned(),
                None => "NOT PROVEN: without --new-identity nobody tries whether the new key opens anything".to_owned(),
            });
            lines.extend(self.to_be_told(&others));
            lines.join("\n")
        })?;
        Ok(None)
    }

    /// Rehearsals here go by a key that was replaced.
    fn rehearser_is_left(&self) -> Result<bool> {
        let Some(SecretRef::File(file)) = &self.env.configuration()?.rehearser.identity else { return Ok(false) };
        let Ok(rehearser) = Operator::read(std::slice::from_ref(file)) else { return Ok(false) };
        let readers = self.env.writer(self.repository)?.recipients;
        let held = rehearser.recipients();
        Ok(!held.is_empty() && !readers.iter().any(|reader| held.contains(&reader.recipient)))
    }

    fn to_be_told(&self, others: &[String]) -> Option<String> {
        let is_needed = !self.replacements.is_empty() && !others.is_empty();
        is_needed.then(|| {
            format!(
                "{} still seal to the old keys: give the same command there, with --identity of somebody who reads",
                others.iter().map(|other| plain(other)).collect::<Vec<_>>().join(", ")
            )
        })
    }

    fn report(&self, done: &Done) -> Ran {
        let output = &self.env.output;
        if done.proven.is_none() {
            output.warn("not proven: without --new-identity FILE nobody has tried whether the new key opens anything\n  Try it: bkp doctor --identity FILE; or give the same command again with --new-identity FILE");
        }
        if self.rehearser_is_left()? {
            output.warn("the key that is configured for rehearsals (`rehearse: { identity_file }`) reads nothing any more: put the new one there");
        }
        for source in &done.running {
            output.warn(&format!(
                "a backup of {source} was running: it ends with the keys from before, and opens to the old key"
            ));
        }
        let others = self.others()?;
        if let Some(told) = self.to_be_told(&others) {
            output.warn(&told);
        }
        let document = serde_json::json!({
            "ok": true, "rotation": NAME, "end": "rotated", "done": done, "other_hosts": others,
        });
        output.answer(&document, || {
            let mut lines = vec![format!("{}: data epoch {} is in force", plain(&self.names()), done.epoch)];
            lines.extend(done.proven.clone());
            if done.refused {
                lines.push("the old key opens neither that nor the new data epoch".to_owned());
            }
            for one in &done.still_open {
                let (points, in_part) = (count(one.points(), "point"), one.in_part());
                let part = if in_part == 0 { String::new() } else { format!(" ({in_part} of them in part)") };
                lines.push(format!("the old key of {} still opens {points}{part}: bkp secrets", plain(&one.name)));
            }
            lines.join("\n")
        })?;
        Ok(None)
    }
}
