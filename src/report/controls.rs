//! The controls of `bkp audit`: what should hold now for every source, judged one by one. Pure.
//!
//! A control passes when it was judged and nothing fails; what could not be seen is not known, and no pass. Each thing that
//! fails is named, with the next step.

use super::basis::{Basis, PolicyInForce, Seen};
use super::repository::RepositoryFacts;
use crate::job::copy::state::Standing as Copy;
use crate::job::discover::Coverage;
use crate::policy::{AuditSettings, Configuration, Keep, PRIMARY, Policy, duration_text};
use crate::repo::keys::{NamedRecipient, Role};
use crate::schedule::Calendar;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Control {
    pub control: &'static str,
    pub title: &'static str,
    /// What is measured by.
    pub wanted: String,
    pub standing: Standing,
    /// How many things were looked at.
    pub judged: u64,
    pub failing: Vec<Finding>,
    pub unknown: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Passed,
    Failed,
    NotKnown,
    /// There is nothing that it is about.
    NothingToJudge,
}

/// One thing that fails, or of which it is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// A source, a policy, a credential.
    pub what: String,
    pub why: String,
    pub next: String,
}

/// A control in the making.
struct Judging {
    control: Control,
}

impl Judging {
    fn of(control: &'static str, title: &'static str, wanted: impl Into<String>) -> Self {
        let (wanted, standing) = (wanted.into(), Standing::NothingToJudge);
        Judging { control: Control { control, title, wanted, standing, judged: 0, failing: vec![], unknown: vec![] } }
    }

    /// Nothing: it is well.
    fn judge(&mut self, what: &str, fault: Option<(String, String)>) {
        self.control.judged += 1;
        let finding = fault.map(|(why, next)| Finding { what: what.to_owned(), why, next });
        self.control.failing.extend(finding);
    }

    fn unknown(&mut self, what: &str, why: &str, next: &str) {
        let (what, why, next) = (what.to_owned(), why.to_owned(), next.to_owned());
        self.control.unknown.push(Finding { what, why, next });
    }

    fn done(mut self) -> Control {
        self.control.standing = match (&self.control.failing[..], &self.control.unknown[..], self.control.judged) {
            ([_, ..], _, _) => Standing::Failed,
            ([], [_, ..], _) => Standing::NotKnown,
            ([], [], 0) => Standing::NothingToJudge,
            ([], [], _) => Standing::Passed,
        };
        self.control
    }
}

/// What is judged, and by what.
pub struct Audited<'a> {
    pub basis: &'a Basis,
    pub configuration: &'a Configuration,
    pub settings: &'a AuditSettings,
}

pub fn judge(audited: &Audited<'_>) -> Vec<Control> {
    vec![
        audited.in_a_policy(),
        audited.frequency(),
        audited.recent_point(),
        audited.retention(),
        audited.encryption(),
        audited.copies(),
        audited.immutability(),
        audited.rehearsed(),
        audited.rto(),
        audited.credentials(),
        audited.keys(),
    ]
}

impl Audited<'_> {
    fn now(&self) -> Timestamp {
        self.basis.made_at
    }

    fn sources(&self) -> impl Iterator<Item = (&PolicyInForce, &str)> {
        self.basis.sources().map(|(policy, source)| (policy, source.source.as_str()))
    }

    fn in_a_policy(&self) -> Control {
        let mut judging =
            Judging::of("in_a_policy", "Everything on this host is in a policy", "nothing is unprotected");
        match &self.basis.surroundings {
            Seen::NotSeen(why) => judging.unknown("containers and volumes", why, "bkp doctor"),
            Seen::Seen(found) => {
                for one in found {
                    let fault = (one.coverage == Coverage::NotProtected)
                        .then(|| ("no policy backs it up".to_owned(), "bkp discover".to_owned()));
                    judging.judge(&one.name, fault);
                }
            }
        }
        if self.sources().next().is_none() {
            let fault = ("no source is configured".to_owned(), "bkp discover --write".to_owned());
            judging.judge("configuration", Some(fault));
        }
        judging.done()
    }

    fn frequency(&self) -> Control {
        let wanted = self.settings.frequency;
        let title = "Every policy runs often enough";
        let mut judging = Judging::of("frequency", title, format!("at least every {}", duration_text(wanted)));
        for policy in &self.configuration.policies {
            let next = "give it a `schedule` that runs more often".to_owned();
            let fault = match self.longest_wait(policy) {
                None => Some(("it has no schedule".to_owned(), next)),
                // Daylight saving makes one day of the year an hour longer.
                Some(wait) if wait.as_secs() > wanted.as_secs() as i64 + 3600 => {
                    Some((format!("up to {} pass between two runs", crate::watch::span(wait.as_secs())), next))
                }
                Some(_) => None,
            };
            judging.judge(&policy.name, fault);
        }
        judging.done()
    }

    /// Between two slots of the next weeks.
    fn longest_wait(&self, policy: &Policy) -> Option<SignedDuration> {
        let calendar = Calendar::new(policy.schedule.as_deref()?, policy.timezone.clone())?;
        let slots: Vec<Timestamp> = calendar.after(self.now()).take(100).collect();
        slots.windows(2).map(|pair| pair[1].duration_since(pair[0])).max()
    }

    fn recent_point(&self) -> Control {
        let title = "Every source has a point as young as its objective asks";
        let mut judging = Judging::of("recent_point", title, "RPO of the policy, else the frequency");
        for (policy, source) in self.sources() {
            let most = policy.rpo_seconds.unwrap_or(self.settings.frequency.as_secs() as i64);
            let next = format!("bkp backup {source}");
            let newest = match &self.basis.repository {
                Seen::NotSeen(why) => {
                    judging.unknown(source, why, "bkp doctor");
                    continue;
                }
                Seen::Seen(repository) => repository.newest(source),
            };
            let fault = match newest {
                None => Some(("it has no point".to_owned(), next)),
                Some(point) => {
                    let age = self.now().duration_since(point.consistent_at).as_secs();
                    let (age_text, most_text) = (crate::watch::span(age), crate::watch::span(most));
                    (age > most).then(|| (format!("its newest point is {age_text} old; {most_text} are allowed"), next))
                }
            };
            judging.judge(source, fault);
        }
        judging.done()
    }

    fn retention(&self) -> Control {
        let wanted = self.settings.retention;
        let title = "Points are kept long enough";
        let mut judging = Judging::of("retention", title, format!("for at least {}", duration_text(wanted)));
        for policy in &self.configuration.policies {
            let wait = self.longest_wait(policy);
            let reach = policy.keep.as_ref().map(|keep| reach(keep, wait, self.now(), policy));
            let fault = reach.filter(|reach| reach.as_secs() < wanted.as_secs() as i64).map(|reach| {
                let kept = crate::watch::span(reach.as_secs());
                (format!("points are kept for about {kept}"), "keep more in its `keep`".to_owned())
            });
            judging.judge(&policy.name, fault);
        }
        judging.done()
    }

    fn encryption(&self) -> Control {
        let mut judging =
            Judging::of("encryption", "Every point is encrypted and signed", "all points can be opened and believed");
        match &self.basis.repository {
            Seen::NotSeen(why) => judging.unknown("repository", why, "bkp doctor"),
            Seen::Seen(repository) => {
                repository.points.iter().for_each(|point| judging.judge(&point.point, None));
                for broken in &repository.broken {
                    judging.judge(&broken.object, Some((broken.problem.clone(), "bkp check".to_owned())));
                }
            }
        }
        judging.done()
    }

    fn copies(&self) -> Control {
        let wanted = self.settings.copies;
        let title = "There are good copies elsewhere";
        let mut judging = Judging::of("copy_elsewhere", title, format!("at least {wanted} besides the repository"));
        match &self.basis.copies {
            Seen::NotSeen(why) => judging.unknown("copies", why, "bkp copies"),
            Seen::Seen(states) => {
                let elsewhere = states.iter().filter(|state| state.name != PRIMARY);
                let good = elsewhere.clone().filter(|state| state.standing == Copy::Good).count() as u64;
                let bad = elsewhere.filter(|state| state.standing != Copy::Good).map(|state| state.name.as_str());
                let bad: Vec<&str> = bad.collect();
                let next = match bad[..] {
                    [] => "name a further store in `copies:` of the main file, then: bkp copy --create NAME".to_owned(),
                    _ => format!("bkp copies; bkp copy {}", bad.join(" ")),
                };
                let why = format!("{good} good, {wanted} wanted");
                for (_, source) in self.sources() {
                    judging.judge(source, (good < wanted).then(|| (why.clone(), next.clone())));
                }
            }
        }
        judging.done()
    }

    fn immutability(&self) -> Control {
        let title = "The newest points are locked against deletion";
        let mut judging = Judging::of("immutability", title, "object lock, read back from the store");
        if !self.settings.immutable {
            return judging.done();
        }
        match &self.basis.repository {
            Seen::NotSeen(why) => judging.unknown("repository", why, "bkp doctor"),
            Seen::Seen(repository) => {
                for (_, source) in self.sources() {
                    let lock = repository.locks.get(source).copied().flatten();
                    let why = match lock {
                        Some(lock) if lock.until > self.now() => None,
                        Some(lock) => Some(format!("its lock ended at {}", lock.until)),
                        None if repository.can_lock() => Some("its newest point is not locked".to_owned()),
                        None => Some("the store cannot lock objects".to_owned()),
                    };
                    let next = match repository.can_lock() {
                        true => "set `object_lock` for the repository, then: bkp backup",
                        false => "use a bucket that was made with object lock (docs/STORES.md)",
                    };
                    judging.judge(source, why.map(|why| (why, next.to_owned())));
                }
            }
        }
        judging.done()
    }

    fn rehearsed(&self) -> Control {
        let wanted = self.settings.rehearsed;
        let title = "Every source was restored in a test that passed";
        let mut judging = Judging::of("rehearsed", title, format!("within {}", duration_text(wanted)));
        for (_, source) in self.sources() {
            let facts = &self.basis.facts;
            let tests = facts.tests().filter(|test| test.rehearsed.source == source);
            let tests = tests.map(|test| (test.mark.at, test.is_restored(), String::new()));
            let fruitless = facts.fruitless().filter(|(run, _)| run.source.as_deref() == Some(source));
            let fruitless = fruitless.map(|(_, end)| {
                let why = end.message.as_deref().map_or(String::new(), |why| format!(": {why}"));
                (end.mark.at, false, why)
            });
            // What passed before a test that did not says nothing of the newest points.
            let why = match tests.chain(fruitless).max_by_key(|(at, ..)| *at) {
                None => Some("no restore test is recorded".to_owned()),
                Some((at, false, why)) => Some(format!("the last test, of {at}, did not pass{why}")),
                Some((at, true, _)) if self.now().duration_since(at).as_secs() > wanted.as_secs() as i64 => {
                    Some(format!("the last test is of {at}"))
                }
                Some(_) => None,
            };
            judging.judge(source, why.map(|why| (why, format!("bkp rehearse {source}"))));
        }
        judging.done()
    }

    fn rto(&self) -> Control {
        let mut judging = Judging::of("rto_met", "The last restore test that passed kept the RTO", "RTO of the policy");
        for (policy, source) in self.sources() {
            let Some(objective) = policy.rto_seconds else { continue };
            let tests = self.basis.facts.tests();
            match tests.filter(|test| test.rehearsed.source == source && test.is_restored()).last() {
                None => judging.unknown(
                    source,
                    "no restore test that passed is recorded",
                    &format!("bkp rehearse {source}"),
                ),
                Some(test) => {
                    let took = test.rehearsed.rto_seconds;
                    let why =
                        format!("it took {}; {} are allowed", crate::watch::took(took), crate::watch::span(objective));
                    let next = "restore from nearer, or with more processors; or raise the objective".to_owned();
                    judging.judge(source, (took > objective as f64).then_some((why, next)));
                }
            }
        }
        judging.done()
    }

    fn credentials(&self) -> Control {
        let wanted = self.settings.credential_age;
        let title = "No credential is too old";
        let mut judging = Judging::of("credential_age", title, format!("at most {}", duration_text(wanted)));
        for credential in &self.basis.credentials {
            match credential.changed {
                None => {
                    let why = credential.why_unknown.as_deref().unwrap_or("nothing records its age");
                    judging.unknown(&credential.reference, why, "look where it is kept");
                }
                Some(at) => {
                    let age = self.now().duration_since(at).as_secs();
                    let why = format!("it is {} old (used by {})", crate::watch::span(age), credential.used_by);
                    let next = "change it where it is used and where it is kept".to_owned();
                    judging.judge(&credential.reference, (age > wanted.as_secs() as i64).then_some((why, next)));
                }
            }
        }
        judging.done()
    }

    fn keys(&self) -> Control {
        let wanted = self.settings.key_age;
        let title = "No key of bkp itself is too old";
        let mut judging = Judging::of("key_age", title, format!("at most {}", duration_text(wanted)));
        match &self.basis.repository {
            Seen::NotSeen(why) => judging.unknown("repository", why, "bkp doctor"),
            Seen::Seen(repository) => {
                for (what, since, next) in own_keys(repository) {
                    let age = self.now().duration_since(since).as_secs();
                    let why = format!("it is {} old", crate::watch::span(age));
                    judging.judge(&what, (age > wanted.as_secs() as i64).then_some((why, next)));
                }
            }
        }
        judging.done()
    }
}

/// The keys that data of this host is sealed to and signed with today, since when they are in use, and how each is changed.
fn own_keys(repository: &RepositoryFacts) -> Vec<(String, Timestamp, String)> {
    let mut keys = Vec::new();
    for NamedRecipient { name, role, added, .. } in &repository.readers {
        let word = match role {
            Role::Operator => "operator",
            Role::Rehearser => "rehearser",
        };
        let next = format!(
            "age-keygen -o new.txt; bkp rotate recipients {name}=$(age-keygen -y new.txt) --identity OLD --new-identity new.txt (docs/ROTATION_KEYS.md)"
        );
        keys.push((format!("key of {name} ({word})"), *added, next));
    }
    let Some(host) = &repository.this_host else { return keys };
    let epoch = repository.epochs.iter().find(|epoch| epoch.number == host.epoch);
    keys.extend(
        epoch.map(|epoch| (format!("data key {}", epoch.number), epoch.stored, "bkp keys new-epoch".to_owned())),
    );
    let writer = repository.writers.iter().find(|writer| writer.writer == host.writer);
    keys.extend(writer.map(|writer| {
        let next = "move its writer.json away and join anew: bkp init --join; new series begin with it (docs/KEYS.md)";
        (format!("signing key of this host ({})", writer.name), writer.created, next.to_owned())
    }));
    keys
}

/// How far back the rules keep points at least, when there is one for each slot.
fn reach(keep: &Keep, wait: Option<SignedDuration>, now: Timestamp, policy: &Policy) -> SignedDuration {
    let count = |count: Option<u32>, hours: i64| SignedDuration::from_hours(i64::from(count.unwrap_or(0)) * hours);
    let last = i64::from(keep.last.unwrap_or(0).max(keep.min)) * wait.map_or(0, |wait| wait.as_secs());
    let zoned = now.to_zoned(policy.timezone.clone());
    let within = keep.within.and_then(|age| age.after(&zoned)).map(|until| until.duration_since(now));
    let all = [
        SignedDuration::from_secs(last),
        count(keep.hourly, 1),
        count(keep.daily, 24),
        count(keep.weekly, 7 * 24),
        count(keep.monthly, 30 * 24),
        count(keep.yearly, 365 * 24),
        within.unwrap_or_default(),
    ];
    all.into_iter().max().unwrap_or_default()
}
