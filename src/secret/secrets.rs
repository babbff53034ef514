//! [`Secrets`] reads references for everybody, and remembers what Vault gave.
//!
//! Vault is asked each time. When it cannot be asked, what it gave before is used, and [`Secrets::degraded`] says so; what
//! Vault denies is denied, whatever was given before. While Vault is away it is left in peace for three times as long as
//! the last try took, so that a run of many sources does not wait for each.

use super::local::{self, no_vault};
use super::remembered::Remembered;
use super::vault::{self, Vault};
use super::{Secret, SecretRef, VaultPath};
use crate::error::{Context, Failure, Kind, Result};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long Vault is asked for what is in memory anyway.
const PATIENCE_WITH_A_COPY: Duration = Duration::from_secs(2);

/// The one who is asked for secrets. Clones share what was read; the default one knows no Vault.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<Keeper>>);

struct Keeper {
    vault: Vault,
    given: Mutex<BTreeMap<VaultPath, Given>>,
    away: Mutex<Option<Away>>,
    /// What was given to processes before this one.
    remembered: Option<Arc<Remembered>>,
}

/// What Vault gave.
struct Given {
    secret: Secret,
    at: Instant,
    /// How old it was then.
    older: Duration,
    /// Why it is not known to be what Vault would give now.
    stale: Option<String>,
}

/// Vault cannot be asked.
struct Away {
    until: Instant,
    kind: Kind,
    why: String,
    hint: String,
}

/// A secret that is used as Vault gave it some time ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    pub reference: SecretRef,
    pub age: Duration,
    /// What is the matter with Vault.
    pub why: String,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = match self.age.as_secs() {
            s @ 0..120 => format!("{s} s"),
            s @ 120..7200 => format!("{} min", s / 60),
            s => format!("{} h", s / 3600),
        };
        write!(f, "degraded: {}; {} is used as it was read {age} ago", self.why, self.reference)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Secrets(Vault)" } else { "Secrets" })
    }
}

/// The same one.
impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Secrets {}

impl Secrets {
    /// No I/O: Vault is first asked for the first secret. `state` is where a secret id that came wrapped is kept; `stopped`
    /// ends the waiting.
    pub fn with_vault(
        settings: vault::Settings,
        state: &Path,
        stopped: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Secrets::remembering(settings, state, stopped, None)
    }

    /// The same with what processes before this one were given.
    pub fn remembering(
        settings: vault::Settings,
        state: &Path,
        stopped: impl Fn() -> bool + Send + Sync + 'static,
        remembered: Option<Arc<Remembered>>,
    ) -> Self {
        let vault = Vault::new(settings, state.to_owned(), Box::new(stopped));
        Secrets(Some(Arc::new(Keeper { vault, given: Mutex::default(), away: Mutex::default(), remembered })))
    }

    /// Reads the secret now. It does not matter on which thread.
    pub fn read(&self, reference: &SecretRef) -> Result<Secret> {
        let SecretRef::Vault(path) = reference else { return local::read(reference) };
        self.0.as_ref().ok_or_else(|| no_vault(reference))?.read(path)
    }

    /// When what a reference leads to was written last; nothing where nobody notes it.
    pub fn written(&self, reference: &SecretRef) -> Result<Option<Timestamp>> {
        match (reference, self.vault()) {
            (SecretRef::Vault(_), None) => Err(no_vault(reference)),
            (SecretRef::Vault(path), Some(vault)) => vault.written(path),
            (SecretRef::File(path), _) => {
                let modified = std::fs::metadata(path).and_then(|file| file.modified());
                let modified = modified.context(|| format!("cannot look at {}", path.display()))?;
                Ok(Timestamp::try_from(modified).ok())
            }
            // What the system hands over is written when a service or a container starts.
            (SecretRef::Env(_) | SecretRef::Credential(_) | SecretRef::DockerSecret(_), _) => Ok(None),
        }
    }

    pub fn vault(&self) -> Option<&Vault> {
        self.0.as_ref().map(|keeper| &keeper.vault)
    }

    /// What is used now as it was some time ago.
    pub fn degraded(&self) -> Vec<Degraded> {
        let Some(keeper) = &self.0 else { return Vec::new() };
        let degraded = |(path, given): (&VaultPath, &Given)| {
            let reference = SecretRef::Vault(path.clone());
            given.stale.clone().map(|why| Degraded { reference, age: given.older + given.at.elapsed(), why })
        };
        lock(&keeper.given).iter().filter_map(degraded).collect()
    }

    /// The same of these references, for people.
    pub fn degraded_of<'a>(&self, references: impl IntoIterator<Item = &'a SecretRef>) -> Vec<String> {
        let all = self.degraded();
        let mut of_vault = false;
        let of = |reference: &SecretRef| {
            of_vault |= matches!(reference, SecretRef::Vault(_));
            all.iter().find(|d| d.reference == *reference).map(ToString::to_string)
        };
        let mut told: Vec<String> = references.into_iter().filter_map(of).collect();
        told.extend(self.vault().filter(|_| of_vault).and_then(Vault::secret_id_trouble));
        told
    }
}

impl Keeper {
    fn read(&self, path: &VaultPath) -> Result<Secret> {
        self.recall(path);
        if let Some(known) = self.while_away(path) {
            return known;
        }
        let copy = lock(&self.given).contains_key(path);
        let patience = self.vault.settings().budget;
        let patience = if copy { patience.lasting(PATIENCE_WITH_A_COPY.min(patience.total)) } else { patience };
        let began = Instant::now();
        match self.vault.read(path, &patience) {
            Ok(secret) => {
                *lock(&self.away) = None;
                if let Some(remembered) = &self.remembered {
                    remembered.keep(&self.name(path), &secret);
                }
                let given = Given { secret: secret.clone(), at: Instant::now(), older: Duration::ZERO, stale: None };
                lock(&self.given).insert(path.clone(), given);
                Ok(secret)
            }
            Err(refusal) if refusal.unasked => {
                let why = refusal.failure.full();
                let hint = refusal.failure.next_step().unwrap_or_default().to_owned();
                let until = Instant::now() + 3 * began.elapsed();
                *lock(&self.away) = Some(Away { until, kind: refusal.failure.kind(), why: why.clone(), hint });
                self.copy(path, &why).ok_or(refusal.failure)
            }
            Err(refusal) => {
                if let Some(remembered) = &self.remembered {
                    remembered.forget(&self.name(path));
                }
                lock(&self.given).remove(path);
                Err(refusal.failure)
            }
        }
    }

    /// Takes over what was given to a process before this one, and not yet to this one.
    fn recall(&self, path: &VaultPath) {
        if lock(&self.given).contains_key(path) {
            return;
        }
        let before = self.remembered.as_ref().and_then(|remembered| remembered.given(&self.name(path)));
        if let Some((secret, older)) = before {
            let given = Given { secret, at: Instant::now(), older, stale: None };
            lock(&self.given).entry(path.clone()).or_insert(given);
        }
    }

    /// The same path of another Vault is another secret.
    fn name(&self, path: &VaultPath) -> String {
        let settings = self.vault.settings();
        format!("{} {} {path}", settings.address, settings.namespace.as_deref().unwrap_or_default())
    }

    /// What is there of a Vault that is known to be away, or why there is nothing.
    fn while_away(&self, path: &VaultPath) -> Option<Result<Secret>> {
        let away = lock(&self.away);
        let away = away.as_ref().filter(|away| Instant::now() < away.until)?;
        let nothing = || Failure::new(away.kind, away.why.clone()).hint(&away.hint);
        Some(self.copy(path, &away.why).ok_or_else(nothing))
    }

    fn copy(&self, path: &VaultPath, why: &str) -> Option<Secret> {
        let mut all = lock(&self.given);
        let given = all.get_mut(path)?;
        given.stale = Some(why.to_owned());
        Some(given.secret.clone())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_vault_a_reference_to_it_says_what_to_write() {
        let reference: SecretRef = "ref+vault://kv/x#/y".parse().unwrap();
        let failure = Secrets::default().read(&reference).unwrap_err();
        assert!(failure.full().contains("ref+vault://kv/x#/y"));
        assert!(failure.next_step().unwrap().contains("vault: {"));
    }

    #[test]
    fn what_is_degraded_says_since_when_and_why() {
        let reference: SecretRef = "ref+vault://kv/x#/y".parse().unwrap();
        let told =
            |age| Degraded { reference: reference.clone(), age: Duration::from_secs(age), why: "it is sealed".into() };
        assert_eq!(told(59).to_string(), "degraded: it is sealed; ref+vault://kv/x#/y is used as it was read 59 s ago");
        assert!(told(7199).to_string().ends_with("119 min ago"));
        assert!(told(3 * 86_400).to_string().ends_with("72 h ago"));
    }
}
