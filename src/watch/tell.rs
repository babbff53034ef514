//! Records of the journal in words, one line each: for `bkp journal` and for the log of the daemon.

use super::words::{instant, job, size, took};
use crate::journal::{Fact, Record, Rehearsed, RunStarted, SlotEnd, SlotId};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// The run that a record belongs to; `runs` remembers those that go on.
pub fn run_of(record: &Record, runs: &mut BTreeMap<String, RunStarted>) -> Option<RunStarted> {
    match &record.fact {
        Fact::RunStarted(run) => {
            runs.insert(run.run.clone(), run.clone());
            Some(run.clone())
        }
        Fact::Rehearsed(rehearsed) => runs.get(&rehearsed.run).cloned(),
        Fact::RunEnded(ended) => runs.remove(&ended.run),
        _ => None,
    }
}

/// `backup app`, `done: 1.2 GiB, 220 MiB new, 12.4 s`
pub fn told(record: &Record, run: Option<&RunStarted>, zone: &TimeZone) -> (String, String) {
    let subject = |run: Option<&RunStarted>| match run {
        Some(run) => format!("{} {}", job(run.job), run.source.as_deref().unwrap_or_default()).trim_end().to_owned(),
        None => "run".to_owned(),
    };
    match &record.fact {
        Fact::RunStarted(started) => {
            let of = started.policy.as_ref().map(|policy| format!(", policy {policy}")).unwrap_or_default();
            (subject(run), format!("begins ({}{of})", word(&started.reason)))
        }
        Fact::RunEnded(ended) => {
            let good = ended.outcome.is_good();
            let mut text = if good { word(&ended.outcome) } else { word(&ended.outcome).to_uppercase() };
            if good {
                text.push_str(&format!(": {}, {} new, {}", size(ended.bytes), size(ended.added), took(ended.seconds)));
            }
            if let Some(message) = &ended.message {
                text.push_str(&format!(": {message}"));
            }
            (subject(run), text)
        }
        Fact::SlotExpected { id, due, .. } => (slot(id), format!("expected at {}", instant(*due, zone))),
        Fact::SlotEnded { id, end, why, .. } => {
            let loud = matches!(end, SlotEnd::Failed | SlotEnd::Missed);
            let end = if loud { word(end).to_uppercase() } else { word(end) };
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            (slot(id), format!("slot {} {end}{why}", instant(id.slot, zone)))
        }
        Fact::Rehearsed(rehearsed) => (format!("rehearsed {}", rehearsed.source), came_to(rehearsed)),
        other => (other.kind().replace('_', " "), details(other)),
    }
}

/// `equal: point …, 12 compared, restored in 3.1 s`
fn came_to(rehearsed: &Rehearsed) -> String {
    let reached = rehearsed.reached.as_deref().unwrap_or("nothing proven");
    let mut text = if rehearsed.passed() { reached.to_owned() } else { format!("FAILED at {reached}") };
    text.push_str(&format!(": point {}, {} compared", rehearsed.point, rehearsed.compared));
    if rehearsed.differing > 0 {
        text.push_str(&format!(", {} differ: {}", rehearsed.differing, rehearsed.differences.join("; ")));
    }
    text.extend(rehearsed.unbound.iter().map(|why| format!(", not bound: {why}")));
    let broken = rehearsed.assertions.iter().filter(|assertion| !assertion.holds);
    text.extend(broken.map(|broken| format!(", does not hold: {}", broken.name)));
    if rehearsed.rto_seconds > 0.0 {
        text.push_str(&format!(", restored in {}", took(rehearsed.rto_seconds)));
    }
    text
}

fn slot(id: &SlotId) -> String {
    format!("{} {}", job(id.job), id.policy)
}

/// The word that stands in the journal.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

/// The fields of a record that needs no words of its own.
fn details(fact: &Fact) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(fact) else { return String::new() };
    let shown = fields.iter().filter(|(name, _)| *name != "kind").map(|(name, value)| match value {
        serde_json::Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}
