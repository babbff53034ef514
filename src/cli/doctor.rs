//! `bkp doctor`: looks for what could keep backups from working, and says what to do about each.

mod scratch;
mod secrets;
mod stores;

use super::Ran;
use super::environment::Environment;
use super::format::{self, count, size};
use super::output::{plain, table};
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::repo::writer::{Writer, state_file};
use crate::repo::{Repository, catalog, keys, recipients};
use crate::store::{self, probe};
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
With --identity it also finds out whether that key opens the repository. With --tamper it ends with 1 where backups are meant \
to be locked and can be destroyed from here, and with 3 where nothing says that they should be.

Examples:
  bkp doctor
  bkp doctor --identity recovery-key.txt
  bkp doctor --tamper                   with the host's own credentials: can it destroy its backups?
  bkp doctor --reap                     remove what rehearsals that were killed left
  bkp doctor --json")]
pub struct Arguments {
    /// Try to delete, overwrite and unlock a fresh object in each store, and tell whether the store refused
    #[arg(long)]
    tamper: bool,
    /// Remove what rehearsals that were killed left: scratch containers, volumes, networks, directories, processes
    #[arg(long)]
    reap: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Note,
    Warning,
    Failed,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    hint: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.0.push(Finding { check, verdict, text: text.into(), hint: None });
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    fn failure(&mut self, check: &'static str, failure: &Failure) {
        self.add(check, Verdict::Failed, failure.full());
        if let Some(hint) = failure.next_step() {
            self.hint(hint);
        }
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let mut findings = Findings::default();
        versions(&mut findings);
        match env.configuration() {
            Ok(configuration) => {
                let sources: usize = configuration.policies.iter().map(|p| p.sources.len()).sum();
                findings.add(
                    "configuration",
                    Verdict::Ok,
                    format!("{}, {}", count(configuration.files.len(), "file"), count(sources, "source")),
                );
                if !configuration.warnings.is_empty() {
                    findings.add("configuration", Verdict::Warning, configuration.warnings.join("; "));
                }
                let rehearsed = configuration.policies.iter().find(|policy| policy.is_rehearsed());
                if let Some(policy) = rehearsed.filter(|_| configuration.rehearser.identity.is_none()) {
                    let text =
                        format!("restores of {} are to be rehearsed, and no key that opens them is named", policy.name);
                    findings.add("rehearsals", Verdict::Warning, text);
                    findings.hint("Write `rehearse: { identity_file: … }` into the main file: docs/REHEARSALS.md says how to make one");
                }
                let zone = configuration.timezone.iana_name().unwrap_or("the system's");
                findings.add(
                    "time zone",
                    Verdict::Ok,
                    format!("{zone}; now {}", format::instant(env.now, &configuration.timezone)),
                );
            }
            Err(failure) => findings.failure("configuration", &failure),
        }
        leftovers(env, &mut findings);
        scratch::examine(env, self.reap, &mut findings);
        secrets::examine(env, &mut findings);
        if let Err(failure) = places(env, &mut findings) {
            findings.failure("directories", &failure);
        }
        match env.repository() {
            Ok(repository) => {
                scratch::key(env, &repository, &mut findings);
                findings.add(
                    "repository",
                    Verdict::Ok,
                    format!("{} (id {})", repository.store.describe(), &repository.id()[..8]),
                );
                if let Err(failure) = of_repository(env, &repository, &mut findings) {
                    findings.failure("repository", &failure);
                }
            }
            Err(failure) => findings.failure("repository", &failure),
        }
        stores::copies(env, &mut findings);
        if self.tamper {
            stores::tamper(env, &mut findings);
        }
        let failed = findings.0.iter().any(|f| f.verdict == Verdict::Failed);
        let warned = findings.0.iter().any(|f| f.verdict == Verdict::Warning);
        env.output.answer(&serde_json::json!({ "ok": !failed, "findings": findings.0 }), || text(&findings.0))?;
        Ok(if failed { Some(Kind::Failed) } else { warned.then_some(Kind::Warnings) })
    }
}

fn text(findings: &[Finding]) -> String {
    let mark = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Warning => "WARNING",
        Verdict::Failed => "FAILED",
    };
    let rows = findings.iter().flat_map(|f| {
        let hint = f.hint.as_ref().map(|h| vec![String::new(), String::new(), format!("→ {h}")]);
        [Some(vec![mark(f.verdict).to_owned(), f.check.to_owned(), f.text.clone()]), hint].into_iter().flatten()
    });
    table(&["", "CHECK", "FOUND"], rows)
}

fn versions(findings: &mut Findings) {
    let uname = rustix::system::uname();
    findings.add(
        "version",
        Verdict::Ok,
        format!(
            "bkp {}, SQLite {}, {} {}",
            env!("CARGO_PKG_VERSION"),
            rusqlite::version(),
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
    );
}

/// What killed restores left at the sources that are configured here.
fn leftovers(env: &Environment, findings: &mut Findings) {
    let Ok(configuration) = env.configuration() else { return };
    let sources = configuration.policies.iter().flat_map(|p| &p.sources);
    let mut all = BTreeSet::new();
    for source in sources {
        match env.engine(&source.settings).and_then(|engine| engine.leftovers(&env.cancel)) {
            Ok(found) => all.extend(found),
            // Whether a source can be backed up is not asked here.
            Err(failure) => findings.add(
                "leftovers",
                Verdict::Note,
                format!("{} could not be looked at: {}", source.name, plain(&failure.full())),
            ),
        }
    }
    for leftover in all {
        findings.add("leftovers", Verdict::Warning, plain(&format!("{}: {}", leftover.place, leftover.what)));
        findings.hint(plain(&format!("Look into it; when nothing in it is needed: {}", leftover.remove)));
    }
}

/// The directories of this installation: private, writable, not full.
fn places(env: &Environment, findings: &mut Findings) -> Result<()> {
    let paths = env.paths()?;
    for (check, path) in [("state", &paths.state), ("cache", &paths.cache)] {
        let Ok(metadata) = std::fs::metadata(path) else {
            findings.add(check, Verdict::Note, format!("{} is not there yet", path.display()));
            continue;
        };
        let mode = metadata.permissions().mode() & 0o7777;
        if check == "state" && mode & 0o022 != 0 {
            findings.add(
                check,
                Verdict::Failed,
                format!("{} can be changed by others (mode {mode:04o})", path.display()),
            );
            findings.hint(format!("chmod 700 {}", path.display()));
        }
        findings.add(check, Verdict::Ok, format!("{}, {} free", path.display(), free(path)));
    }
    Ok(())
}

fn free(path: &Path) -> String {
    rustix::fs::statvfs(path).map_or_else(|_| "?".into(), |s| size(s.f_bavail * s.f_frsize))
}

fn of_repository(env: &Environment, repository: &Repository, findings: &mut Findings) -> Result<()> {
    // Where nothing is written from, a store that can only be read is as it should be.
    let reader = env.writer(repository).is_err();
    let mut of_store = Findings::default();
    store_abilities(env, repository, &mut of_store);
    clock(env, repository, &mut of_store);
    if reader && of_store.0.iter().any(|f| f.verdict == Verdict::Failed) {
        of_store.0.retain(|f| f.verdict != Verdict::Failed);
        of_store.add(
            "store",
            Verdict::Note,
            format!("it cannot be written to from here; {}", abilities(&repository.info.store)),
        );
        of_store.hint("Right for a host that only restores");
    }
    findings.0.extend(of_store.0);
    match env.writer(repository) {
        Ok(writer) => of_writer(env, repository, &writer, findings)?,
        Err(failure) => {
            findings.add("writer", Verdict::Note, failure.to_string());
            findings.hint(failure.next_step().unwrap_or_default());
        }
    }
    let sealed =
        repository.store.list("keys/")?.iter().filter(|e| keys::epoch_number(e.key.as_str()).is_some()).count();
    let people = recipients::claimed(&*repository.store)?.1;
    let verdict = if sealed == 0 { Verdict::Failed } else { Verdict::Ok };
    findings.add(
        "keys",
        verdict,
        format!("{}, sealed to {}", count(sealed, "data epoch"), count(people.len(), "recipient")),
    );
    if env.globals.identity.is_empty() {
        findings.add("recovery key", Verdict::Note, "not tested");
        findings.hint("Where the key is kept, run: bkp doctor --identity FILE");
        return Ok(());
    }
    let operator = env.operator();
    let own = operator.as_ref().map(keys::Operator::recipients).unwrap_or_default();
    match operator.and_then(|operator| operator.epochs(&*repository.store)) {
        Ok(opened) if opened.len() == sealed => {
            findings.add("recovery key", Verdict::Ok, format!("opens {}", count(sealed, "data epoch")));
        }
        Ok(opened) => {
            findings.add("recovery key", Verdict::Warning, format!("opens {} of {sealed} data epochs", opened.len()));
            findings.hint(match people.iter().find(|reader| own.contains(&reader.key())) {
                // Whoever changed the list before wrote late.
                Some(reader) => format!(
                    "{} reads, and should open all: bkp rotate recipients {}={} --new-identity FILE --identity OF-WHO-OPENS-THEM",
                    reader.name, reader.name, reader.recipient
                ),
                None => "It was added or removed between them; keep the other keys too".to_owned(),
            });
        }
        Err(failure) => findings.failure("recovery key", &failure),
    }
    Ok(())
}

/// What the endpoint did when the repository was made, and what it does now.
fn store_abilities(env: &Environment, repository: &Repository, findings: &mut Findings) {
    let recorded = &repository.info.store;
    let settings = match env.store_settings() {
        Ok(settings) => settings,
        Err(failure) => return findings.failure("store", &failure),
    };
    match probe::probe(&settings, env.now).map(serde_json::to_value) {
        Ok(Ok(now)) if now == *recorded => findings.add("store", Verdict::Ok, abilities(recorded)),
        Ok(Ok(now)) => {
            findings.add(
                "store",
                Verdict::Warning,
                format!("it does: {}; when the repository was made: {}", abilities(&now), abilities(recorded)),
            );
            findings.hint("Something changed at the store; backups go on as recorded, and `bkp prune` asks anew whether there are versions");
        }
        Ok(Err(_)) => findings.add("store", Verdict::Ok, abilities(recorded)),
        Err(failure) => findings.failure("store", &failure),
    }
    let asked = env.configuration().is_ok_and(|c| c.repository.as_ref().is_some_and(|r| r.object_lock.is_some()));
    stores::deletion("deletion", &settings.location, recorded["object_lock"] == true && asked, findings);
}

fn abilities(value: &serde_json::Value) -> String {
    let Some(map) = value.as_object() else { return "not recorded".into() };
    let one = |(name, value): (&String, &serde_json::Value)| {
        format!("{}: {}", name.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    map.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The store's clock is the one that retention goes by. It is read from an object that is written and removed.
fn clock(env: &Environment, repository: &Repository, findings: &mut Findings) {
    let key = store::Key::new(format!("probe/{}", crate::durable::random_hex(8))).expect("it is a good name");
    let stamp = || -> store::StoreResult<i64> {
        let before = clock::now();
        repository.store.put(&key, bytes::Bytes::from_static(b"clock"), None)?;
        let seen = repository.store.head(&key)?.modified;
        // Credentials that cannot delete are good ones.
        match repository.store.delete(&key) {
            Err(store::StoreError::Denied(_)) => {}
            other => other?,
        }
        Ok(seen.duration_since(before).as_secs())
    };
    match stamp() {
        Ok(skew) if skew.abs() <= 60 => {
            findings.add("clock", Verdict::Ok, format!("agrees with the store; {}", format::utc(env.now)))
        }
        Ok(skew) => {
            findings.add(
                "clock",
                Verdict::Warning,
                format!("differs from that of the store by {}", format::span(skew)),
            );
            findings.hint("Set up time synchronisation (chrony, systemd-timesyncd)");
        }
        Err(e) => findings.failure("clock", &e.into()),
    }
}

fn of_writer(env: &Environment, repository: &Repository, writer: &Writer, findings: &mut Findings) -> Result<()> {
    let file = state_file(&env.paths()?.state, repository.id());
    let mode = std::fs::metadata(&file).map_or(0, |m| m.permissions().mode() & 0o7777);
    if mode & 0o077 != 0 {
        findings.add("writer", Verdict::Failed, format!("{} can be read by others (mode {mode:04o})", file.display()));
        findings.hint(format!("chmod 600 {}", file.display()));
    }
    let (writers, broken) = catalog::writers(repository)?;
    for (_, failure) in &broken {
        findings.failure("writers", failure);
    }
    let known = writers.into_iter().find(|w| w.writer == writer.id());
    match known {
        Some(info) if info.verify_key == writer.info.verify_key => {
            findings.add("writer", Verdict::Ok, format!("{} ({})", writer.id(), writer.info.name));
        }
        Some(_) => {
            findings.add("writer", Verdict::Failed, "the store has another key for this writer: somebody changed it")
        }
        None => findings.add("writer", Verdict::Failed, "the store does not know this writer (any more)"),
    }
    // Holding a private key that reads backups undoes the separation that the design is made of.
    let here = env.globals.identity.iter().any(|path| path.exists());
    if here {
        findings.add("separation", Verdict::Note, "this host holds a private key that reads its backups");
        findings.hint("Fine for a test; elsewhere, keep the key on another machine");
    }
    Ok(())
}
