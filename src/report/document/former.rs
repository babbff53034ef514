//! Keys of those who read once, and which points still open to them.

use super::{Cell, Table, Tone, Writing};
use crate::job::dependence::{Dependence, Depending, Ends};
use crate::report::repository::RepositoryFacts;
use crate::watch;

pub fn table(writing: &Writing<'_>, repository: &RepositoryFacts) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Keys from before, and what they still open", "Claves anteriores y lo que aún abren"),
        say.t("Nobody's key was taken off or replaced.", "No se ha retirado ni sustituido la clave de nadie."),
        &[
            (say.t("Key", "Clave"), 5),
            (say.t("Taken off", "Retirada"), 4),
            (say.t("Source", "Origen"), 4),
            (say.t("Points>", "Puntos>"), 2),
            (say.t("In part>", "En parte>"), 2),
            (say.t("Newest", "El más reciente"), 4),
            (say.t("Until", "Hasta"), 5),
        ],
    );
    for one in &repository.former {
        match one.series.as_slice() {
            [] => table.row(row(writing, one, None)),
            series => series.iter().for_each(|of| table.row(row(writing, one, Some(of)))),
        }
    }
    if !repository.unknown_lists.is_empty() {
        let numbers: Vec<String> = repository.unknown_lists.iter().map(u32::to_string).collect();
        let lists = format!("{} {}", say.t("lists", "listas"), numbers.join(", "));
        let gone = say.t(
            "missing or damaged: who else could read is not known",
            "faltan o están dañadas: no se sabe quién más podía leer",
        );
        let nothing = || Cell::soft("–");
        let cells =
            [Cell::of(lists), nothing(), Cell::toned(gone, Tone::Bad), nothing(), nothing(), nothing(), nothing()];
        table.row(cells.into());
    }
    table
}

fn row(writing: &Writing<'_>, one: &Dependence, of: Option<&Depending>) -> Vec<Cell> {
    let say = writing.say;
    let key = format!("{} ({})", one.name, one.fingerprint);
    let removed = say.when(one.removed);
    let removed = match one.vouched {
        true => Cell::of(removed),
        false => Cell::toned(format!("{removed} ({})", say.t("the store says", "según el almacén")), Tone::Warn),
    };
    let Some(of) = of else {
        let nothing = Cell::of(say.t("nothing is open to it", "no abre nada"));
        return vec![Cell::of(key), removed, nothing, Cell::of("0"), Cell::of("0"), Cell::soft("–"), Cell::soft("–")];
    };
    vec![
        Cell::of(key),
        removed,
        Cell::of(format!("{} ({})", of.source, of.host)),
        Cell::of(say.number(of.points as u64)),
        Cell::of(say.number(of.in_part as u64)),
        Cell::of(say.when(of.newest)),
        ends(writing, &of.ends),
    ]
}

fn ends(writing: &Writing<'_>, ends: &Ends) -> Cell {
    let say = writing.say;
    let text = watch::ends(ends, say.language, &|at| say.when(at));
    match ends {
        Ends::Retention { .. } => Cell::of(text),
        Ends::Nothing | Ends::Unpinning | Ends::StoringAfresh => Cell::toned(text, Tone::Warn),
        Ends::NewKeysOnThatHost => Cell::toned(text, Tone::Bad),
    }
}
