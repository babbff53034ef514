//! `bkp evidence export`: everything that an auditor needs.

use super::{Door, only, only_writer};
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::output::plain;
use crate::daemon::host;
use crate::error::{Failure, Kind, Result};
use crate::evidence::bundle::{Export, Manifest, Out};
use crate::evidence::{self, Keeper, Material, Verification};
use crate::journal::Journal;
use crate::policy::When;
use crate::repo::writer::Writer;
use jiff::Timestamp;
use std::path::PathBuf;

/// Write everything that an auditor needs into a directory or a tar file
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Segments come from the repository, with the signatures they were sealed with; the newest records are signed now. With --identity it
works on any machine, for what was sealed.

Examples:
  bkp evidence export evidence.tar
  bkp evidence export /srv/audit/2026-q4 --period 2026-Q4
  bkp evidence export year.tar --period 2026 --identity recovery-key.txt --writer 0f3a…")]
pub struct Exporting {
    /// A new directory, or a new file ending in .tar
    #[arg(value_name = "DIR|FILE.tar")]
    to: PathBuf,
    /// A year, quarter, month or day, or FROM..TO [default: everything]
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,
    /// The host whose journal it is, where the repository has several
    #[arg(long, value_name = "ID")]
    writer: Option<String>,
    /// Do not ask the repository: sign what this host has
    #[arg(long)]
    offline: bool,
}

impl Exporting {
    pub fn run(self, env: &Environment) -> Ran {
        let period = self.period.as_deref().map(|text| period(text, env)).transpose()?;
        let door = if self.offline { None } else { Some(Door::of(env, env.repository()?, self.writer.as_deref())?) };
        let keeper = door.as_ref().map(|door| door.keeper(None));
        let journal = env.journal()?;
        let local = journal.id()?.filter(|_| door.as_ref().is_none_or(Door::is_of_this_host));
        let (id, verification) = looked_at(local.as_deref(), &journal, keeper.as_ref())?;
        let own = Writer::load(&env.paths()?.state, door.as_ref().map_or("", |door| door.repository.id()))?;
        let own = if door.is_some() { own } else { Some(only_writer(env)?) };
        let (key, name) = match (&door, &own) {
            (Some(door), _) => (door.signer, door.writer.clone()),
            (None, Some(writer)) => (writer.signing.verifying_key(), writer.id().to_owned()),
            (None, None) => return Err(Failure::new(Kind::Key, "this host is no writer of a repository")),
        };
        let own = own.filter(|own| own.id() == name);
        let repository = door.as_ref().map(|door| door.repository.id().to_owned());
        let export = Export {
            host: &own.as_ref().map_or_else(host, |own| own.info.name.clone()),
            journal: local.is_some().then_some(&journal),
            keeper: keeper.as_ref(),
            signing: own.as_ref().map(|own| &own.signing),
            repository: &repository.or(own.as_ref().map(|own| own.repository.clone())).unwrap_or_default(),
            writer: &name,
            key,
            id: &id,
            period,
            now: env.now,
        };
        let mut out = Out::new(&self.to)?;
        let manifest = export.write(&mut out)?;
        out.put_json("verification.json", &verification)?;
        out.finish()?;
        self.tell(env, &manifest, &verification)?;
        Ok((!verification.ok).then_some(Kind::Verification))
    }

    fn tell(&self, env: &Environment, manifest: &Manifest, verification: &Verification) -> Result<()> {
        let document = serde_json::json!({ "bundle": self.to, "manifest": manifest, "verification": verification });
        env.output.answer(&document, || {
            let (records, to) = (evidence::records(manifest.from, manifest.to), self.to.display());
            let mut said = format!("{records} of {} are in {to}", plain(&manifest.host));
            said.push_str(&format!("\nverify it with: bkp evidence verify {to} --key {}", manifest.verify_key));
            for finding in &verification.findings {
                said.push_str(&format!("\nWRONG  {}", plain(&finding.text)));
            }
            said
        })
    }
}

/// The journal's id, and what verification says of it before it is handed out.
fn looked_at(local: Option<&str>, journal: &Journal, keeper: Option<&Keeper<'_>>) -> Result<(String, Verification)> {
    let (id, material) = match (local, keeper) {
        (Some(id), keeper) => {
            let mut material = evidence::of_journal(journal)?;
            keeper.map(|keeper| keeper.stand_against(&mut material, id)).transpose()?;
            (id.to_owned(), material)
        }
        (None, Some(keeper)) => {
            let id = only(keeper)?;
            let material = Material { until: Some(Timestamp::MIN), ..keeper.material(&id)? };
            (id, material)
        }
        (None, None) => return Err(Failure::failed("there is no journal on this host").hint("Leave out --offline")),
    };
    Ok((id, evidence::verify(material)?))
}

/// `2026`, `2026-Q4`, `2026-11`, `2026-11-30`, or two instants: `FROM..TO`.
fn period(text: &str, env: &Environment) -> Result<(Timestamp, Timestamp)> {
    let zone = env.zone()?;
    let wrong = || {
        Failure::usage(format!("`{text}` is no period"))
            .hint("As in --period 2026-Q4, 2026-11, or 2026-11-01..2026-12-01")
    };
    if let Some((from, to)) = text.split_once("..") {
        let instant = |text: &str| match When::parse(text, &env.now.to_zoned(zone.clone()))? {
            When::Instant(instant) => Ok(instant),
            _ => Err(wrong()),
        };
        return Ok((instant(from)?, instant(to)?));
    }
    let number = |text: &str| text.parse::<i16>().ok();
    let parts: Vec<&str> = text.split('-').collect();
    let (year, month, day, span) = match parts[..] {
        [year] => (number(year), Some(1), Some(1), jiff::Span::new().years(1)),
        [year, quarter] if quarter.starts_with(['Q', 'q']) => {
            let quarter = number(&quarter[1..]).filter(|quarter| (1..=4).contains(quarter));
            (number(year), quarter.map(|quarter| quarter * 3 - 2), Some(1), jiff::Span::new().months(3))
        }
        [year, month] => (number(year), number(month), Some(1), jiff::Span::new().months(1)),
        [year, month, day] => (number(year), number(month), number(day), jiff::Span::new().days(1)),
        _ => return Err(wrong()),
    };
    let date = || {
        let (month, day) = (i8::try_from(month?).ok()?, i8::try_from(day?).ok()?);
        let begin = jiff::civil::Date::new(year?, month, day).ok()?;
        let end = begin.checked_add(span).ok()?;
        let at = |date: jiff::civil::Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp());
        Some((at(begin)?, at(end)?))
    };
    date().ok_or_else(wrong)
}
