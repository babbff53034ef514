//! The frameworks: which clauses ask for something that bkp has evidence for, one file each.
//!
//! Data only. What a clause asks is told in a few words of our own, not quoted; who signs reads the text itself. A clause
//! stands here only when some [`Evidence`] bears on it. No report says that anything is complied with.

mod dora;
mod ens;
mod hipaa;
mod iso27001;
mod nist;
mod pci;
mod soc2;

use super::say::Said;
use serde::Serialize;

pub struct Framework {
    pub tag: &'static str,
    pub name: Said,
    /// Which edition the clauses are numbered by.
    pub edition: Said,
    pub remark: Option<Said>,
    pub clauses: &'static [Clause],
}

pub struct Clause {
    pub id: &'static str,
    pub title: Said,
    pub asks: Said,
    pub evidence: &'static [Evidence],
}

/// What there may be evidence for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// What is backed up, how often, kept how long.
    Policies,
    /// Changes of the configuration and of retention.
    Changes,
    /// Every expected run with its outcome.
    Runs,
    /// How old the newest point was at worst.
    AttainedRpo,
    /// Points re-read and found whole.
    IntegrityChecks,
    RestoreTests,
    /// Restore tests in a target kept apart from the source.
    IsolatedTests,
    /// Restore tests whose contents were compared with the source.
    Reconciliation,
    MeasuredRto,
    RealRestores,
    CopiesElsewhere,
    Encryption,
    KeyLifecycle,
    Immutability,
    Deletions,
    CredentialAges,
    Rotations,
    /// The journal: what is recorded, and that it is whole.
    AuditTrail,
    Clocks,
    Notifications,
}

pub const ALL: [&Framework; 7] = [
    &ens::FRAMEWORK,
    &iso27001::FRAMEWORK,
    &soc2::FRAMEWORK,
    &pci::FRAMEWORK,
    &dora::FRAMEWORK,
    &hipaa::FRAMEWORK,
    &nist::FRAMEWORK,
];

pub fn of_tag(tag: &str) -> Option<&'static Framework> {
    ALL.into_iter().find(|framework| framework.tag == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_clause_is_there_once_in_both_languages_with_evidence_to_look_for() {
        for framework in ALL {
            let mut ids = BTreeSet::new();
            assert!(!framework.clauses.is_empty(), "{}", framework.tag);
            for clause in framework.clauses {
                assert!(ids.insert(clause.id), "{} {} is there twice", framework.tag, clause.id);
                assert!(!clause.evidence.is_empty(), "{}", clause.id);
                for said in [clause.title, clause.asks] {
                    assert!(!said.en.is_empty() && !said.es.is_empty(), "{}", clause.id);
                }
            }
        }
    }

    #[test]
    fn nothing_is_called_compliant() {
        for framework in ALL {
            let of_clauses = framework.clauses.iter().flat_map(|clause| [clause.title, clause.asks]);
            for said in of_clauses.chain(framework.remark).chain([framework.name, framework.edition]) {
                let text = format!("{} {}", said.en, said.es).to_lowercase();
                assert!(!text.contains("complian") && !text.contains("conforme") && !text.contains("cumple"), "{text}");
            }
        }
    }

    #[test]
    fn the_ens_is_numbered_by_the_decree_of_2022() {
        let clause = ens::FRAMEWORK.clauses.iter().find(|clause| clause.id == "mp.info.6").unwrap();
        assert_eq!(clause.title.es, "Copias de seguridad");
        assert!(ens::FRAMEWORK.edition.es.contains("311/2022"));
        assert!(ens::FRAMEWORK.clauses.iter().all(|clause| clause.id != "mp.info.9"));
    }
}
