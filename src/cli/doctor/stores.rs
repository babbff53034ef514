//! The copies, and whether this host could destroy backups: in words, or tried for real.

use super::{Environment, Findings, Verdict, abilities};
use crate::error::Result;
use crate::policy::{ObjectLock, PRIMARY};
use crate::store::tamper::{self, Tampered};
use crate::store::{Location, Settings};

/// The stores of the configuration, with how backups are locked there.
fn all(env: &Environment) -> Result<Vec<(String, Settings, Option<ObjectLock>)>> {
    let configuration = env.configuration()?;
    let lock = configuration.repository.as_ref().and_then(|repository| repository.object_lock);
    let mut stores = vec![(PRIMARY.to_owned(), env.store_settings()?, lock)];
    for copy in &configuration.copies {
        stores.push((copy.name.clone(), env.copy_settings(copy)?, copy.store.object_lock));
    }
    Ok(stores)
}

pub fn copies(env: &Environment, findings: &mut Findings) {
    let Ok(configuration) = env.configuration() else { return };
    for copy in &configuration.copies {
        let settings = env.copy_settings(copy);
        match settings.and_then(|settings| Ok((env.open(settings.clone())?, settings))) {
            Ok((repository, settings)) => {
                let does = abilities(&repository.info.store);
                findings.add("copy", Verdict::Ok, format!("{}: {} ({does})", copy.name, repository.store.describe()));
                let locked = copy.store.object_lock.is_some() && repository.store.retention().is_some();
                deletion("copy", &settings.location, locked, findings);
            }
            Err(failure) => {
                findings.add("copy", Verdict::Warning, format!("{}: {}", copy.name, failure.full()));
                findings.hint(format!("When it is new: bkp copy --create {0}; else see: bkp copies", copy.name));
            }
        }
    }
}

/// Whether this host may delete, as far as that is seen without trying.
pub fn deletion(check: &'static str, location: &Location, locked: bool, findings: &mut Findings) {
    match location {
        _ if locked => findings.add(check, Verdict::Ok, "backups are locked as the configuration asks"),
        Location::Directory(path) if rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok() => {
            findings.add(
                check,
                Verdict::Note,
                "this host can delete its backups: they are in a directory it may write to",
            );
            findings.hint("Keep a copy that it cannot reach, such as a bucket with object lock");
        }
        _ => {
            findings.add(
                check,
                Verdict::Note,
                "nothing is locked: who has the credentials of the store may be able to delete backups",
            );
            findings.hint("Use a bucket with object lock and `object_lock:` in the configuration, or credentials that cannot delete; to see what it refuses: bkp doctor --tamper");
        }
    }
}

pub fn tamper(env: &Environment, findings: &mut Findings) {
    let stores = match all(env) {
        Ok(stores) => stores,
        Err(failure) => return findings.failure("tampering", &failure),
    };
    for (name, mut settings, lock) in stores {
        settings.capabilities =
            env.open(settings.clone()).ok().and_then(|found| serde_json::from_value(found.info.store).ok());
        match tamper::tamper(&settings, lock.map(|lock| lock.mode), env.now) {
            Ok(tampered) => told(&name, &settings.location, &tampered, lock.is_some(), findings),
            Err(failure) => findings.failure("tampering", &failure),
        }
    }
}

fn told(name: &str, location: &Location, tampered: &Tampered, meant: bool, findings: &mut Findings) {
    let (refused, allowed): (Vec<_>, Vec<_>) = tampered.attempts.iter().partition(|attempt| attempt.refused.is_some());
    let list = |attempts: &[&tamper::Attempt]| attempts.iter().map(|a| a.what).collect::<Vec<_>>().join(", ");
    let refused = if refused.is_empty() { "nothing".to_owned() } else { list(&refused) };
    if tampered.survived {
        let harmless = match allowed.as_slice() {
            [] => String::new(),
            allowed => format!(", and let it {}", list(allowed)),
        };
        let text = format!("{name}: what this host wrote it cannot destroy. {location} refused to {refused}{harmless}");
        findings.add("tampering", if tampered.unlocked { Verdict::Warning } else { Verdict::Ok }, text);
        if tampered.unlocked {
            findings.hint("It can lift the lock, so that only the right to delete is missing: lock in mode compliance, see docs/STORES.md");
        }
    } else {
        let verdict = if meant { Verdict::Failed } else { Verdict::Warning };
        let text = format!(
            "{name}: this host CAN destroy its backups in {location}. It could {}; refused was {refused}",
            list(&allowed)
        );
        findings.add("tampering", verdict, text);
        findings.hint(match location {
            Location::Directory(_) => {
                "Keep a copy that this host cannot reach: a bucket with object lock, see docs/STORES.md"
            }
            Location::Bucket { .. } => {
                "Take away the right to delete and to bypass locks, or lock in mode compliance: docs/STORES.md"
            }
        });
    }
    if let Some(left) = &tampered.left {
        let how_long =
            if meant { "until its lock ends, in 20 minutes at most" } else { "there: it cannot be removed from here" };
        let text = format!("{name}: {left} stays {how_long}");
        findings.add("tampering", Verdict::Note, text);
    }
}
