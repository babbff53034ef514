//! Every expected run with its outcome, and how old the newest points were at worst.

use super::chart::{HeatMap, Trend, named_days};
use super::{Block, Cell, Section, Table, Text, Tone, Writing};
use crate::journal::{EVERY_POLICY, Job, SlotEnd};
use crate::report::facts::{Recovery, Series, Slot};
use crate::report::period::Day;
use jiff::civil::Date;
use std::collections::BTreeMap;

/// More slots than these are told day by day; one by one they are in the CSV and the JSON.
const LISTED: usize = 400;

pub fn section(writing: &Writing<'_>) -> Section {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut section = Section::new(say.t("Expected runs and their outcomes", "Ejecuciones previstas y su resultado"));
    section.paragraph(say.t(
        "The daemon notes each run of a schedule before it comes, and how it ended. So the list is of what was expected, also \
         where nothing ran.",
        "El servicio anota cada ejecución de una programación antes de que llegue, y después cómo terminó. La relación es, por \
         tanto, de lo previsto, incluso cuando no se ejecutó nada.",
    ));
    section.table(schedules(writing));
    section.paragraph(completeness(writing));
    if facts.slots().next().is_some() {
        section.blocks.push(Block::Chart(heat_map(writing)));
    }
    section.heading(say.t("Attained RPO", "RPO alcanzado"));
    section.paragraph(say.t(
        "Attained is the most that would have been lost of a source at any moment of the period: the distance to its newest \
         point, just before the next one was there.",
        "Se entiende por alcanzado lo máximo que se habría perdido de un origen en cualquier momento del periodo: la distancia a su \
         punto más reciente justo antes de existir el siguiente.",
    ));
    section.table(attained(writing));
    section.blocks.extend(trends(writing));
    section.heading(say.t("All expected runs", "Todas las ejecuciones previstas"));
    match facts.slots().count() {
        many if many > LISTED => {
            section.paragraph(format!(
                "{} {}. {}",
                say.number(many as u64),
                say.t("runs were expected", "ejecuciones previstas"),
                say.t(
                    "Below they are counted day by day; one by one they are in the reports of the formats CSV and JSON for the same \
                     period. Those that did not go well are all among the exceptions.",
                    "A continuación se cuentan día por día; una a una figuran en los informes en formato CSV y JSON del mismo \
                     periodo. Las que no fueron correctas están todas entre las excepciones.",
                )
            ));
            section.table(days(writing));
        }
        _ => section.table(slots(writing)),
    }
    section
}

pub fn policy_name<'n>(writing: &Writing<'n>, policy: &'n str) -> &'n str {
    if policy == EVERY_POLICY { writing.say.t("(main file)", "(archivo principal)") } else { policy }
}

fn schedules(writing: &Writing<'_>) -> Table {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut table = Table::new(
        say.t("Expected runs by schedule", "Ejecuciones previstas por programación"),
        say.t("No expected run is recorded in the period.", "No consta ninguna ejecución prevista en el periodo."),
        &[
            (say.t("Policy", "Política"), 5),
            (say.t("Job", "Tarea"), 6),
            (say.t("Expected>", "Previstas>"), 3),
            (say.t("Done>", "Correctas>"), 3),
            (say.t("Failed>", "Fallidas>"), 3),
            (say.t("Not run>", "No ejecutadas>"), 4),
            (say.t("Left out>", "Omitidas>"), 3),
            (say.t("Open>", "Abiertas>"), 3),
        ],
    );
    for series in &facts.schedules {
        let count = |end| series.slots.iter().filter(|slot| slot.end() == end).count() as u64;
        let number = |number: u64, tone| match number {
            0 => Cell::soft("0"),
            _ => Cell::toned(say.number(number), tone),
        };
        table.row(vec![
            Cell::of(policy_name(writing, &series.policy)),
            Cell::of(say.job(series.job)),
            Cell::of(say.number(series.slots.len() as u64)),
            number(count(Some(SlotEnd::Done)), Tone::Well),
            number(count(Some(SlotEnd::Failed)), Tone::Bad),
            number(count(Some(SlotEnd::Missed)), Tone::Bad),
            number(count(Some(SlotEnd::Skipped)), Tone::Warn),
            number(count(None), Tone::Plain),
        ]);
    }
    table
}

/// Whether the list is the whole of what the calendar wanted.
fn completeness(writing: &Writing<'_>) -> String {
    let (say, unrecorded) = (writing.say, &writing.basis.unrecorded);
    let Some(from) = unrecorded.compared_from else {
        return say
            .t(
                "Whether the list is complete could not be compared with the calendar: no load of the configuration is recorded.",
                "No se pudo contrastar con el calendario si la relación está completa: no consta ninguna carga de la configuración.",
            )
            .to_owned();
    };
    let missing = unrecorded.missing.len() as u64 + unrecorded.more;
    format!(
        "{} {}: {} {}, {} {}.",
        say.t(
            "Completeness: the calendar of the configuration in force was computed anew from",
            "Completitud: se recalculó el calendario de la configuración vigente desde el"
        ),
        say.when(from),
        say.number(unrecorded.compared),
        say.t("instants compared with the journal", "instantes contrastados con el diario"),
        match missing {
            0 => say.t("none", "ninguno").to_owned(),
            missing => say.number(missing),
        },
        say.t("of them without a record", "sin registro")
    )
}

fn tone_of(slot: &Slot) -> Tone {
    match slot.end() {
        Some(SlotEnd::Done) if slot.warned => Tone::Warn,
        Some(SlotEnd::Done) => Tone::Well,
        Some(SlotEnd::Failed | SlotEnd::Missed) => Tone::Bad,
        Some(SlotEnd::Skipped) | None => Tone::Soft,
    }
}

/// The worst of several.
fn rank(tone: Tone) -> u8 {
    match tone {
        Tone::Plain => 0,
        Tone::Soft => 1,
        Tone::Well => 2,
        Tone::Warn => 3,
        Tone::Bad => 4,
    }
}

/// A column is a day, or a week where the period is long.
fn heat_map(writing: &Writing<'_>) -> super::Chart {
    let (say, basis) = (writing.say, writing.basis);
    let days: Vec<Day> = basis.period.days().collect();
    let width = if days.len() > 140 { 7 } else { 1 };
    let columns = days.len().div_ceil(width);
    let first = basis.period.first_day;
    let column = |date: Date| usize::try_from(first.until(date).map_or(0, |span| span.get_days())).unwrap_or(0) / width;
    let row = |series: &Series| {
        let mut cells: Vec<(Tone, [u32; 4])> = vec![(Tone::Plain, [0; 4]); columns];
        for slot in &series.slots {
            let Some(cell) = cells.get_mut(column(basis.period.date_of(slot.slot))) else { continue };
            let tone = tone_of(slot);
            if rank(tone) > rank(cell.0) {
                cell.0 = tone;
            }
            cell.1[match tone {
                Tone::Well | Tone::Plain => 0,
                Tone::Warn => 1,
                Tone::Bad => 2,
                Tone::Soft => 3,
            }] += 1;
        }
        let cells = cells.into_iter().zip(days.chunks(width)).map(|((tone, [well, warned, bad, other]), days)| {
            let title = format!(
                "{}: {well} {}, {warned} {}, {bad} {}, {other} {}",
                days[0].date,
                say.t("done", "correctas"),
                say.t("with warnings", "con avisos"),
                say.t("failed or not run", "fallidas o no ejecutadas"),
                say.t("left out or open", "omitidas o abiertas")
            );
            (tone, Text::from(title))
        });
        let name = match series.job {
            Job::Backup => policy_name(writing, &series.policy).to_owned(),
            job => format!("{} ({})", policy_name(writing, &series.policy), say.job(job)),
        };
        (Text::from(name), cells.collect())
    };
    let rows: Vec<_> = basis.facts.schedules.iter().map(row).collect();
    let bad = basis.facts.slots().filter(|(_, slot)| tone_of(slot) == Tone::Bad).count();
    let description = format!(
        "{}: {}. {}: {bad}.",
        say.t("One row for each schedule, one square for each", "Una fila por programación, un cuadro por"),
        if width == 1 { say.t("day", "día") } else { say.t("week", "semana") },
        say.t("Runs that failed or did not take place", "Ejecuciones fallidas o no realizadas")
    );
    let dates: Vec<Date> = days.iter().map(|day| day.date).collect();
    let ticks = named_days(&dates).into_iter().map(|(number, text)| (number / width, text)).collect();
    let legend = vec![
        (Tone::Well, say.text("all done", "todas correctas")),
        (Tone::Warn, say.text("with warnings", "con avisos")),
        (Tone::Bad, say.text("failed or not run", "alguna fallida o no ejecutada")),
        (Tone::Soft, say.text("left out or open", "omitida o abierta")),
        (Tone::Plain, say.text("nothing expected", "nada previsto")),
    ];
    HeatMap { rows, ticks, legend }
        .draw(say.text("Expected runs by day", "Ejecuciones previstas por día"), description.into())
}

fn attained(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Attained RPO by source", "RPO alcanzado por origen"),
        say.t(
            "No point was made in the period, and none is known from before.",
            "No se creó ningún punto en el periodo ni consta ninguno anterior.",
        ),
        &[
            (say.t("Source", "Origen"), 5),
            (say.t("Objective>", "Objetivo>"), 3),
            (say.t("Attained>", "Alcanzado>"), 3),
            (say.t("When", "Cuándo"), 5),
            (say.t("Verdict", "Resultado"), 4),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for (source, recovery) in &basis.facts.recovery {
        let objective = basis.policy_of(source).and_then(|policy| policy.rpo_seconds);
        let Some(worst) = recovery.worst else { continue };
        let since = recovery
            .first
            .map(|at| format!(" ({} {})", say.t("since its first point,", "desde su primer punto,"), say.minute(at)));
        let since = since.unwrap_or_default();
        let verdict = match objective {
            None => Cell::soft(say.t("no objective", "sin objetivo")),
            Some(objective) if worst.seconds <= objective => {
                Cell::toned(format!("{}{since}", say.t("kept", "respetado")), Tone::Well)
            }
            Some(_) => Cell::toned(format!("{}{since}", say.t("exceeded", "rebasado")), Tone::Bad),
        };
        table.row(vec![
            Cell::of(&**source),
            objective.map_or(Cell::soft("–"), |seconds| Cell::of(say.span(seconds))),
            Cell::of(say.span(worst.seconds)),
            Cell::of(say.when(worst.at)),
            verdict,
            Cell::soft(worst.record.map_or("–".to_owned(), |record| record.to_string())),
        ]);
    }
    let without = basis.sources().filter(|(_, source)| !basis.facts.recovery.contains_key(source.source.as_str()));
    for (policy, source) in without {
        let none = Cell::toned(say.t("no point is recorded", "no consta ningún punto"), Tone::Bad);
        let objective = policy.rpo_seconds.map_or(Cell::soft("–"), |seconds| Cell::of(say.span(seconds)));
        table.row(vec![
            Cell::of(source.source.as_str()),
            objective,
            Cell::soft("–"),
            Cell::soft("–"),
            none,
            Cell::soft("–"),
        ]);
    }
    table
}

/// So many sources get a chart of their own; the table has all.
const CHARTS: usize = 12;

/// Those that exceeded their objective by most first.
fn trends(writing: &Writing<'_>) -> impl Iterator<Item = Block> {
    let basis = writing.basis;
    let objective = |source: &str| basis.policy_of(source).and_then(|policy| policy.rpo_seconds);
    let mut drawn: Vec<(&str, &Recovery)> = basis
        .facts
        .recovery
        .iter()
        .map(|(name, recovery)| (&**name, recovery))
        .filter(|(_, r)| r.days.len() > 1)
        .collect();
    let excess = |source: &str, recovery: &Recovery| {
        let worst = recovery.worst.map_or(0, |worst| worst.seconds);
        worst as f64 / objective(source).unwrap_or(i64::MAX) as f64
    };
    drawn.sort_by(|(a, one), (b, other)| excess(b, other).total_cmp(&excess(a, one)));
    drawn.truncate(CHARTS);
    let charts: Vec<Block> = drawn
        .into_iter()
        .map(|(source, recovery)| Block::Chart(trend(writing, source, recovery, objective(source))))
        .collect();
    charts.into_iter()
}

fn trend(writing: &Writing<'_>, source: &str, recovery: &Recovery, objective: Option<i64>) -> super::Chart {
    let (say, period) = (writing.say, &writing.basis.period);
    let days: Vec<Date> = period.days().map(|day| day.date).collect();
    let place = |date: &Date| days.binary_search(date).map_or(0.0, |at| at as f32 / (days.len().max(2) - 1) as f32);
    let values = recovery.days.iter().filter_map(|(date, day)| {
        let seconds = day.worst_seconds?;
        let tone = if objective.is_some_and(|objective| seconds > objective) { Tone::Bad } else { Tone::Well };
        Some((place(date), seconds as f64, tone, Text::from(format!("{date}: {}", say.span(seconds)))))
    });
    let ticks = named_days(&days).into_iter().map(|(number, text)| (place(&days[number]), text)).collect();
    let worst = recovery.worst.map_or(String::new(), |worst| say.span(worst.seconds));
    let description = format!(
        "{source}: {} {worst}{}",
        say.t(
            "distance to the newest point at worst, day by day; the greatest was",
            "distancia máxima al punto más reciente, día a día; la mayor fue de"
        ),
        objective.map_or(String::new(), |seconds| format!(
            "; {} {}",
            say.t("the objective is", "el objetivo es de"),
            say.span(seconds)
        ))
    );
    let title = format!("{} {source}", say.t("RPO over time:", "RPO a lo largo del tiempo:"));
    let trend = Trend {
        values: values.collect(),
        objective: objective.map(|o| o as f64),
        joined: true,
        ticks,
        scale: |v| crate::watch::span(v as i64),
    };
    trend.draw(title.into(), description.into())
}

fn days(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Expected runs by day and schedule", "Ejecuciones previstas por día y programación"),
        "",
        &[
            (say.t("Day", "Día"), 3),
            (say.t("Policy", "Política"), 5),
            (say.t("Job", "Tarea"), 5),
            (say.t("Expected>", "Previstas>"), 3),
            (say.t("Done>", "Correctas>"), 3),
            (say.t("Otherwise>", "Otras>"), 3),
        ],
    );
    let mut by_day: BTreeMap<(Date, usize), (u64, u64)> = BTreeMap::new();
    for (number, series) in basis.facts.schedules.iter().enumerate() {
        for slot in &series.slots {
            let (all, done) = by_day.entry((basis.period.date_of(slot.slot), number)).or_default();
            *all += 1;
            *done += u64::from(slot.end() == Some(SlotEnd::Done));
        }
    }
    // One line for each day and schedule may be too many to read: whole days that went well are told together.
    let brief = by_day.len() > 2 * LISTED;
    for ((date, number), (all, done)) in by_day {
        if brief && all == done {
            continue;
        }
        let series = &basis.facts.schedules[number];
        let other = if all == done { Cell::soft("0") } else { Cell::toned(say.number(all - done), Tone::Bad) };
        table.row(vec![
            Cell::of(date.to_string()),
            Cell::of(policy_name(writing, &series.policy)),
            Cell::of(say.job(series.job)),
            Cell::of(say.number(all)),
            Cell::of(say.number(done)),
            other,
        ]);
        if table.rows.len() >= 2 * LISTED {
            break;
        }
    }
    if brief {
        table.caption = say.text(
            "Days and schedules on which not every run was done (at most 800 are listed)",
            "Días y programaciones en que no todas las ejecuciones fueron correctas (se listan 800 como máximo)",
        );
    }
    table
}

fn slots(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Expected runs, one by one", "Ejecuciones previstas, una a una"),
        say.t("No expected run is recorded in the period.", "No consta ninguna ejecución prevista en el periodo."),
        &[
            (say.t("Expected at", "Prevista"), 6),
            (say.t("Policy", "Política"), 4),
            (say.t("Job", "Tarea"), 4),
            (say.t("Outcome", "Resultado"), 4),
            (say.t("Ended at", "Terminada"), 6),
            (say.t("Records", "Registros"), 3),
        ],
    );
    let mut all: Vec<(&Series, &Slot)> = writing.basis.facts.slots().collect();
    all.sort_by_key(|(_, slot)| slot.slot);
    for (series, slot) in all {
        let outcome = match slot.end() {
            Some(end) => say.slot_end(end, slot.warned),
            None => say.t("open", "abierta"),
        };
        let marks = slot.expected.iter().chain(slot.ended.as_ref().map(|end| &end.mark));
        let records = marks.map(|mark| mark.record.to_string()).collect::<Vec<_>>().join(", ");
        table.row(vec![
            Cell::of(say.when(slot.slot)),
            Cell::of(policy_name(writing, &series.policy)),
            Cell::of(say.job(series.job)),
            Cell::toned(outcome, tone_of(slot)),
            slot.ended.as_ref().map_or(Cell::soft("–"), |end| Cell::of(say.when(end.mark.at))),
            Cell::soft(records),
        ]);
    }
    table
}
