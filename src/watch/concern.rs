//! What wants attention, what that means, and what to do about it; in English and in Spanish.
//!
//! Commands, names and what programs said stay as they are in every language.

use super::words::{ago, span};
use crate::job::rotate::readers::NAME;
use jiff::Timestamp;
use serde::Serialize;

/// Of what is for people. Names in JSON and of metrics are never translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    Spanish,
}

impl Language {
    /// Of the tags of RFC 9110, as in `es-CO,es;q=0.9,en;q=0.5`: the one that is wanted most.
    pub fn of_header(accept: &str) -> Self {
        let weight = |part: &str| part.split(';').nth(1).and_then(|q| q.trim().strip_prefix("q=")?.parse::<f32>().ok());
        let mut best = (Language::English, 0.0);
        for part in accept.split(',') {
            let tag = part.split([';', '-']).next().unwrap_or_default().trim();
            let weight = weight(part).unwrap_or(1.0);
            if let Some(language) = Language::of_tag(tag).filter(|_| weight > best.1) {
                best = (language, weight);
            }
        }
        best.0
    }

    pub fn of_tag(tag: &str) -> Option<Self> {
        match tag.to_ascii_lowercase().as_str() {
            "en" => Some(Language::English),
            "es" => Some(Language::Spanish),
            _ => None,
        }
    }

    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Spanish => "es",
        }
    }
}

/// One thing that wants attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "concern", rename_all = "snake_case")]
pub enum Concern {
    /// The evidence is broken.
    JournalDamaged {
        problems: u64,
    },
    /// What keeps the daemon from doing all it should.
    Degraded {
        why: String,
    },
    /// The configuration was refused; the one before stays in force.
    ConfigurationRefused {
        error: String,
    },
    /// The newest point of bkp's own configuration is of an older one.
    ConfigurationNotKept {
        message: String,
    },
    /// Configured, and there is no point.
    Missing {
        source: String,
    },
    /// A check found that the newest point cannot be restored whole.
    Damaged {
        source: String,
    },
    /// The newest point is older than the objective allows.
    Late {
        source: String,
        age_seconds: i64,
        rpo_seconds: i64,
    },
    /// No run came to a good end by its deadline.
    Overdue {
        source: String,
        due: Timestamp,
        seconds: i64,
    },
    /// The last runs failed.
    Failing {
        source: String,
        times: u64,
        message: String,
        hint: Option<String>,
    },
    /// The last slot of a policy was missed.
    Missed {
        policy: String,
        slot: Timestamp,
        why: Option<String>,
    },
    /// Nothing of this source is pruned until somebody has looked.
    Held {
        source: String,
        why: String,
    },
    /// What came back of a point was not what the source held, or nothing came back.
    RehearsalFailing {
        source: String,
        message: String,
    },
    RehearsalOverdue {
        source: String,
        seconds: i64,
    },
    /// The last slots for rehearsals of a policy came to nothing: no rehearsal may have begun.
    RehearsalsFailing {
        policy: String,
        times: u64,
        message: Option<String>,
    },
    CopyFailing {
        copy: String,
        source: String,
        times: u64,
        message: Option<String>,
    },
    /// A routine of the main file: `check`, `prune`.
    RoutineFailing {
        job: &'static str,
        message: String,
    },
    RoutineOverdue {
        job: &'static str,
        seconds: i64,
    },
    /// It was begun and is not at its end, and nobody is at it.
    RotationOpen {
        rotation: String,
        seconds: i64,
        /// And somebody has to do something first.
        by_hand: bool,
        message: Option<String>,
    },
    RotationFailing {
        rotation: String,
        message: Option<String>,
    },
    RotationOverdue {
        rotation: String,
        seconds: i64,
    },
    ChannelFailing {
        channel: String,
        times: u64,
        message: String,
    },
}

/// What it is, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub what: String,
    pub next: String,
}

impl Concern {
    /// Only a journal that cannot be believed, and data that may be lost, make things not well; the rest is to be known.
    pub fn is_grave(&self) -> bool {
        !matches!(
            self,
            Concern::Held { .. }
                | Concern::ChannelFailing { .. }
                | Concern::Missed { .. }
                | Concern::RotationOpen { .. }
                | Concern::RotationFailing { .. }
                | Concern::RotationOverdue { .. }
        )
    }

    pub fn told(&self, language: Language) -> Told {
        let (what, next) = match language {
            Language::English => (self.english(), self.next_in_english()),
            Language::Spanish => (self.spanish(), self.next_in_spanish()),
        };
        Told { what, next }
    }

    fn english(&self) -> String {
        match self {
            Concern::JournalDamaged { problems } => format!("The journal is damaged in {problems} places"),
            Concern::Degraded { why } => format!("The daemon is degraded: {why}"),
            Concern::ConfigurationRefused { error } => {
                format!("The configuration was refused; the one before stays in force: {error}")
            }
            Concern::ConfigurationNotKept { message } => {
                format!("The repository does not have the configuration of bkp as it is now: {message}")
            }
            Concern::Missing { source } => format!("{source} has no backup"),
            Concern::Damaged { source } => format!("The newest point of {source} is damaged"),
            Concern::Late { source, age_seconds, rpo_seconds } => {
                let (age, rpo) = (span(*age_seconds), span(*rpo_seconds));
                format!("The newest point of {source} is {age} old; {rpo} are allowed")
            }
            Concern::Overdue { source, seconds, .. } => {
                format!("A backup of {source} was due {}", ago(*seconds, Language::English))
            }
            Concern::Failing { source, times: 1, message, .. } => format!("The last run of {source} failed: {message}"),
            Concern::Failing { source, times, message, .. } => {
                format!("The last {times} runs of {source} failed: {message}")
            }
            Concern::Missed { policy, slot, why } => {
                format!("{policy} missed its slot of {slot}{}", because(why))
            }
            Concern::Held { source, why } => format!("Nothing of {source} is pruned until somebody has looked: {why}"),
            Concern::RehearsalFailing { source, message } => {
                format!("The last rehearsal of a restore of {source} failed: {message}")
            }
            Concern::RehearsalOverdue { source, seconds } => {
                format!("A rehearsal of {source} was due {}", ago(*seconds, Language::English))
            }
            Concern::RehearsalsFailing { policy, times: 1, message } => {
                format!("The last scheduled rehearsal of policy {policy} came to nothing{}", because(message))
            }
            Concern::RehearsalsFailing { policy, times, message } => {
                format!("The last {times} scheduled rehearsals of policy {policy} came to nothing{}", because(message))
            }
            Concern::CopyFailing { copy, source, message, .. } => {
                format!("{source} is not copied to {copy}{}", because(message))
            }
            Concern::RoutineFailing { job, message } => format!("The last {job} failed: {message}"),
            Concern::RoutineOverdue { job, seconds } => {
                format!("A {job} was due {}", ago(*seconds, Language::English))
            }
            Concern::RotationOpen { rotation, seconds, by_hand, message } => {
                let since = ago(*seconds, Language::English);
                let what = if *by_hand { "waits for somebody, since it stopped" } else { "stopped midway" };
                format!("The rotation of {rotation} {what} {since}{}", because(message))
            }
            Concern::RotationFailing { rotation, message } => failed_rotation(rotation, message),
            Concern::RotationOverdue { rotation, seconds } => {
                format!("{} {}", what_was_due(rotation), ago(*seconds, Language::English))
            }
            Concern::ChannelFailing { channel, message, .. } => format!("{channel} takes no messages: {message}"),
        }
    }

    fn spanish(&self) -> String {
        match self {
            Concern::JournalDamaged { problems } => format!("El diario está dañado en {problems} lugares"),
            Concern::Degraded { why } => format!("El demonio trabaja con limitaciones: {why}"),
            Concern::ConfigurationRefused { error } => {
                format!("La configuración fue rechazada; sigue vigente la anterior: {error}")
            }
            Concern::ConfigurationNotKept { message } => {
                format!("El repositorio no tiene la configuración actual de bkp: {message}")
            }
            Concern::Missing { source } => format!("{source} no tiene copia de seguridad"),
            Concern::Damaged { source } => format!("El punto más reciente de {source} está dañado"),
            Concern::Late { source, age_seconds, rpo_seconds } => {
                let (age, rpo) = (span(*age_seconds), span(*rpo_seconds));
                format!("El punto más reciente de {source} tiene {age}; se permiten {rpo}")
            }
            Concern::Overdue { source, seconds, .. } => {
                format!("La copia de {source} está atrasada: vencía {}", ago(*seconds, Language::Spanish))
            }
            Concern::Failing { source, times: 1, message, .. } => {
                format!("La última ejecución de {source} falló: {message}")
            }
            Concern::Failing { source, times, message, .. } => {
                format!("Las últimas {times} ejecuciones de {source} fallaron: {message}")
            }
            Concern::Missed { policy, slot, why } => {
                format!("{policy} omitió su ejecución de las {slot}{}", because(why))
            }
            Concern::Held { source, why } => format!("Nada de {source} se borra hasta que alguien lo revise: {why}"),
            Concern::RehearsalFailing { source, message } => {
                format!("El último ensayo de restauración de {source} falló: {message}")
            }
            Concern::RehearsalOverdue { source, seconds } => {
                format!("El ensayo de {source} está atrasado: vencía {}", ago(*seconds, Language::Spanish))
            }
            Concern::RehearsalsFailing { policy, times, message } => in_vain_in_spanish(policy, *times, message),
            Concern::CopyFailing { copy, source, message, .. } => {
                format!("{source} no se copia a {copy}{}", because(message))
            }
            Concern::RoutineFailing { job, message } => format!("El último {job} falló: {message}"),
            Concern::RoutineOverdue { job, seconds } => {
                format!("El {job} está atrasado: vencía {}", ago(*seconds, Language::Spanish))
            }
            Concern::RotationOpen { rotation, seconds, by_hand, message } => {
                let since = ago(*seconds, Language::Spanish);
                let what = if *by_hand { "espera a una persona desde que se detuvo" } else { "se detuvo a medias" };
                format!("La rotación de {rotation} {what} {since}{}", because(message))
            }
            Concern::RotationFailing { rotation, message } => {
                format!("La última rotación de {rotation} falló{}", because(message))
            }
            Concern::RotationOverdue { rotation, seconds } if rotation == NAME => {
                format!("Una clave que lee las copias debía cambiarse {}", ago(*seconds, Language::Spanish))
            }
            Concern::RotationOverdue { rotation, seconds } => {
                format!("La rotación de {rotation} está atrasada: vencía {}", ago(*seconds, Language::Spanish))
            }
            Concern::ChannelFailing { channel, message, .. } => format!("{channel} no acepta mensajes: {message}"),
        }
    }

    fn next_in_english(&self) -> String {
        match self {
            Concern::Failing { hint: Some(hint), .. } => hint.clone(),
            Concern::CopyFailing { .. } => "Look at the store of the copy; it is tried again after each backup".into(),
            Concern::Missed { .. } => "Is the daemon running all the time? See: bkp journal".into(),
            other => other.command(),
        }
    }

    fn next_in_spanish(&self) -> String {
        match self {
            Concern::Failing { hint: Some(hint), .. } => hint.clone(),
            Concern::CopyFailing { .. } => "Revise el almacén de la copia; se reintenta tras cada copia".into(),
            Concern::Missed { .. } => "¿El demonio corre todo el tiempo? Vea: bkp journal".into(),
            other => other.command(),
        }
    }

    fn command(&self) -> String {
        match self {
            Concern::JournalDamaged { .. } => "bkp journal verify".into(),
            Concern::ConfigurationRefused { .. } => "bkp config check".into(),
            Concern::Degraded { .. } => "bkp doctor".into(),
            Concern::ConfigurationNotKept { .. } => "bkp backup; bkp doctor".into(),
            Concern::Missing { source } | Concern::Late { source, .. } | Concern::Overdue { source, .. } => {
                format!("bkp backup {source}")
            }
            Concern::Failing { source, .. } => format!("bkp backup {source}; bkp doctor"),
            Concern::Damaged { source } => format!("bkp backup {source}; bkp check {source}"),
            Concern::RehearsalFailing { source, .. } => format!("bkp backup {source}; bkp rehearse {source}"),
            Concern::RehearsalOverdue { source, .. } => format!("bkp rehearse {source}"),
            Concern::RehearsalsFailing { policy, .. } => format!("bkp doctor; bkp rehearse {policy}"),
            Concern::Held { source, .. } => format!("bkp points {source}; bkp ack {source}"),
            Concern::RoutineFailing { job: "anchor", .. } | Concern::RoutineOverdue { job: "anchor", .. } => {
                "bkp evidence anchor".into()
            }
            Concern::RoutineFailing { job, .. } | Concern::RoutineOverdue { job, .. } => format!("bkp {job}"),
            Concern::RotationOverdue { rotation, .. } if rotation == NAME => {
                "bkp secrets; bkp rotate recipients NAME=KEY (docs/ROTATION_KEYS.md)".into()
            }
            Concern::RotationOpen { rotation, .. } | Concern::RotationFailing { rotation, .. } if rotation == NAME => {
                "bkp rotate status; bkp rotate recipients NAME=KEY (docs/ROTATION_KEYS.md)".into()
            }
            Concern::RotationOpen { rotation, .. } => format!("bkp rotate status; bkp rotate resume {rotation}"),
            Concern::RotationFailing { rotation, .. } => format!("bkp rotate {rotation} --dry-run"),
            Concern::RotationOverdue { rotation, .. } => format!("bkp rotate {rotation}"),
            Concern::ChannelFailing { channel, .. } => format!("bkp notify test {channel}"),
            Concern::CopyFailing { .. } | Concern::Missed { .. } => "bkp journal".into(),
        }
    }
}

fn what_was_due(rotation: &str) -> String {
    match rotation == NAME {
        true => "A key that reads the backups was to be another one".to_owned(),
        false => format!("A rotation of {rotation} was due"),
    }
}

fn failed_rotation(rotation: &str, message: &Option<String>) -> String {
    format!("The last rotation of {rotation} failed{}", because(message))
}

fn in_vain_in_spanish(policy: &str, times: u64, message: &Option<String>) -> String {
    let because = because(message);
    match times {
        1 => format!("El último ensayo programado de la política {policy} quedó en nada{because}"),
        _ => format!("Los últimos {times} ensayos programados de la política {policy} quedaron en nada{because}"),
    }
}

fn because(why: &Option<String>) -> String {
    why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
}
