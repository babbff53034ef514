//! Why the report can be believed: clocks, and who signs.

use super::{Block, Cell, Section, Table, Text, Tone, Writing};
use crate::report::facts::Ending;
use crate::report::recorded;

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
            Ending::Stopped(why) => {
                format!("{}: {}", say.t("stopped", "detenido"), recorded::quoted(why, say))
            }
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
