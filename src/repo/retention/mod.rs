//! Which points of a series stay, and why; which may go, and why. Pure: it is told the points and reads no clock.
//!
//! A point stays as long as one rule wants it. Whatever the rules say, these stay: the newest point, the newest at each level
//! that was proven, pinned ones, all that is not older than a point known to be readable, and every point whose instant is
//! not to be believed ([`instants`]): such a one neither goes nor stands for a day that another could stand for.
//! Days, weeks, months and years are those of the policy's zone; an hour that daylight saving repeats is two hours.
//! Safety backups count for nothing and stay for a time of their own. This decides only; `repo/collect` forgets.

mod instants;

use crate::repo::proof::Level;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, SpanFieldwise, Timestamp, ToSpan, Zoned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// How many points of each period stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
    /// All that is not older than this, counted back from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Age>,
    /// Never fewer than this.
    pub min: u32,
    /// How long safety backups stay.
    pub safety: Age,
}

impl Default for Rules {
    /// No period, and what holds where a policy does not say otherwise.
    fn default() -> Self {
        Rules {
            last: None,
            hourly: None,
            daily: None,
            weekly: None,
            monthly: None,
            yearly: None,
            within: None,
            min: MINIMUM,
            safety: safety_time(),
        }
    }
}

/// What holds where a policy does not say otherwise.
pub const MINIMUM: u32 = 1;
pub fn safety_time() -> Age {
    Age(7.days().fieldwise())
}

/// A time on the calendar: `7d`, `1mo`, `1y 6mo`. A month is as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age(SpanFieldwise);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "expected a time on the calendar, such as 7d, 2w, 1mo or 1y".to_owned();
        let begins = text.starts_with(|c: char| c.is_ascii_digit());
        let span: Span = text.parse().ok().filter(|_| begins).ok_or_else(wrong)?;
        // From any day on: that the arithmetic works at all is seen here and not when it matters.
        let works = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC).checked_sub(span).is_ok();
        if span.signum() > 0 && works { Ok(Age(span.fieldwise())) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Age> for String {
    fn from(age: Age) -> String {
        age.to_string()
    }
}

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0.0)
    }
}

impl Age {
    /// Whole days of the zone, of which some have 23 hours.
    fn before(&self, from: &Zoned) -> Option<Timestamp> {
        from.checked_sub(self.0.0).ok().map(|z| z.timestamp())
    }
}

/// A point as far as its retention is concerned.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `UTC-ID`.
    pub point: String,
    pub sequence: u64,
    /// What the point says it stands for.
    pub at: Timestamp,
    /// When the store first had it, by the store's clock.
    pub stored: Timestamp,
    pub safety: bool,
    pub level: Option<Level>,
    /// Why somebody pinned it.
    pub pinned: Option<String>,
}

/// What is to become of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub point: String,
    pub keep: bool,
    pub reason: String,
}

/// The rules on one series: a decision for each point, oldest first. `now` is the store's clock.
pub fn decide(rules: &Rules, zone: &TimeZone, candidates: &[Candidate], now: Timestamp) -> Vec<Decision> {
    let believed = instants::believe(candidates, now);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| (candidates[i].at, candidates[i].sequence));
    let regular: Vec<usize> = order.iter().copied().filter(|&i| believed[i].is_ok() && !candidates[i].safety).collect();
    let wanted = Wanted::of(rules, zone, candidates, &regular);
    let guard = Guard::of(candidates, &regular);
    let decision = |i: usize| {
        let candidate = &candidates[i];
        let (keep, reason) = match (&candidate.pinned, &believed[i], guard.keeps(candidates, i)) {
            (Some(reason), ..) => (true, format!("pinned: {reason}")),
            (None, Err(why), _) => {
                (true, format!("its instant is not believed ({why}): it stays until it is forgotten by hand"))
            }
            (None, Ok(()), Some(reason)) => (true, reason),
            (None, Ok(()), None) if candidate.safety => safety(rules, zone, candidate, now),
            (None, Ok(()), None) => wanted.decide(i),
        };
        Decision { point: candidate.point.clone(), keep, reason }
    };
    order.into_iter().map(decision).collect()
}

/// Counted by the store's clock, because nothing comes after a safety backup that could be counted instead.
fn safety(rules: &Rules, zone: &TimeZone, candidate: &Candidate, now: Timestamp) -> (bool, String) {
    let time = rules.safety;
    let end = time.before(&now.to_zoned(zone.clone()));
    match end.is_some_and(|end| candidate.stored < end) {
        true => (false, format!("a safety backup older than {time}")),
        false => (true, format!("a safety backup; those stay for {time}")),
    }
}

/// What stays whatever the rules are.
struct Guard {
    newest: Option<usize>,
    /// The newest point proven to each level, and that level.
    proven: BTreeMap<usize, Level>,
    /// Only what is older than this one may go.
    readable: Option<usize>,
}

impl Guard {
    fn of(candidates: &[Candidate], regular: &[usize]) -> Self {
        let newest_at = |level| regular.iter().rev().copied().find(|&i| candidates[i].level >= Some(level));
        let levels = [Level::Readable, Level::Loaded, Level::Equal, Level::Checked];
        let proven = levels.into_iter().filter_map(|level| newest_at(level).map(|i| (i, level))).collect();
        Guard { newest: regular.last().copied(), proven, readable: newest_at(Level::Readable) }
    }

    fn keeps(&self, candidates: &[Candidate], i: usize) -> Option<String> {
        let candidate = &candidates[i];
        if self.newest == Some(i) {
            return Some("the newest point".into());
        }
        if let Some(level) = self.proven.get(&i) {
            return Some(format!("the newest point that is proven {}", level.name()));
        }
        match self.readable {
            None => Some("no point of this source is proven readable yet".into()),
            Some(readable) if candidates[readable].at <= candidate.at => {
                Some("no newer point is proven readable yet".into())
            }
            Some(_) => None,
        }
    }
}

/// One rule that counts periods.
struct Period {
    name: &'static str,
    count: u32,
    of: fn(&Zoned) -> String,
}

impl Period {
    fn all(rules: &Rules) -> Vec<Period> {
        let period = |name, count: Option<u32>, of| Some(Period { name, count: count?, of });
        let all = [
            period("hourly", rules.hourly, |z| z.strftime("%Y-%m-%d %H:00 %:z").to_string()),
            period("daily", rules.daily, |z| z.date().to_string()),
            period("weekly", rules.weekly, |z| week(z.date())),
            period("monthly", rules.monthly, |z| z.strftime("%Y-%m").to_string()),
            period("yearly", rules.yearly, |z| z.strftime("%Y").to_string()),
        ];
        all.into_iter().flatten().collect()
    }
}

fn week(date: Date) -> String {
    let week = date.iso_week_date();
    format!("{}-W{:02}", week.year(), week.week())
}

/// What the rules want of the points that count, by index.
struct Wanted<'a> {
    candidates: &'a [Candidate],
    rules: &'a Rules,
    reasons: BTreeMap<usize, Vec<String>>,
    /// For those that no rule wants: which other point stands for a period of theirs.
    instead: BTreeMap<usize, String>,
}

impl<'a> Wanted<'a> {
    fn of(rules: &'a Rules, zone: &TimeZone, candidates: &'a [Candidate], regular: &[usize]) -> Self {
        let mut wanted = Wanted { candidates, rules, reasons: BTreeMap::new(), instead: BTreeMap::new() };
        let last = rules.last.unwrap_or(0).max(rules.min.max(1));
        for (number, &i) in (1..=last).zip(regular.iter().rev()) {
            let name = if number <= rules.last.unwrap_or(0) { "last" } else { "minimum" };
            wanted.want(i, format!("{name} {number} of {last}"));
        }
        let local: Vec<(usize, Zoned)> =
            regular.iter().rev().map(|&i| (i, candidates[i].at.to_zoned(zone.clone()))).collect();
        for period in Period::all(rules) {
            wanted.count(&period, &local);
        }
        if let (Some(within), Some((_, newest))) = (&rules.within, local.first())
            && let Some(end) = within.before(newest)
        {
            for (i, _) in local.iter().filter(|(i, _)| candidates[*i].at >= end) {
                wanted.want(*i, format!("within {within}"));
            }
        }
        wanted
    }

    fn want(&mut self, i: usize, reason: String) {
        self.reasons.entry(i).or_default().push(reason);
    }

    /// The newest point of each of the newest periods that have one.
    fn count(&mut self, period: &Period, newest_first: &[(usize, Zoned)]) {
        let (mut number, mut current, mut holder) = (0, None, 0);
        for (i, local) in newest_first {
            let name = (period.of)(local);
            if current.as_ref() != Some(&name) {
                (number, holder) = (number + 1, *i);
                if number <= period.count {
                    self.want(*i, format!("{} {number} of {}: {name}", period.name, period.count));
                }
                current = Some(name);
            } else if number <= period.count {
                let id = crate::repo::names::short_id(&self.candidates[holder].point);
                self.instead.insert(*i, format!("{id} stands for {name} ({})", period.name));
            }
        }
    }

    fn decide(&self, i: usize) -> (bool, String) {
        match (self.reasons.get(&i), self.instead.get(&i)) {
            (Some(reasons), _) => (true, reasons.join(", ")),
            (None, Some(instead)) => (false, instead.clone()),
            (None, None) => (false, format!("beyond what is kept: {}", self.rules)),
        }
    }
}

impl Rules {
    /// Whether these may give up a point that `other` keeps.
    pub fn is_narrower_than(&self, other: &Rules) -> bool {
        let counts = |r: &Rules| [r.last, r.hourly, r.daily, r.weekly, r.monthly, r.yearly, Some(r.min)];
        let fewer = counts(self).into_iter().zip(counts(other)).any(|(new, old)| new < old);
        // Compared on one day: `1mo` and `30d` have no order of their own.
        let reach = |age: Option<Age>| age.map(|age| age.before(&Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)));
        let shorter = |new: Option<Age>, old: Option<Age>| match (reach(new), reach(old)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(new), Some(old)) => new > old,
        };
        fewer || shorter(self.within, other.within) || shorter(Some(self.safety), Some(other.safety))
    }
}

impl std::fmt::Display for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            ("last", self.last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ];
        let mut parts: Vec<String> =
            counts.into_iter().filter_map(|(name, count)| Some(format!("{name} {}", count?))).collect();
        parts.extend(self.within.as_ref().map(|within| format!("within {within}")));
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests;
