//! From records of the journal to news: what somebody would want to know, once.
//!
//! Pure. A source that keeps failing is told of when it begins, once a day while it lasts, and when it is well again.
//! Runs that belong to a slot are judged when the slot ends, because until then they may be tried again. When something has
//! been tried in vain for [`PATIENCE`], all that is in vain is told of at once: most often it is one store that is down.

use super::tally::Tally;
use crate::journal::{EVERY_POLICY, Fact, Job, Outcome, Reason, Record, RunEnded, RunStarted, SlotEnd, SlotId};
use crate::policy::Topic;
use crate::repo::names::CONFIGURATION;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What lasts is told again after so long.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);
/// So long may something be tried again before somebody is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);
const INTERRUPTED: u8 = 130;

#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Always the same for the same thing, so that it is told once.
    pub id: String,
    pub at: Timestamp,
    pub policy: Option<String>,
    pub about: About,
}

#[derive(Clone, Debug, PartialEq)]
pub enum About {
    Failed {
        job: Job,
        /// The source; else the policy or copy.
        name: String,
        message: String,
        hint: Option<String>,
        /// When the first of these failures was.
        since: Timestamp,
        /// The last time that it went well.
        last_good: Option<Timestamp>,
    },
    Missed {
        job: Job,
        slot: Timestamp,
        why: Option<String>,
    },
    Recovered {
        job: Job,
        name: String,
        since: Timestamp,
    },
    Held {
        source: String,
        why: String,
    },
    NotReloaded {
        error: String,
    },
    Reloaded {
        /// When the configuration was first found wrong.
        since: Timestamp,
    },
    ChannelDown {
        channel: String,
        message: String,
    },
    ChannelBack {
        channel: String,
        since: Timestamp,
    },
    Started {
        job: Job,
        name: String,
    },
    Well {
        job: Job,
        name: String,
    },
    Digest(Tally),
}

impl News {
    pub fn topic(&self) -> Topic {
        match self.about {
            About::Failed { .. } => Topic::Failure,
            About::Missed { .. } => Topic::Missed,
            About::Recovered { .. } | About::Reloaded { .. } | About::ChannelBack { .. } => Topic::Recovery,
            About::Held { .. } => Topic::Anomaly,
            About::NotReloaded { .. } => Topic::Configuration,
            About::ChannelDown { .. } => Topic::Notifier,
            About::Started { .. } => Topic::Start,
            About::Well { .. } => Topic::Success,
            About::Digest(_) => Topic::Digest,
        }
    }
}

/// Something that may fail for a while. What is copied is told by copy, because a store that is down fails everything that is to
/// be copied to it; it works again when all that failed has been copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Runs(Job, String),
    Schedule(Job, String),
    Copy(String),
    Configuration,
    Channel(String),
}

impl Thing {
    /// What is done to what.
    fn subject(&self) -> (Job, String) {
        match self {
            Thing::Runs(job, name) | Thing::Schedule(job, name) => (*job, name.clone()),
            Thing::Copy(name) | Thing::Channel(name) => (Job::Copy, name.clone()),
            Thing::Configuration => (Job::Backup, "configuration".to_owned()),
        }
    }
}

struct Failing {
    since: Timestamp,
    told: Timestamp,
}

impl Failing {
    /// What was told while the clock was ahead is to be told again.
    fn is_to_be_told(&self, at: Timestamp) -> bool {
        self.told > at || at.duration_since(self.told) >= AGAIN
    }
}

/// A run that is not done with.
struct Run {
    begun: Timestamp,
    started: RunStarted,
    ended: Option<RunEnded>,
}

/// What failed in a slot that is not over.
struct InVain {
    /// When the first try began.
    since: Timestamp,
    started: RunStarted,
    /// How the last one ended.
    ended: RunEnded,
}

#[derive(Default)]
pub struct Desk {
    failing: BTreeMap<Thing, Failing>,
    good: BTreeMap<Thing, Timestamp>,
    /// Of each copy, the sources whose last point did not get there.
    not_copied: BTreeMap<String, BTreeSet<String>>,
    runs: BTreeMap<String, Run>,
    /// By slot, job, policy and name.
    in_vain: BTreeMap<(Timestamp, Job, String, String), InVain>,
    pub tally: Tally,
}

impl Desk {
    pub fn take(&mut self, record: &Record) -> Vec<News> {
        self.tally.take(record);
        let (at, seq) = (record.at, record.seq);
        match &record.fact {
            Fact::RunStarted(run) => self.started(run, at),
            Fact::RunEnded(run) => self.ended(run, at),
            Fact::SlotEnded { id, end, why, runs } => self.slot(id, *end, why.as_deref(), runs, at),
            Fact::HoldPlaced { source, why } => {
                let about = About::Held { source: source.clone(), why: why.clone() };
                vec![News { id: format!("hold:{source}:{seq}"), at, policy: None, about }]
            }
            Fact::ConfigLoaded { ok: true, .. } => self.well(Thing::Configuration, None, seq, at),
            Fact::ConfigLoaded { error, .. } => {
                let error = error.clone().unwrap_or_default();
                let told = self.fails(Thing::Configuration, at);
                let news =
                    |_| News { id: format!("reload:{seq}"), at, policy: None, about: About::NotReloaded { error } };
                told.map(news).into_iter().collect()
            }
            Fact::CopyEnded { copy, source, ok, message, .. } => {
                let why = message.as_deref().unwrap_or("it did not come about");
                self.copied((copy, source), (!ok).then_some(why), seq, at)
            }
            Fact::Notified { channel, .. } => self.well(Thing::Channel(channel.clone()), None, seq, at),
            Fact::NotifyFailed { channel, message, .. } => {
                let about = About::ChannelDown { channel: channel.clone(), message: message.clone() };
                let news = |_| News { id: format!("channel:{channel}:{seq}"), at, policy: None, about };
                self.fails(Thing::Channel(channel.clone()), at).map(news).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn started(&mut self, run: &RunStarted, at: Timestamp) -> Vec<News> {
        self.runs.insert(run.run.clone(), Run { begun: at, started: run.clone(), ended: None });
        let name = name_of(run);
        let is_first = run.slot.is_none_or(|slot| {
            let same = |other: &&Run| other.started.slot == Some(slot) && other.started.policy == run.policy;
            self.runs.values().filter(same).count() == 1
        });
        let news = News {
            id: format!("start:{}", run.run),
            at,
            policy: run.policy.clone(),
            about: About::Started { job: run.job, name },
        };
        if is_first && !is_beside(run) { vec![news] } else { Vec::new() }
    }

    fn ended(&mut self, ended: &RunEnded, at: Timestamp) -> Vec<News> {
        let Some(run) = self.runs.get_mut(&ended.run) else { return Vec::new() };
        run.ended = Some(ended.clone());
        if let Some(slot) = run.started.slot {
            return self.tried(slot, &ended.run, at);
        }
        let Some(Run { started, .. }) = self.runs.remove(&ended.run) else { return Vec::new() };
        let mut news = self.judge(&started, ended, at);
        if ended.outcome.is_good() && !is_beside(&started) {
            news.push(well(&started, &ended.run, at));
        }
        news
    }

    /// A run that may be tried again.
    fn tried(&mut self, slot: Timestamp, run: &str, at: Timestamp) -> Vec<News> {
        let Some(Run { begun, started, ended: Some(ended) }) = self.runs.get(run) else { return Vec::new() };
        let policy = started.policy.as_deref().unwrap_or(EVERY_POLICY);
        let key = (slot, started.job, policy.to_owned(), name_of(started));
        if ended.outcome.is_good() {
            self.in_vain.remove(&key);
            return Vec::new();
        }
        // What was ended from outside says nothing of what it was at.
        if ended.outcome != Outcome::Failed || ended.stood_back() {
            return Vec::new();
        }
        let since = self.in_vain.get(&key).map_or(*begun, |before| before.since);
        self.in_vain.insert(key, InVain { since, started: started.clone(), ended: ended.clone() });
        if at.duration_since(since) < PATIENCE {
            return Vec::new();
        }
        let in_vain = std::mem::take(&mut self.in_vain);
        let news = in_vain.values().flat_map(|one| self.judge(&one.started, &one.ended, at)).collect();
        self.in_vain = in_vain;
        news
    }

    /// One run whose outcome is final, or in vain for long.
    fn judge(&mut self, started: &RunStarted, ended: &RunEnded, at: Timestamp) -> Vec<News> {
        // Of copies it is told point by point.
        if started.job == Job::Copy && is_beside(started) {
            return Vec::new();
        }
        let name = name_of(started);
        let thing = Thing::Runs(started.job, name.clone());
        if ended.outcome.is_good() {
            return self.well(thing, started.policy.as_deref(), &ended.run, at);
        }
        if ended.stood_back() {
            return Vec::new();
        }
        // Who ends a run by hand knows of it.
        if ended.outcome == Outcome::Aborted && ended.code == INTERRUPTED && started.reason == Reason::Manual {
            return Vec::new();
        }
        let message = ended.message.clone().unwrap_or_else(|| "it failed, and did not say why".to_owned());
        let what = (message, ended.hint.clone());
        self.bad(thing, started.policy.as_deref(), &format!("failure:{}", ended.run), what, at)
    }

    fn slot(&mut self, id: &SlotId, end: SlotEnd, why: Option<&str>, runs: &[String], at: Timestamp) -> Vec<News> {
        let schedule = Thing::Schedule(id.job, id.policy.clone());
        let mut last: BTreeMap<String, Run> = BTreeMap::new();
        for run in runs.iter().filter_map(|run| self.runs.remove(run)) {
            last.insert(name_of(&run.started), run);
        }
        self.runs.retain(|_, run| run.started.slot != Some(id.slot) || run.started.policy.as_ref() != Some(&id.policy));
        self.in_vain.retain(|(slot, job, policy, _), _| (*slot, *job, policy) != (id.slot, id.job, &id.policy));
        let mut news = Vec::new();
        for run in last.values() {
            if let Some(ended) = &run.ended {
                news.extend(self.judge(&run.started, ended, at));
            }
        }
        let some_failed = last
            .values()
            .any(|run| run.ended.as_ref().is_some_and(|ended| !ended.outcome.is_good() && !ended.stood_back()));
        let policy = (id.policy != EVERY_POLICY).then_some(id.policy.as_str());
        let key = format!("{}@{}", id.policy, id.slot);
        match end {
            SlotEnd::Done => {
                news.extend(self.well(schedule, policy, &key, at));
                let about = About::Well { job: id.job, name: id.policy.clone() };
                news.push(News { id: format!("well:{key}"), at, policy: policy.map(str::to_owned), about });
            }
            SlotEnd::Failed if !some_failed => {
                let message = why.unwrap_or("nothing came of it, and nobody said why").to_owned();
                news.extend(self.bad(schedule, policy, &format!("failure:{key}"), (message, None), at));
            }
            SlotEnd::Missed => {
                let about = About::Missed { job: id.job, slot: id.slot, why: why.map(str::to_owned) };
                let told = self.fails(schedule, at);
                let missed = |_| News { id: format!("missed:{key}"), at, policy: policy.map(str::to_owned), about };
                news.extend(told.map(missed));
            }
            SlotEnd::Failed | SlotEnd::Skipped => {}
        }
        news
    }

    fn copied(&mut self, (copy, source): (&str, &str), why: Option<&str>, seq: u64, at: Timestamp) -> Vec<News> {
        let bad = self.not_copied.entry(copy.to_owned()).or_default();
        let thing = Thing::Copy(copy.to_owned());
        let Some(why) = why else {
            bad.remove(source);
            return if bad.is_empty() { self.well(thing, None, seq, at) } else { Vec::new() };
        };
        bad.insert(source.to_owned());
        let others: Vec<&str> = bad.iter().filter(|other| *other != source).map(String::as_str).collect();
        let also = if others.is_empty() { String::new() } else { format!(" (and: {})", others.join(", ")) };
        let message = format!("{source}: {why}{also}");
        self.bad(thing, None, &format!("copy:{seq}"), (message, None), at)
    }

    /// Since when it fails, if that is to be told now.
    fn fails(&mut self, thing: Thing, at: Timestamp) -> Option<Timestamp> {
        match self.failing.get_mut(&thing) {
            Some(failing) if !failing.is_to_be_told(at) => None,
            Some(failing) => {
                (failing.told, failing.since) = (at, failing.since.min(at));
                Some(failing.since)
            }
            None => {
                self.failing.insert(thing, Failing { since: at, told: at });
                Some(at)
            }
        }
    }

    fn bad(
        &mut self,
        thing: Thing,
        policy: Option<&str>,
        id: &str,
        (message, hint): (String, Option<String>),
        at: Timestamp,
    ) -> Vec<News> {
        let last_good = self.good.get(&thing).copied();
        let (job, name) = thing.subject();
        let Some(since) = self.fails(thing, at) else { return Vec::new() };
        let about = About::Failed { job, name, message, hint, since, last_good };
        vec![News { id: id.to_owned(), at, policy: policy.map(str::to_owned), about }]
    }

    fn well(&mut self, thing: Thing, policy: Option<&str>, id: impl std::fmt::Display, at: Timestamp) -> Vec<News> {
        self.good.insert(thing.clone(), at);
        let Some(Failing { since, .. }) = self.failing.remove(&thing) else { return Vec::new() };
        let (job, name) = thing.subject();
        let about = match thing {
            Thing::Configuration => About::Reloaded { since },
            Thing::Channel(channel) => About::ChannelBack { channel, since },
            _ => About::Recovered { job, name, since },
        };
        vec![News { id: format!("recovery:{id}"), at, policy: policy.map(str::to_owned), about }]
    }
}

/// What another run brings along: that it begins or goes well is no news.
fn is_beside(run: &RunStarted) -> bool {
    let is_own = run.source.as_deref() == Some(CONFIGURATION);
    run.reason == Reason::Safety || is_own || (run.job == Job::Copy && run.reason != Reason::Manual)
}

fn name_of(run: &RunStarted) -> String {
    let named = run.source.clone().or_else(|| run.policy.clone());
    named.unwrap_or_else(|| EVERY_POLICY.to_owned())
}

fn well(run: &RunStarted, id: &str, at: Timestamp) -> News {
    let about = About::Well { job: run.job, name: name_of(run) };
    News { id: format!("well:{id}"), at, policy: run.policy.clone(), about }
}

#[cfg(test)]
mod tests;
