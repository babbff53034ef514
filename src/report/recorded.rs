//! What bkp itself wrote into its records, in the language of the report.
//!
//! Records keep words, in English, so that `jq` and people read them without a key. Those of a closed vocabulary are told in Spanish
//! as well; a test makes sure that the program still writes every phrase that is listed here. What users and servers said is
//! nobody's to translate: it stays as it is.

use super::say::Say;
use crate::watch::Language;

/// `{}` is what differs from record to record, in the same order in both languages.
const PHRASES: &[(&str, &str)] = &[
    // Why a slot ended as it did.
    ("nothing was running; slot {} makes up for it", "no había nada en marcha; la suple la ejecución prevista de {}"),
    ("its run was cut short; slot {} makes up for it", "se interrumpió; la suple la ejecución prevista de {}"),
    (
        "nothing was running; so it is with the {} slots before",
        "no había nada en marcha; lo mismo vale para las {} anteriores",
    ),
    (
        "nothing was running when it was due, and the policy says `missed: skip`",
        "no había nada en marcha a su hora, y la política dice `missed: skip`",
    ),
    (
        "the schedule or the clock was changed before it came",
        "se cambió la programación o el reloj antes de que llegara",
    ),
    (
        "it was rotated, or the schedule or the clock was changed, before it came",
        "se renovó, o se cambió la programación o el reloj, antes de que llegara",
    ),
    (
        "nothing is rotated on these days (`freeze`), until {}",
        "en estos días no se renueva nada (`freeze`), hasta el {}",
    ),
    (
        "the last rehearsal of {} failed: what is changed now could not be restored",
        "la última prueba de restauración de {} falló: lo que se cambie ahora no podría restaurarse",
    ),
    ("{} does not hold the password that is published", "{} no tiene la contraseña publicada"),
    // How a rotation ended.
    (
        "noted afterwards: it was closed, and its process died before it noted that",
        "anotado después: se cerró, y su proceso murió antes de anotarlo",
    ),
    (
        "noted afterwards: it was taken back, and its process died before it noted that",
        "anotado después: se revirtió, y su proceso murió antes de anotarlo",
    ),
    (
        "noted afterwards: its process died before it changed anything",
        "anotado después: su proceso murió antes de cambiar nada",
    ),
    (
        "noted afterwards: neither of its passwords is published now",
        "anotado después: ninguna de sus contraseñas está publicada ahora",
    ),
    ("it was put off until after slot {}", "se aplazó hasta después de la ejecución prevista de {}"),
    ("slot {} is still at work", "la ejecución prevista de {} sigue en curso"),
    ("slot {} came while it waited", "la ejecución prevista de {} llegó mientras esta esperaba"),
    ("the policy has no schedule any more", "la política ya no tiene programación"),
    ("the policy has no source now", "la política no tiene ahora ningún origen"),
    (
        "the slot before it was at work until after its deadline",
        "la ejecución anterior duró hasta después de vencido su plazo",
    ),
    ("it was still at work at its deadline, and was ended", "seguía en curso al vencer su plazo y se puso fin a ella"),
    ("it did not come to its turn before its deadline", "no le llegó el turno antes de vencer su plazo"),
    ("{}; it is too late to try again", "{}; es tarde para volver a intentarlo"),
    ("its process vanished", "su proceso desapareció"),
    (
        "the process vanished: it was killed, or the host went down",
        "el proceso desapareció: fue interrumpido, o el equipo se apagó",
    ),
    ("it was told to stop", "se le ordenó parar"),
    ("{} of {} sources could not be backed up: {}", "no se pudo copiar {} de {} orígenes: {}"),
    // Why deletion was held.
    (
        "this point has {} bytes; the one before had {}. If nobody removed that much, look at the source",
        "este punto tiene {} bytes; el anterior tenía {}. Si nadie eliminó tanto, debe examinarse el origen",
    ),
    (
        "of what the point before had there are {}. If nobody removed them, look at the source",
        "de lo que tenía el punto anterior quedan {}. Si nadie lo eliminó, debe examinarse el origen",
    ),
    ("{} of {} rows", "{} de {} filas"),
    (
        "{} % of its bytes had to be stored; of the point before, {} %. If nobody changed that much, somebody may have encrypted it",
        "hubo que almacenar el {} % de sus bytes; del punto anterior, el {} %. Si nadie cambió tanto, puede que alguien lo haya cifrado",
    ),
    // Where a test restored to, and what kept it apart.
    ("a server on this host, for {}", "un servidor en este equipo, para {}"),
    ("a new file on this host", "un archivo nuevo en este equipo"),
    ("a new directory on this host", "un directorio nuevo en este equipo"),
    ("private to this user, removed afterwards", "privado de este usuario, eliminado al terminar"),
    (
        "container without network, ports or privileges; {} MiB, {} % of a processor, {}",
        "contenedor sin red, puertos ni privilegios; {} MiB, {} % de un procesador, {}",
    ),
    (
        "container without any network but one of its own that leads nowhere, ports or privileges; {} MiB, {} % of a processor, {}",
        "contenedor sin más red que una propia sin salida, sin puertos ni privilegios; {} MiB, {} % de un procesador, {}",
    ),
    ("data in memory", "datos en memoria"),
    ("a volume of its own", "un volumen propio"),
    ("process of {} in a private directory; {}", "proceso de {} en un directorio privado; {}"),
    ("a user without rights", "un usuario sin privilegios"),
    ("root, as there is no setpriv", "root, por no haber setpriv"),
    ("the user of bkp", "el usuario de bkp"),
    ("no network", "sin red"),
    ("reached by a socket of its own only", "accesible solo por un socket propio"),
    ("listening on loopback only", "a la escucha solo en el propio equipo"),
    // Why contents were not compared.
    (
        "the point was made by a version of bkp that compared otherwise",
        "el punto lo hizo una versión de bkp que cotejaba de otro modo",
    ),
    (
        "the point does not say what definitions and grants there were",
        "el punto no dice qué definiciones y permisos había",
    ),
    (
        "owners were not compared: bkp is not root here, and {} entries belonged to others",
        "no se cotejaron los propietarios: bkp no es aquí root, y {} entradas eran de otros",
    ),
    (
        "the point holds no digest of the tree that this version can compare",
        "el punto no contiene ningún resumen del árbol que esta versión pueda cotejar",
    ),
    (
        "some files changed while they were read for the backup, so they are of no single instant (bkp show names them)",
        "algunos archivos cambiaron mientras se leían, así que no son de un mismo instante (bkp show los nombra)",
    ),
    ("there was nothing to compare", "no había nada que cotejar"),
    // What could not be seen.
    ("there is no container engine: {}", "no hay motor de contenedores: {}"),
    ("no socket {}", "no existe el socket {}"),
    ("{} was not asked: {}", "no se consultó {}: {}"),
    ("{} could not be compared with what was sealed: {}", "{} no se pudo cotejar con lo que se selló: {}"),
    (
        "{} is not configured any more; record {} says that it holds the head of record {}",
        "{} ya no está configurado; el registro {} dice que conserva la cabecera del registro {}",
    ),
    (
        "{} was sent the head of record {}: compare with it too, --anchor FILE reads a saved mail",
        "a {} se envió la cabecera del registro {}: cotéjela también; --anchor FILE lee un correo guardado",
    ),
    ("{} older of {} heads are not in {} any more", "{} de las {} cabeceras, anteriores, ya no están en {}"),
    ("{} of {} rehearsals have no signed statement yet", "{} de {} pruebas aún no tienen declaración firmada"),
    ("there is no journal in {}", "no hay ningún diario en {}"),
    ("the repository", "el repositorio"),
    ("{} (sealed segment {})", "{} (segmento sellado {})"),
    ("a check found {} damaged", "una comprobación halló {} objetos dañados"),
    // Failures that everybody meets.
    ("there is no directory {}", "no existe el directorio {}"),
    ("{} does not exist", "{} no existe"),
];

/// In the language of the report where the vocabulary is bkp's own; else as it stands in the record.
pub fn said(text: &str, say: Say<'_>) -> String {
    match say.language {
        Language::English => text.to_owned(),
        Language::Spanish => in_spanish(text).unwrap_or_else(|| text.to_owned()),
    }
}

/// The same for a reason; one that is not bkp's own is set off by quotation marks in a text of another language.
pub fn quoted(text: &str, say: Say<'_>) -> String {
    match (say.language, in_spanish(text)) {
        (Language::English, _) => text.to_owned(),
        (Language::Spanish, Some(spanish)) => spanish,
        (Language::Spanish, None) if text.is_empty() => String::new(),
        (Language::Spanish, None) => format!("«{text}»"),
    }
}

/// Nothing: no part of it is bkp's own.
fn in_spanish(text: &str) -> Option<String> {
    if let Some(told) = phrase(text).or_else(|| of_source(text)) {
        return Some(told);
    }
    // Several reasons in a row; a phrase may have a semicolon of its own.
    let cuts: Vec<(&str, &str)> = text.match_indices("; ").map(|(at, _)| (&text[..at], &text[at + 2..])).collect();
    let or_as_it_is = |text: &str| in_spanish(text).unwrap_or_else(|| text.to_owned());
    for (first, rest) in &cuts {
        if let Some(first) = phrase(first).or_else(|| of_source(first)) {
            return Some(format!("{first}; {}", or_as_it_is(rest)));
        }
    }
    let (first, rest) = cuts.first()?;
    in_spanish(rest).map(|rest| format!("{first}; {rest}"))
}

fn phrase(text: &str) -> Option<String> {
    PHRASES.iter().find_map(|(english, spanish)| {
        let parts = parts_of(text, english)?;
        let mut parts = parts.into_iter().map(|part| in_spanish(part).unwrap_or_else(|| part.to_owned()));
        let mut told = String::new();
        for (number, literal) in spanish.split("{}").enumerate() {
            if number > 0 {
                told.push_str(&parts.next().unwrap_or_default());
            }
            told.push_str(literal);
        }
        Some(told)
    })
}

/// `SOURCE: why`
fn of_source(text: &str) -> Option<String> {
    let (source, why) = text.split_once(": ")?;
    phrase(why).map(|why| format!("{source}: {why}"))
}

/// What stands for each `{}`, where the text is of that form.
fn parts_of<'t>(text: &'t str, form: &str) -> Option<Vec<&'t str>> {
    let mut literals = form.split("{}");
    let mut rest = text.strip_prefix(literals.next()?)?;
    let mut parts = Vec::new();
    let literals: Vec<&str> = literals.collect();
    let Some((last, between)) = literals.split_last() else { return rest.is_empty().then_some(parts) };
    for literal in between {
        let (part, after) = rest.split_once(literal)?;
        parts.push(part);
        rest = after;
    }
    parts.push(rest.strip_suffix(last)?);
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// `42, expected at least 1`: what was found is the user's, what was expected is told.
pub fn found(text: &str, say: Say<'_>) -> String {
    let Some((found, expected)) = text.rsplit_once(", expected ") else { return text.to_owned() };
    let expected = match (expected.strip_prefix("at least "), expected.strip_prefix("at most ")) {
        (Some(least), _) => format!("{} {least}", say.t("at least", "como mínimo")),
        (_, Some(most)) => format!("{} {most}", say.t("at most", "como máximo")),
        _ if expected == "a number" => say.t("a number", "un número").to_owned(),
        _ => match expected.split_once(" to ").filter(|(a, b)| a.parse::<f64>().is_ok() && b.parse::<f64>().is_ok()) {
            Some((least, most)) => format!("{} {least} {} {most}", say.t("from", "de"), say.t("to", "a")),
            None => expected.to_owned(),
        },
    };
    format!("{found}, {} {expected}", say.t("expected", "se esperaba"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use std::path::Path;

    const SPANISH: Say<'static> = Say { language: Language::Spanish, zone: const { &TimeZone::UTC } };

    #[test]
    fn what_bkp_wrote_is_told_and_what_others_said_stays() {
        let table = [
            (
                "container without network, ports or privileges; 512 MiB, 100 % of a processor, data in memory",
                "contenedor sin red, puertos ni privilegios; 512 MiB, 100 % de un procesador, datos en memoria",
            ),
            (
                "nothing was running; slot 2026-11-19T07:30:00Z makes up for it",
                "no había nada en marcha; la suple la ejecución prevista de 2026-11-19T07:30:00Z",
            ),
            ("app: its process vanished; docs: disk full", "app: su proceso desapareció; docs: disk full"),
            ("2 of 3 sources could not be backed up: a, b", "no se pudo copiar 2 de 3 orígenes: a, b"),
            ("ERROR 1045 (28000): Access denied", "«ERROR 1045 (28000): Access denied»"),
            ("no network, no published port, 512 MiB", "«no network, no published port, 512 MiB»"),
        ];
        for (recorded, told) in table {
            assert_eq!(quoted(recorded, SPANISH), told);
            assert_eq!(quoted(recorded, Say { language: Language::English, ..SPANISH }), recorded);
        }
        assert_eq!(found("42, expected at least 1", SPANISH), "42, se esperaba como mínimo 1");
        assert_eq!(found("a, expected b, expected 1 to 3", SPANISH), "a, expected b, se esperaba de 1 a 3");
        assert_eq!(found("exit code 1", SPANISH), "exit code 1");
    }

    /// Else nobody would notice when words change where they are written.
    #[test]
    fn the_program_writes_every_phrase() {
        let mut source = String::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut source);
        for (english, spanish) in PHRASES {
            assert_eq!(english.matches("{}").count(), spanish.matches("{}").count(), "{english}");
            for literal in english.split("{}").filter(|literal| literal.trim().len() > 6) {
                // A phrase may be put together from two.
                let known = literal.split("; ").all(|part| source.contains(part.trim_end_matches(": ")));
                assert!(known, "nothing writes {literal:?} of {english:?}");
            }
        }
    }

    fn read(directory: &Path, into: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, into);
            } else if !path.ends_with("report/recorded.rs") {
                into.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
}
