//! Everything that was not as it should have been, with its reason: one list, so that nobody has to look for it.
//!
//! The last column is left free, for who signs to say what was done about it.

use super::restores::level;
use super::runs::policy_name;
use super::{Cell, Section, Table, Writing, integrity};
use crate::journal::{Job, SlotEnd, Verdict};
use crate::report::facts::{Ending, Mark};
use crate::report::recorded;
use jiff::Timestamp;

/// One thing that wants an explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    pub at: Timestamp,
    pub what: String,
    pub why: String,
    pub record: Option<u64>,
}

pub fn of(writing: &Writing<'_>) -> Vec<Exception> {
    let mut found = Vec::new();
    slots(writing, &mut found);
    unrecorded(writing, &mut found);
    runs(writing, &mut found);
    tests(writing, &mut found);
    fruitless(writing, &mut found);
    objectives(writing, &mut found);
    unattended(writing, &mut found);
    changes(writing, &mut found);
    journal(writing, &mut found);
    found.sort_by_key(|exception| exception.at);
    found
}

pub fn section(writing: &Writing<'_>, exceptions: &[Exception]) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Exceptions", "Excepciones"));
    section.paragraph(say.t(
        "Everything in the period that did not go as it was expected, with the reason as it was recorded. The last column is for \
         those who sign: what was done about it, and by whom.",
        "Todo lo que en el periodo no transcurrió según lo previsto, con el motivo tal como \
         consta en el registro (lo que dijeron otros programas queda entre comillas, como lo dijeron). La última columna queda para quienes firman: qué medida se tomó y quién.",
    ));
    let mut table = Table::new(
        say.t("Exceptions in the order of time", "Excepciones por orden cronológico"),
        say.t("No exception was found in the period.", "No se halló ninguna excepción en el periodo."),
        &[
            (say.t("No.>", "N.º>"), 2),
            (say.t("When", "Fecha"), 5),
            (say.t("What", "Qué"), 6),
            (say.t("Reason", "Motivo"), 8),
            (say.t("Record>", "Registro>"), 3),
            (say.t("Action, by", "Medida y responsable"), 5),
        ],
    );
    for (number, exception) in exceptions.iter().enumerate() {
        table.row(vec![
            Cell::of((number + 1).to_string()),
            Cell::of(say.when(exception.at)),
            Cell::of(exception.what.as_str()),
            Cell::of(shortened(&exception.why)),
            Cell::soft(exception.record.map_or("–".to_owned(), |record| record.to_string())),
            Cell::of(""),
        ]);
    }
    section.table(table);
    section
}

/// As it was recorded.
fn reason(writing: &Writing<'_>, recorded: Option<&str>) -> String {
    recorded.map_or(writing.not_recorded().to_owned(), |why| recorded::quoted(why, writing.say))
}

fn shortened(text: &str) -> String {
    const MOST: usize = 600;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn slots(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for (series, slot) in writing.basis.facts.slots() {
        let Some(end) = &slot.ended else {
            let overdue = slot.deadline.is_some_and(|deadline| deadline < writing.basis.made_at);
            if overdue {
                found.push(Exception {
                    at: slot.slot,
                    what: format!(
                        "{}, {}: {}",
                        policy_name(writing, &series.policy),
                        say.job(series.job),
                        say.t("no end is recorded", "no consta su final")
                    ),
                    why: say
                        .t("past its deadline when the report was made", "vencido su plazo al elaborar el informe")
                        .to_owned(),
                    record: slot.expected.map(|mark| mark.record),
                });
            }
            continue;
        };
        if end.end == SlotEnd::Done {
            continue;
        }
        found.push(Exception {
            at: slot.slot,
            what: format!(
                "{}, {}: {}",
                policy_name(writing, &series.policy),
                say.job(series.job),
                say.slot_end(end.end, false)
            ),
            why: reason(writing, end.why.as_deref()),
            record: Some(end.mark.record),
        });
    }
}

fn unrecorded(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for missing in &writing.basis.unrecorded.missing {
        found.push(Exception {
            at: missing.slot,
            what: format!("{}, {}", policy_name(writing, &missing.policy), say.job(missing.job)),
            why: say
                .t(
                    "the calendar wanted a run, and the journal says nothing of it",
                    "el calendario preveía una ejecución y el diario no dice nada de ella",
                )
                .to_owned(),
            record: None,
        });
    }
}

/// Of slots, the slot tells; here are the runs that failed though their slot may have been saved by another, and those by hand.
fn runs(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for run in &writing.basis.facts.runs {
        let source = run.source.as_deref().unwrap_or(say.t("repository", "repositorio"));
        let Some(end) = &run.ended else {
            let is_old = writing.basis.made_at.duration_since(run.started.at).as_hours() >= 24;
            if is_old {
                found.push(Exception {
                    at: run.started.at,
                    what: format!(
                        "{source}: {}, {}",
                        say.job(run.job),
                        say.t("no end is recorded", "no consta su final")
                    ),
                    why: say.t("killed, or still going on", "interrumpida o aún en curso").to_owned(),
                    record: Some(run.started.record),
                });
            }
            continue;
        };
        // What a restore test found is told as such.
        if end.outcome.is_good() || run.job == Job::Rehearse {
            continue;
        }
        found.push(Exception {
            at: end.mark.at,
            what: format!("{source}: {}, {}", say.job(run.job), say.outcome(end.outcome)),
            why: reason(writing, end.message.as_deref()),
            record: Some(end.mark.record),
        });
    }
    for copy in &writing.basis.facts.copies {
        let Some((mark, why)) = &copy.last_failed else { continue };
        found.push(Exception {
            at: mark.at,
            what: format!(
                "{} → {}: {}",
                copy.source,
                copy.copy,
                match copy.failed {
                    1 => say.t("1 point not copied", "1 punto no copiado").to_owned(),
                    many => format!(
                        "{} {}",
                        say.number(many),
                        say.t("points not copied (the last one)", "puntos no copiados (el último)")
                    ),
                }
            ),
            why: reason(writing, why.as_deref()),
            record: Some(mark.record),
        });
    }
}

fn tests(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for test in &writing.basis.facts.rehearsals {
        let rehearsed = &test.rehearsed;
        if test.verdict() == Verdict::Failed {
            let assertions = rehearsed.assertions.iter().filter(|a| !a.holds);
            let assertions = assertions.map(|a| format!("{}: {}", a.name, recorded::found(&a.found, say)));
            let unbound = rehearsed.unbound.iter().map(|why| recorded::quoted(why, say));
            let differences = rehearsed.differences.iter().take(3).cloned();
            let reasons = differences.chain(unbound).chain(assertions);
            let mut why = reasons.collect::<Vec<_>>().join("; ");
            if why.is_empty() {
                let reached = level(writing, rehearsed.reached.as_deref());
                why = format!(
                    "{}: {}, {}: {reached}",
                    say.t("wanted", "nivel exigido"),
                    level(writing, Some(&rehearsed.wanted)),
                    say.t("reached", "alcanzado")
                );
            }
            found.push(Exception {
                at: test.mark.at,
                what: format!(
                    "{}: {}",
                    rehearsed.source,
                    say.t("restore test not passed", "prueba de restauración no superada")
                ),
                why,
                record: Some(test.mark.record),
            });
        }
        if test.meets_rto() == Some(false) {
            let objective = rehearsed.rto_objective_seconds.unwrap_or_default();
            found.push(Exception {
                at: test.mark.at,
                what: format!(
                    "{}: {}",
                    rehearsed.source,
                    say.t("RTO exceeded in a restore test", "RTO rebasado en una prueba")
                ),
                why: format!("{} > {}", say.took(rehearsed.rto_seconds), say.took(objective)),
                record: Some(test.mark.record),
            });
        }
    }
}

/// Tests that came to no result, for whatever reason.
fn fruitless(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for (run, end) in writing.basis.facts.fruitless() {
        let source = run.source.as_deref().unwrap_or(say.t("repository", "repositorio"));
        found.push(Exception {
            at: end.mark.at,
            what: format!(
                "{source}: {}, {}",
                say.t("restore test without a result", "prueba de restauración sin resultado"),
                say.outcome(end.outcome)
            ),
            why: reason(writing, end.message.as_deref()),
            record: Some(end.mark.record),
        });
    }
}

fn objectives(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let (say, basis) = (writing.say, writing.basis);
    let never = basis.sources().filter(|(_, source)| !basis.facts.recovery.contains_key(source.source.as_str()));
    for (policy, source) in never {
        found.push(Exception {
            at: basis.until(),
            what: format!("{}: {}", source.source, say.t("never backed up", "nunca copiado")),
            why: match policy.rpo_seconds {
                Some(objective) => {
                    let none =
                        say.t("no point is recorded; the objective is", "no consta ningún punto; el objetivo es de");
                    format!("{none} {}", say.span(objective))
                }
                None => say.t("no point is recorded", "no consta ningún punto").to_owned(),
            },
            record: None,
        });
    }
    for (source, recovery) in &basis.facts.recovery {
        let objective = basis.policy_of(source).and_then(|policy| policy.rpo_seconds);
        let (Some(worst), Some(objective)) = (recovery.worst, objective) else { continue };
        if worst.seconds > objective {
            found.push(Exception {
                at: worst.at,
                what: format!("{source}: {}", say.t("RPO exceeded", "RPO rebasado")),
                why: format!("{} > {}", say.span(worst.seconds), say.span(objective)),
                record: worst.record,
            });
        }
    }
}

fn unattended(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let say = writing.say;
    for absence in &writing.basis.facts.attendance.absences {
        let end = absence.to.unwrap_or(writing.basis.until());
        let why = match &absence.how {
            Ending::Stopped(why) => {
                format!("{}: {}", say.t("it was stopped", "fue detenido"), recorded::quoted(why, say))
            }
            Ending::Vanished => say
                .t(
                    "it ended without a word: killed, or the machine was",
                    "terminó sin aviso: fue interrumpido, o lo fue la máquina",
                )
                .to_owned(),
            Ending::NotBegun => say.t("it had not been started yet", "aún no se había iniciado").to_owned(),
        };
        found.push(Exception {
            at: absence.from,
            what: format!(
                "{} {}",
                say.t("no daemon ran for", "sin servicio en ejecución durante"),
                say.span(end.duration_since(absence.from).as_secs())
            ),
            why,
            record: absence.after.or(absence.before).map(|mark: Mark| mark.record),
        });
    }
}

fn changes(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let (say, facts) = (writing.say, &writing.basis.facts);
    for change in &facts.clock {
        let seconds = change.seconds.abs();
        let direction = match change.seconds < 0 {
            true => say.t("the clock was set back by", "el reloj se atrasó"),
            false => say.t("the clock was set forward by", "el reloj se adelantó"),
        };
        found.push(Exception {
            at: change.mark.at,
            what: format!("{direction} {}", say.span(seconds)),
            why: match change.noticed {
                true => say.t("noticed by the daemon", "advertido por el servicio").to_owned(),
                false => {
                    say.t("seen in the times of the records", "se aprecia en las horas de los registros").to_owned()
                }
            },
            record: Some(change.mark.record),
        });
    }
    for loaded in facts.configurations.iter().filter(|loaded| !loaded.ok) {
        found.push(Exception {
            at: loaded.mark.at,
            what: say.t("a configuration was refused", "se rechazó una configuración").to_owned(),
            why: reason(writing, loaded.error.as_deref()),
            record: Some(loaded.mark.record),
        });
    }
    for hold in &facts.holds {
        found.push(Exception {
            at: hold.placed.at,
            what: format!("{}: {}", hold.source, say.t("anomaly, deletion held", "anomalía, borrado retenido")),
            why: match &hold.released {
                Some(release) => format!(
                    "{}; {} {} ({}: {})",
                    recorded::quoted(&hold.why, say),
                    say.t("released", "liberado el"),
                    say.when(release.mark.at),
                    release.by,
                    release.why
                ),
                None => {
                    format!("{}; {}", recorded::quoted(&hold.why, say), say.t("not released yet", "aún no liberado"))
                }
            },
            record: Some(hold.placed.record),
        });
    }
}

fn journal(writing: &Writing<'_>, found: &mut Vec<Exception>) {
    let (say, basis) = (writing.say, writing.basis);
    if let Some(from) = super::overview::begins_late(basis) {
        found.push(Exception {
            at: basis.period.from,
            what: say
                .t("the journal begins after the period does", "el diario comienza después que el periodo")
                .to_owned(),
            why: format!("{} {}", say.t("its first record is of", "su primer registro es del"), say.when(from)),
            record: basis.facts.journal.first.map(|mark| mark.record),
        });
    }
    for finding in basis.integrity.seen().into_iter().flat_map(|seen| &seen.findings) {
        found.push(Exception {
            at: basis.until(),
            what: say.t("the journal is damaged", "el diario está dañado").to_owned(),
            why: format!("{}, {}", integrity::finding(say, finding), finding.segment),
            record: Some(finding.from),
        });
    }
}
