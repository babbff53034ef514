//! What the report is about, how that was found out, and what on this host is not protected.

use super::{Cell, Section, Table, Tone, Writing};
use crate::job::discover::{Coverage, Found, Thing};
use crate::repo::proof::Level;
use crate::report::basis::Seen;
use crate::report::say::said;

pub fn section(writing: &Writing<'_>) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Scope", "Alcance"));
    let files = match writing.basis.files.is_empty() {
        true => say.t("no configuration file", "ningún archivo de configuración").to_owned(),
        false => writing.basis.files.join(", "),
    };
    section.paragraph(format!(
        "{} ({files}){}",
        say.t(
            "In scope is every source that the configuration of this host names, and every source that something was done \
             for in the period by its journal",
            "Entran en el alcance todos los orígenes que nombra la configuración de este equipo y todos aquellos para los que \
             consta alguna actividad en su diario durante el periodo"
        ),
        say.t(
            "; they are listed below with what the repository has of them.",
            "; se relacionan a continuación con lo que el repositorio guarda de cada uno."
        )
    ));
    section.table(sources(writing));
    section.heading(say.t("What is not protected", "Lo que no está protegido"));
    match &writing.basis.surroundings {
        Seen::Seen(found) => unprotected(writing, found, &mut section),
        Seen::NotSeen(why) => writing.not_seen(
            &mut section,
            ("The containers and volumes of this host", "El inventario de contenedores y volúmenes de este equipo"),
            why,
        ),
    }
    section
}

fn sources(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Sources", "Orígenes"),
        say.t(
            "No source is configured, and none had a run in the period.",
            "No hay orígenes configurados ni con actividad en el periodo.",
        ),
        &[
            (say.t("Source", "Origen"), 4),
            (say.t("Kind", "Tipo"), 2),
            (say.t("Policy", "Política"), 3),
            (say.t("Points in the period>", "Puntos del periodo>"), 3),
            (say.t("In the repository>", "En el repositorio>"), 3),
            (say.t("Newest point", "Punto más reciente"), 5),
            (say.t("Proven", "Nivel probado"), 3),
        ],
    );
    let row = |table: &mut Table, source: &str, kind: Cell, policy: Cell| {
        let made = basis.facts.recovery.get(source).map_or(0, |recovery| recovery.points);
        let (kept, newest, level) = match basis.repository.seen() {
            None => (Cell::soft("?"), Cell::soft(say.t("not seen", "no consultado")), Cell::soft("?")),
            Some(repository) => {
                let kept = repository.points.iter().filter(|point| point.source == source).count();
                match repository.newest(source) {
                    None => (Cell::of("0"), Cell::toned(say.t("none", "ninguno"), Tone::Bad), Cell::of("–")),
                    Some(point) => {
                        let level = point.level.map_or(say.t("written", "escrito"), |level| proven(writing, level));
                        (Cell::of(kept.to_string()), Cell::of(say.when(point.consistent_at)), Cell::of(level))
                    }
                }
            }
        };
        table.row(vec![Cell::of(source), kind, policy, Cell::of(say.number(made)), kept, newest, level]);
    };
    for (policy, source) in basis.sources() {
        row(&mut table, &source.source, Cell::of(source.engine), Cell::of(policy.policy.as_str()));
    }
    for source in basis.retired() {
        let gone = Cell::toned(say.t("no longer configured", "ya no configurado"), Tone::Warn);
        let kind = basis.repository.seen().and_then(|repository| repository.newest(source));
        row(&mut table, source, kind.map_or(Cell::soft("–"), |point| Cell::of(point.engine.as_str())), gone);
    }
    for source in basis.tested_for_others() {
        let kind = basis.repository.seen().and_then(|repository| repository.newest(source));
        let kind = kind.map_or(Cell::soft("–"), |point| Cell::of(point.engine.as_str()));
        let elsewhere = say.t("of another host, tested here", "de otro equipo, probado aquí");
        row(&mut table, source, kind, Cell::soft(elsewhere));
    }
    table
}

/// How well a point is proven.
pub fn proven(writing: &Writing<'_>, level: Level) -> &'static str {
    writing.say.of(match level {
        Level::Stored => said("stored", "almacenado"),
        Level::Readable => said("readable", "legible"),
        Level::Loaded => said("loaded", "cargado"),
        Level::Equal => said("equal", "igual"),
        Level::Checked => said("checked", "verificado"),
    })
}

fn unprotected(writing: &Writing<'_>, found: &[Found], section: &mut Section) {
    let say = writing.say;
    section.paragraph(format!(
        "{}: {}. {}",
        say.t("Containers, volumes and bound directories found on this host", "Contenedores, volúmenes y directorios enlazados hallados en este equipo"),
        found.len(),
        say.t(
            "Stopped ones count. Databases and files that nothing of this shows (on other hosts, outside containers) are not \
             looked for.",
            "También cuentan los detenidos. No se buscan bases de datos ni archivos ajenos a ellos (en otros equipos o fuera de \
             contenedores)."
        )
    ));
    let mut table = Table::new(
        say.t("Not protected, or left out on purpose", "Sin proteger, o excluido a propósito"),
        say.t(
            "Everything that was found is protected, or has nothing to keep.",
            "Todo lo hallado está protegido o no contiene nada que conservar.",
        ),
        &[
            (say.t("What", "Elemento"), 3),
            (say.t("Name", "Nombre"), 6),
            (say.t("Kind", "Tipo"), 3),
            (say.t("State", "Estado"), 4),
        ],
    );
    for one in found {
        let state = match one.coverage {
            Coverage::NotProtected => Cell::toned(say.t("not protected", "sin proteger"), Tone::Bad),
            Coverage::LeftOut => Cell::toned(say.t("left out by its label", "excluido por su etiqueta"), Tone::Warn),
            _ => continue,
        };
        let what = match one.thing {
            Thing::Container => say.t("container", "contenedor"),
            Thing::Volume => say.t("volume", "volumen"),
            Thing::Directory => say.t("directory", "directorio"),
        };
        table.row(vec![Cell::of(what), Cell::of(one.name.as_str()), Cell::of(one.engine.unwrap_or("–")), state]);
    }
    section.table(table);
}
