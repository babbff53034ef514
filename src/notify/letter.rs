//! From news to a letter: subject and text in the language of the channel, with as much detail as it may show.
//!
//! Plain text without control characters, whatever a server has said; each carrier escapes it for itself.

use super::desk::{About, News};
use super::tally::Tally;
use super::words::Words;
use crate::journal::EVERY_POLICY;
use crate::policy::{Channel, Detail, Digest, Topic};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// Where the letters come from.
#[derive(Clone, Debug)]
pub struct Place {
    pub host: String,
    pub zone: TimeZone,
}

/// What one channel is told at once.
#[derive(Clone, Debug)]
pub struct Letter {
    pub host: String,
    pub subject: String,
    pub text: String,
    /// The same for programs: one for each piece of news.
    pub events: Vec<serde_json::Value>,
    /// The gravest of what is told.
    pub topic: Topic,
    /// Of the first piece of news.
    pub id: String,
}

/// A letter names no more than this many things one by one.
const MOST: usize = 20;

impl Letter {
    /// `news` is not empty.
    pub fn about(news: &[News], channel: &Channel, place: &Place) -> Self {
        let words = Words::of(channel.language);
        let full = channel.detail == Detail::Full;
        let topic = news.iter().map(News::topic).min().unwrap_or(Topic::Failure);
        let titles: Vec<String> = news.iter().map(|one| title(one, words, full)).collect();
        let more = match titles.len() {
            0 | 1 => String::new(),
            number => format!(" (+{} {})", number - 1, words.more),
        };
        let first = news.iter().position(|one| one.topic() == topic).unwrap_or_default();
        let subject = format!("bkp {}: {}{more}", place.host, titles.get(first).map_or("", String::as_str));
        let mut paragraphs: Vec<String> = Vec::new();
        for (one, title) in news.iter().zip(&titles).take(MOST) {
            let details = if full { details(one, words, channel.digest, place) } else { Vec::new() };
            let lines = details.into_iter().map(|(label, value)| format!("  {label} {}", plain(&value)));
            paragraphs.push([title.clone()].into_iter().chain(lines).collect::<Vec<_>>().join("\n"));
        }
        if news.len() > MOST {
            paragraphs.push(format!("+{} {}", news.len() - MOST, words.more));
        }
        if !matches!(topic, Topic::Digest | Topic::Success | Topic::Start) {
            paragraphs.push(words.look.to_owned());
        }
        Letter {
            host: place.host.clone(),
            subject: plain(&subject),
            text: paragraphs.join("\n\n"),
            events: news.iter().map(|one| event(one, full)).collect(),
            topic,
            id: news.first().map(|one| one.id.clone()).unwrap_or_default(),
        }
    }

    /// What `bkp notify test` sends.
    pub fn test(channel: &Channel, place: &Place, now: Timestamp) -> Self {
        let words = Words::of(channel.language);
        Letter {
            host: place.host.clone(),
            subject: format!("bkp {}: {}", place.host, words.test),
            text: words.test_text.to_owned(),
            events: vec![serde_json::json!({ "topic": "test", "at": now })],
            topic: Topic::Success,
            id: format!("test:{now}"),
        }
    }
}

fn title(news: &News, words: &Words, full: bool) -> String {
    let of = |job, name: &str| match (full, name) {
        (true, EVERY_POLICY) | (false, _) => words.job(job).to_owned(),
        (true, name) => format!("{} {} {name}", words.job(job), words.of),
    };
    let backup_of = |name: &str| of(crate::journal::Job::Backup, name);
    match &news.about {
        About::Failed { job, name, .. } => format!("{} {}", of(*job, name), words.failed),
        About::Missed { job, .. } => {
            format!("{} {}", of(*job, news.policy.as_deref().unwrap_or(EVERY_POLICY)), words.missed)
        }
        About::Recovered { job, name, .. } => format!("{} {}", of(*job, name), words.recovered),
        About::Held { source, .. } => format!("{} {}", backup_of(source), words.held),
        About::NotReloaded { .. } => words.not_reloaded.to_owned(),
        About::Reloaded { .. } => words.reloaded.to_owned(),
        About::ChannelDown { channel, .. } if full => format!("{}: {channel}", words.channel_down),
        About::ChannelDown { .. } => words.channel_down.to_owned(),
        About::ChannelBack { channel, .. } if full => format!("{}: {channel}", words.channel_back),
        About::ChannelBack { .. } => words.channel_back.to_owned(),
        About::Started { job, name } => format!("{} {}", of(*job, name), words.started),
        About::Well { job, name } => format!("{} {}", of(*job, name), words.well),
        About::Digest(_) => words.digest.to_owned(),
    }
}

/// Labels and their values.
fn details(news: &News, words: &Words, digest: Digest, place: &Place) -> Vec<(&'static str, String)> {
    let local = |at: Timestamp| at.to_zoned(place.zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string();
    let mut lines = Vec::new();
    if let Some(policy) = &news.policy {
        lines.push((words.policy, policy.clone()));
    }
    if !matches!(news.about, About::Digest(_)) {
        lines.push((words.at, local(news.at)));
    }
    match &news.about {
        About::Failed { message, hint, since, last_good, .. } => {
            lines.push((words.why, message.clone()));
            lines.extend(hint.clone().map(|hint| (words.to_do, hint)));
            if *since != news.at {
                lines.push((words.since, local(*since)));
            }
            let last = last_good.map_or_else(|| words.never_good.to_owned(), local);
            lines.push((words.last_good, last));
        }
        About::Missed { why, .. } => lines.extend(why.clone().map(|why| (words.why, why))),
        About::Recovered { since, .. } | About::Reloaded { since } | About::ChannelBack { since, .. } => {
            lines.push((words.since, local(*since)));
        }
        About::Held { source, why } => {
            lines.push((words.why, why.clone()));
            lines.push((words.to_do, format!("{} {source}", words.acknowledge)));
        }
        About::NotReloaded { error } => lines.push((words.why, error.clone())),
        About::ChannelDown { message, .. } => lines.push((words.why, message.clone())),
        About::Started { .. } | About::Well { .. } => {}
        About::Digest(tally) => lines.extend(numbers(tally, news.at, words, digest, &local)),
    }
    lines
}

fn numbers(
    tally: &Tally,
    at: Timestamp,
    words: &Words,
    digest: Digest,
    local: &dyn Fn(Timestamp) -> String,
) -> Vec<(&'static str, String)> {
    let period = if digest.day.is_some() { (7 * 24).hours() } else { 24.hours() };
    let numbers = tally.since(at.checked_sub(period).unwrap_or(Timestamp::MIN));
    let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        (words.good_runs, numbers.good.to_string()),
        (words.bad_runs, numbers.bad.to_string()),
        (words.missed_slots, numbers.missed.to_string()),
        (words.new_data, format!("{:.1} MiB", numbers.added as f64 / f64::from(1 << 20))),
    ];
    if tally.failing.is_empty() {
        lines.push((words.nothing_failing, String::new()));
    } else {
        lines.push((words.failing_now, list(&tally.failing)));
    }
    if !tally.held.is_empty() {
        lines.push((words.held_now, list(&tally.held)));
    }
    lines.extend(tally.oldest().map(|(source, at)| (words.oldest, format!("{source}, {}", local(at)))));
    lines
}

/// For programs. Names of keys are never translated.
fn event(news: &News, full: bool) -> serde_json::Value {
    let mut event = serde_json::json!({ "id": news.id, "topic": news.topic().name(), "at": news.at });
    if !full {
        return event;
    }
    event["policy"] = news.policy.clone().into();
    match &news.about {
        About::Failed { job, name, message, hint, since, last_good } => {
            event["job"] = serde_json::json!(job);
            event["name"] = name.clone().into();
            event["message"] = message.clone().into();
            event["hint"] = hint.clone().into();
            event["failing_since"] = serde_json::json!(since);
            event["last_success"] = serde_json::json!(last_good);
        }
        About::Missed { job, slot, why } => {
            event["job"] = serde_json::json!(job);
            event["slot"] = serde_json::json!(slot);
            event["message"] = why.clone().into();
        }
        About::Recovered { job, name, since } => {
            event["job"] = serde_json::json!(job);
            event["name"] = name.clone().into();
            event["failing_since"] = serde_json::json!(since);
        }
        About::Held { source, why } => {
            event["name"] = source.clone().into();
            event["message"] = why.clone().into();
        }
        About::Reloaded { since } => event["failing_since"] = serde_json::json!(since),
        About::NotReloaded { error } => event["message"] = error.clone().into(),
        About::ChannelDown { channel, message } => {
            event["name"] = channel.clone().into();
            event["message"] = message.clone().into();
        }
        About::ChannelBack { channel, since } => {
            event["name"] = channel.clone().into();
            event["failing_since"] = serde_json::json!(since);
        }
        About::Started { job, name } | About::Well { job, name } => {
            event["job"] = serde_json::json!(job);
            event["name"] = name.clone().into();
        }
        About::Digest(tally) => {
            event["failing"] = serde_json::json!(tally.failing);
            event["held"] = serde_json::json!(tally.held);
        }
    }
    event
}

/// One line, whatever was said.
fn plain(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
