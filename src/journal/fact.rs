//! From the text of a record to its fact.
//!
//! Four kinds make up nearly all of a long journal. They are read straight into what they are: the general way has to keep
//! every field aside until it has seen the kind, and takes several times as long.

use super::record::{Fact, Job, RunEnded, RunStarted, SlotEnd, SlotId, backup};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct SlotExpected {
    #[serde(default = "backup")]
    job: Job,
    policy: String,
    slot: Timestamp,
    due: Timestamp,
    deadline: Timestamp,
}

#[derive(Deserialize)]
struct SlotEnded {
    #[serde(default = "backup")]
    job: Job,
    policy: String,
    slot: Timestamp,
    #[serde(rename = "as")]
    end: SlotEnd,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    runs: Vec<String>,
}

/// `text` is the whole line, `fields` what follows the chain in it.
pub fn of(text: &str, fields: &str) -> serde_json::Result<Fact> {
    let kind = fields.strip_prefix("\"kind\":\"").and_then(|rest| rest.split('"').next());
    match kind {
        Some("run_started") => read::<RunStarted>(text).map(Fact::RunStarted),
        Some("run_ended") => read::<RunEnded>(text).map(Fact::RunEnded),
        Some("slot_expected") => read(text).map(|SlotExpected { job, policy, slot, due, deadline }| {
            Fact::SlotExpected { id: SlotId { job, policy, slot }, due, deadline }
        }),
        Some("slot_ended") => read(text).map(|SlotEnded { job, policy, slot, end, why, runs }| Fact::SlotEnded {
            id: SlotId { job, policy, slot },
            end,
            why,
            runs,
        }),
        _ => serde_json::from_str(text),
    }
}

fn read<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Reason;

    #[test]
    fn both_ways_read_the_same() {
        let at: Timestamp = "2026-11-29T23:00:00.123Z".parse().unwrap();
        let id = |job| SlotId { job, policy: "a \"policy\"".into(), slot: at };
        let started = RunStarted {
            run: "1".into(),
            job: Job::Check,
            source: Some("app".into()),
            policy: None,
            slot: Some(at),
            reason: Reason::CatchUp,
            pid: 7,
        };
        let ended = RunEnded { consistent_at: Some(at), message: Some("no\n".into()), ..RunEnded::well("1", true) };
        let facts = [
            Fact::RunStarted(started),
            Fact::RunEnded(ended),
            Fact::SlotExpected { id: id(Job::Backup), due: at, deadline: at },
            Fact::SlotExpected { id: id(Job::Anchor), due: at, deadline: at },
            Fact::SlotEnded {
                id: id(Job::Prune),
                end: SlotEnd::Missed,
                why: Some("gone".into()),
                runs: vec!["1".into()],
            },
            Fact::SlotEnded { id: id(Job::Backup), end: SlotEnd::Done, why: None, runs: vec![] },
            Fact::TailMended { bytes: 1 },
        ];
        for fact in facts {
            let written = serde_json::to_string(&fact).unwrap();
            let fields = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap();
            let text = format!("{{\"seq\":1,\"at\":\"{at}\",\"prev\":\"0\",{fields},\"check\":\"0\"}}");
            assert_eq!(of(&text, fields).unwrap(), fact);
            assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        }
    }
}
