//! What each channel is still to be told: tried until it arrives or is old news.
//!
//! One post at a time delivers for a host, the daemon's or that of a run without one; it holds a lock meanwhile. What is waiting
//! is never written down: it follows from the journal, which also says what has arrived.
//! A clock that was ahead silences nobody: no instant of the future is waited for.

use super::desk::{About, Desk, News};
use super::{Letter, Place, deliver};
use crate::durable::{self, Lock};
use crate::error::{Context, Failure, Result};
use crate::journal::{Fact, Follower, Journal, Record};
use crate::policy::{Carrier, Channel, Digest, Topic};
use crate::secret::Secrets;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What could not be told by then is not told any more; what was told is remembered twice as long.
const OLD: SignedDuration = SignedDuration::from_hours(24);
/// A ping says how things are now.
const OLD_PING: SignedDuration = SignedDuration::from_mins(60);
/// What happens in the same moment is told in one letter.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(60);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

pub struct Post {
    journal: Journal,
    follower: Follower,
    desk: Desk,
    lines: Vec<Line>,
    /// What arrived, by channel and news.
    told: BTreeMap<(String, String), Timestamp>,
    place: Place,
    secrets: Secrets,
    /// Of the first record: digests that were due before it are nobody's.
    since: Option<Timestamp>,
    /// What was there before it was opened has been read.
    follows: bool,
    _lock: Lock,
}

/// One channel and what it is still to be told.
struct Line {
    channel: Channel,
    waiting: Vec<Waiting>,
    /// When it was tried last, without success, and how long it is left alone.
    pause: Option<(Timestamp, SignedDuration)>,
    failures: u32,
    /// When it was last written down that it fails.
    noted: Option<Timestamp>,
}

#[derive(Clone)]
struct Waiting {
    news: News,
    /// When it became known, by the clock of now.
    since: Timestamp,
    /// When this process learned of it as it happened: then no clock makes it old.
    learned: Option<Instant>,
}

impl From<News> for Waiting {
    fn from(news: News) -> Self {
        Waiting { since: news.at, news, learned: None }
    }
}

/// What came of trying one channel.
struct Tried {
    arrived: Vec<String>,
    failure: Option<Failure>,
}

impl Post {
    /// Fails with `Locked` when somebody else delivers for this host.
    pub fn open(state: &Path, channels: Vec<Channel>, place: Place, secrets: Secrets) -> Result<Self> {
        durable::create_private_directory(state).context(|| format!("cannot create {}", state.display()))?;
        let lock = Lock::take(&state.join("notify.lock"), "telling channels")?;
        let journal = Journal::of(state);
        Ok(Post {
            follower: journal.follow(),
            journal,
            desk: Desk::default(),
            lines: channels.into_iter().map(Line::new).collect(),
            told: BTreeMap::new(),
            place,
            secrets,
            since: None,
            follows: false,
            _lock: lock,
        })
    }

    /// After the configuration was read again. What waits for a channel that is still there goes on waiting.
    pub fn change(&mut self, channels: Vec<Channel>, place: Place, secrets: Secrets) {
        (self.place, self.secrets) = (place, secrets);
        let mut before: BTreeMap<String, Line> =
            std::mem::take(&mut self.lines).into_iter().map(|line| (line.channel.name.clone(), line)).collect();
        let line = |channel: Channel| match before.remove(&channel.name) {
            Some(line) => Line { channel, pause: None, ..line },
            None => Line::new(channel),
        };
        self.lines = channels.into_iter().map(line).collect();
    }

    /// Reads what is new, and tells what is due. `settle`: wait a moment for what else may happen.
    pub fn turn(&mut self, now: Timestamp, settle: bool) -> Result<()> {
        let mut records: Vec<Record> = Vec::new();
        self.follower.catch_up(&mut |record| records.push(record.clone()))?;
        for record in &records {
            self.read(record, now);
        }
        self.follows = true;
        self.digests(now);
        self.told.retain(|_, at| now.duration_since(*at) < OLD * 2);
        self.send(now, settle)
    }

    fn read(&mut self, record: &Record, now: Timestamp) {
        self.since = Some(self.since.map_or(record.at, |since| since.min(record.at)));
        if let Fact::Notified { channel, event } = &record.fact {
            self.told.insert((channel.clone(), event.clone()), record.at);
            let lines = self.lines.iter_mut().filter(|line| line.channel.name == *channel);
            lines.for_each(|line| line.waiting.retain(|waiting| waiting.news.id != *event));
        }
        let learned = self.follows.then(Instant::now);
        for news in self.desk.take(record) {
            let waiting = Waiting { since: news.at, news, learned };
            for line in &mut self.lines {
                if line.wants(&waiting.news) && !waiting.is_old(&line.channel, now) {
                    line.waiting.push(waiting.clone());
                }
            }
        }
    }

    fn digests(&mut self, now: Timestamp) {
        let local = now.to_zoned(self.place.zone.clone());
        for line in &mut self.lines {
            if !line.channel.topics.contains(&Topic::Digest) {
                continue;
            }
            let Some(due) = last_due(line.channel.digest, &local) else { continue };
            let id = format!("digest:{}", due.strftime("%Y-%m-%d"));
            let at = due.timestamp();
            let told = self.told.contains_key(&(line.channel.name.clone(), id.clone()));
            let waits = line.waiting.iter().any(|waiting| waiting.news.id == id);
            let is_ours = self.since.is_some_and(|since| since < at) && now.duration_since(at) < OLD;
            if is_ours && !told && !waits {
                let about = About::Digest(self.desk.tally.clone());
                line.waiting.push(News { id, at, policy: None, about }.into());
            }
        }
    }

    fn send(&mut self, now: Timestamp, settle: bool) -> Result<()> {
        let (place, secrets) = (&self.place, &self.secrets);
        let tried: Vec<(usize, Tried)> = std::thread::scope(|scope| {
            let due = self.lines.iter_mut().enumerate().filter_map(|(number, line)| {
                line.look_at(now);
                line.is_due(now, settle).then_some((number, &*line))
            });
            let at_work: Vec<_> =
                due.map(|(number, line)| (number, scope.spawn(move || line.try_now(secrets, place)))).collect();
            at_work.into_iter().filter_map(|(number, thread)| Some((number, thread.join().ok()?))).collect()
        });
        let mut facts = Vec::new();
        for (number, tried) in tried {
            facts.extend(self.lines[number].note(tried, now));
        }
        if facts.is_empty() { Ok(()) } else { self.journal.append(&facts, now).map(drop) }
    }

    /// What could not be delivered yet.
    pub fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }
}

impl Line {
    fn new(channel: Channel) -> Self {
        Line { channel, waiting: Vec::new(), pause: None, failures: 0, noted: None }
    }

    fn wants(&self, news: &News) -> bool {
        let channel = &self.channel;
        let of_policy =
            news.policy.as_ref().is_none_or(|policy| channel.policies.is_empty() || channel.policies.contains(policy));
        // A channel for some policies has no use for what concerns none of them, as a ping of one policy.
        let general = news.policy.is_some() || channel.policies.is_empty();
        let own = match &news.about {
            About::ChannelDown { channel: of, .. } | About::ChannelBack { channel: of, .. } => *of == channel.name,
            _ => false,
        };
        channel.topics.contains(&news.topic()) && of_policy && general && !own
    }

    /// Forgets what is old; what is of a time that has yet to come has waited since now.
    fn look_at(&mut self, now: Timestamp) {
        let channel = &self.channel;
        self.waiting.iter_mut().for_each(|waiting| waiting.since = waiting.since.min(now));
        self.waiting.retain(|waiting| !waiting.is_old(channel, now));
        if self.pause.is_some_and(|(since, _)| since > now) {
            self.pause = None;
        }
        self.noted = self.noted.filter(|noted| *noted <= now);
    }

    fn is_due(&self, now: Timestamp, settle: bool) -> bool {
        let settled = |waiting: &Waiting| !settle || now.duration_since(waiting.since) >= SETTLE;
        let left_alone = self.pause.is_some_and(|(since, wait)| now.duration_since(since) < wait);
        !left_alone && self.waiting.first().is_some_and(settled)
    }

    fn try_now(&self, secrets: &Secrets, place: &Place) -> Tried {
        let ids = |news: &[News]| news.iter().map(|news| news.id.clone()).collect::<Vec<_>>();
        // A ping says one thing.
        let at_once = match self.channel.carrier {
            Carrier::Ping { .. } => 1,
            _ => self.waiting.len().max(1),
        };
        let all: Vec<News> = self.waiting.iter().map(|waiting| waiting.news.clone()).collect();
        let mut arrived = Vec::new();
        for news in all.chunks(at_once) {
            match deliver(&self.channel, secrets, &Letter::about(news, &self.channel, place)) {
                Ok(()) => arrived.extend(ids(news)),
                Err(failure) => return Tried { arrived, failure: Some(failure) },
            }
        }
        Tried { arrived, failure: None }
    }

    /// What is to be written down.
    fn note(&mut self, tried: Tried, now: Timestamp) -> Vec<Fact> {
        let channel = || self.channel.name.clone();
        let mut facts: Vec<Fact> =
            tried.arrived.iter().map(|id| Fact::Notified { channel: channel(), event: id.clone() }).collect();
        match tried.failure {
            None => (self.failures, self.noted, self.pause) = (0, None, None),
            Some(failure) => {
                let event = self.waiting.iter().find(|waiting| !tried.arrived.contains(&waiting.news.id));
                if self.noted.is_none_or(|noted| now.duration_since(noted) >= LONGEST_WAIT) {
                    self.noted = Some(now);
                    let event = event.map(|waiting| waiting.news.id.clone()).unwrap_or_default();
                    facts.push(Fact::NotifyFailed { channel: channel(), event, message: failure.full() });
                }
                let wait = FIRST_WAIT.checked_mul(1 << self.failures.min(6)).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
                self.failures += 1;
                self.pause = Some((now, wait));
            }
        }
        self.waiting.retain(|waiting| !tried.arrived.contains(&waiting.news.id));
        facts
    }
}

impl Waiting {
    fn is_old(&self, channel: &Channel, now: Timestamp) -> bool {
        let limit = if matches!(channel.carrier, Carrier::Ping { .. }) { OLD_PING } else { OLD };
        let age = match self.learned {
            Some(learned) => SignedDuration::try_from(learned.elapsed()).unwrap_or(SignedDuration::MAX),
            None => now.duration_since(self.since),
        };
        age > limit
    }
}

/// The last instant up to now at which a digest was due.
fn last_due(digest: Digest, now: &Zoned) -> Option<Zoned> {
    (0..8).find_map(|back| {
        let day = now.date().checked_sub(i64::from(back).days()).ok()?;
        let due = day.to_datetime(digest.at).to_zoned(now.time_zone().clone()).ok()?;
        let is_day = digest.day.is_none_or(|wanted| day.weekday() == wanted);
        (is_day && due <= *now).then_some(due)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_due_at_its_hour_in_its_zone() {
        let digest = |text: &str| {
            let (day, at) = text.split_once(' ').map_or((None, text), |(day, at)| (Some(day), at));
            let day = day.map(|_| jiff::civil::Weekday::Monday);
            Digest { day, at: jiff::civil::Time::strptime("%H:%M", at).unwrap() }
        };
        let now: Zoned = "2026-11-26T07:59[Europe/Madrid]".parse().unwrap();
        let due =
            |text: &str, now: &Zoned| last_due(digest(text), now).unwrap().strftime("%a %Y-%m-%d %H:%M").to_string();
        assert_eq!(due("08:00", &now), "Wed 2026-11-25 08:00");
        assert_eq!(due("07:59", &now), "Thu 2026-11-26 07:59");
        assert_eq!(due("mon 08:00", &now), "Mon 2026-11-23 08:00");
    }
}
