//! Why the report can be believed: clocks, the chain of the journal, how to verify it, and who signs.

use super::{Block, Cell, Section, Table, Text, Tone, Writing};
use crate::report::facts::Ending;

pub fn clocks(writing: &Writing<'_>) -> Section {
    let (say, basis) = (writing.say, writing.basis);
    let attendance = &basis.facts.attendance;
    let mut section = Section::new(say.t("Clocks and attendance", "Relojes y continuidad del servicio"));
    section.paragraph(format!(
        "{} {}. {}",
        say.t(
            "Times are those of the clock of this host, in UTC in the records, and here in the zone",
            "Las horas son las del reloj de este equipo: en UTC en los registros y, aquí, en la zona"
        ),
        writing.zone(),
        say.t(
            "bkp does not set the clock and does not know how it is synchronised; the daemon compares it with the time that has \
             passed, and notes jumps. The order of the records does not depend on it.",
            "bkp no ajusta el reloj ni sabe cómo se sincroniza; el servicio lo compara con el tiempo transcurrido y anota los saltos. \
             El orden de los registros no depende de él.",
        )
    ));
    let mut table = Table::new(
        say.t("Changes of the clock", "Cambios del reloj"),
        say.t("None was noticed in the period.", "No se advirtió ninguno en el periodo."),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("By>", "Diferencia>"), 3),
            (say.t("How it was seen", "Cómo se advirtió"), 7),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for change in &basis.facts.clock {
        let sign = if change.seconds < 0 { "-" } else { "+" };
        let how = match change.noticed {
            true => say.t("by the daemon", "lo advirtió el servicio"),
            false => {
                say.t("a record is earlier than the one before it", "un registro es anterior en hora al que lo precede")
            }
        };
        table.row(vec![
            Cell::of(say.when(change.mark.at)),
            Cell::toned(format!("{sign}{}", say.span(change.seconds)), Tone::Warn),
            Cell::of(how),
            Cell::soft(change.mark.record.to_string()),
        ]);
    }
    section.table(table);
    if !attendance.known {
        section.notice(say.t(
            "No daemon is recorded on this host up to the end of the period: runs were begun by a timer of the system, or by hand.",
            "No consta que el servicio se ejecutara en este equipo hasta el final del periodo: las ejecuciones las inició un temporizador del sistema o una persona.",
        ));
        return section;
    }
    section.paragraph(format!(
        "{}: {} ({}).",
        say.t("Starts of the daemon in the period", "Arranques del servicio en el periodo"),
        attendance.starts,
        attendance.versions.iter().map(|version| format!("bkp {version}")).collect::<Vec<_>>().join(", ")
    ));
    section.table(absences(writing));
    section
}

fn absences(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Times without a daemon (of a minute and longer)", "Intervalos sin servicio (de un minuto o más)"),
        say.t("None: the daemon ran throughout.", "Ninguno: el servicio se ejecutó sin interrupción."),
        &[
            (say.t("From", "Desde"), 5),
            (say.t("To", "Hasta"), 5),
            (say.t("For>", "Duración>"), 2),
            (say.t("How", "Motivo"), 6),
            (say.t("Records", "Registros"), 3),
        ],
    );
    for absence in &basis.facts.attendance.absences {
        let how = match &absence.how {
            Ending::Stopped(why) => format!("{}: {why}", say.t("stopped", "detenido")),
            Ending::Vanished => say.t("ended without a word", "terminó sin aviso").to_owned(),
            Ending::NotBegun => say.t("not started yet", "aún no iniciado").to_owned(),
        };
        let end = absence.to.unwrap_or(basis.until());
        let records = [absence.before, absence.after].into_iter().flatten().map(|mark| mark.record.to_string());
        table.row(vec![
            Cell::of(say.when(absence.from)),
            absence.to.map_or(Cell::toned(say.t("not started again", "sin reanudar"), Tone::Bad), |to| {
                Cell::of(say.when(to))
            }),
            Cell::of(say.span(end.duration_since(absence.from).as_secs())),
            Cell::of(how),
            Cell::soft(records.collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}

pub fn journal(writing: &Writing<'_>) -> Section {
    let (say, basis) = (writing.say, writing.basis);
    let chain = &basis.facts.journal;
    let mut section = Section::new(
        say.t("Integrity of the record, and how to verify it", "Integridad del registro y cómo verificarla"),
    );
    section.paragraph(say.t(
        "The journal is a chain: every record carries the SHA-256 of the one before it. For this report it was read from its \
         first record to its last and every link was computed anew. That the newest records were cut off, or that the whole was \
         written anew, can be told only by comparing with what others hold: the sealed segments in the repository, and the \
         places where its head was anchored.",
        "El diario es una cadena: cada registro lleva el SHA-256 del anterior. Para este informe se leyó desde el primero hasta el \
         último y se recalculó cada eslabón. Que se hayan cortado los registros más recientes, o que se haya reescrito todo, solo \
         puede saberse cotejándolo con lo que otros conservan: los segmentos sellados en el repositorio y los lugares donde se \
         ancló su cabecera.",
    ));
    let mark = |mark: Option<crate::report::facts::Mark>| match mark {
        Some(mark) => format!("{} ({})", mark.record, say.when(mark.at)),
        None => say.t("none", "ninguno").to_owned(),
    };
    section.pairs(vec![
        (say.t("Journal", "Diario"), chain.id.clone().unwrap_or_else(|| "–".to_owned())),
        (say.t("Records in all", "Registros en total"), say.number(chain.records)),
        (say.t("Records in the period", "Registros en el periodo"), say.number(chain.records_in_period)),
        (say.t("First in the period", "Primero del periodo"), mark(chain.first_in_period)),
        (say.t("Last in the period", "Último del periodo"), mark(chain.last_in_period)),
        (
            say.t("Head of the chain when the report was made", "Cabecera de la cadena al elaborar el informe"),
            format!("{} {}", mark(chain.last), chain.head),
        ),
        (say.t("Torn ends that were mended", "Finales truncados y reparados"), chain.mended.len().to_string()),
    ]);
    let mut table = Table::new(
        say.t("Breaks of the chain", "Roturas de la cadena"),
        say.t(
            "None: every record follows the one before it unchanged.",
            "Ninguna: cada registro continúa al anterior, sin alteraciones.",
        ),
        &[
            (say.t("Segment", "Segmento"), 5),
            (say.t("Byte>", "Byte>"), 2),
            (say.t("What was found", "Qué se halló"), 10),
        ],
    );
    for problem in &chain.problems {
        table.row(vec![
            Cell::of(problem.segment.as_str()),
            Cell::of(problem.byte.to_string()),
            Cell::toned(problem.problem.as_str(), Tone::Bad),
        ]);
    }
    section.table(table);
    section.table(anchors(writing));
    how_to_verify(writing, &mut section);
    section
}

fn how_to_verify(writing: &Writing<'_>, section: &mut Section) {
    let say = writing.say;
    section.heading(say.t("How to verify", "Cómo verificarlo"));
    section.paragraph(say.t(
        "On this host: the whole chain, and what this report was made from. A record of the journal can be checked with any \
         SHA-256 tool (docs/JOURNAL.md); points open with the tools age and zstd alone (docs/FORMAT.md).",
        "En este equipo: la cadena completa y los datos de los que procede este informe. Un registro del diario puede comprobarse con \
         cualquier herramienta de SHA-256 (docs/JOURNAL.md); los puntos se abren solo con las herramientas age y zstd \
         (docs/FORMAT.md).",
    ));
    let period = &writing.basis.period.name;
    section.blocks.push(Block::Commands(vec![
        "bkp journal verify".into(),
        format!("bkp report --period {period} --format json").into(),
        format!("bkp report --period {period} --format csv").into(),
        "bkp points --all".into(),
        "bkp check --level readable --identity recovery-key.txt".into(),
    ]));
}

fn anchors(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Anchors of the head in other places", "Anclajes de la cabecera en otros lugares"),
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

pub fn signatures(writing: &Writing<'_>) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Signatures", "Firmas"));
    section.paragraph(say.t(
        "Who signs states to have prepared, or to have reviewed, this report and the exceptions in it.",
        "Quienes firman declaran haber elaborado o, en su caso, revisado este informe y las excepciones que recoge.",
    ));
    let block = |title: &str| {
        let lines = [
            title,
            say.t("Name", "Nombre y apellidos"),
            say.t("Position", "Cargo"),
            say.t("Date", "Fecha"),
            say.t("Signature", "Firma"),
        ];
        lines.into_iter().map(Text::of).collect()
    };
    section.blocks.push(Block::Signatures(vec![
        block(say.t("Prepared by", "Elaborado por")),
        block(say.t("Reviewed by", "Revisado por")),
    ]));
    section
}
