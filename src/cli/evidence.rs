//! `bkp evidence`: the journal as proof for others.

use super::Ran;
use super::environment::{Access, Environment};
use super::format::{count, instant, utc};
use super::output::{pairs, plain};
use crate::daemon::host;
use crate::error::{Failure, Kind, Result};
use crate::evidence::bundle::{Bundle, Export, Manifest, Out};
use crate::evidence::{self, Away, Keeper, Material, Verification, Witness};
use crate::job::Places;
use crate::journal::Journal;
use crate::policy::When;
use crate::repo::sign::{self, Trusted};
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog};
use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;
use std::path::PathBuf;

#[derive(clap::Subcommand, Debug)]
#[command(after_help = "\
What it proves, and how to verify it without bkp, is in docs/EVIDENCE.md.

Examples:
  bkp evidence verify
  bkp evidence export evidence.tar --period 2026-Q4")]
pub enum Command {
    Verify(Verify),
    Export(Exporting),
}

/// Tell whether the journal is whole, and what others hold of it fits
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without BUNDLE it looks at the journal of this host, at what the repository and its copies hold of it, and at the files that it
is anchored in. A bundle is verified offline.
Ends with exit code 4 when a record was removed, edited, moved, put in, or cut off, and says which one.

Examples:
  bkp evidence verify
  bkp evidence verify --offline                  this host alone
  bkp evidence verify --stored --identity recovery-key.txt
  bkp evidence verify evidence.tar --key ed25519:…
  bkp evidence verify evidence.tar --key recovery-key.txt --anchor saved-mail.eml")]
pub struct Verify {
    /// A bundle that was made with `bkp evidence export`
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// The public key of the host: ed25519:…, or a file that holds it, such as a recovery key file
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
    /// A file with heads of the journal that were anchored: as an anchor wrote it, or a mail as it came
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// Ask neither the repository nor its copies
    #[arg(long, conflicts_with_all = ["bundle", "stored"])]
    offline: bool,
    /// Look at what the repository holds, and not at the journal of this host
    #[arg(long, conflicts_with = "bundle")]
    stored: bool,
    /// The host whose journal it is, where the repository has several
    #[arg(long, value_name = "ID")]
    writer: Option<String>,
}

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

impl Command {
    pub fn run(self, env: &Environment) -> Ran {
        match self {
            Command::Verify(arguments) => arguments.run(env),
            Command::Export(arguments) => arguments.run(env),
        }
    }
}

/// Whose journal the repository has, and how to read it.
struct Door {
    repository: Repository,
    access: Access,
    writer: String,
    signer: VerifyingKey,
    pinned: bool,
}

impl Door {
    fn open(env: &Environment, writer: Option<&str>) -> Result<Self> {
        let repository = env.repository()?;
        let access = env.listing(&repository)?;
        let own = access.writer.as_ref().map(|writer| writer.id().to_owned());
        let known = || catalog::writers(&repository).map(|(writers, _)| writers);
        let writer = match (writer, own) {
            (Some(id), _) => id.to_owned(),
            (None, Some(own)) => own,
            (None, None) => match &known()?[..] {
                [one] => one.writer.clone(),
                all => {
                    let ids: Vec<String> =
                        all.iter().map(|info| format!("{} ({})", info.writer, plain(&info.name))).collect();
                    return Err(Failure::usage("the repository has the journals of several hosts")
                        .hint(format!("Name one with --writer: {}", ids.join(", "))));
                }
            },
        };
        let info = known()?.into_iter().find(|info| info.writer == writer);
        let info = info.ok_or_else(|| {
            Failure::usage(format!("the repository knows no host `{}`", plain(&writer))).hint("See: bkp keys list")
        })?;
        let trusted = access.trust.decide(&info.writer, &info.verify_key)?;
        let (signer, pinned) = (*trusted.key(), matches!(trusted, Trusted::Pinned(_)));
        Ok(Door { repository, access, writer, signer, pinned })
    }

    fn keeper(&self) -> Keeper<'_> {
        let (repository, keys) = (&self.repository, &self.access.keys);
        Keeper { place: "the repository".into(), repository, keys, writer: &self.writer, signer: self.signer }
    }

    fn is_of_this_host(&self) -> bool {
        self.access.writer.as_ref().is_some_and(|own| own.id() == self.writer)
    }
}

impl Verify {
    fn run(self, env: &Environment) -> Ran {
        let verification = match &self.bundle {
            Some(path) => self.bundle(path)?,
            None if self.stored => self.stored(env)?,
            None => self.here(env)?,
        };
        env.output.answer(&verification, || text(&verification, env))?;
        Ok((!verification.ok).then_some(Kind::Verification))
    }

    fn bundle(&self, path: &std::path::Path) -> Result<Verification> {
        let bundle = Bundle::open(path)?;
        let given = self.key.as_deref().map(|text| key(text, &bundle.manifest.writer)).transpose()?;
        let key = given.unwrap_or(bundle.claimed);
        let mut material = bundle.material(key)?;
        material.key = Some((key, given.is_some()));
        if given.is_none() {
            material.notes.push(
                "the key is the bundle's own word: compare it with the recovery key file, and give it with --key"
                    .into(),
            );
        }
        self.files(&mut material, &key)?;
        evidence::verify(material)
    }

    fn stored(&self, env: &Environment) -> Result<Verification> {
        let door = Door::open(env, self.writer.as_deref())?;
        let keeper = door.keeper();
        let id = only(&keeper)?;
        let mut material = keeper.material(&id)?;
        let sealed = "only what was sealed is looked at; newer records are on the host";
        material.notes.push(sealed.into());
        // The newest heads are of records that the next seal brings.
        material.until = Some(Timestamp::MIN);
        material.key = Some((door.signer, door.pinned));
        self.files(&mut material, &door.signer)?;
        evidence::verify(material)
    }

    fn here(&self, env: &Environment) -> Result<Verification> {
        let journal = env.journal()?;
        if journal.segments()?.is_empty() {
            return Err(Failure::failed(format!("there is no journal in {}", journal.directory().display()))
                .hint("Look at what the repository holds with --stored, or at a bundle"));
        }
        let door = match self.offline {
            true => Err(Failure::failed("it was not asked (--offline)")),
            false => Door::open(env, self.writer.as_deref()),
        };
        let keeper = door.as_ref().ok().map(Door::keeper);
        let mut material = evidence::of_journal(&journal)?;
        match (&door, &keeper) {
            (Ok(door), Some(keeper)) => {
                // Without its first record, the journal does not say which one it is.
                let id = journal.id()?.map_or_else(|| only(keeper), Ok)?;
                keeper.stand_against(&mut material, &id)?;
                material.key = Some((door.signer, door.pinned));
                self.files(&mut material, &door.signer)?;
            }
            (Err(failure), _) => {
                let what = "nothing was compared with what the repository holds";
                material.notes.push(format!("{what}: {}", failure.full()));
                if !self.anchor.is_empty() {
                    self.files(&mut material, &self.known_key(env)?)?;
                }
            }
            (Ok(_), None) => {}
        }
        evidence::verify(material)
    }

    /// Whose signatures to believe where the repository is not asked: the key that is given, or that of this host.
    fn known_key(&self, env: &Environment) -> Result<VerifyingKey> {
        match self.key.as_deref() {
            Some(text) => key(text, self.writer.as_deref().unwrap_or_default()),
            None => Ok(only_writer(env)?.signing.verifying_key()),
        }
    }

    /// Heads in files that were given.
    fn files(&self, material: &mut Material<'_>, key: &VerifyingKey) -> Result<()> {
        for path in &self.anchor {
            let (heads, others) = evidence::in_file(path, key)?;
            if heads.is_empty() {
                return Err(Failure::new(
                    Kind::Verification,
                    format!("{} holds no head that this host signed", path.display()),
                ));
            }
            if others > 0 {
                material.notes.push(format!(
                    "{} in {} are not signed by this host",
                    count(others, "head"),
                    path.display()
                ));
            }
            let place = path.display().to_string();
            material.witnesses.extend(heads.into_iter().map(|head| head.witness(&place)));
        }
        Ok(())
    }
}

/// `ed25519:…`, or a file that has it: by itself, or as one of the lines `# bkp-writer: ID ed25519:…`.
fn key(text: &str, writer: &str) -> Result<VerifyingKey> {
    if text.starts_with("ed25519:") {
        return sign::parse_key(text);
    }
    let file = std::fs::read_to_string(text).map_err(|e| Failure::from_io(e, || format!("cannot read {text}")))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let keys = file.lines().map(words).filter(|words| words.last().is_some_and(|word| word.starts_with("ed25519:")));
    let mut keys: Vec<Vec<String>> = keys.collect();
    if keys.len() > 1 {
        keys.retain(|words| words.iter().any(|word| word == writer));
    }
    match &keys[..] {
        [one] => sign::parse_key(one.last().map(String::as_str).unwrap_or_default()),
        _ => Err(Failure::new(Kind::Key, format!("{text} does not name the key of this host"))
            .hint("Its line is: # bkp-writer: ID ed25519:…  (bkp keys list on the host shows it)")),
    }
}

/// The id of the only journal.
fn only(keeper: &Keeper<'_>) -> Result<String> {
    let all: Vec<String> = keeper.journals()?.into_iter().collect();
    match &all[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::failed(format!("{} holds no journal of writer {} yet", keeper.place, keeper.writer))
            .hint("It is put there after a backup, once a segment is full, and by: bkp evidence anchor")),
        all => Err(Failure::new(
            Kind::Verification,
            format!("writer {} has more than one journal: {}", keeper.writer, all.join(", ")),
        )
        .hint("A host has one. Somebody wrote it anew, or its state was lost: look at the host")),
    }
}

impl Exporting {
    fn run(self, env: &Environment) -> Ran {
        let period = self.period.as_deref().map(|text| period(text, env)).transpose()?;
        let door = if self.offline { None } else { Some(Door::open(env, self.writer.as_deref())?) };
        let keeper = door.as_ref().map(Door::keeper);
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

/// The writer of this host, where the repository is not asked.
fn only_writer(env: &Environment) -> Result<Writer> {
    let state = &env.paths()?.state;
    let mut known = Vec::new();
    for entry in std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten() {
        known.extend(entry.file_name().to_str().and_then(|id| Writer::load(state, id).transpose()));
    }
    match (known.pop(), known.len()) {
        (Some(writer), 0) => writer,
        (None, _) => {
            Err(Failure::new(Kind::Key, "this host is no writer of a repository, and has no key to sign with"))
        }
        (Some(_), _) => {
            Err(Failure::new(Kind::Key, "this host writes into several repositories").hint("Leave out --offline"))
        }
    }
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

fn text(verification: &Verification, env: &Environment) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let mark = |at: Option<Timestamp>| at.map(|at| format!("{} ({})", instant(at, &zone), utc(at))).unwrap_or_default();
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let (Some(first), Some(last)) = (&verification.first, &verification.last) {
        rows.push(("records", format!("{}, numbers {} to {}", verification.records, first.seq, last.seq)));
        rows.push(("first", mark(first.at)));
        rows.push(("last", format!("{}\nhash {}", mark(last.at), last.hash)));
    }
    rows.push(("sealed", format!("{} of {}", verification.sealed, count(verification.segments as usize, "segment"))));
    rows.push((
        "covered",
        match verification.covered_to {
            0 => "nothing yet: no seal and no anchor that fits was found".into(),
            seq => format!("up to record {seq}: what is sealed or anchored cannot be taken back unseen"),
        },
    ));
    let open = if verification.open_runs == 0 {
        String::new()
    } else {
        format!(", {} without an end", verification.open_runs)
    };
    rows.push(("runs", format!("{}{open}", verification.runs)));
    rows.push((
        "rehearsals",
        format!("{}, {} with a signed statement", verification.rehearsals, verification.attested),
    ));
    if let Some(key) = &verification.key {
        rows.push(("key", format!("{} ({})", key.key, key.id)));
    }
    for anchor in &verification.anchors {
        rows.push(("anchor", anchor_text(&anchor.witness, anchor.fits)));
    }
    let mut text = pairs(&rows);
    for note in &verification.notes {
        text.push_str(&format!("\nnote: {}", plain(note)));
    }
    for finding in &verification.findings {
        text.push_str(&format!("\nWRONG  {}", plain(&finding.text)));
    }
    text.push_str(if verification.ok { "\neverything fits" } else { "\nit is not as it was written" });
    text
}

fn anchor_text(witness: &Witness, fits: Option<bool>) -> String {
    let fits = match fits {
        Some(true) => "fits",
        Some(false) => "DOES NOT FIT",
        None => "is of a record that is not here",
    };
    let stamped = witness.stamped.as_ref().map(|stamped| {
        let trusted = if stamped.trusted { "" } else { ", whose certificate was not checked" };
        format!(", time stamp {} by {}{trusted}", utc(stamped.at), plain(&stamped.authority))
    });
    format!(
        "record {} {fits}: {}, {}{}",
        witness.seq,
        plain(&witness.place),
        utc(witness.at),
        stamped.unwrap_or_default()
    )
}

/// The journal of this host is kept where the host cannot change it. That this fails is no failure of the run before it.
pub fn put_away(env: &Environment, repository: &Repository, writer: &Writer, places: &Places) {
    let away = Away { repository, writer, places, retain: None };
    if let Err(failure) = env.journal().and_then(|journal| away.put(&journal)) {
        env.output.warn(&format!("the journal could not be put into the repository: {}", failure.full()));
    }
}
