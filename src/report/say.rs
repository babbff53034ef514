//! Words, dates and amounts in the language of a report. Both languages stand side by side where a phrase is used, so that who
//! changes one sees the other.

use super::text::Text;
use crate::journal::{Job, Outcome, Reason, SlotEnd};
use crate::watch::{Language, instant, size, span};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A phrase in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub en: &'static str,
    pub es: &'static str,
}

pub const fn said(en: &'static str, es: &'static str) -> Said {
    Said { en, es }
}

/// How things are said.
#[derive(Clone, Copy, Debug)]
pub struct Say<'a> {
    pub language: Language,
    pub zone: &'a TimeZone,
}

impl Say<'_> {
    pub fn t<'t>(&self, en: &'t str, es: &'t str) -> &'t str {
        match self.language {
            Language::English => en,
            Language::Spanish => es,
        }
    }

    pub fn of(&self, said: Said) -> &'static str {
        match self.language {
            Language::English => said.en,
            Language::Spanish => said.es,
        }
    }

    pub fn text(&self, en: &str, es: &str) -> Text {
        Text::of(self.t(en, es))
    }

    /// `2026-11-22 16:20:15 -05:00`
    pub fn when(&self, at: Timestamp) -> String {
        instant(at, self.zone)
    }

    /// `2026-11-22 16:20`, where the zone is told elsewhere.
    pub fn minute(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// `22 November 2026`, `22 de noviembre de 2026`
    pub fn date(&self, date: Date) -> String {
        let month = usize::try_from(date.month() - 1).unwrap_or_default();
        match self.language {
            Language::English => format!("{} {} {}", date.day(), MONTHS[month], date.year()),
            Language::Spanish => format!("{} de {} de {}", date.day(), MESES[month], date.year()),
        }
    }

    pub fn span(&self, seconds: i64) -> String {
        span(seconds)
    }

    /// `2.4 s`, `2,4 s`; from a minute and a half on as [`span`](Self::span).
    pub fn took(&self, seconds: f64) -> String {
        match seconds > 0.0 && seconds < 0.05 {
            true => self.decimal("< 0.1 s".to_owned()),
            false => self.decimal(crate::watch::took(seconds)),
        }
    }

    pub fn size(&self, bytes: u64) -> String {
        self.decimal(size(bytes))
    }

    /// `96.5 %`, rounded down, so that only all is 100 %.
    pub fn share(&self, part: u64, of: u64) -> String {
        if of == 0 {
            return "–".to_owned();
        }
        let tenths = part as u128 * 1000 / of as u128;
        self.decimal(match tenths % 10 {
            0 => format!("{} %", tenths / 10),
            tenth => format!("{}.{tenth} %", tenths / 10),
        })
    }

    fn decimal(&self, text: String) -> String {
        match self.language {
            Language::English => text,
            Language::Spanish => text.replace('.', ","),
        }
    }

    /// `sent: 12; not delivered: 0`
    pub fn counts(&self, counts: &[(&str, u64)]) -> String {
        counts.iter().map(|(what, number)| format!("{what}: {}", self.number(*number))).collect::<Vec<_>>().join("; ")
    }

    /// `12 345`: grouped with a space that does not break, which is right in both languages.
    pub fn number(&self, number: u64) -> String {
        let digits = number.to_string();
        if digits.len() < 5 {
            return digits;
        }
        let first = digits.len() % 3;
        let mut grouped = digits[..first].to_owned();
        for at in (first..digits.len()).step_by(3) {
            if !grouped.is_empty() {
                grouped.push('\u{a0}');
            }
            grouped.push_str(&digits[at..at + 3]);
        }
        grouped
    }

    /// `1 run`, `3 runs`
    pub fn count(&self, number: u64, one: Said, many: Said) -> String {
        format!("{} {}", self.number(number), self.of(if number == 1 { one } else { many }))
    }

    pub fn job(&self, job: Job) -> &'static str {
        match job {
            Job::Backup => self.t("backup", "copia"),
            Job::Copy => self.t("copy elsewhere", "copia a otro almacén"),
            Job::Prune => self.t("deletion of expired points", "borrado de puntos vencidos"),
            Job::Check => self.t("integrity check", "comprobación de integridad"),
            Job::Restore => self.t("restore", "restauración"),
            Job::Rehearse => self.t("restore test", "prueba de restauración"),
            Job::Rotate => self.t("credential rotation", "renovación de credenciales"),
            Job::Anchor => self.t("anchoring of the journal", "anclaje del diario"),
        }
    }

    pub fn outcome(&self, outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Done => self.t("done", "correcta"),
            Outcome::Warnings => self.t("done, with warnings", "correcta, con avisos"),
            Outcome::Failed => self.t("failed", "fallida"),
            Outcome::Aborted => self.t("cut short", "interrumpida"),
        }
    }

    pub fn slot_end(&self, end: SlotEnd, warned: bool) -> &'static str {
        match end {
            SlotEnd::Done if warned => self.t("done, with warnings", "correcta, con avisos"),
            SlotEnd::Done => self.t("done", "correcta"),
            SlotEnd::Failed => self.t("failed", "fallida"),
            SlotEnd::Missed => self.t("not run", "no ejecutada"),
            SlotEnd::Skipped => self.t("left out by rule", "omitida por regla"),
        }
    }

    pub fn reason(&self, reason: Reason) -> &'static str {
        match reason {
            Reason::Schedule => self.t("scheduled", "programada"),
            Reason::CatchUp => self.t("made up for", "recuperada"),
            Reason::Manual => self.t("by hand", "manual"),
            Reason::Safety => self.t("before a restore", "previa a una restauración"),
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const MESES: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn say(language: Language) -> Say<'static> {
        Say { language, zone: const { &TimeZone::UTC } }
    }

    #[test]
    fn amounts_are_those_of_the_language() {
        let (en, es) = (say(Language::English), say(Language::Spanish));
        assert_eq!((en.size(1_288_490_189), es.size(1_288_490_189)), ("1.2 GiB".into(), "1,2 GiB".into()));
        assert_eq!((en.share(965, 1000), es.share(965, 1000)), ("96.5 %".into(), "96,5 %".into()));
        assert_eq!(
            (en.share(9999, 10_000), en.share(3, 3), en.share(0, 0)),
            ("99.9 %".into(), "100 %".into(), "–".into())
        );
        assert_eq!((en.number(9999), en.number(1_234_567)), ("9999".into(), "1\u{a0}234\u{a0}567".into()));
        let day = Date::constant(2026, 11, 2);
        assert_eq!((en.date(day), es.date(day)), ("2 November 2026".into(), "2 de noviembre de 2026".into()));
    }
}
