//! Rotations of credentials: who, why, when, which version became which, where it was tried, who was moved, and whether the old
//! one was seen to be refused; each row with its records.

use super::{Cell, Table, Tone, Writing};
use crate::report::evidence::Records;
use crate::report::facts::Rotation;
use crate::report::recorded;

pub fn table(writing: &Writing<'_>) -> Option<Table> {
    let (say, all) = (writing.say, writing.basis.facts.rotated());
    if all.is_empty() {
        return None;
    }
    let mut table = Table::new(
        say.t("Rotations of credentials", "Renovaciones de credenciales"),
        "",
        &[
            (say.t("Credential", "Credencial"), 5),
            (say.t("Began by, why", "Inicio, motivo"), 4),
            (say.t("When", "Cuándo"), 5),
            (say.t("Fingerprints", "Huellas"), 4),
            (say.t("Tried at, moved", "Probada en, trasladados"), 5),
            (say.t("Old one refused", "La anterior, rechazada"), 4),
            (say.t("Came to", "Resultado"), 4),
            (say.t("Records", "Registros"), 4),
        ],
    );
    all.iter().for_each(|one| table.row(row(writing, one)));
    Some(table)
}

fn row(writing: &Writing<'_>, one: &Rotation<'_>) -> Vec<Cell> {
    let say = writing.say;
    let print = |print: Option<&str>| print.unwrap_or("–").to_owned();
    let began = one.reason.map_or_else(|| "–".to_owned(), |reason| say.reason(reason).to_owned());
    let by = match one.by.as_slice() {
        [] => String::new(),
        by => format!(" ({})", by.join(", ")),
    };
    let why = one.because.map(|because| format!(": {because}")).unwrap_or_default();
    let moved = match one.moved.as_slice() {
        [] => String::new(),
        moved => format!("; {}", moved.join(", ")),
    };
    let when = one.records.first().map_or_else(String::new, |first| say.when(first.at));
    let until = one.end.map(|(end, _)| format!(" – {}", say.when(end.at))).unwrap_or_default();
    let came_to = match one.end.map(|(_, state)| state) {
        Some("rotated") => Cell::of(say.t("rotated", "renovada")),
        Some("elsewhere") => Cell::of(say.t("rotated by another host", "renovada por otro equipo")),
        Some("reapplied") => Cell::of(say.t("applied again after a restore", "aplicada de nuevo tras restaurar")),
        Some("rolled_back") => Cell::toned(with_note(writing, say.t("taken back", "revertida"), one), Tone::Warn),
        Some(_) => Cell::toned(with_note(writing, say.t("end not known", "final desconocido"), one), Tone::Warn),
        None => Cell::toned(with_note(writing, say.t("not at its end", "sin terminar"), one), Tone::Bad),
    };
    vec![
        Cell::of(format!("{} ({}, {})", one.name, one.account, one.source)),
        Cell::of(format!("{began}{by}{why}")),
        Cell::of(format!("{when}{until}")),
        Cell::of(format!("{} → {}", print(one.from), print(one.to))),
        Cell::of(format!("{}{moved}", one.nodes.join(", "))),
        match one.refused {
            Some(mark) => Cell::of(format!("{} ({})", say.t("yes", "sí"), Records::of([mark.record]).text(say))),
            None => Cell::soft("–"),
        },
        came_to,
        Cell::soft(Records::of(one.records.iter().map(|mark| mark.record)).text(say)),
    ]
}

fn with_note(writing: &Writing<'_>, what: &str, one: &Rotation<'_>) -> String {
    match one.note {
        Some(note) => format!("{what}: {}", recorded::quoted(note, writing.say)),
        None => what.to_owned(),
    }
}
