//! The report as OSCAL assessment results (NIST, version 1.1.2), for tools of governance.
//!
//! Every sort of evidence is an observation, also where there is none; where the clauses are those of NIST, a finding is added for
//! the two that a machine can decide, CP-9(1) and CP-9(8), and for no other. Identifiers follow from what they name, so that the
//! same report is the same document.

use super::basis::Basis;
use super::evidence::{self, Backing};
use super::frameworks::{Clause, Evidence, Framework};
use super::say::Say;
use crate::journal::Job;
use crate::watch::Language;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};

const VERSION: &str = "1.1.2";
/// Of our own properties.
const NAMESPACE: &str = "https://bkp.invalid/ns/oscal";

pub fn write(basis: &Basis, framework: Option<&Framework>, language: Language, to: &mut dyn Write) -> io::Result<()> {
    let say = Say { language, zone: &basis.period.zone };
    let writing = Writing { basis, say };
    super::json::pretty(to, &writing.document(framework))
}

struct Writing<'a> {
    basis: &'a Basis,
    say: Say<'a>,
}

impl Writing<'_> {
    fn document(&self, framework: Option<&Framework>) -> Value {
        let title = match framework {
            Some(framework) => {
                format!("{} {}", self.say.t("Evidence for", "Evidencias de"), self.say.of(framework.name))
            }
            None => self
                .say
                .t("Evidence of backup and recovery", "Evidencias de copias de seguridad y recuperación")
                .to_owned(),
        };
        let journal = self.uuid("journal");
        let resources = json!([
            {
                "uuid": journal,
                "title": self.say.t("Journal of bkp", "Diario de bkp"),
                "description": format!(
                    "{}: {}. {}: {}",
                    self.say.t("Journal of the host", "Diario del equipo"),
                    self.basis.host,
                    self.say.t("Head of the chain (SHA-256)", "Cabecera de la cadena (SHA-256)"),
                    self.basis.facts.journal.head
                ),
            },
            {
                "uuid": self.uuid("plan"),
                "title": self.say.t("Configuration of bkp", "Configuración de bkp"),
                "description": self.say.t(
                    "The policies in force stand for the plan of the assessment.",
                    "Las políticas vigentes hacen las veces de plan de evaluación.",
                ),
            },
        ]);
        json!({ "assessment-results": {
            "uuid": self.uuid("results"),
            "metadata": {
                "title": title,
                "last-modified": self.basis.made_at,
                "version": self.basis.period.name,
                "oscal-version": VERSION,
                "props": [{ "name": "generator", "ns": NAMESPACE, "value": format!("bkp-{}", env!("CARGO_PKG_VERSION")) }],
            },
            "import-ap": { "href": format!("#{}", self.uuid("plan")) },
            "results": [self.result(framework, &title)],
            "back-matter": { "resources": resources },
        }})
    }

    fn result(&self, framework: Option<&Framework>, title: &str) -> Value {
        let clauses = framework.map_or(&[][..], |framework| framework.clauses);
        let tag = framework.map_or("none", |framework| framework.tag);
        let observed = self.observed(clauses);
        let observations: Vec<Value> = observed.values().cloned().collect();
        let controls: Vec<Value> =
            clauses.iter().map(|clause| json!({ "control-id": token(tag, clause.id) })).collect();
        let selection = match controls.is_empty() {
            true => json!({ "include-all": {} }),
            false => json!({ "include-controls": controls }),
        };
        let mut result = json!({
            "uuid": self.uuid("result"),
            "title": title,
            "description": self.say.t(
                "What was recorded and seen in the period. Evidence, not a judgement.",
                "Lo registrado y observado en el periodo. Evidencias, no un juicio.",
            ),
            "start": self.basis.period.from,
            "end": self.basis.until(),
            "reviewed-controls": { "control-selections": [selection] },
            "observations": observations,
        });
        let findings: Vec<Value> = if tag == "nist" { self.findings() } else { Vec::new() };
        if !findings.is_empty() {
            result["findings"] = findings.into();
        }
        result
    }

    /// Each sort once, whatever the number of clauses that it bears on.
    fn observed(&self, clauses: &[Clause]) -> BTreeMap<Evidence, Value> {
        let mut sorts: Vec<Evidence> = clauses.iter().flat_map(|clause| clause.evidence.iter().copied()).collect();
        if clauses.is_empty() {
            sorts = super::frameworks::ALL
                .iter()
                .flat_map(|f| f.clauses)
                .flat_map(|c| c.evidence.iter().copied())
                .collect();
        }
        sorts.sort_unstable();
        sorts.dedup();
        sorts.into_iter().map(|sort| (sort, self.observation(sort))).collect()
    }

    fn observation(&self, sort: Evidence) -> Value {
        let backing = evidence::find(self.basis, sort, self.say);
        let method = match sort {
            Evidence::RestoreTests
            | Evidence::IsolatedTests
            | Evidence::Reconciliation
            | Evidence::MeasuredRto
            | Evidence::IntegrityChecks => "TEST",
            _ => "EXAMINE",
        };
        let none = self.say.t("No evidence in the period", "Sin evidencia en el periodo").to_owned();
        let description = backing.as_ref().map_or(none, |backing| backing.what.to_string());
        let mut observation = json!({
            "uuid": self.of_sort(sort),
            "title": self.say.of(evidence::name(sort)),
            "description": description,
            "props": [{ "name": "evidence", "ns": NAMESPACE, "value": if backing.is_some() { "found" } else { "none" } }],
            "methods": [method],
            "types": ["control-objective"],
            "collected": self.basis.until(),
        });
        if let Some(Backing { records, .. }) = &backing
            && records.total > 0
        {
            observation["relevant-evidence"] = json!([{
                "href": format!("#{}", self.uuid("journal")),
                "description": records.text(self.say),
            }]);
        }
        observation
    }

    /// What a machine can decide.
    fn findings(&self) -> Vec<Value> {
        let tested = self.every_source_tested();
        let mut findings =
            vec![self.finding("cp-9.1_obj", "CP-9(1)", tested, &[Evidence::IntegrityChecks, Evidence::RestoreTests])];
        if let Some(repository) = self.basis.repository.seen() {
            let sealed = !repository.points.is_empty() && repository.broken.is_empty();
            findings.push(self.finding("cp-9.8_obj", "CP-9(8)", sealed, &[Evidence::Encryption]));
        }
        findings
    }

    /// Every source has a restore test, none failed nor came to no result, no check failed, and the journal is whole.
    fn every_source_tested(&self) -> bool {
        let facts = &self.basis.facts;
        let checked = facts.runs_of(Job::Check).filter_map(|run| run.ended.as_ref()).all(|end| end.outcome.is_good());
        let passed = facts.tests().all(|test| test.is_restored()) && facts.fruitless().next().is_none();
        let tested = |source: &&str| facts.tests().any(|test| test.rehearsed.source == **source && test.is_restored());
        let wanted = self.basis.to_be_tested();
        let whole = self.basis.integrity.seen().is_some_and(|seen| seen.findings.is_empty());
        checked && passed && whole && !wanted.is_empty() && wanted.iter().all(|source| tested(source))
    }

    fn finding(&self, objective: &str, title: &str, satisfied: bool, sorts: &[Evidence]) -> Value {
        let related: Vec<Value> = sorts.iter().map(|sort| json!({ "observation-uuid": self.of_sort(*sort) })).collect();
        json!({
            "uuid": self.uuid(objective),
            "title": title,
            "description": self.say.t(
                "Decided from the related observations alone.",
                "Decidido solo a partir de las observaciones relacionadas.",
            ),
            "target": {
                "type": "objective-id",
                "target-id": objective,
                "status": { "state": if satisfied { "satisfied" } else { "not-satisfied" } },
            },
            "related-observations": related,
        })
    }

    fn of_sort(&self, sort: Evidence) -> String {
        self.uuid(&format!("observation {sort:?}"))
    }

    /// The same for the same thing of the same report, in the form of version 5.
    fn uuid(&self, what: &str) -> String {
        let head = &self.basis.facts.journal.head;
        let name = format!("{} {} {head} {what}", self.basis.period.name, self.basis.made_at);
        let mut bytes = Sha256::digest(name);
        bytes[6] = bytes[6] & 0x0f | 0x50;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex::encode(&bytes[..16]);
        format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
    }
}

/// A clause as OSCAL may name it: `CP-9(1)` is `cp-9.1` there; others carry their framework, for a token begins with a letter.
fn token(framework: &str, id: &str) -> String {
    let mut text = String::new();
    for c in id.to_lowercase().chars() {
        match c {
            '(' if framework == "nist" => text.push('.'),
            '(' => text.push('-'),
            ')' => {}
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') => text.push(c),
            _ => text.push('-'),
        }
    }
    if framework == "nist" { text } else { format!("{framework}-{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frameworks::ALL;

    #[test]
    fn clauses_are_tokens() {
        assert_eq!(token("nist", "CP-9(1)"), "cp-9.1");
        assert_eq!(token("hipaa", "164.308(a)(7)(ii)(D)"), "hipaa-164.308-a-7-ii-d");
        for framework in ALL {
            for clause in framework.clauses {
                let token = token(framework.tag, clause.id);
                let begins = token.starts_with(|c: char| c.is_ascii_lowercase());
                assert!(begins && token.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)), "{token}");
            }
        }
    }
}
