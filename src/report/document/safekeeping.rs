//! Where the points are and who can reach them: copies, encryption, locks, keys, credentials, and what was deleted.

use super::policies::retention_words;
use super::{Cell, Section, Table, Tone, Writing};
use super::{former, rotations};
use crate::job::copy::state::{CopyState, Standing};
use crate::repo::keys::Role;
use crate::report::basis::{KnownFrom, Seen};
use crate::report::recorded;
use crate::report::repository::RepositoryFacts;
use crate::store::LockMode;

pub fn copies(writing: &Writing<'_>) -> Section {
    let (say, basis) = (writing.say, writing.basis);
    let mut section =
        Section::new(say.t("Copies, encryption and immutability", "Copias en otro lugar, cifrado e inmutabilidad"));
    section.table(stores(writing));
    match &basis.copies {
        Seen::Seen(states) => section.table(standing(writing, states)),
        Seen::NotSeen(why) => {
            writing.not_seen(&mut section, ("The state of the copies", "El estado de las copias"), why);
        }
    }
    section.table(arrivals(writing));
    section.heading(say.t("Encryption", "Cifrado"));
    section.paragraph(say.t(
        "By its format the repository holds no point in clear: all data is sealed on this host, before it goes to the store, \
         with age (X25519, ChaCha20-Poly1305), to the public keys listed below, and every point is signed (Ed25519).",
        "Por su formato, el repositorio no guarda ningún punto en claro: todos los datos se cifran en este equipo, antes de \
         salir hacia el almacén, con age (X25519, ChaCha20-Poly1305) para las claves públicas que se relacionan más abajo, y cada \
         punto va firmado (Ed25519).",
    ));
    match &basis.reads_with {
        Some(key) => section.notice(format!(
            "{} ({key}).",
            say.t(
                "This host can read all backups: its configuration names a private key for restore tests",
                "Este equipo puede leer todas las copias: su configuración nombra una clave privada para las pruebas de restauración"
            )
        )),
        None => section.paragraph(say.t(
            "The configuration of this host names no private key that reads backups. Whether somebody left a recovery key on it \
             cannot be seen from here.",
            "La configuración de este equipo no nombra ninguna clave privada con la que se lean las copias. Si alguien dejó en él una \
             clave de recuperación no puede saberse desde aquí.",
        )),
    }
    section.heading(say.t("Immutability", "Inmutabilidad"));
    match &basis.repository {
        Seen::Seen(repository) => locks(writing, repository, &mut section),
        Seen::NotSeen(why) => writing.not_seen(&mut section, ("The repository", "El repositorio"), why),
    }
    section
}

fn stores(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Stores", "Almacenes"),
        say.t("No store is configured.", "No hay ningún almacén configurado."),
        &[
            (say.t("Store", "Almacén"), 3),
            (say.t("Place", "Ubicación"), 8),
            (say.t("Object lock asked for", "Bloqueo de objetos solicitado"), 5),
            (say.t("Keeps", "Conserva"), 5),
        ],
    );
    for (number, store) in basis.stores.iter().enumerate() {
        let lock = match &store.lock {
            None => Cell::toned(say.t("none", "ninguno"), Tone::Warn),
            Some(lock) => {
                let mode = mode(lock.mode);
                Cell::of(match lock.days {
                    Some(days) => format!("{mode}, {days} {}", say.t("days", "días")),
                    None => format!("{mode}, {}", say.t("as long as retention", "lo que dure la retención")),
                })
            }
        };
        let keeps = match (&store.keep, number) {
            (Some(keep), _) => retention_words(writing, keep),
            (None, 0) => say.t("as the policies say", "lo que digan las políticas").to_owned(),
            (None, _) => say.t("what the repository has", "lo mismo que el repositorio").to_owned(),
        };
        table.row(vec![Cell::of(store.name.as_str()), Cell::of(store.url.as_str()), lock, Cell::of(keeps)]);
    }
    table
}

fn mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "governance",
        LockMode::Compliance => "compliance",
    }
}

fn standing(writing: &Writing<'_>, states: &[CopyState]) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("How the stores stood when the report was made", "Estado de los almacenes al elaborar el informe"),
        say.t(
            "No evidence: no copy elsewhere is configured.",
            "Sin evidencia: no hay ninguna copia en otro lugar configurada.",
        ),
        &[
            (say.t("Store", "Almacén"), 3),
            (say.t("State", "Estado"), 4),
            (say.t("Points>", "Puntos>"), 2),
            (say.t("Missing>", "Faltan>"), 2),
            (say.t("Remark", "Observación"), 7),
        ],
    );
    for state in states {
        let (word, tone) = match state.standing {
            Standing::Good => (say.t("complete", "completo"), Tone::Well),
            Standing::Behind => (say.t("behind", "con retraso"), Tone::Warn),
            Standing::Damaged => (say.t("damaged", "dañado"), Tone::Bad),
            Standing::Absent => (say.t("not made yet", "aún no creado"), Tone::Bad),
            Standing::Unreachable => (say.t("not reached", "no accesible"), Tone::Bad),
        };
        table.row(vec![
            Cell::of(state.name.as_str()),
            Cell::toned(word, tone),
            Cell::of(say.number(state.points)),
            Cell::of(say.number(state.missing)),
            Cell::of(state.why.as_deref().map_or(String::new(), |why| recorded::quoted(why, say))),
        ]);
    }
    table
}

fn arrivals(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("What was copied in the period", "Lo copiado en el periodo"),
        say.t(
            "No evidence: no copying is recorded in the period.",
            "Sin evidencia: no consta ninguna copia a otro almacén en el periodo.",
        ),
        &[
            (say.t("Copy", "Copia"), 3),
            (say.t("Source", "Origen"), 4),
            (say.t("Points>", "Puntos>"), 2),
            (say.t("Failures>", "Fallos>"), 2),
            (say.t("Last arrival", "Última llegada"), 5),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for copy in &writing.basis.facts.copies {
        let tone = if copy.failed == 0 { Tone::Soft } else { Tone::Bad };
        table.row(vec![
            Cell::of(&*copy.copy),
            Cell::of(&*copy.source),
            Cell::of(say.number(copy.arrived)),
            Cell::toned(say.number(copy.failed), tone),
            copy.last_arrived
                .map_or(Cell::toned(say.t("none", "ninguna"), Tone::Bad), |mark| Cell::of(say.when(mark.at))),
            Cell::soft(copy.last_arrived.map_or("–".to_owned(), |mark| mark.record.to_string())),
        ]);
    }
    table
}

fn locks(writing: &Writing<'_>, repository: &RepositoryFacts, section: &mut Section) {
    let say = writing.say;
    if !repository.can_lock() {
        section.notice(say.t(
            "No evidence of immutability: the store was found not to lock objects when the repository was made.",
            "Sin evidencia de inmutabilidad: al crear el repositorio se comprobó que el almacén no bloquea objetos.",
        ));
        return;
    }
    let mut table = Table::new(
        say.t(
            "Lock of the newest point of each source, read back from the store",
            "Bloqueo del punto más reciente de cada origen, leído en el almacén",
        ),
        say.t("The repository has no point.", "El repositorio no tiene ningún punto."),
        &[(say.t("Source", "Origen"), 4), (say.t("Mode", "Modo"), 3), (say.t("Locked until", "Bloqueado hasta"), 6)],
    );
    for (source, lock) in &repository.locks {
        let (word, until) = match lock {
            None => (Cell::toned(say.t("not locked", "sin bloqueo"), Tone::Bad), Cell::soft("–")),
            Some(lock) => {
                let over = lock.until <= writing.basis.made_at;
                let tone = if over { Tone::Warn } else { Tone::Well };
                (Cell::of(mode(lock.mode)), Cell::toned(say.when(lock.until), tone))
            }
        };
        table.row(vec![Cell::of(source.as_str()), word, until]);
    }
    section.table(table);
}

pub fn keys(writing: &Writing<'_>) -> Section {
    let (say, basis) = (writing.say, writing.basis);
    let mut section = Section::new(say.t("Keys and credentials", "Claves y credenciales"));
    match &basis.repository {
        Seen::Seen(repository) => {
            section.table(key_table(writing, repository));
            section.table(former::table(writing, repository));
        }
        Seen::NotSeen(why) => {
            writing.not_seen(&mut section, ("The keys of the repository", "Las claves del repositorio"), why);
        }
    }
    section.paragraph(say.t(
        "Credentials stand in the configuration as references only. An age is told where something records it: the last recorded \
         rotation, when the file that holds the credential was written, or when the version of the secret in Vault was.",
        "Las credenciales figuran en la configuración solo como referencias. Se indica su antigüedad cuando consta: la última \
         renovación registrada, la fecha en que se escribió el archivo que la contiene o la de la versión del secreto en Vault.",
    ));
    let mut table = Table::new(
        say.t("Credentials that the configuration refers to", "Credenciales a las que remite la configuración"),
        say.t("The configuration refers to none.", "La configuración no remite a ninguna."),
        &[
            (say.t("Reference", "Referencia"), 8),
            (say.t("Used by", "Uso"), 4),
            (say.t("Changed", "Último cambio"), 5),
            (say.t("Age>", "Antigüedad>"), 3),
            (say.t("Known from", "Fuente"), 4),
        ],
    );
    for credential in &basis.credentials {
        let age = credential.changed.map(|at| basis.made_at.duration_since(at).as_secs().max(0));
        table.row(vec![
            Cell::of(credential.reference.as_str()),
            Cell::of(credential.used_by.as_str()),
            credential
                .changed
                .map_or(Cell::toned(say.t("unknown", "desconocido"), Tone::Warn), |at| Cell::of(say.when(at))),
            age.map_or(Cell::soft("–"), |seconds| Cell::of(say.span(seconds))),
            Cell::soft(match credential.known_from {
                KnownFrom::Rotation => say.t("recorded rotation", "renovación registrada").to_owned(),
                KnownFrom::File => say.t("time of the file", "fecha del archivo").to_owned(),
                KnownFrom::Vault => say.t("version in Vault", "versión en Vault").to_owned(),
                KnownFrom::NotRecorded => match &credential.why_unknown {
                    Some(why) => recorded::quoted(why, say),
                    None => say.t("nothing records it", "nada lo registra").to_owned(),
                },
            }),
        ]);
    }
    section.table(table);
    match rotations::table(writing) {
        Some(table) => section.table(table),
        None => section.paragraph(say.t(
            "No evidence of rotations: none is recorded in the period.",
            "Sin evidencia de renovaciones: no consta ninguna en el periodo.",
        )),
    }
    section
}

fn key_table(writing: &Writing<'_>, repository: &RepositoryFacts) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Keys", "Claves"),
        "",
        &[
            (say.t("Key", "Clave"), 4),
            (say.t("Name", "Nombre"), 5),
            (say.t("Since", "Desde"), 5),
            (say.t("Age>", "Antigüedad>"), 2),
        ],
    );
    let mut row = |what: &str, name: String, since: jiff::Timestamp| {
        let age = basis.made_at.duration_since(since).as_secs().max(0);
        table.row(vec![Cell::of(what), Cell::of(name), Cell::of(say.when(since)), Cell::of(say.span(age))]);
    };
    for reader in &repository.readers {
        let what = match reader.role {
            Role::Operator => say.t("reads backups (operator)", "lee copias (operador)"),
            Role::Rehearser => say.t("reads backups (restore tests)", "lee copias (pruebas)"),
        };
        row(what, reader.name.clone(), reader.added);
    }
    for epoch in &repository.epochs {
        row(say.t("data key", "clave de datos"), epoch.number.to_string(), epoch.stored);
    }
    for writer in &repository.writers {
        let name = format!("{} ({})", writer.name, writer.writer);
        row(say.t("signs points (writer)", "firma puntos (equipo)"), name, writer.created);
    }
    table
}

pub fn deletions(writing: &Writing<'_>) -> Section {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut section = Section::new(say.t("Deletions, pins and holds", "Borrados, puntos fijados y retenciones"));
    let mut table = Table::new(
        say.t("Points deleted in the period, and who asked for it", "Puntos borrados en el periodo y quién lo pidió"),
        say.t("No deletion is recorded in the period.", "No consta ningún borrado en el periodo."),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Source", "Origen"), 4),
            (say.t("Points>", "Puntos>"), 2),
            (say.t("Freed>", "Liberado>"), 3),
            (say.t("Asked for by", "A petición de"), 5),
            (say.t("Why", "Motivo"), 5),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    for deletion in &facts.deletions {
        let who = match (deletion.reason, &deletion.run) {
            (Some(reason), Some(run)) => format!("{} ({run})", say.reason(reason)),
            _ => writing.not_recorded().to_owned(),
        };
        table.row(vec![
            Cell::of(say.when(deletion.mark.at)),
            Cell::of(&*deletion.source),
            Cell::of(say.number(deletion.points.len() as u64)),
            Cell::of(say.size(deletion.bytes)),
            Cell::of(who),
            Cell::of(match &deletion.why {
                Some(keep) => format!(
                    "{}: {}",
                    say.t("beyond what is kept", "fuera de lo que se conserva"),
                    retention_words(writing, keep)
                ),
                None => say.t("beyond what the policy keeps", "fuera de lo que conserva la política").to_owned(),
            }),
            Cell::soft(deletion.mark.record.to_string()),
        ]);
    }
    section.table(table);
    section.table(pins(writing));
    section.table(holds(writing));
    section
}

fn pins(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Pinned points, which no retention deletes", "Puntos fijados, que ninguna retención borra"),
        say.t(
            "No point is pinned, as far as the repository was seen.",
            "No hay puntos fijados, en lo que se pudo consultar del repositorio.",
        ),
        &[(say.t("Source", "Origen"), 4), (say.t("Point", "Punto"), 6), (say.t("Why", "Motivo"), 8)],
    );
    for point in writing.basis.repository.seen().into_iter().flat_map(|repository| &repository.points) {
        if let Some(why) = &point.pinned {
            table.row(vec![Cell::of(point.source.as_str()), Cell::of(point.point.as_str()), Cell::of(why.as_str())]);
        }
    }
    table
}

fn holds(writing: &Writing<'_>) -> Table {
    let say = writing.say;
    let mut table = Table::new(
        say.t("Holds after an anomaly, and who released them", "Retenciones por anomalía y quién las liberó"),
        say.t("No hold is recorded in the period.", "No consta ninguna retención en el periodo."),
        &[
            (say.t("Placed", "Desde"), 5),
            (say.t("Source", "Origen"), 4),
            (say.t("Anomaly", "Anomalía"), 7),
            (say.t("Released", "Liberada"), 7),
            (say.t("Records", "Registros"), 3),
        ],
    );
    for hold in &writing.basis.facts.holds {
        let (released, records) = match &hold.released {
            None => (Cell::toned(say.t("not yet", "aún no"), Tone::Warn), hold.placed.record.to_string()),
            Some(release) => (
                Cell::of(format!("{}, {}: {}", say.when(release.mark.at), release.by, release.why)),
                format!("{}, {}", hold.placed.record, release.mark.record),
            ),
        };
        table.row(vec![
            Cell::of(say.when(hold.placed.at)),
            Cell::of(&*hold.source),
            Cell::of(recorded::quoted(&hold.why, say)),
            released,
            Cell::soft(records),
        ]);
    }
    table
}
