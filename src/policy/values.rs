//! Values that are written as text: durations, sizes, schedules, names. Pure; an error is the message, without the value.

use super::problem::did_you_mean;
use crate::repo::names::CONFIGURATION;
use globset::Glob;
use std::time::Duration;

const DAY: u64 = 24 * 60 * 60;

/// `24h`, `30m`, `7d`, `1h30m`, `2w`: whole numbers, each with its unit, largest first. A day is 24 hours.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [("w", 7 * DAY), ("d", DAY), ("h", 3600), ("m", 60), ("s", 1)];
    let wrong = || "expected a duration, such as 30m, 24h, 7d or 1h30m".to_string();
    let mut rest = text;
    let mut seconds = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let (unit, factor) = units.find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        seconds = number.checked_mul(*factor).and_then(|s| s.checked_add(seconds)).ok_or_else(wrong)?;
        rest = &after[unit.len()..];
    }
    if seconds == 0 { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// The shortest text that [`duration`] reads as this.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, factor) in [("d", DAY), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest / factor > 0 {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text == "1d" { "24h".into() } else { text }
}

/// `256MiB`, `2GB`: a whole number with its unit, which is never guessed.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let wrong = || "expected a size with its unit, such as 256MiB or 1GiB".to_string();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == text[digits..].trim_start()).ok_or_else(wrong)?;
    number.checked_mul(*factor).ok_or_else(wrong)
}

/// `20MiB/s`: bytes per second, enough for a part of an object now and then.
pub fn bandwidth(text: &str) -> Result<u64, String> {
    let wrong = || "expected a rate, such as 20MiB/s or 500kB/s".to_string();
    let rate = text.strip_suffix("/s").map(str::trim_end).ok_or_else(wrong)?;
    match size(rate) {
        Ok(bytes) if bytes >= SLOWEST => Ok(bytes),
        Ok(_) => Err("expected a rate of 16KiB/s or more".into()),
        Err(_) => Err(wrong()),
    }
}

const SLOWEST: u64 = 16 << 10;

/// The shortest text that [`size`] reads as this.
pub fn size_text(bytes: u64) -> String {
    for (unit, factor) in
        [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000)]
    {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{}kB", bytes / 1000)
}

/// What a schedule looks like. When it fires is the scheduler's affair.
pub fn schedule(text: &str) -> Result<(), String> {
    const NAMED: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];
    if text.starts_with('@') {
        let known = NAMED.contains(&text) || text == "@midnight";
        return if known { Ok(()) } else { Err(format!("expected one of {}", NAMED.join(", "))) };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let shapes: &[Part] = match fields.len() {
        5 => &PARTS[1..],
        6 => &PARTS,
        n => return Err(format!("a schedule has 5 fields (minute hour day month weekday), this has {n}")),
    };
    shapes.iter().zip(fields).try_for_each(|(part, field)| part.check(field))?;
    let cron = cron(text)?;
    // Such as the 31st of February.
    let ever =
        cron.find_next_occurrence(&jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0).in_tz("UTC").unwrap_or_default(), true);
    ever.map(drop).map_err(|_| "this never comes".into())
}

/// The calendar of a schedule.
pub fn cron(text: &str) -> Result<croner::Cron, String> {
    let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
    parser.parse(text).map_err(|e| format!("this is no schedule: {e}"))
}

/// One field of a cron line.
struct Part {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const PARTS: [Part; 6] = [
    Part { name: "second", least: 0, most: 59, names: &[] },
    Part { name: "minute", least: 0, most: 59, names: &[] },
    Part { name: "hour", least: 0, most: 23, names: &[] },
    Part { name: "day", least: 1, most: 31, names: &[] },
    Part { name: "month", least: 1, most: 12, names: &MONTHS },
    Part { name: "weekday", least: 0, most: 7, names: &WEEKDAYS },
];

impl Part {
    fn check(&self, field: &str) -> Result<(), String> {
        let wrong =
            || format!("the {} is {} to {}, `*`, a list or a range; not `{field}`", self.name, self.least, self.most);
        field.split(',').all(|item| self.item(item)).then_some(()).ok_or_else(wrong)
    }

    fn item(&self, item: &str) -> bool {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        if step.is_some_and(|s| !matches!(s.parse::<u32>(), Ok(1..=59)) || s.starts_with('+')) {
            return false;
        }
        match range.split_once('-') {
            Some((from, to)) => matches!((self.value(from), self.value(to)), (Some(from), Some(to)) if from <= to),
            None if range == "*" => true,
            None if step.is_some() => false,
            None => self.value(range).is_some() || self.special(range),
        }
    }

    fn value(&self, text: &str) -> Option<u32> {
        let first = self.least.max(u32::from(self.name == "month"));
        if let Some(index) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Some(index as u32 + first);
        }
        let number: u32 = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
        (self.least..=self.most).contains(&number).then_some(number)
    }

    /// Last day (`L`), working day next to one (`15W`, `LW`), last or n-th weekday (`5L`, `MON#2`).
    fn special(&self, text: &str) -> bool {
        match self.name {
            "day" => matches!(text, "L" | "LW") || text.strip_suffix('W').is_some_and(|day| self.value(day).is_some()),
            "weekday" => match text.split_once('#') {
                Some((day, n)) => self.value(day).is_some() && matches!(n, "1" | "2" | "3" | "4" | "5"),
                None => text.strip_suffix('L').is_some_and(|day| self.value(day).is_some()),
            },
            _ => false,
        }
    }
}

/// Names of sources and policies: the alphabet of the format (`docs/FORMAT.md` §1).
pub fn name(text: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.is_empty() {
        Err("a name cannot be empty".into())
    } else if text.len() > 100 {
        Err("a name has at most 100 characters".into())
    } else if text.starts_with('.') {
        Err("a name cannot begin with a dot".into())
    } else if !text.bytes().all(allowed) {
        Err("a name consists of letters a-z A-Z, digits, `.`, `_` and `-`".into())
    } else if text == CONFIGURATION {
        Err("bkp keeps its own configuration under this name".into())
    } else {
        Ok(())
    }
}

/// The nearest name to a text, or none when nothing of it can stay.
pub fn nearest_name(text: &str) -> Option<String> {
    let mut near: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    near.truncate(100);
    let near = near.trim_matches(['.', '-']);
    near.bytes().any(|b| b.is_ascii_alphanumeric()).then(|| near.into())
}

pub fn pattern(text: &str) -> Result<(), String> {
    Glob::new(text).map(drop).map_err(|e| format!("this is not a pattern: {}", e.kind()))
}

/// A name of a Docker volume, as Docker itself restricts it.
pub fn docker_volume(text: &str) -> Result<(), String> {
    let good = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if good { Ok(()) } else { Err("this is not the name of a Docker volume".into()) }
}

/// Checks the place of a repository and writes a bare directory as `file://`.
pub fn url(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(format!("file://{text}"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("expected s3://BUCKET/PREFIX, file:///DIRECTORY or /DIRECTORY".into());
    };
    if rest.split('/').next().is_some_and(|host| host.contains('@')) {
        return Err("credentials do not belong into the URL: use `access_key` and `secret_key`".into());
    }
    match scheme {
        "file" if rest.starts_with('/') && rest.len() > 1 => Ok(text.into()),
        "file" => Err("expected file:///DIRECTORY with three slashes".into()),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let good = |segment: &str| {
                !segment.is_empty()
                    && !segment.starts_with('.')
                    && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b))
            };
            let prefix = prefix.trim_end_matches('/');
            if !good(bucket) || bucket.len() < 3 {
                Err("expected s3://BUCKET/PREFIX, the bucket with at least 3 letters, digits, `.` or `-`".into())
            } else if !prefix.is_empty() && !prefix.split('/').all(good) {
                Err("a prefix consists of letters, digits, `.`, `_`, `=`, `-`, and `/` between its parts".into())
            } else {
                Ok(text.trim_end_matches('/').into())
            }
        }
        other => {
            Err(format!("unknown kind of store{}: known are s3:// and file://", did_you_mean(other, ["s3", "file"])))
        }
    }
}

pub fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if host.contains('@') => {
            Err("credentials do not belong into the URL: use `access_key` and `secret_key`".into())
        }
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => Ok(text.trim_end_matches('/').into()),
        _ => Err("expected the address of a server, such as https://minio.example:9000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("24h", DAY), ("30m", 1800), ("7d", 7 * DAY), ("1h30m", 5400), ("2w", 14 * DAY), ("90s", 90)]
        {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "24", "h", "24 h", "-1h", "1.5h", "30m1h", "1h1h", "0s", "24H", "99999999999999999w", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("256MiB", 256 << 20), ("1 GiB", 1 << 30), ("64kB", 64_000), ("2GB", 2_000_000_000)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "256", "256M", "MiB", "-1MiB", "1.5GiB", "256mib", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn schedules() {
        for text in [
            "30 2 * * *",
            "0 30 2 * * *",
            "*/15 * * * *",
            "0 2 1,15 * MON-FRI",
            "0 0 L * *",
            "0 0 15W * *",
            "0 0 * * MON#2",
            "0 0 * * 5L",
            "0 0 * JAN-mar 7",
            "0 9-17/2 * * *",
            "@daily",
            "@weekly",
            "@midnight",
        ] {
            assert_eq!(schedule(text), Ok(()), "{text}");
        }
        for (text, message) in [
            ("30 2 * *", "a schedule has 5 fields (minute hour day month weekday), this has 4"),
            ("60 2 * * *", "the minute is 0 to 59, `*`, a list or a range; not `60`"),
            ("0 25 * * *", "the hour is 0 to 23, `*`, a list or a range; not `25`"),
            ("0 2 0 * *", "the day is 1 to 31, `*`, a list or a range; not `0`"),
            ("0 2 * FOO *", "the month is 1 to 12, `*`, a list or a range; not `FOO`"),
            ("0 2 * * 5-1", "the weekday is 0 to 7, `*`, a list or a range; not `5-1`"),
            ("0 2 * * MON#6", "the weekday is 0 to 7, `*`, a list or a range; not `MON#6`"),
            ("*/0 2 * * *", "the minute is 0 to 59, `*`, a list or a range; not `*/0`"),
            ("1,,2 2 * * *", "the minute is 0 to 59, `*`, a list or a range; not `1,,2`"),
            ("@dayly", "expected one of @yearly, @annually, @monthly, @weekly, @daily, @hourly"),
        ] {
            assert_eq!(schedule(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["mysql-auth", "App.db_2", "x", "-x"] {
            assert_eq!(name(text), Ok(()), "{text}");
        }
        for text in ["", ".hidden", "a/b", "año", "a b", &"x".repeat(101)] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(seconds in 1u64..10_000_000, mib in 1u64..100_000) {
            prop_assert_eq!(duration(&duration_text(Duration::from_secs(seconds))).unwrap().as_secs(), seconds);
            prop_assert_eq!(size(&size_text(mib << 20)).unwrap(), mib << 20);
        }

        #[test]
        fn the_nearest_name_is_a_name(text in "\\PC{0,120}") {
            if let Some(near) = nearest_name(&text) {
                prop_assert_eq!(name(&near), Ok(()));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            let _ = (duration(&text), size(&text), schedule(&text), pattern(&text), docker_volume(&text));
        }
    }
}
