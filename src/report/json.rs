//! The report as JSON: the facts themselves, complete, with names that stay; and the evidence for each clause.

use super::basis::Basis;
use super::evidence;
use super::frameworks::Framework;
use super::say::Say;
use super::text::is_harmless;
use crate::watch::Language;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
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
    pretty(&mut to, &whole)?;
    to.flush()
}

/// Indented, with a newline at the end; characters that are not seen, or that turn the direction of reading, are escaped.
pub fn pretty(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *to, Harmless(PrettyFormatter::new())))?;
    to.write_all(b"\n")
}

/// The usual layout.
struct Harmless<'a>(PrettyFormatter<'a>);

impl Formatter for Harmless<'_> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        if fragment.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !is_harmless(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
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
