//! Whether the journal that all of this was read from is whole: what verification found, what others hold of it, and how
//! anybody verifies it anew.

use super::{Block, Cell, Section, Table, Text, Tone, Writing};
use crate::evidence::{AnchorSeen, Finding, Tampering, Verdict, Verification};
use crate::report::basis::Basis;
use crate::report::facts::Mark;
use crate::report::recorded;
use crate::report::say::{Said, Say, said};

pub fn section(writing: &Writing<'_>) -> Section {
    let say = writing.say;
    let mut section = Section::new(
        say.t("Integrity of the record, and how to verify it", "Integridad del registro y cómo verificarla"),
    );
    section.paragraph(say.t(
        "The journal is a chain: every record carries the SHA-256 of the one before it. Its segments are signed and sealed in the \
         repository, and its head (the number and hash of the newest record) is anchored in places that others hold. For this report it \
         was verified as `bkp evidence verify` does it: every link was computed anew, and the whole was compared with what could be seen \
         of seals and anchors. A record that was changed or removed shows in the chain; that the newest ones were cut off, or all \
         of it written anew, shows only up to the newest record that is sealed or anchored.",
        "El diario es una cadena: cada registro lleva el SHA-256 del anterior. Sus segmentos se firman y se sellan en el repositorio, y \
         su cabecera (el número y el resumen del registro más reciente) se ancla en lugares que conservan otros. Para este informe se \
         verificó como lo hace `bkp evidence verify`: se recalculó cada eslabón y el conjunto se cotejó con los sellos y anclajes que se \
         pudieron consultar. Un registro modificado o eliminado se advierte en la cadena; que se hayan cortado los más recientes, o \
         que se haya reescrito todo, solo se advierte hasta el último registro sellado o anclado.",
    ));
    match &writing.basis.integrity {
        crate::report::basis::Seen::NotSeen(why) => {
            writing.not_seen(&mut section, ("The journal", "El diario"), why);
        }
        crate::report::basis::Seen::Seen(verification) => verified(writing, verification, &mut section),
    }
    section.table(anchors(writing));
    how_to_verify(writing, &mut section);
    section
}

fn verified(writing: &Writing<'_>, verification: &Verification, section: &mut Section) {
    let (say, chain) = (writing.say, &writing.basis.facts.journal);
    let (text, tone) = verdict(writing.basis, say);
    if tone != Tone::Well {
        section.notice(text.as_str());
    }
    let mark = |mark: Option<Mark>| match mark {
        Some(mark) => format!("{} ({})", mark.record, say.when(mark.at)),
        None => say.t("none", "ninguno").to_owned(),
    };
    let mut pairs = vec![
        (say.t("Journal", "Diario"), chain.id.clone().unwrap_or_else(|| "–".to_owned())),
        (say.t("Found", "Resultado"), text),
        (say.t("Records in all", "Registros en total"), say.number(verification.records)),
        (say.t("Records in the period", "Registros en el periodo"), say.number(chain.records_in_period)),
        (say.t("First in the period", "Primero del periodo"), mark(chain.first_in_period)),
        (say.t("Last in the period", "Último del periodo"), mark(chain.last_in_period)),
    ];
    if let Some(last) = &verification.last {
        let at = last.at.map_or_else(|| "–".to_owned(), |at| say.when(at));
        let head = say.t("Head of the chain when the report was made", "Cabecera de la cadena al elaborar el informe");
        pairs.push((head, format!("{} ({at}) {}", last.seq, last.hash)));
    }
    let of = say.t("of", "de");
    let sealed = format!("{} {of} {}", say.number(verification.sealed), say.number(verification.segments));
    pairs.push((say.t("Segments equal to what was sealed", "Segmentos iguales a los sellados"), sealed));
    let attested = format!("{} {of} {}", say.number(verification.attested), say.number(verification.rehearsals));
    pairs.push((
        say.t("Restore tests with a signed statement", "Pruebas de restauración con declaración firmada"),
        attested,
    ));
    if let Some(key) = &verification.key {
        pairs.push((say.t("Signed with the key", "Firmado con la clave"), format!("{} ({})", key.key, key.id)));
    }
    pairs.push((say.t("Torn ends that were mended", "Finales truncados y reparados"), chain.mended.len().to_string()));
    section.pairs(pairs);
    section.table(findings(writing, &verification.findings));
    section.table(held(writing, &verification.anchors));
    let told: Vec<&String> = verification.unasked.iter().chain(&verification.notes).collect();
    if !told.is_empty() {
        section.heading(say.t("What could not be compared", "Lo que no se pudo cotejar"));
        let notes = told.into_iter().map(|note| Text::from(recorded::said(note, say)));
        section.blocks.push(Block::List(notes.collect()));
    }
}

/// What it comes to, in one line.
pub fn verdict(basis: &Basis, say: Say<'_>) -> (String, Tone) {
    let Some(verification) = basis.integrity.seen() else {
        return (say.t("not verified", "sin verificar").to_owned(), Tone::Bad);
    };
    let last = verification.last.as_ref().map_or(0, |last| last.seq);
    match (verification.verdict, verification.covered_to) {
        (Verdict::Tampered, _) => (
            format!(
                "{}: {}",
                say.t("DAMAGED: see the section on the journal", "DAÑADO: véase el apartado sobre el diario"),
                say.count(
                    verification.findings.len() as u64,
                    said("finding", "hallazgo"),
                    said("findings", "hallazgos")
                )
            ),
            Tone::Bad,
        ),
        (Verdict::NotKnown, _) => (
            say.t(
                "nothing wrong was found in what could be looked at; not everybody who holds a part of it could be asked",
                "no se halló nada incorrecto en lo que se pudo consultar; no se pudo preguntar a todos los que conservan una parte",
            )
            .to_owned(),
            Tone::Warn,
        ),
        (Verdict::Fits, 0) => (
            say.t(
                "the chain is whole by itself; no seal and no anchor could be seen to compare it with",
                "la cadena es íntegra por sí misma; no se pudo consultar ningún sello ni anclaje con el que cotejarla",
            )
            .to_owned(),
            Tone::Warn,
        ),
        (Verdict::Fits, covered) => (
            format!(
                "{} {} {} {}",
                say.t(
                    "the chain is whole; it fits what was sealed and anchored, up to record",
                    "la cadena es íntegra y coincide con lo sellado y anclado, hasta el registro"
                ),
                covered,
                say.t("of", "de"),
                last
            ),
            Tone::Well,
        ),
    }
}

pub fn kind(tampering: Tampering) -> Said {
    match tampering {
        Tampering::Removed => said("removed", "eliminado"),
        Tampering::Edited => said("changed after it was written", "modificado después de escrito"),
        Tampering::Reordered => said("moved", "cambiado de sitio"),
        Tampering::Inserted => said("put in", "insertado"),
        Tampering::CutOff => said("cut off at the end", "cortado al final"),
        Tampering::Rewritten => said("not what was sealed or anchored", "no es lo sellado o anclado"),
        Tampering::Signature => said("the signature does not fit", "la firma no corresponde"),
        Tampering::NoAttempt => said("an outcome without an attempt", "un resultado sin inicio"),
        Tampering::Statement => {
            said("the statement of a test says otherwise", "la declaración de una prueba dice otra cosa")
        }
        Tampering::TimeStamp => said("the time stamp does not fit", "el sello de tiempo no corresponde"),
        Tampering::AnchorGone => said("an anchor is gone", "falta un anclaje"),
        Tampering::SealGone => said("what was sealed is gone", "falta algo que se había sellado"),
    }
}

/// `records 21 to 24: removed (between … and …)`
pub fn finding(say: Say<'_>, finding: &Finding) -> String {
    let records = match finding.from == finding.to {
        true if finding.from == 0 => finding.segment.clone(),
        true => format!("{} {}", say.t("record", "registro"), finding.from),
        false => {
            format!("{} {} {} {}", say.t("records", "registros"), finding.from, say.t("to", "a"), finding.to)
        }
    };
    let range = match (finding.after, finding.before) {
        (Some(after), Some(before)) => format!(
            " ({} {} {} {})",
            say.t("written between", "escrito entre el"),
            say.when(after),
            say.t("and", "y el"),
            say.when(before)
        ),
        (Some(after), None) => format!(" ({} {})", say.t("written at or after", "escrito desde el"), say.when(after)),
        (None, Some(before)) => {
            format!(" ({} {})", say.t("written at or before", "escrito hasta el"), say.when(before))
        }
        (None, None) => String::new(),
    };
    format!("{records}: {}{range}", say.of(kind(finding.tampering)))
}

fn findings(writing: &Writing<'_>, found: &[Finding]) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("What does not fit", "Lo que no concuerda"),
        say.t(
            "Nothing: every record follows the one before it unchanged, and nothing that others hold of them contradicts it.",
            "Nada: cada registro continúa al anterior, sin alteraciones, y nada de lo que otros conservan de ellos lo contradice.",
        ),
        &[
            (say.t("What was found", "Qué se halló"), 9),
            (say.t("File", "Archivo"), 5),
            (say.t("In the words of bkp", "En palabras de bkp"), 10),
        ],
    );
    for one in found {
        table.row(vec![
            Cell::toned(finding(say, one), Tone::Bad),
            Cell::of(one.segment.as_str()),
            Cell::soft(one.text.as_str()),
        ]);
    }
    table
}

/// Heads that others hold, as far as they could be asked.
fn held(writing: &Writing<'_>, anchors: &[AnchorSeen]) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t(
            "Heads that others hold, compared with the chain",
            "Cabeceras que conservan otros, cotejadas con la cadena",
        ),
        say.t("No evidence: none could be seen.", "Sin evidencia: no se pudo consultar ninguna."),
        &[
            (say.t("Place", "Lugar"), 4),
            (say.t("Up to record>", "Hasta el registro>"), 3),
            (say.t("Signed", "Firmada"), 5),
            (say.t("Time stamp", "Sello de tiempo"), 6),
            (say.t("Result", "Resultado"), 3),
        ],
    );
    for AnchorSeen { witness, fits } in anchors {
        let fits = match fits {
            Some(true) => Cell::toned(say.t("fits", "coincide"), Tone::Well),
            Some(false) => Cell::toned(say.t("DOES NOT FIT", "NO COINCIDE"), Tone::Bad),
            None => Cell::soft(say.t("not in the chain yet", "aún no está en la cadena")),
        };
        let stamps = witness.stamped.iter().map(|stamped| {
            let trusted = match stamped.trusted {
                true => "",
                false => say.t(" (certificate not checked)", " (certificado sin comprobar)"),
            };
            format!("{}, {}{trusted}", say.when(stamped.at), stamped.authority)
        });
        let stamps = stamps.collect::<Vec<_>>().join("; ");
        table.row(vec![
            Cell::of(recorded::said(&witness.place, say)),
            Cell::of(witness.seq.to_string()),
            Cell::of(say.when(witness.at)),
            if stamps.is_empty() { Cell::soft("–") } else { Cell::of(stamps) },
            fits,
        ]);
    }
    table
}

/// What the journal says of its anchors in the period, also of those that failed.
fn anchors(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Anchors of the head that were made in the period", "Anclajes de la cabecera hechos en el periodo"),
        say.t(
            "No evidence: no anchor is recorded in the period.",
            "Sin evidencia: no consta ningún anclaje en el periodo.",
        ),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Place", "Lugar"), 4),
            (say.t("Up to record>", "Hasta el registro>"), 3),
            (say.t("Hash", "Resumen"), 8),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for anchor in &writing.basis.facts.anchors {
        let hash = match anchor.ok {
            true => Cell::of(anchor.hash.as_str()),
            false => {
                let why = anchor.message.as_deref().unwrap_or("–");
                Cell::toned(format!("{}: {why}", say.t("failed", "fallido")), Tone::Bad)
            }
        };
        table.row(vec![
            Cell::of(say.when(anchor.mark.at)),
            Cell::of(&*anchor.place),
            Cell::of(anchor.upto.to_string()),
            hash,
            Cell::soft(anchor.mark.record.to_string()),
        ]);
    }
    table
}

fn how_to_verify(writing: &Writing<'_>, section: &mut Section) {
    let say = writing.say;
    section.heading(say.t("How to verify", "Cómo verificarlo"));
    section.paragraph(say.t(
        "On this host: the chain, the seals and the anchors, and what this report was made from. Elsewhere and offline: the bundle that \
         `bkp evidence export` writes, with bkp or with openssl alone (docs/EVIDENCE.md); points open with the tools age and zstd \
         (docs/FORMAT.md). Compare the key with the one in the recovery key file.",
        "En este equipo: la cadena, los sellos y los anclajes, y los datos de los que procede este informe. En otro lugar y sin conexión: el \
         paquete que escribe `bkp evidence export`, con bkp o solo con openssl (docs/EVIDENCE.md); los puntos se abren con las \
         herramientas age y zstd (docs/FORMAT.md). Compárese la clave con la que figura en el archivo de la clave de recuperación.",
    ));
    let (basis, period) = (writing.basis, &writing.basis.period.name);
    let key = basis.integrity.seen().and_then(|seen| seen.key.as_ref()).map_or("ed25519:…", |key| key.key.as_str());
    section.blocks.push(Block::Commands(vec![
        "bkp evidence verify".into(),
        format!("bkp report --period {period} --format json").into(),
        "bkp check --level readable --identity recovery-key.txt".into(),
        format!("bkp evidence export evidence.tar --period {period}").into(),
        format!("bkp evidence verify evidence.tar --key {key}").into(),
    ]));
}
