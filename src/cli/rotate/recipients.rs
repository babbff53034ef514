//! `bkp rotate recipients`: another key for those who read the backups, and a new data epoch for what is written from now on.

use super::{canary, reason};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::format::count;
use crate::cli::output::plain;
use crate::cli::{former as formerly, keys};
use crate::error::{Failure, Kind, Result};
use crate::job::dependence::Dependence;
use crate::job::rotate::readers::{Around, Done, Exchange, Renewal};
use crate::repo::former::{self, Former, fingerprint};
use crate::repo::keys::{NamedRecipient, Operator, bare, named_recipient};
use crate::repo::recipients::Replacement;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog};
use crate::secret::SecretRef;
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
    /// The private half of each new key: a backup is made, and read with it alone
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

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository()?;
        let _lock = keys::lock(env, &repository)?;
        let writer = env.writer(&repository)?;
        let exchanges = self.exchanges(env, &repository, &writer)?;
        let operator = match exchanges.is_empty() && !env.has_identity() {
            true => None,
            false => Some(self.operator(env)?),
        };
        let here = Here { env, repository: &repository };
        let renewal = Renewal {
            repository: &repository,
            exchanges,
            operator,
            afresh: self.afresh,
            canary: self.canary.clone(),
            reason: reason(env),
            by: env.asker(),
            because: self.because.clone(),
            now: env.now,
            around: &here,
        };
        renewal.leaves_a_reader(&writer)?;
        if self.dry_run {
            renewal.could_be_done(&writer)?;
            return here.show(&renewal, &writer);
        }
        let progress = env.progress();
        let done = renewal.run(writer, &env.recorder()?, env.context(&progress))?;
        here.report(&renewal, &done)
    }

    /// Whoever has the new key opens what a run that was killed has sealed to it already.
    fn operator(&self, env: &Environment) -> Result<Operator> {
        keys::needs_identity(env)?;
        let files: Vec<PathBuf> = env.globals.identity.iter().chain(&self.new_identity).cloned().collect();
        Operator::read(&files)
    }

    /// What is to take whose place, those included that have it already.
    fn exchanges(&self, env: &Environment, repository: &Repository, writer: &Writer) -> Result<Vec<Exchange>> {
        if self.keys.is_empty() && !self.new_identity.is_empty() {
            return Err(Failure::usage("--new-identity is the private half of a new key, and no NAME=KEY was given"));
        }
        let (former, _) = former::all(repository, &writer.trust())?;
        self.keys.iter().map(|text| self.exchange(env, text, writer, &former)).collect()
    }

    fn exchange(&self, env: &Environment, text: &str, writer: &Writer, former: &[Former]) -> Result<Exchange> {
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
        if let Some(gone) = former.iter().find(|gone| bare(&gone.recipient) == new.key()) {
            let text = format!("that key was taken off on {}: {}", gone.removed.strftime("%Y-%m-%d"), gone.name);
            return Err(Failure::new(Kind::Refused, text)
                .hint("Make a new one: age-keygen -o FILE. If it is meant: bkp keys add, then bkp keys remove"));
        }
        let is_done = known.key() == new.key();
        let last = former.iter().rev().find(|gone| gone.name == name).map(|gone| gone.recipient.clone());
        Ok(Exchange {
            before: if is_done { last } else { Some(known.recipient.clone()) },
            since: known.added,
            private: self.private(&new)?,
            replacement: Replacement { old: known.recipient.clone(), new },
        })
    }

    /// The private half of a key, and nothing else. Looked at before anything is changed: what is sealed to a key that nobody has
    /// is lost.
    fn private(&self, new: &NamedRecipient) -> Result<Option<Operator>> {
        if self.new_identity.is_empty() {
            return Ok(None);
        }
        Operator::read(&self.new_identity)?.into_only(new)?.map(Some).ok_or_else(|| {
            Failure::usage(format!("--new-identity does not have the private half of the key for {}", new.name))
                .hint("Nothing was changed. Print the public half with: age-keygen -y FILE")
        })
    }
}

/// This host and its configuration.
struct Here<'a> {
    env: &'a Environment,
    repository: &'a Repository,
}

impl Around for Here<'_> {
    fn sources(&self) -> Result<Vec<String>> {
        let all = self.env.configuration()?.policies.iter().flat_map(|policy| &policy.sources);
        Ok(all.map(|source| source.name.clone()).collect())
    }

    fn has_source(&self, name: &str) -> Result<bool> {
        Ok(self.env.source(name)?.is_some())
    }

    fn back_up(&self, source: &str) -> Result<()> {
        let (code, first) = canary::settled(self.env, &["backup", source])?;
        match canary::is_well(code) {
            true => Ok(()),
            false => Err(Failure::failed(format!("the backup of {source} failed: {first}"))),
        }
    }

    fn is_locked(&self, source: &str) -> Result<bool> {
        Ok(self.env.places(self.repository)?.is_locked(source))
    }

    fn former(&self) -> Result<Vec<Dependence>> {
        formerly::look(self.env, self.repository)
    }
}

fn unchanged(one: &Exchange) -> String {
    let since = one.since.strftime("%Y-%m-%d");
    format!("{} has this key since {since}: nothing was changed", plain(one.name()))
}

fn to_be_told(renewal: &Renewal<'_>, others: &[String]) -> Option<String> {
    let is_needed = !renewal.exchanges.is_empty() && !others.is_empty();
    is_needed.then(|| {
        format!(
            "{} goes by its own list: give the same command there, with --new-identity or --identity of somebody who reads",
            others.iter().map(|other| plain(other)).collect::<Vec<_>>().join(", ")
        )
    })
}

impl Here<'_> {
    fn others(&self) -> Result<Vec<String>> {
        let own = self.env.writer(self.repository)?;
        let all = catalog::writers(self.repository)?.0;
        Ok(all.into_iter().filter(|w| w.writer != own.id()).map(|w| format!("{} ({})", w.name, w.writer)).collect())
    }

    fn show(&self, renewal: &Renewal<'_>, writer: &Writer) -> Ran {
        let (prints, others) = (|one: &Exchange| (fingerprint(&one.replacement.old), one.print()), self.others()?);
        let changes = renewal.exchanges.iter().map(|one| {
            let (from, to) = prints(one);
            serde_json::json!({ "name": one.name(), "from": from, "to": to, "done": one.is_done() })
        });
        let document = serde_json::json!({
            "dry_run": true, "rotation": "recipients", "epoch": writer.epoch.number,
            "changes": changes.collect::<Vec<_>>(), "other_hosts": others, "proof": renewal.is_to_be_proven(),
        });
        self.env.output.answer(&document, || {
            let mut lines: Vec<String> = renewal
                .exchanges
                .iter()
                .map(|one| match (one.is_done(), prints(one)) {
                    (true, (_, to)) => format!("{}: has {to} already", plain(one.name())),
                    (false, (from, to)) => format!("{}: {from} → {to}", plain(one.name())),
                })
                .collect();
            if !renewal.is_done() {
                let epoch = writer.epoch.number;
                lines.push(format!("a new data epoch after {epoch}; all there are are sealed to the new keys, too"));
            }
            match (renewal.exchanges.is_empty(), renewal.is_to_be_proven()) {
                (true, _) => {}
                (_, true) => lines.push("then a backup is made, and read with the new key alone".to_owned()),
                (_, false) => lines.push(
                    "NOT PROVEN: without --new-identity nobody tries whether the new key opens anything".to_owned(),
                ),
            }
            lines.extend(to_be_told(renewal, &others));
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

    fn warn(&self, renewal: &Renewal<'_>, done: &Done, others: &[String]) -> Result<()> {
        let output = &self.env.output;
        if done.proven.is_empty() && !renewal.exchanges.is_empty() {
            output.warn("not proven: without --new-identity FILE nobody has tried whether the new key opens anything\n  Give the same command again with it, or: bkp doctor --identity FILE");
        }
        for name in &done.untried {
            output.warn(&format!("whether the old key of {} is refused was not tried: it was not given", plain(name)));
        }
        for name in &done.of_plugins {
            output.warn(&format!(
                "whether the old key of {} is refused was not tried: it is one of a plug-in, which would ask its device for each try",
                plain(name)
            ));
        }
        for source in &done.running {
            output.warn(&format!(
                "a run of {source} was at work meanwhile: a backup that it makes may end with the keys from before, and open to the old key"
            ));
        }
        if self.rehearser_is_left()? {
            output.warn("the key that is configured for rehearsals (`rehearse: { identity_file }`) reads nothing any more: put the new one there");
        }
        to_be_told(renewal, others).iter().for_each(|told| output.warn(told));
        Ok(())
    }

    fn report(&self, renewal: &Renewal<'_>, done: &Done) -> Ran {
        let others = self.others()?;
        self.warn(renewal, done, &others)?;
        let document = serde_json::json!({
            "ok": true, "rotation": "recipients", "end": if done.changed { "rotated" } else { "nothing" },
            "done": done, "other_hosts": others,
        });
        self.env.output.answer(&document, || {
            let mut lines = match done.changed {
                true => vec![format!("{}: data epoch {} is in force", plain(&renewal.names()), done.epoch)],
                false => renewal.exchanges.iter().map(unchanged).collect(),
            };
            if !done.sealed_again.is_empty() {
                let numbers: Vec<String> = done.sealed_again.iter().map(u32::to_string).collect();
                lines.push(format!(
                    "data epochs that it did not open were sealed to it once more: {}",
                    numbers.join(", ")
                ));
            }
            lines.extend(done.proven.clone());
            if !done.refused.is_empty() {
                let names = plain(&done.refused.join(", "));
                lines.push(match &done.point {
                    Some(_) => format!("the old key of {names} opens neither that nor the data epoch"),
                    None => format!("the old key of {names} does not open data epoch {}", done.epoch),
                });
            }
            if renewal.afresh {
                lines.push("the next backups store everything again, and refer to nothing from before".to_owned());
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
