//! The policies in force, and how they were changed.

use super::{Cell, Section, Table, Tone, Writing};

pub fn section(writing: &Writing<'_>) -> Section {
    let say = writing.say;
    let mut section = Section::new(say.t("Policies in force and their changes", "Políticas vigentes y sus cambios"));
    section.table(policies(writing));
    section.heading(say.t("Loads of the configuration", "Cargas de la configuración"));
    section.paragraph(say.t(
        "The daemon notes each load with a digest of all files of the configuration (SHA-256). The same digest is the same \
         configuration.",
        "El servicio anota cada carga con un resumen criptográfico (SHA-256) de todos los archivos de configuración. A igual \
         resumen, igual configuración.",
    ));
    section.table(loads(writing));
    section.heading(say.t("Changes of retention", "Cambios de retención"));
    section.table(retention(writing));
    section
}

fn policies(writing: &Writing<'_>) -> Table {
    let (say, basis) = (writing.say, writing.basis);
    let mut table = Table::new(
        say.t("Policies in force when the report was made", "Políticas vigentes al elaborar el informe"),
        say.t("No policy is configured.", "No hay ninguna política configurada."),
        &[
            (say.t("Policy", "Política"), 4),
            (say.t("Sources", "Orígenes"), 6),
            (say.t("Schedule", "Programación"), 4),
            (say.t("Zone", "Zona"), 4),
            ("RPO", 2),
            ("RTO", 2),
            (say.t("Retention", "Retención"), 6),
        ],
    );
    let none = || Cell::soft(say.t("none", "ninguno"));
    for policy in &basis.policies {
        let sources = policy.sources.iter().map(|source| format!("{} ({})", source.source, source.engine));
        let mut sources = sources.collect::<Vec<_>>().join(", ");
        if policy.takes_labels {
            sources += say.t(" + what labels bring", " + lo que aporten las etiquetas");
        }
        table.row(vec![
            Cell::of(policy.policy.as_str()),
            Cell::of(sources),
            policy.schedule.as_deref().map_or(Cell::toned(say.t("by hand", "manual"), Tone::Warn), Cell::of),
            Cell::of(policy.timezone.as_deref().unwrap_or("–")),
            policy.rpo_seconds.map_or_else(none, |seconds| Cell::of(say.span(seconds))),
            policy.rto_seconds.map_or_else(none, |seconds| Cell::of(say.span(seconds))),
            Cell::of(
                policy
                    .keep
                    .as_deref()
                    .map_or(say.t("all points", "todos los puntos").to_owned(), |keep| retention_words(writing, keep)),
            ),
        ]);
    }
    table
}

/// `last 3, daily 14` in the language of the report.
pub fn retention_words(writing: &Writing<'_>, keep: &str) -> String {
    let words = [
        ("last", "últimos"),
        ("hourly", "horarios"),
        ("daily", "diarios"),
        ("weekly", "semanales"),
        ("monthly", "mensuales"),
        ("yearly", "anuales"),
        ("within", "los de"),
    ];
    let part = |part: &str| {
        let (word, number) = part.split_once(' ').unwrap_or((part, ""));
        let spanish = words.iter().find(|(en, _)| *en == word).map_or(word, |(_, es)| es);
        match (writing.say.language, word) {
            (crate::watch::Language::English, _) => part.to_owned(),
            (_, "last" | "within") => format!("{spanish} {number}"),
            (_, _) => format!("{number} {spanish}"),
        }
    };
    keep.split(", ").map(part).collect::<Vec<_>>().join(", ")
}

fn loads(writing: &Writing<'_>) -> Table {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut table = Table::new(
        say.t("Configurations in the order in which they came into force", "Configuraciones por orden de entrada en vigor"),
        say.t(
            "No load is recorded: no daemon ran on this host, and the configuration is known only as it is now.",
            "No consta ninguna carga: el servicio no se ejecutó en este equipo y la configuración solo se conoce en su estado actual.",
        ),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Digest", "Resumen"), 4),
            (say.t("What", "Qué"), 9),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    let mut last: Option<&str> = None;
    for loaded in &facts.configurations {
        let same = last == Some(loaded.digest.as_str());
        let (text, tone) = match (&loaded.error, loaded.before, same) {
            (Some(error), ..) => (
                format!(
                    "{}: {error}",
                    say.t("refused; the one before stayed in force", "rechazada; siguió vigente la anterior")
                ),
                Tone::Bad,
            ),
            (None, true, _) => {
                (say.t("in force when the period began", "vigente al comenzar el periodo").to_owned(), Tone::Plain)
            }
            (None, false, true) => {
                (say.t("loaded again, unchanged", "cargada de nuevo, sin cambios").to_owned(), Tone::Soft)
            }
            (None, false, false) => (say.t("came into force", "entró en vigor").to_owned(), Tone::Plain),
        };
        if loaded.ok {
            last = Some(&loaded.digest);
        }
        table.row(vec![
            Cell::of(say.when(loaded.mark.at)),
            Cell::of(loaded.digest.chars().take(16).collect::<String>()),
            Cell::toned(text, tone),
            Cell::soft(loaded.mark.record.to_string()),
        ]);
    }
    table
}

fn retention(writing: &Writing<'_>) -> Table {
    let (say, facts) = (writing.say, &writing.basis.facts);
    let mut table = Table::new(
        say.t("Changes of retention in the period", "Cambios de retención en el periodo"),
        say.t("None is recorded in the period.", "No consta ninguno en el periodo."),
        &[
            (say.t("When", "Fecha"), 5),
            (say.t("Policy", "Política"), 4),
            (say.t("From", "Antes"), 5),
            (say.t("To", "Después"), 5),
            (say.t("By", "Quién"), 3),
            (say.t("Record>", "Registro>"), 3),
        ],
    );
    let rules = |rules: &Option<serde_json::Value>| match rules {
        None => say.t("all points", "todos los puntos").to_owned(),
        Some(rules) => match serde_json::from_value::<crate::policy::Keep>(rules.clone()) {
            Ok(keep) => retention_words(writing, &keep.to_string()),
            Err(_) => rules.to_string(),
        },
    };
    for change in &facts.retention {
        table.row(vec![
            Cell::of(say.when(change.mark.at)),
            Cell::of(&*change.policy),
            Cell::of(rules(&change.from)),
            Cell::of(rules(&change.to)),
            Cell::of(change.by.as_deref().unwrap_or(writing.not_recorded())),
            Cell::soft(change.mark.record.to_string()),
        ]);
    }
    table
}
