//! A rehearsal as a statement that other tools read: in-toto Statement v1 with the predicate `test-result`, in DSSE.
//!
//! Made from the journal's record alone and the hash of the point's object, so that it can be made at any time later and always
//! says the same. It is no second source: verification compares it with the record it names.

use super::chain::Chain;
use super::finding::{Finding, Tampering};
use super::scan::RehearsedAt;
use super::verify::Scope;
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
    /// The record it must be about, by its name.
    pub seq: u64,
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
    let (wanted, reached) = (Level::parse(&rehearsed.wanted), rehearsed.reached.as_deref().and_then(Level::parse));
    for one in Level::ALL.into_iter().filter(|level| *level >= Level::Readable) {
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

/// Each statement with the record that its name gives it to. Gives how many rehearsals have one that says the same.
pub fn compare(statements: &[Signed], chain: &Chain, scope: Scope) -> (u64, Vec<Finding>) {
    let mut attested = std::collections::BTreeSet::new();
    let mut findings = Vec::new();
    for signed in statements {
        let why = match look(signed, chain, scope) {
            Ok(true) => {
                attested.insert(signed.seq);
                continue;
            }
            Ok(false) => continue,
            Err(why) => why,
        };
        let what = format!("and {}: {why}", signed.name);
        let range = (signed.seq, signed.seq);
        findings.push(Finding::new(Tampering::Statement, &chain.name_of(signed.seq), range, &what));
    }
    (attested.len() as u64, findings)
}

/// Whether the record says the same; false where the record is not in this part of the journal.
fn look(signed: &Signed, chain: &Chain, scope: Scope) -> std::result::Result<bool, String> {
    let envelope = signed.envelope.as_ref().map_err(Failure::full)?;
    let payload = sign::verify(envelope, TYPE, &signed.key, &signed.name).map_err(|failure| failure.full())?;
    let statement: Statement = serde_json::from_slice(&payload).map_err(|e| format!("it is no statement: {e}"))?;
    let journal = chain.journal.as_deref();
    let about = statement.subject.iter().find_map(|subject| of_record(&subject.name));
    match about {
        None => return Err("it does not say which record it is about".into()),
        Some((of, _)) if journal.is_some_and(|journal| journal != of) => {
            return Err(format!("it is about another journal, {of}"));
        }
        Some((_, seq)) if seq != signed.seq => return Err(format!("it is about record {seq}, and not about this one")),
        Some(_) => {}
    }
    let (first, last) = (chain.first.map_or(0, |first| first.0), chain.last.as_ref().map_or(0, |last| last.seq));
    let Some(at) = chain.rehearsed.iter().find(|at| at.seq == signed.seq) else {
        return match (first..=last).contains(&signed.seq) || signed.seq > last && scope != Scope::Sealed {
            // What is signed as a rehearsal, and is none in the journal, was taken out of it.
            true => Err("it is signed, and the journal has no such rehearsal".into()),
            false => Ok(false),
        };
    };
    let point = statement.subject.iter().find(|s| s.name == format!("{}/{}", at.rehearsed.source, at.rehearsed.point));
    let sha256 = point.and_then(|point| point.digest.get("sha256").cloned());
    let said = Statement::of(journal.unwrap_or_default(), at, sha256);
    match serde_json::to_value(&statement).ok() == serde_json::to_value(said).ok() {
        true => Ok(true),
        false => Err("it says something else than the record".into()),
    }
}

/// The journal and the number, of the subject that is a record.
fn of_record(name: &str) -> Option<(&str, u64)> {
    let (journal, seq) = name.strip_prefix("journal ")?.split_once(" record ")?;
    Some((journal, seq.parse().ok()?))
}
