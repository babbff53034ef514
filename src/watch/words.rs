//! How spans and sizes look to people, in either language.

use super::Language;
use crate::job::dependence::Ends;
use crate::journal::Job;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `1.2 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value >= 99.95 => format!("{value:.0} {}", UNITS[unit]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// `2 h`, in the largest unit of which there is at least one and a half, except for seconds. The same in both languages.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", (seconds + 30) / 60),
        5400..129_600 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}

/// `2 h ago`.
pub fn ago(seconds: i64, language: Language) -> String {
    match (language, seconds) {
        (Language::English, ..-1) => format!("in {}", span(seconds)),
        (Language::English, -1..=1) => "now".into(),
        (Language::English, _) => format!("{} ago", span(seconds)),
        (Language::Spanish, ..-1) => format!("en {}", span(seconds)),
        (Language::Spanish, -1..=1) => "ahora".into(),
        (Language::Spanish, _) => format!("hace {}", span(seconds)),
    }
}

/// What has to happen until a key from before opens nothing any more; `when` says a date.
pub fn ends(ends: &Ends, language: Language, when: &dyn Fn(Timestamp) -> String) -> String {
    let say = |english: &str, spanish: &str| match language {
        Language::English => english.to_owned(),
        Language::Spanish => spanish.to_owned(),
    };
    match ends {
        Ends::Retention { until, newer } => {
            let newer = (*newer > 0 || until.is_none()).then(|| (*newer).max(1));
            let points = newer.map(|newer| match (newer, language) {
                (1, Language::English) => "1 newer point".to_owned(),
                (1, Language::Spanish) => "1 punto más reciente".to_owned(),
                (_, Language::English) => format!("{newer} newer points"),
                (_, Language::Spanish) => format!("{newer} puntos más recientes"),
            });
            let all: Vec<String> = until.map(when).into_iter().chain(points).collect();
            format!("{}, {}", all.join(&say(", and ", ", y ")), say("by retention", "por la retención"))
        }
        Ends::Nothing => say("they are removed: no rule does it", "se eliminen: ninguna regla lo hace"),
        Ends::Unpinning => say("they are unpinned", "se dejen de fijar"),
        Ends::StoringAfresh => say(
            "what they share is stored anew: bkp rotate recipients --afresh",
            "se guarde de nuevo lo que comparten: bkp rotate recipients --afresh",
        ),
        Ends::NewKeysOnThatHost => {
            say("that host backs up with the new keys", "ese equipo haga copias con las claves nuevas")
        }
    }
}

/// `12.4 s`, for how long something took.
pub fn took(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.1} s") } else { span(seconds as i64) }
}

/// `2026-11-22 16:20:15 -05:00`: in the zone, with its offset.
pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// As the command is called, and as it stands in the journal.
pub fn job(job: Job) -> &'static str {
    match job {
        Job::Backup => "backup",
        Job::Copy => "copy",
        Job::Prune => "prune",
        Job::Check => "check",
        Job::Restore => "restore",
        Job::Rehearse => "rehearse",
        Job::Rotate => "rotate",
        Job::Anchor => "anchor",
    }
}

/// Text from outside for a terminal: control characters shown, not obeyed.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (231_000_000, "220 MiB"),
            (1_288_490_189, "1.2 GiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn ages_are_human() {
        let table = [(0, "now"), (59, "59 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (3 * 86_400, "3 d ago")];
        for (seconds, expected) in table {
            assert_eq!(ago(seconds, Language::English), expected);
        }
        assert_eq!(ago(-600, Language::English), "in 10 min");
        assert_eq!(ago(7200, Language::Spanish), "hace 2 h");
    }

    #[test]
    fn instants_carry_their_offset() {
        let zone = TimeZone::get("America/Bogota").unwrap();
        let at = "2026-11-22T21:20:15Z".parse().unwrap();
        assert_eq!(instant(at, &zone), "2026-11-22 16:20:15 -05:00");
    }

    #[test]
    fn control_characters_are_not_obeyed() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
