//! The first pages: what it is about, what it comes to in figures, and what this report could not see.

use super::exceptions::Exception;
use super::{Block, Cell, Section, Table, Text, Tone, Writing, integrity};
use crate::journal::{Job, SlotEnd};
use crate::report::basis::Basis;
use crate::report::frameworks::Framework;
use crate::report::recorded;
use crate::report::say::Say;

pub fn front(writing: &Writing<'_>, framework: Option<&Framework>) -> Vec<(Text, Text)> {
    let (say, basis) = (writing.say, writing.basis);
    let mut facts = vec![
        (say.text("Period", "Periodo"), writing.period().into()),
        (say.text("Host", "Equipo"), basis.host.as_str().into()),
    ];
    if let Some(store) = basis.stores.first() {
        facts.push((say.text("Repository", "Repositorio"), store.url.as_str().into()));
    }
    if let Some(id) = &basis.facts.journal.id {
        facts.push((say.text("Journal", "Diario"), id.as_str().into()));
    }
    if let Some(framework) = framework {
        facts.push((say.text("Framework", "Marco"), say.of(framework.edition).into()));
    }
    facts.push((
        say.text("Made", "Elaborado"),
        format!("{}, bkp {}", say.when(basis.made_at), env!("CARGO_PKG_VERSION")).into(),
    ));
    facts
}

pub fn section(writing: &Writing<'_>, exceptions: &[Exception]) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Summary", "Resumen"));
    section.paragraph(say.t(
        "This report states what was expected, what was done and what was found in the period, from the records that bkp \
         keeps on this host and from what could be seen when the report was made. It offers evidence. Whether a \
         requirement is met is for those to judge who prepare, review and audit it.",
        "Este informe recoge lo que estaba previsto, lo que se hizo y lo que se comprobó en el periodo, según los registros que \
         bkp conserva en este equipo y lo que se pudo consultar al elaborarlo. Aporta evidencias; juzgar si un requisito se \
         satisface corresponde a quienes lo elaboran, lo revisan y lo auditan.",
    ));
    if !writing.basis.is_over() {
        section.notice(format!(
            "{} {}.",
            say.t(
                "The period is not over: this report covers it up to",
                "El periodo no ha terminado: este informe lo abarca hasta el"
            ),
            say.when(writing.basis.made_at)
        ));
    }
    section.table(figures(writing, exceptions.len()));
    let limits = limits(writing);
    if !limits.is_empty() {
        section.heading(say.t("What this report could not see", "Lo que este informe no pudo ver"));
        section.blocks.push(Block::List(limits));
    }
    section
}

fn figures(writing: &Writing<'_>, exceptions: usize) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("The period in figures", "El periodo en cifras"),
        "",
        &[(say.t("What", "Concepto"), 5), (say.t("Found", "Resultado"), 7)],
    );
    let mut row = |name: &str, value: String, tone| table.row(vec![Cell::of(name), Cell::toned(value, tone)]);
    let mut sources = basis.sources().count().to_string();
    for (number, what) in [
        (basis.retired().len(), say.t("no longer configured", "ya no configurados")),
        (basis.tested_for_others().len(), say.t("of other hosts, tested here", "de otros equipos, probados aquí")),
    ] {
        if number > 0 {
            sources += &format!(" + {number} {what}");
        }
    }
    row(say.t("Sources", "Orígenes"), sources, Tone::Plain);
    let backups = || basis.facts.slots().filter(|(series, _)| series.job == Job::Backup).map(|(_, slot)| slot);
    let ended = |end| backups().filter(|slot| slot.end() == Some(end)).count() as u64;
    let (expected, done) = (backups().count() as u64, ended(SlotEnd::Done));
    let text = match expected {
        0 => say.t("none: no schedule was recorded", "ninguna: no consta ninguna programación").to_owned(),
        _ => {
            format!(
                "{} {} {} ({}); {}",
                say.number(done),
                say.t("of", "de"),
                say.number(expected),
                say.share(done, expected),
                say.counts(&[
                    (say.t("failed", "fallidas"), ended(SlotEnd::Failed)),
                    (say.t("not run", "no ejecutadas"), ended(SlotEnd::Missed)),
                    (say.t("left out by rule", "omitidas por regla"), ended(SlotEnd::Skipped)),
                ])
            ) + &open(say, backups().filter(|slot| slot.ended.is_none()).count() as u64)
        }
    };
    let tone = if done == expected && expected > 0 { Tone::Well } else { Tone::Warn };
    row(say.t("Expected backups that were done", "Copias previstas y realizadas"), text, tone);
    let (text, tone) = rpo(writing);
    row(say.t("RPO kept at all times", "RPO respetado en todo momento"), text, tone);
    let (text, tone) = tests(writing);
    row(say.t("Restore tests passed", "Pruebas de restauración superadas"), text, tone);
    let (text, tone) = rto(writing);
    row(say.t("RTO kept in restore tests", "RTO respetado en las pruebas"), text, tone);
    let (text, tone) = copies(writing);
    row(say.t("Copies elsewhere", "Copias en otro lugar"), text, tone);
    let (text, tone) = integrity::verdict(basis, say);
    row(say.t("Journal", "Diario"), text, tone);
    let tone = if exceptions == 0 { Tone::Well } else { Tone::Warn };
    row(say.t("Exceptions", "Excepciones"), say.number(exceptions as u64), tone);
    table
}

fn of_judged(writing: &Writing<'_>, met: usize, judged: usize, none: (&str, &str)) -> (String, Tone) {
    let say = writing.say;
    match judged {
        0 => (say.t(none.0, none.1).to_owned(), Tone::Soft),
        _ => {
            let tone = if met == judged { Tone::Well } else { Tone::Bad };
            (format!("{met} {} {judged} {}", say.t("of", "de"), say.t("sources", "orígenes")), tone)
        }
    }
}

/// Those that have not ended, where there are any: with them, it adds up.
fn open(say: Say<'_>, number: u64) -> String {
    match number {
        0 => String::new(),
        _ => format!("; {}: {}", say.t("open", "abiertas"), say.number(number)),
    }
}

fn rpo(writing: &Writing<'_>) -> (String, Tone) {
    let (met, judged) = writing.basis.rpo_kept();
    of_judged(writing, met, judged, ("no policy has an objective", "ninguna política fija un objetivo"))
}

fn tests(writing: &Writing<'_>) -> (String, Tone) {
    let (say, basis) = (writing.say, writing.basis);
    let restored: Vec<&str> =
        basis.facts.tests().filter(|test| test.is_restored()).map(|test| test.rehearsed.source.as_str()).collect();
    let (passed, all) = (restored.len(), basis.facts.tests().count() + basis.facts.fruitless().count());
    if all == 0 {
        return (say.t("no evidence: none was made", "sin evidencia: no se hizo ninguna").to_owned(), Tone::Bad);
    }
    let wanted = basis.to_be_tested();
    let tested = wanted.iter().filter(|source| restored.contains(source)).count();
    let text = format!(
        "{passed} {of} {all}; {tested} {of} {} {}",
        wanted.len(),
        say.t("sources with one at least", "orígenes con al menos una"),
        of = say.t("of", "de")
    );
    (text, if passed == all && tested == wanted.len() { Tone::Well } else { Tone::Bad })
}

fn rto(writing: &Writing<'_>) -> (String, Tone) {
    let say = writing.say;
    let judged: Vec<bool> = writing.basis.facts.rehearsals.iter().filter_map(|test| test.meets_rto()).collect();
    let met = judged.iter().filter(|met| **met).count();
    match judged.len() {
        0 => {
            (say.t("not measured against an objective", "no se midió frente a ningún objetivo").to_owned(), Tone::Soft)
        }
        all => {
            let tone = if met == all { Tone::Well } else { Tone::Bad };
            (format!("{met} {} {all} {}", say.t("of", "de"), say.t("tests", "pruebas")), tone)
        }
    }
}

fn copies(writing: &Writing<'_>) -> (String, Tone) {
    let (say, basis) = (writing.say, writing.basis);
    let configured = basis.stores.len().saturating_sub(1);
    if configured == 0 {
        return (
            say.t("no evidence: none is configured", "sin evidencia: no hay ninguna configurada").to_owned(),
            Tone::Bad,
        );
    }
    let failed: u64 = basis.facts.copies.iter().map(|copy| copy.failed).sum();
    let arrived: u64 = basis.facts.copies.iter().map(|copy| copy.arrived).sum();
    let tone = if failed == 0 && arrived > 0 { Tone::Well } else { Tone::Warn };
    let counts =
        say.counts(&[(say.t("points arrived", "puntos copiados"), arrived), (say.t("failures", "fallos"), failed)]);
    let text = format!("{configured}; {counts}");
    (text, tone)
}

fn limits(writing: &Writing<'_>) -> Vec<Text> {
    let (say, basis) = (writing.say, writing.basis);
    let mut limits: Vec<Text> = Vec::new();
    let mut limit = |what: (&str, &str), why: &str| {
        limits.push(format!("{}: {}", say.t(what.0, what.1), recorded::said(why, say)).into())
    };
    if let Some(why) = basis.repository.why_not() {
        limit(("The repository", "El repositorio"), why);
    }
    if let Some(why) = basis.copies.why_not() {
        limit(("The state of the copies", "El estado de las copias"), why);
    }
    if let Some(why) = basis.surroundings.why_not() {
        limit(("Whether something on this host is not protected", "Si hay algo sin proteger en este equipo"), why);
    }
    if let Some(from) = begins_late(basis) {
        limit(
            ("The period before the first record of the journal", "El periodo anterior al primer registro del diario"),
            &format!("{} {}", say.t("it begins at", "este comienza el"), say.when(from)),
        );
    }
    if let Some(why) = basis.integrity.why_not() {
        limit(("Whether the journal is whole", "Si el diario está íntegro"), why);
    }
    let unreadable = basis.facts.journal.unreadable;
    if unreadable > 0 {
        let what = ("Records that say nothing that makes sense", "Registros cuyo contenido no se entiende");
        limit(what, &say.number(unreadable));
    }
    if basis.facts.journal.unknown > 0 {
        let number = say.number(basis.facts.journal.unknown);
        limit(
            ("Records written by a newer version of bkp", "Registros escritos por una versión más reciente de bkp"),
            &number,
        );
    }
    limits.push(say.text(
        "The configuration is that of the time of this report; what it was before is known by its digest only.",
        "La configuración es la del momento de elaborar el informe; de las anteriores solo consta su resumen criptográfico.",
    ));
    limits.push(say.text(
        "What happened on other hosts: each keeps its own journal.",
        "Lo ocurrido en otros equipos: cada uno lleva su propio diario.",
    ));
    limits
}

/// The journal says nothing of the beginning of the period.
pub fn begins_late(basis: &Basis) -> Option<jiff::Timestamp> {
    let first = basis.facts.journal.first?;
    (first.at > basis.period.from).then_some(first.at)
}
