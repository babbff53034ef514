//! Keys of those who read once, and which points still open to them.

use super::{Cell, Table, Tone, Writing};
use crate::job::dependence::{Dependence, Depending, Ends};
use crate::report::repository::RepositoryFacts;

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
    match ends {
        Ends::Retention { until, newer } => {
            let date = until.map(|until| say.when(until));
            let points = (*newer > 0 || until.is_none()).then(|| {
                let words = say.t("newer points", "puntos más recientes");
                format!("{} {words}", say.number(u64::from(*newer).max(1)))
            });
            let both: Vec<String> = date.into_iter().chain(points).collect();
            Cell::of(format!("{} ({})", both.join(" + "), say.t("by retention", "por la retención")))
        }
        Ends::Nothing => Cell::toned(say.t("no rule removes them", "ninguna regla los elimina"), Tone::Warn),
        Ends::Unpinning => Cell::toned(say.t("they are unpinned", "se dejen de fijar"), Tone::Warn),
        Ends::StoringAfresh => {
            Cell::toned(say.t("what they share is stored anew", "se guarde de nuevo lo que comparten"), Tone::Warn)
        }
        Ends::NewKeysOnThatHost => Cell::toned(
            say.t("that host backs up with the new keys", "ese equipo haga copias con las claves nuevas"),
            Tone::Bad,
        ),
    }
}
