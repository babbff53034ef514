//! Restore tests and real restores: what was restored, where, what was compared, and how long it took.

use super::chart::{Trend, named_days};
use super::scope::proven;
use super::{Block, Cell, Section, Table, Text, Tone, Writing};
use crate::journal::{Chosen, Job, Verdict};
use crate::repo::proof::Level;
use crate::report::facts::Rehearsal;
use crate::report::period::Day;
use crate::report::recorded;
use jiff::civil::Date;

/// So many tests are told in detail.
const DETAILED: usize = 200;
const CHARTS: usize = 12;
/// In the order in which they come.
const PHASES: [&str; 6] = ["fetch", "decode", "load", "index", "verify", "overhead"];

pub fn section(writing: &Writing<'_>) -> Section {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut section = Section::new(say.t("Restore tests and restores", "Pruebas de restauración y restauraciones"));
    section.heading(say.t("Restore tests", "Pruebas de restauración"));
    section.paragraph(say.t(
        "A restore test takes a point, restores it with the code of a real restore into a target of its own that is thrown away \
         afterwards, and compares it with what the source held at that instant. Levels: loaded, a server accepted it; equal, \
         the contents are those of the source; checked, assertions of the organisation hold besides. Compared are parts: tables, \
         collections, keyspaces or files, with their contents, and definitions and permissions. A point that was only read to its end \
         shows nothing of restoring, and is counted with the integrity checks. RTO is the time that a real \
         restore of the point would have taken; RPO is the age of the data at the time of the test.",
        "Una prueba de restauración toma un punto, lo restaura con el mismo código que una restauración real en un destino propio que \
         después se elimina, y lo coteja con lo que el origen contenía en ese instante. Niveles: cargado, un servidor lo aceptó; \
         igual, el contenido es el del origen; verificado, se cumplen además las aserciones de la entidad. Se cotejan partes: tablas, \
         colecciones, espacios de claves o archivos, con su contenido, y definiciones y permisos. Un punto que solo se leyó hasta el final \
         no demuestra nada sobre su restauración y se cuenta con las comprobaciones de integridad. El RTO es el tiempo que \
         habría tardado una restauración real de ese punto; el RPO, la antigüedad de los datos en el momento de la prueba.",
    ));
    section.table(tests(writing));
    section.blocks.extend(charts(writing));
    for test in facts.rehearsals.iter().take(DETAILED) {
        details(writing, test, &mut section);
    }
    if facts.rehearsals.len() > DETAILED {
        section.notice(say.t(
            "Further tests are told in detail in the JSON of the same period.",
            "Las demás pruebas se detallan en el JSON del mismo periodo.",
        ));
    }
    untested(writing, &mut section);
    section.heading(say.t("Real restores", "Restauraciones reales"));
    section.table(restores(writing));
    section
}

pub fn level(writing: &Writing<'_>, level: Option<&str>) -> String {
    let say = writing.say;
    match level {
        None => say.t("none", "ninguno").to_owned(),
        Some(name) => Level::parse(name).map_or(name, |level| proven(writing, level)).to_owned(),
    }
}

fn result(writing: &Writing<'_>, test: &Rehearsal) -> Cell {
    let say = writing.say;
    match test.verdict() {
        Verdict::Passed => Cell::toned(say.t("passed", "superada"), Tone::Well),
        Verdict::NotCompared => Cell::toned(say.t("restored; not compared", "restaurada; sin cotejar"), Tone::Warn),
        Verdict::NotRestored => Cell::toned(say.t("read only, not restored", "solo leída, no restaurada"), Tone::Soft),
        Verdict::Failed => Cell::toned(say.t("not passed", "no superada"), Tone::Bad),
    }
}

fn age(writing: &Writing<'_>, test: &Rehearsal) -> String {
    writing.say.span(test.mark.at.duration_since(test.rehearsed.consistent_at).as_secs().max(0))
}

fn tests(writing: &Writing<'_>) -> Table {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut table = Table::new(
        say.t("Restore tests of the period", "Pruebas de restauración del periodo"),
        say.t(
            "No evidence: no restore test was made in the period.",
            "Sin evidencia: no se hizo ninguna prueba de restauración en el periodo.",
        ),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Source", "Origen"), 4),
            (say.t("Result", "Resultado"), 3),
            (say.t("Level", "Nivel"), 3),
            (say.t("Differences>", "Diferencias>"), 3),
            (say.t("RTO (objective)>", "RTO (objetivo)>"), 4),
            (say.t("RPO (objective)>", "RPO (objetivo)>"), 4),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for test in &facts.rehearsals {
        let rehearsed = &test.rehearsed;
        let rto_objective = rehearsed.rto_objective_seconds.map_or("–".to_owned(), |seconds| say.took(seconds));
        let rto_tone = if test.meets_rto() == Some(false) { Tone::Bad } else { Tone::Plain };
        let rto = match test.is_of_restore() {
            true => format!("{} ({rto_objective})", say.took(rehearsed.rto_seconds)),
            false => "–".to_owned(),
        };
        let rpo = writing.basis.policy_of(&rehearsed.source).and_then(|policy| policy.rpo_seconds);
        let rpo = rpo.map_or("–".to_owned(), |seconds| say.span(seconds));
        table.row(vec![
            Cell::of(say.when(test.mark.at)),
            Cell::of(rehearsed.source.as_str()),
            result(writing, test),
            Cell::of(level(writing, rehearsed.reached.as_deref())),
            Cell::of(say.number(rehearsed.differing)),
            Cell::toned(rto, rto_tone),
            Cell::of(format!("{} ({rpo})", age(writing, test))),
            Cell::soft(test.mark.record.to_string()),
        ]);
    }
    for (run, end) in facts.fruitless() {
        table.row(vec![
            Cell::of(say.when(end.mark.at)),
            Cell::of(run.source.as_deref().unwrap_or("–")),
            Cell::toned(say.t("no result", "sin resultado"), Tone::Bad),
            Cell::of("–"),
            Cell::of("–"),
            Cell::of("–"),
            Cell::of("–"),
            Cell::soft(end.mark.record.to_string()),
        ]);
    }
    table
}

fn charts(writing: &Writing<'_>) -> Vec<Block> {
    let (say, period) = (writing.say, &writing.basis.period);
    let mut sources: Vec<&str> = Vec::new();
    for test in writing.basis.facts.tests() {
        let source = test.rehearsed.source.as_str();
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let length = period.to.duration_since(period.from).as_secs_f32().max(1.0);
    let place = |at: jiff::Timestamp| at.duration_since(period.from).as_secs_f32() / length;
    let days: Vec<Day> = period.days().collect();
    let dates: Vec<Date> = days.iter().map(|day| day.date).collect();
    let ticks: Vec<(f32, Text)> =
        named_days(&dates).into_iter().map(|(number, text)| (place(days[number].from), text)).collect();
    let chart = |source: &str| {
        let tests = || writing.basis.facts.tests().filter(|test| test.rehearsed.source == source);
        let objective = tests().filter_map(|test| test.rehearsed.rto_objective_seconds).last();
        let values = tests().map(|test| {
            let met = test.is_restored() && test.meets_rto() != Some(false);
            let tone = if met { Tone::Well } else { Tone::Bad };
            let title = format!("{}: {}", say.minute(test.mark.at), say.took(test.rehearsed.rto_seconds));
            (place(test.mark.at), test.rehearsed.rto_seconds, tone, Text::from(title))
        });
        let description = format!(
            "{source}: {} ({})",
            say.t(
                "measured time to restore in each test of the period",
                "tiempo de restauración medido en cada prueba del periodo"
            ),
            tests().count()
        );
        let values = values.collect();
        let title = format!("{} {source}", say.t("RTO over time:", "RTO a lo largo del tiempo:"));
        let trend = Trend { values, objective, joined: false, ticks: ticks.clone(), scale: crate::watch::took };
        Block::Chart(trend.draw(title.into(), description.into()))
    };
    sources.into_iter().take(CHARTS).map(chart).collect()
}

fn details(writing: &Writing<'_>, test: &Rehearsal, section: &mut Section) {
    let (say, rehearsed) = (writing.say, &test.rehearsed);
    section.heading(&format!("{}, {}", rehearsed.source, say.when(test.mark.at)));
    let mut pairs = what_was_restored(writing, test);
    let (parts, differing) = (say.number(rehearsed.compared), say.number(rehearsed.differing));
    let (of_parts, differences) = (say.t("parts", "partes"), say.t("differences", "diferencias"));
    pairs.push((say.t("Compared", "Cotejado"), format!("{of_parts}: {parts}; {differences}: {differing}")));
    if let Some(unbound) = &rehearsed.unbound {
        let why = recorded::quoted(unbound, say);
        pairs.push((say.t("Not bound to one instant", "No ligado a un mismo instante"), why));
    }
    let mut phases: Vec<(&String, &f64)> = rehearsed.phases.iter().collect();
    phases.sort_by_key(|(name, _)| PHASES.iter().position(|phase| phase == name).unwrap_or(PHASES.len()));
    let phases = phases.iter().map(|(name, seconds)| format!("{} {}", phase(writing, name), say.took(**seconds)));
    let phases = phases.collect::<Vec<_>>().join(", ");
    let time = format!("RTO {} ({phases}); {}", say.took(rehearsed.rto_seconds), say.size(rehearsed.bytes));
    pairs.push((say.t("Time", "Tiempo"), time));
    let removed = say.t("everything was removed", "se eliminó todo");
    pairs.push((
        say.t("Afterwards", "Después"),
        rehearsed.kept.as_ref().map_or(removed.to_owned(), |kept| recorded::quoted(kept, say)),
    ));
    let run = format!("{} ({} {})", rehearsed.run, say.t("record", "registro"), test.mark.record);
    pairs.push((say.t("Run", "Ejecución"), run));
    section.pairs(pairs);
    let assertions = rehearsed.assertions.iter().map(|assertion| {
        let holds = if assertion.holds { say.t("holds", "se cumple") } else { say.t("DOES NOT HOLD", "NO SE CUMPLE") };
        match assertion.found.is_empty() {
            true => Text::from(format!("{}: {holds}", assertion.name)),
            false => Text::from(format!("{}: {holds} ({})", assertion.name, recorded::found(&assertion.found, say))),
        }
    });
    let differences = rehearsed.differences.iter().map(Text::from);
    let lines: Vec<Text> = assertions.chain(differences).collect();
    if !lines.is_empty() {
        section.blocks.push(Block::List(lines));
    }
}

/// Which point, how far, and where.
fn what_was_restored<'w>(writing: &Writing<'w>, test: &Rehearsal) -> Vec<(&'w str, String)> {
    let (say, rehearsed) = (writing.say, &test.rehearsed);
    let chosen = match rehearsed.chosen {
        Chosen::Latest => say.t("the latest", "el más reciente"),
        Chosen::At => say.t("of a given instant", "el de un instante dado"),
        Chosen::Random => say.t("at random", "al azar"),
    };
    let (wanted, reached) = (say.t("wanted", "exigido"), say.t("reached", "alcanzado"));
    let levels = [level(writing, Some(&rehearsed.wanted)), level(writing, rehearsed.reached.as_deref())];
    let mut pairs = vec![
        (say.t("Point", "Punto"), format!("{} ({chosen}), {}", rehearsed.point, say.when(rehearsed.consistent_at))),
        (say.t("Level", "Nivel"), format!("{wanted}: {}; {reached}: {}", levels[0], levels[1])),
    ];
    let Some(target) = &rehearsed.target else {
        pairs.push((say.t("Target", "Destino"), say.t("none was reached", "no se llegó a ninguno").to_owned()));
        return pairs;
    };
    let kind = match target.kind.as_str() {
        "container" => say.t("container", "contenedor"),
        "process" => say.t("process", "proceso"),
        "directory" => say.t("directory", "directorio"),
        "file" => say.t("file", "archivo"),
        other => other,
    };
    pairs.push((say.t("Target", "Destino"), format!("{kind}: {}", recorded::said(&target.what, say))));
    pairs.push((say.t("Isolation", "Aislamiento"), recorded::said(&target.isolation, say)));
    pairs
}

fn phase<'n>(writing: &Writing<'n>, name: &'n str) -> &'n str {
    match (writing.say.language, name) {
        (crate::watch::Language::English, _) => name,
        (_, "fetch") => "lectura",
        (_, "decode") => "descifrado",
        (_, "load") => "carga",
        (_, "index") => "índices",
        (_, "verify") => "cotejo",
        (_, "overhead") => "resto",
        (_, other) => other,
    }
}

/// Sources without a test that passed.
fn untested(writing: &Writing<'_>, section: &mut Section) {
    let (say, basis) = (writing.say, writing.basis);
    let tested = |source: &str| basis.facts.tests().any(|test| test.rehearsed.source == source && test.is_restored());
    let missing: Vec<&str> = basis.to_be_tested().into_iter().filter(|source| !tested(source)).collect();
    if !missing.is_empty() {
        section.notice(format!(
            "{}: {}",
            say.t(
                "No evidence of a passed restore test in the period for",
                "Sin evidencia de una prueba de restauración superada en el periodo para"
            ),
            missing.join(", ")
        ));
    }
}

fn restores(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Restores that were asked for in the period", "Restauraciones solicitadas en el periodo"),
        say.t("None is recorded in the period.", "No consta ninguna en el periodo."),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Source", "Origen"), 4),
            (say.t("Outcome", "Resultado"), 4),
            (say.t("Took>", "Duración>"), 3),
            (say.t("Point", "Punto"), 6),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for run in writing.basis.facts.runs_of(Job::Restore) {
        let (outcome, took, point) = match &run.ended {
            None => (
                Cell::toned(say.t("no end is recorded", "no consta su final"), Tone::Warn),
                Cell::soft("–"),
                Cell::soft("–"),
            ),
            Some(end) => {
                let tone = if end.outcome.is_good() { Tone::Well } else { Tone::Bad };
                let point = end.point.as_deref().map_or(Cell::soft("–"), Cell::of);
                (Cell::toned(say.outcome(end.outcome), tone), Cell::of(say.took(end.seconds)), point)
            }
        };
        table.row(vec![
            Cell::of(say.when(run.started.at)),
            Cell::of(run.source.as_deref().unwrap_or("–")),
            outcome,
            took,
            point,
            Cell::soft(run.started.record.to_string()),
        ]);
    }
    table
}
