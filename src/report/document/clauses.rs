//! The table of clauses: what each asks, and the evidence that there is for it, or that there is none.

use super::{Cell, Section, Table, Tone, Writing};
use crate::report::evidence;
use crate::report::frameworks::{Clause, Framework};
use crate::report::text::Text;

pub fn section(writing: &Writing<'_>, framework: &Framework) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Evidence by clause", "Evidencias por requisito"));
    section.paragraph(format!(
        "{} {}.",
        say.t(
            "Each row names what was recorded in the period and bears on the clause, with the numbers of the records in the \
             journal. It is evidence for the clause, not a judgement of it. What a clause asks is summarised; the text \
             itself governs:",
            "Cada fila indica lo registrado en el periodo que guarda relación con el requisito, con los números de registro del \
             diario. Es evidencia de cara al requisito, no un juicio sobre él. Lo que pide cada uno figura resumido; prevalece el \
             texto oficial:"
        ),
        say.of(framework.edition)
    ));
    if let Some(remark) = framework.remark {
        section.notice(say.of(remark));
    }
    let mut table = Table::new(
        say.t("Clauses and evidence", "Requisitos y evidencias"),
        "",
        &[
            (say.t("Clause", "Requisito"), 4),
            (say.t("Asks for", "Qué pide"), 7),
            (say.t("Evidence for", "Evidencia de"), 9),
            (say.t("Records", "Registros"), 4),
        ],
    );
    for clause in framework.clauses {
        rows(writing, clause, &mut table);
    }
    section.table(table);
    section
}

/// One for each sort of evidence; the clause stands in the first.
fn rows(writing: &Writing<'_>, clause: &Clause, table: &mut Table) {
    let say = writing.say;
    for (number, sort) in clause.evidence.iter().enumerate() {
        let (title, asks) = match number {
            0 => (Cell::of(format!("{} {}", clause.id, say.of(clause.title))), Cell::of(say.of(clause.asks))),
            // Who reads it aloud, or sorts it, needs to know whose row it is.
            _ => (Cell::soft(clause.id), Cell::of("")),
        };
        let name = capital(say.of(evidence::name(*sort)));
        let (found, records) = match evidence::find(writing.basis, *sort, say) {
            Some(backing) => {
                let records = backing.records.text(say);
                (Cell::of(format!("{name}: {}", backing.what)), Cell::soft(records))
            }
            None => {
                let none = format!("{name}: {}", say.t("no evidence", "sin evidencia"));
                (Cell::toned(none, Tone::Bad), Cell::soft("–"))
            }
        };
        table.row(vec![title, asks, found, records]);
    }
}

fn capital(text: &str) -> Text {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    Text::from(first + letters.as_str())
}
