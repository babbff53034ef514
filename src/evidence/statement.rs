//! A rehearsal as a statement that other tools read: in-toto Statement v1 with the predicate `test-result`, in DSSE.
//!
//! Made from the journal's record alone and the hash of the point's object, so that it can be made at any time later and always
//! says the same. It is no second source: verification compares it with the record it names.

use super::chain::Chain;
use super::finding::{Finding, Tampering};
use super::scan::RehearsedAt;
use crate::error::{Failure, Result};
use crate::journal::{Rehearsed, ScratchTarget};
use crate::repo::proof::Level;
use crate::repo::sign;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// That of in-toto; what is inside says what it is.
pub const TYPE: &str = "application/vnd.in-toto+json";
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub const PREDICATE: &str = "https://in-toto.io/attestation/test-result/v0.1";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    pub kind: String,
    pub subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    pub predicate: TestResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub name: String,
    pub digest: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    pub result: Verdict,
    pub configuration: Vec<Value>,
    pub passed_tests: Vec<String>,
    pub warned_tests: Vec<String>,
    pub failed_tests: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Passed,
    Warned,
    Failed,
}

/// A statement as it was found.
pub struct Signed {
    pub name: String,
    pub envelope: std::result::Result<Vec<u8>, Failure>,
    /// Whose signature it must have.
    pub key: VerifyingKey,
}

impl Statement {
    /// `point`: SHA-256 of the point's object as it is in the store, where it still is there.
    pub fn of(journal: &str, at: &RehearsedAt, point: Option<String>) -> Self {
        let rehearsed = &at.rehearsed;
        let subject = |name: String, sha256: String| Subject { name, digest: [("sha256".to_owned(), sha256)].into() };
        let of_point = point.map(|sha256| subject(format!("{}/{}", rehearsed.source, rehearsed.point), sha256));
        let of_record = subject(record_name(journal, at.seq), at.hash.clone());
        Statement {
            kind: STATEMENT.to_owned(),
            subject: of_point.into_iter().chain([of_record]).collect(),
            predicate_type: PREDICATE.to_owned(),
            predicate: test_result(at),
        }
    }

    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(self).map_err(|e| Failure::failed("cannot write a statement").because(e))?;
        Ok(sign::sign(TYPE, &payload, key))
    }
}

/// The subject that is the record itself.
fn record_name(journal: &str, seq: u64) -> String {
    format!("journal {journal} record {seq}")
}

fn test_result(at: &RehearsedAt) -> TestResult {
    let rehearsed = &at.rehearsed;
    let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let level = |name: &str| {
        [Level::Stored, Level::Readable, Level::Loaded, Level::Equal, Level::Checked]
            .into_iter()
            .find(|level| level.name() == name)
    };
    let (wanted, reached) = (level(&rehearsed.wanted), rehearsed.reached.as_deref().and_then(level));
    for one in [Level::Readable, Level::Loaded, Level::Equal, Level::Checked] {
        if Some(one) <= reached {
            passed.push(one.name().to_owned());
        } else if Some(one) <= wanted {
            match &rehearsed.unbound {
                Some(why) if one == Level::Equal && rehearsed.differing == 0 => warned.push(format!("equal: {why}")),
                _ => failed.push(one.name().to_owned()),
            }
        }
    }
    failed.extend(rehearsed.differences.iter().map(|difference| format!("difference: {difference}")));
    let left = rehearsed.differing.saturating_sub(rehearsed.differences.len() as u64);
    if left > 0 {
        failed.push(format!("difference: {left} more"));
    }
    for asserted in &rehearsed.assertions {
        let name = format!("assertion: {}: {}", asserted.name, asserted.found);
        if asserted.holds { passed.push(name) } else { failed.push(name) }
    }
    if let Some(objective) = rehearsed.rto_objective_seconds {
        let name = format!("restore time: {:.1} s, objective {objective:.0} s", rehearsed.rto_seconds);
        if rehearsed.rto_seconds <= objective { passed.push(name) } else { warned.push(name) }
    }
    let result = match (failed.is_empty(), warned.is_empty()) {
        (false, _) => Verdict::Failed,
        (true, false) => Verdict::Warned,
        (true, true) => Verdict::Passed,
    };
    TestResult {
        result,
        configuration: configuration(at),
        passed_tests: passed,
        warned_tests: warned,
        failed_tests: failed,
    }
}

/// Resource descriptors of in-toto: how the test was made, and on what.
fn configuration(at: &RehearsedAt) -> Vec<Value> {
    let rehearsed: &Rehearsed = &at.rehearsed;
    let run = json!({
        "name": "rehearsal",
        "uri": format!("urn:bkp:run:{}", rehearsed.run),
        "annotations": {
            "at": at.at, "source": rehearsed.source, "point": rehearsed.point, "consistentAt": rehearsed.consistent_at,
            "chosen": rehearsed.chosen, "wanted": rehearsed.wanted, "reached": rehearsed.reached,
            "compared": rehearsed.compared, "differing": rehearsed.differing, "bytes": rehearsed.bytes,
            "phases": rehearsed.phases, "rtoSeconds": rehearsed.rto_seconds,
        },
    });
    let target = rehearsed.target.as_ref().map(|ScratchTarget { kind, what, isolation }| {
        json!({
            "name": "target",
            "uri": format!("urn:bkp:target:{kind}"),
            "annotations": { "kind": kind, "what": what, "isolation": isolation },
        })
    });
    [run].into_iter().chain(target).collect()
}

/// Each statement with the record it is about. Gives how many rehearsals have one that says the same.
pub fn compare(statements: &[Signed], chain: &Chain) -> (u64, Vec<Finding>) {
    let mut attested = std::collections::BTreeSet::new();
    let mut findings = Vec::new();
    let journal = chain.journal.as_deref();
    for signed in statements {
        match look(signed, journal, &chain.rehearsed) {
            Ok(Some(seq)) => drop(attested.insert(seq)),
            // Of a record that is not in this part of the journal.
            Ok(None) => {}
            Err((seq, why)) => {
                let name = chain.name_of(seq);
                findings.push(Finding::new(
                    Tampering::Statement,
                    &name,
                    (seq, seq),
                    &format!("and {}: {why}", signed.name),
                ));
            }
        }
    }
    let mut last = 0;
    let (first, until) = (chain.first.map_or(0, |first| first.0), chain.last.as_ref().map_or(0, |last| last.seq));
    // What is signed as a rehearsal, and is none in the journal, was taken out of it.
    for signed in statements {
        let Some(seq) = named(signed, journal).filter(|seq| (first..=until).contains(seq)) else { continue };
        let known = chain.rehearsed.iter().any(|at| at.seq == seq);
        if !known && seq != last && !findings.iter().any(|finding| finding.from == seq) {
            let name = chain.name_of(seq);
            let what = format!("is no rehearsal in the journal, and {} is a signed statement about one", signed.name);
            findings.push(Finding::new(Tampering::Statement, &name, (seq, seq), &what));
        }
        last = seq;
    }
    (attested.len() as u64, findings)
}

fn look(
    signed: &Signed,
    journal: Option<&str>,
    rehearsed: &[RehearsedAt],
) -> std::result::Result<Option<u64>, (u64, String)> {
    let envelope = signed.envelope.as_ref().map_err(|failure| (0, failure.full()))?;
    let payload = sign::verify(envelope, TYPE, &signed.key, &signed.name).map_err(|failure| {
        let claimed = sign::unverified(envelope, &signed.name).ok().and_then(|payload| seq_of(&payload, journal));
        (claimed.unwrap_or(0), failure.full())
    })?;
    let Some(seq) = seq_of(&payload, journal) else { return Ok(None) };
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|e| (seq, format!("it is no statement: {e}")))?;
    let Some(at) = rehearsed.iter().find(|at| at.seq == seq) else { return Ok(None) };
    let point = statement.subject.iter().find(|s| s.name == format!("{}/{}", at.rehearsed.source, at.rehearsed.point));
    let sha256 = point.and_then(|point| point.digest.get("sha256").cloned());
    let same = |one: &Statement, other: &Statement| serde_json::to_value(one).ok() == serde_json::to_value(other).ok();
    match same(&statement, &Statement::of(journal.unwrap_or_default(), at, sha256)) {
        true => Ok(Some(seq)),
        false => Err((seq, "it says something else than the record".into())),
    }
}

fn named(signed: &Signed, journal: Option<&str>) -> Option<u64> {
    let payload = sign::verify(signed.envelope.as_ref().ok()?, TYPE, &signed.key, &signed.name).ok()?;
    seq_of(&payload, journal)
}

/// Which record of this journal a statement is about.
fn seq_of(payload: &[u8], journal: Option<&str>) -> Option<u64> {
    let statement: Statement = serde_json::from_slice(payload).ok()?;
    let prefix = record_name(journal?, 0);
    let prefix = prefix.strip_suffix('0')?;
    statement.subject.iter().find_map(|subject| subject.name.strip_prefix(prefix)?.parse().ok())
}
