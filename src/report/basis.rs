//! Everything that a report is made from, put together once: the facts of the period, the configuration in force, and what could
//! be seen of the repository, its copies and the host when the report was made.
//!
//! What could not be seen is part of it, with the reason: a report says what it does not know.

use super::facts::Facts;
use super::period::Period;
use super::repository::RepositoryFacts;
use crate::error::Kind;
use crate::evidence::Verification;
use crate::job::copy::state::CopyState;
use crate::job::discover::Found;
use crate::journal::{Job, State};
use crate::policy::{Configuration, LockKeep, Policy, Rotation, StoreSettings, duration_text};
use crate::schedule::Schedule;
use crate::secret::{SecretRef, Secrets};
use crate::store::LockMode;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeSet;

/// What was looked for, or why it was not seen.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen<T> {
    Seen(T),
    NotSeen(String),
}

impl<T> Seen<T> {
    pub fn seen(&self) -> Option<&T> {
        match self {
            Seen::Seen(what) => Some(what),
            Seen::NotSeen(_) => None,
        }
    }

    pub fn why_not(&self) -> Option<&str> {
        match self {
            Seen::Seen(_) => None,
            Seen::NotSeen(why) => Some(why),
        }
    }
}

impl<T> From<crate::error::Result<T>> for Seen<T> {
    fn from(result: crate::error::Result<T>) -> Self {
        match result {
            Ok(what) => Seen::Seen(what),
            Err(failure) => Seen::NotSeen(failure.full()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Basis {
    pub period: Period,
    pub made_at: Timestamp,
    pub host: String,
    pub facts: Facts,
    /// Whether the journal that the facts were read from is whole.
    pub integrity: Seen<Verification>,
    pub policies: Vec<PolicyInForce>,
    /// The repository, then its copies.
    pub stores: Vec<StoreInForce>,
    pub files: Vec<String>,
    pub repository: Seen<RepositoryFacts>,
    pub copies: Seen<Vec<CopyState>>,
    pub surroundings: Seen<Vec<Found>>,
    pub credentials: Vec<Credential>,
    /// The key for rehearsals that this host holds: it can read backups.
    pub reads_with: Option<String>,
    pub unrecorded: Unrecorded,
}

#[derive(Clone, Debug, Serialize)]
pub struct PolicyInForce {
    pub policy: String,
    pub stack: Option<String>,
    pub schedule: Option<String>,
    pub timezone: Option<String>,
    pub rpo_seconds: Option<i64>,
    pub rto_seconds: Option<i64>,
    /// Nothing: all points are kept.
    pub keep: Option<String>,
    pub deadline: String,
    pub sources: Vec<SourceInForce>,
    pub takes_labels: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceInForce {
    pub source: String,
    pub engine: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct StoreInForce {
    pub name: String,
    pub url: String,
    pub lock: Option<Lock>,
    /// Of a copy with rules of its own.
    pub keep: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Lock {
    pub mode: LockMode,
    /// Nothing: as long as the policy wants the points.
    pub days: Option<u32>,
}

/// A secret that the configuration refers to; never the secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credential {
    pub reference: String,
    pub used_by: String,
    pub changed: Option<Timestamp>,
    pub known_from: KnownFrom,
    /// Why it could not be found out, where somebody knows it.
    pub why_unknown: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownFrom {
    /// The journal.
    Rotation,
    /// The file was written then.
    File,
    /// The version of the secret was.
    Vault,
    NotRecorded,
}

/// Instants of the calendar that the journal says nothing of, though it should.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unrecorded {
    /// From here on the calendar of the configuration in force is known to have held. Nothing: it could not be compared.
    pub compared_from: Option<Timestamp>,
    pub compared: u64,
    pub missing: Vec<MissingSlot>,
    /// Further ones that are not listed.
    pub more: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MissingSlot {
    pub job: Job,
    pub policy: String,
    pub slot: Timestamp,
}

/// So many are listed one by one.
const LISTED: usize = 1000;
/// What is noted may be a moment behind.
const MOMENT: SignedDuration = SignedDuration::from_mins(5);

impl Basis {
    pub fn until(&self) -> Timestamp {
        self.period.until(self.made_at)
    }

    pub fn is_over(&self) -> bool {
        self.made_at >= self.period.to
    }

    /// Sources that are configured now, with their policies.
    pub fn sources(&self) -> impl Iterator<Item = (&PolicyInForce, &SourceInForce)> {
        self.policies.iter().flat_map(|policy| policy.sources.iter().map(move |source| (policy, source)))
    }

    /// Sources that were backed up or restored here in the period, and that no policy names any more.
    pub fn retired(&self) -> Vec<&str> {
        self.not_configured(|job| !matches!(job, Job::Rehearse | Job::Rotate))
    }

    /// Sources of other hosts, whose restores are tested on this one.
    pub fn tested_for_others(&self) -> Vec<&str> {
        let retired = self.retired();
        self.not_configured(|job| job == Job::Rehearse).into_iter().filter(|s| !retired.contains(s)).collect()
    }

    fn not_configured(&self, which: impl Fn(Job) -> bool) -> Vec<&str> {
        let configured: BTreeSet<&str> = self.sources().map(|(_, source)| source.source.as_str()).collect();
        let own = crate::repo::names::CONFIGURATION;
        let runs = self.facts.runs.iter().filter(|run| which(run.job)).filter_map(|run| run.source.as_deref());
        let known: BTreeSet<&str> = runs.collect();
        known.into_iter().filter(|source| !configured.contains(source) && *source != own).collect()
    }

    /// All sources that are to be tested: those of this host, and those that were tested here for others.
    pub fn to_be_tested(&self) -> BTreeSet<&str> {
        let own = self.sources().map(|(_, source)| source.source.as_str());
        own.chain(self.tested_for_others()).collect()
    }

    /// Of those that have one, how many sources kept their objective for lost data all the time; and how many have one.
    pub fn rpo_kept(&self) -> (usize, usize) {
        let judged = self.sources().filter_map(|(policy, source)| {
            let worst = self.facts.recovery.get(source.source.as_str()).and_then(|recovery| recovery.worst);
            policy.rpo_seconds.map(|objective| worst.is_some_and(|worst| worst.seconds <= objective))
        });
        judged.fold((0, 0), |(met, all), kept| (met + usize::from(kept), all + 1))
    }

    pub fn policy_of(&self, source: &str) -> Option<&PolicyInForce> {
        self.sources().find(|(_, known)| known.source == source).map(|(policy, _)| policy)
    }
}

impl StoreInForce {
    /// One that the configuration does not describe.
    pub fn named(name: &str, url: String) -> Self {
        StoreInForce { name: name.to_owned(), url, lock: None, keep: None }
    }
}

pub fn policies(configuration: &Configuration) -> Vec<PolicyInForce> {
    let seconds = |objective: Option<std::time::Duration>| objective.and_then(|d| i64::try_from(d.as_secs()).ok());
    let of = |policy: &Policy| PolicyInForce {
        policy: policy.name.clone(),
        stack: policy.stack.clone(),
        schedule: policy.schedule.clone(),
        timezone: policy.timezone.iana_name().map(str::to_owned),
        rpo_seconds: seconds(policy.objectives.rpo),
        rto_seconds: seconds(policy.objectives.rto),
        keep: policy.keep.as_ref().map(ToString::to_string),
        deadline: duration_text(policy.timing.deadline),
        sources: policy
            .sources
            .iter()
            .map(|source| SourceInForce { source: source.name.clone(), engine: source.settings.kind() })
            .collect(),
        takes_labels: policy.labels.is_some(),
    };
    configuration.policies.iter().map(of).collect()
}

pub fn stores(configuration: &Configuration) -> Vec<StoreInForce> {
    let of = |name: &str, store: &StoreSettings, keep: Option<String>| StoreInForce {
        name: name.to_owned(),
        url: store.url.clone(),
        lock: store.object_lock.map(|lock| Lock {
            mode: lock.mode,
            days: match lock.keep {
                LockKeep::Days(days) => Some(days),
                LockKeep::Policy => None,
            },
        }),
        keep,
    };
    let primary = configuration.repository.iter().map(|store| of(crate::policy::PRIMARY, store, None));
    let copies = configuration.copies.iter();
    primary.chain(copies.map(|copy| of(&copy.name, &copy.store, copy.keep.map(|keep| keep.to_string())))).collect()
}

/// How old the secrets are that the configuration refers to, as far as anything says so. `offline`: Vault is not asked.
/// What was rotated is as old as its rotation, by the journal: what is beside it in its secret is written, too.
pub fn credentials(configuration: &Configuration, secrets: &Secrets, offline: bool, state: &State) -> Vec<Credential> {
    // One that is away is not asked for each secret.
    let mut away: Option<String> = offline.then(|| "it was not asked (--offline)".to_owned());
    let rotated = |reference: &SecretRef| {
        let of = |rotation: &Rotation| SecretRef::Vault(rotation.published.clone()) == *reference;
        let (_, rotation) = configuration.rotations().find(|(_, rotation)| of(rotation))?;
        state.rotations.get(&rotation.name)?.rotated.as_ref().map(|(at, _)| *at)
    };
    let of = |(reference, used_by): (SecretRef, String)| {
        if let Some(at) = rotated(&reference) {
            let (changed, known_from) = (Some(at), KnownFrom::Rotation);
            return Credential { reference: reference.to_string(), used_by, changed, known_from, why_unknown: None };
        }
        let is_of_vault = matches!(reference, SecretRef::Vault(_));
        let written = match away.as_ref().filter(|_| is_of_vault) {
            Some(why) => Err(why.clone()),
            None => secrets.written(&reference).map_err(|failure| {
                if is_of_vault && failure.kind() == Kind::TryLater {
                    away = Some(failure.full());
                }
                failure.full()
            }),
        };
        let known_from = match (&written, is_of_vault) {
            (Ok(Some(_)), true) => KnownFrom::Vault,
            (Ok(Some(_)), false) => KnownFrom::File,
            _ => KnownFrom::NotRecorded,
        };
        let why_unknown = written.as_ref().err().cloned();
        let changed = written.ok().flatten();
        Credential { reference: reference.to_string(), used_by, changed, known_from, why_unknown }
    };
    configuration.secrets().into_iter().map(of).collect()
}

/// Compares the calendar with the journal, from when on the configuration is known to have been the one of today.
pub fn unrecorded(
    configuration: &Configuration,
    host: &str,
    (facts, period): (&Facts, &Period),
    now: Timestamp,
) -> Unrecorded {
    let Some(since) = in_force_since(facts) else { return Unrecorded::default() };
    let from = since.max(period.from);
    let until = period.to.min(now.checked_sub(MOMENT).unwrap_or(now));
    let mut found = Unrecorded { compared_from: Some(from), ..Unrecorded::default() };
    for schedule in Schedule::all(configuration, host) {
        let series = facts.schedules.iter().find(|s| s.job == schedule.job && *s.policy == *schedule.policy);
        let known: BTreeSet<Timestamp> = series.into_iter().flat_map(|s| &s.slots).map(|slot| slot.slot).collect();
        for slot in schedule.calendar.after(from).take_while(|slot| *slot < until) {
            found.compared += 1;
            if known.contains(&slot) {
                continue;
            }
            match found.missing.len() < LISTED {
                true => {
                    found.missing.push(MissingSlot { job: schedule.job, policy: schedule.policy.clone(), slot });
                }
                false => found.more += 1,
            }
        }
    }
    found
}

/// When the configuration that was loaded last was loaded first.
fn in_force_since(facts: &Facts) -> Option<Timestamp> {
    let good: Vec<_> = facts.configurations.iter().filter(|loaded| loaded.ok).collect();
    let digest = &good.last()?.digest;
    good.iter().rev().take_while(|loaded| loaded.digest == *digest).last().map(|loaded| loaded.mark.at)
}
