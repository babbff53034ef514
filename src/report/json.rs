//! The report as JSON: the facts themselves, complete, with names that stay; and the evidence for each clause.

use super::basis::Basis;
use super::evidence;
use super::frameworks::Framework;
use super::say::Say;
use crate::watch::Language;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Raised when a field is taken away or given another meaning.
const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Whole<'a> {
    schema: u32,
    made_at: jiff::Timestamp,
    bkp: &'static str,
    host: &'a str,
    period: Value,
    framework: Option<Value>,
    policies: &'a [super::basis::PolicyInForce],
    retired_sources: Vec<&'a str>,
    stores: &'a [super::basis::StoreInForce],
    configuration_files: &'a [String],
    credentials: &'a [super::basis::Credential],
    unrecorded: &'a super::basis::Unrecorded,
    repository: &'a super::basis::Seen<super::repository::RepositoryFacts>,
    copies: &'a super::basis::Seen<Vec<crate::job::copy::state::CopyState>>,
    surroundings: &'a super::basis::Seen<Vec<crate::job::discover::Found>>,
    /// As `bkp evidence verify --json` has it.
    integrity: &'a super::basis::Seen<crate::evidence::Verification>,
    facts: &'a super::facts::Facts,
}

pub fn write(basis: &Basis, framework: Option<&Framework>, language: Language, to: &mut dyn Write) -> io::Result<()> {
    let period = json!({
        "name": basis.period.name,
        "first_day": basis.period.first_day,
        "last_day": basis.period.last_day,
        "from": basis.period.from,
        "to": basis.period.to,
        "timezone": basis.period.zone.iana_name(),
        "over": basis.is_over(),
    });
    let whole = Whole {
        schema: SCHEMA,
        made_at: basis.made_at,
        bkp: env!("CARGO_PKG_VERSION"),
        host: &basis.host,
        period,
        framework: framework.map(|framework| clauses(basis, framework, language)),
        policies: &basis.policies,
        retired_sources: basis.retired(),
        stores: &basis.stores,
        configuration_files: &basis.files,
        credentials: &basis.credentials,
        unrecorded: &basis.unrecorded,
        repository: &basis.repository,
        copies: &basis.copies,
        surroundings: &basis.surroundings,
        integrity: &basis.integrity,
        facts: &basis.facts,
    };
    let mut to = io::BufWriter::with_capacity(256 << 10, to);
    serde_json::to_writer_pretty(&mut to, &whole)?;
    to.write_all(b"\n")?;
    to.flush()
}

fn clauses(basis: &Basis, framework: &Framework, language: Language) -> Value {
    let say = Say { language, zone: &basis.period.zone };
    let clause = |clause: &super::frameworks::Clause| {
        let found = clause.evidence.iter().map(|sort| match evidence::find(basis, *sort, say) {
            Some(backing) => json!({
                "sort": sort,
                "evidence": true,
                "what": backing.what.as_str(),
                "records": backing.records.shown().collect::<Vec<_>>(),
                "records_in_all": backing.records.total,
            }),
            None => json!({ "sort": sort, "evidence": false }),
        });
        json!({ "id": clause.id, "title": say.of(clause.title), "evidence_for": found.collect::<Vec<_>>() })
    };
    json!({
        "tag": framework.tag,
        "edition": say.of(framework.edition),
        "clauses": framework.clauses.iter().map(clause).collect::<Vec<_>>(),
    })
}
