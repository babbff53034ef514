//! Instants as people write them after `--at`.
//!
//! | written | means |
//! |---|---|
//! | `latest` | the newest point |
//! | `2026-01-02T03:04:05Z`, `2026-01-02 03:04[Europe/Madrid]` | that instant (RFC 3339, RFC 9557) |
//! | `2026-01-02 03:04`, `yesterday 14:00`, `ayer 14:00`, `noon` | local time in the zone of `now` |
//! | `2026-01-02`, `yesterday` | the end of that day (`today`: now) |
//! | `@1767322800`, `2h ago`, `hace 2 horas`, `-2h` | seconds since 1970; so long before now |
//! | `1a2b3c4d`, at least 4 digits of it | a point |
//!
//! Inclusive: a point at exactly the instant counts. Refused: a local time that daylight saving makes ambiguous or leaves
//! out, with both candidates shown, and every instant in the future. Pure: `now` is handed in.

use crate::error::{Failure, Result};
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, Zoned};
use std::fmt;

/// Which point is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The newest.
    Latest,
    /// The newest at or before this instant.
    Instant(Timestamp),
    /// The one whose id begins so (lower case hexadecimal), or whose whole name this is (`20260102T030405Z-1a2b3c4d`).
    Point(String),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Latest => f.write_str("latest"),
            When::Instant(instant) => write!(f, "{instant}"),
            When::Point(id) => f.write_str(id),
        }
    }
}

impl When {
    /// `now` brings the zone in which times without one are meant.
    pub fn parse(text: &str, now: &Zoned) -> Result<When> {
        let text = text.trim();
        if matches!(text, "latest" | "last" | "now" | "último" | "ultimo" | "ahora") {
            return Ok(When::Latest);
        }
        if let Some(point) = point(text) {
            return Ok(When::Point(point));
        }
        let reading = Reading { text, now };
        let instant = match text.strip_prefix('@') {
            Some(seconds) => reading.epoch(seconds)?,
            None => match reading.relative()? {
                Some(instant) => instant,
                None => match reading.phrase()? {
                    Some(instant) => instant,
                    None => reading.date()?,
                },
            },
        };
        if instant > now.timestamp() {
            let what = format!("`{text}` is in the future: {}", beside(instant, now.time_zone()));
            return Err(Failure::usage(what).hint("Give an instant before now, or `latest` for the newest point"));
        }
        Ok(When::Instant(instant))
    }
}

/// An id has 8 hexadecimal digits. Bare digits are an id too: dates have dashes.
fn point(text: &str) -> Option<String> {
    let id = match text.split_once('-') {
        Some((instant, id)) if instant.len() == 16 && instant.ends_with('Z') && instant.as_bytes()[8] == b'T' => id,
        Some(_) => return None,
        None => text,
    };
    let whole = id.len() < text.len();
    let good =
        id.bytes().all(|b| b.is_ascii_hexdigit()) && if whole { id.len() == 8 } else { (4..=8).contains(&id.len()) };
    good.then(|| if whole { text.into() } else { text.to_lowercase() })
}

/// UTC, and the zone beside it.
fn beside(instant: Timestamp, zone: &TimeZone) -> String {
    let whole = instant.as_second();
    let instant = Timestamp::from_second(whole).unwrap_or(instant);
    format!("{instant} ({})", instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z"))
}

struct Reading<'a> {
    text: &'a str,
    now: &'a Zoned,
}

impl Reading<'_> {
    fn not_understood(&self) -> Failure {
        Failure::usage(format!("`{}` is no time that bkp understands", self.text)).hint(
            "Write latest, 2026-01-02T03:04:05Z, '2026-01-02 03:04' (local), 2026-01-02 (end of that day), \
             '2h ago', 'yesterday 14:00', @SECONDS or the id of a point",
        )
    }

    fn epoch(&self, seconds: &str) -> Result<Timestamp> {
        let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if seconds.is_empty() || fraction.len() > 9 || !digits(seconds) || !digits(fraction) {
            return Err(self.not_understood());
        }
        let nanoseconds = format!("{fraction:0<9}").parse().map_err(|_| self.not_understood())?;
        let seconds = seconds.parse().map_err(|_| self.not_understood())?;
        Timestamp::new(seconds, nanoseconds).map_err(|_| self.not_understood())
    }

    /// `2h ago`, `hace 2h`, `-2h`. Days and longer go back on the calendar, hours and shorter on the clock.
    fn relative(&self) -> Result<Option<Timestamp>> {
        let text = self.text.to_lowercase();
        let amount = [text.strip_suffix(" ago"), text.strip_prefix("hace "), text.strip_prefix('-')];
        let Some(amount) = amount.into_iter().flatten().next() else { return Ok(None) };
        let span: Span = in_english(amount).parse().map_err(|_| self.not_understood())?;
        if span.is_negative() || amount.starts_with(['-', '+']) {
            return Err(self.not_understood());
        }
        let calendar = Span::new().try_years(span.get_years()).and_then(|s| s.try_months(span.get_months()));
        let calendar = calendar.and_then(|s| s.try_weeks(span.get_weeks())).and_then(|s| s.try_days(span.get_days()));
        let calendar = calendar.map_err(|_| self.not_understood())?;
        let clock =
            span.try_years(0).and_then(|s| s.try_months(0)).and_then(|s| s.try_weeks(0)).and_then(|s| s.try_days(0));
        let clock = clock.map_err(|_| self.not_understood())?;
        let day = if calendar.is_zero() {
            self.now.timestamp()
        } else {
            let local = self.now.datetime().checked_sub(calendar).map_err(|_| self.not_understood())?;
            self.local(local, self.now.time_zone())?
        };
        day.checked_sub(clock).map(Some).map_err(|_| self.not_understood())
    }

    /// `yesterday 14:00`, `hoy`, `noon`, `14:00`.
    fn phrase(&self) -> Result<Option<Timestamp>> {
        let text = self.text.to_lowercase();
        let mut words = text.split_whitespace().filter(|word| !matches!(*word, "at" | "a" | "las" | "la"));
        let Some(first) = words.next() else { return Err(self.not_understood()) };
        let today = self.now.date();
        let (day, time) = match first {
            "today" | "hoy" => (today, words.next()),
            "yesterday" | "ayer" => (today.yesterday().map_err(|_| self.not_understood())?, words.next()),
            other if clock_time(other).is_some() => (today, Some(other)),
            _ => return Ok(None),
        };
        if words.next().is_some() {
            return Err(self.not_understood());
        }
        match time {
            None => self.end_of_day(day, self.now.time_zone()).map(Some),
            Some(time) => {
                let time = clock_time(time).ok_or_else(|| self.not_understood())?;
                self.local(day.to_datetime(time), self.now.time_zone()).map(Some)
            }
        }
    }

    /// RFC 3339, RFC 9557, and local dates with or without a time.
    fn date(&self) -> Result<Timestamp> {
        let pieces = Pieces::parse(self.text).map_err(|_| self.not_understood())?;
        let zone = match pieces.to_time_zone() {
            Ok(zone) => zone,
            Err(error) => {
                return Err(
                    Failure::usage(format!("`{}`: {error}", self.text)).hint("Name a zone such as [Europe/Madrid]")
                );
            }
        };
        match (pieces.time(), pieces.offset()) {
            (None, Some(_)) => Err(self.not_understood()),
            (None, None) => self.end_of_day(pieces.date(), zone.as_ref().unwrap_or(self.now.time_zone())),
            (Some(time), None) => {
                self.local(pieces.date().to_datetime(time), zone.as_ref().unwrap_or(self.now.time_zone()))
            }
            (Some(time), Some(offset)) => {
                let local = pieces.date().to_datetime(time);
                let instant = offset.to_numeric_offset().to_timestamp(local).map_err(|_| self.not_understood())?;
                // `Z` beside a zone says nothing about the local time; a number must agree with the zone.
                let numeric = !matches!(offset, jiff::fmt::temporal::PiecesOffset::Zulu);
                match zone {
                    Some(zone) if numeric && zone.to_offset(instant) != offset.to_numeric_offset() => {
                        let right = instant.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z[%Q]").to_string();
                        Err(Failure::usage(format!("`{}`: the offset is not that of the zone at that time", self.text))
                            .hint(format!("With this offset the instant is {right}; leave one of the two out")))
                    }
                    _ => Ok(instant),
                }
            }
        }
    }

    /// The last instant of a day; now, when the day has not ended yet.
    fn end_of_day(&self, day: Date, zone: &TimeZone) -> Result<Timestamp> {
        let next = day.tomorrow().and_then(|next| next.to_zoned(zone.clone())).map_err(|_| self.not_understood())?;
        let end = next.timestamp().checked_sub(Span::new().nanoseconds(1)).map_err(|_| self.not_understood())?;
        let running = self.now.timestamp().to_zoned(zone.clone()).date() == day;
        Ok(if running { self.now.timestamp() } else { end })
    }

    /// A local time that exists exactly once, or both candidates.
    fn local(&self, local: DateTime, zone: &TimeZone) -> Result<Timestamp> {
        let ambiguous = zone.to_ambiguous_timestamp(local);
        let (what, offsets) = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => return ambiguous.unambiguous().map_err(|_| self.not_understood()),
            AmbiguousOffset::Gap { before, after } => ("does not exist", [after, before]),
            AmbiguousOffset::Fold { before, after } => ("exists twice", [before, after]),
        };
        let candidates = offsets.map(|offset| match offset.to_timestamp(local) {
            Ok(instant) => instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Err(_) => local.to_string(),
        });
        let zone = zone.iana_name().unwrap_or("the local zone");
        let what = format!(
            "the local time {} {what} in {zone}, because the clocks are changed then",
            local.strftime("%Y-%m-%d %H:%M:%S")
        );
        Err(Failure::usage(what).hint(format!("Write {} or {}", candidates[0], candidates[1])))
    }
}

/// `14:00`, `14:00:30.5`, `noon`, `midnight`.
fn clock_time(text: &str) -> Option<Time> {
    match text {
        "noon" | "mediodía" | "mediodia" => Some(Time::constant(12, 0, 0, 0)),
        "midnight" | "medianoche" => Some(Time::midnight()),
        // Digits only: jiff would also take the time out of a whole date.
        _ if text.contains(':') && text.bytes().all(|b| b.is_ascii_digit() || b":.".contains(&b)) => {
            let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.into() };
            padded.parse().ok()
        }
        _ => None,
    }
}

/// Spanish units in the words that jiff knows.
fn in_english(amount: &str) -> String {
    let mut english = String::new();
    let letters = |c: char| c.is_alphabetic();
    let mut rest = amount;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| letters(c) != letters(first)).unwrap_or(rest.len());
        english.push_str(match &rest[..end] {
            "un" | "una" | "an" | "a" => "1",
            "segundo" | "segundos" | "seg" => "s",
            "minuto" | "minutos" => "m",
            "hora" | "horas" => "h",
            "día" | "días" | "dia" | "dias" => "d",
            "semana" | "semanas" => "w",
            "mes" | "meses" => "mo",
            "año" | "años" => "y",
            "y" if english.ends_with(' ') => ",",
            same => same,
        });
        rest = &rest[end..];
    }
    english.replace(" ,", ",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zoned(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    /// A Friday in winter.
    fn bogota() -> Zoned {
        zoned("2026-01-16T10:30:00-05:00[America/Bogota]")
    }

    fn madrid() -> Zoned {
        zoned("2026-11-20T10:30:00+01:00[Europe/Madrid]")
    }

    fn instant(text: &str, now: &Zoned) -> String {
        match When::parse(text, now) {
            Ok(When::Instant(instant)) => instant.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn phrases() {
        let table = [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.25+02:00", "2026-01-02T01:04:05.25Z"),
            ("2026-01-02 03:04:05-05:00", "2026-01-02T08:04:05Z"),
            ("2026-01-02T03:04[Europe/Madrid]", "2026-01-02T02:04:00Z"),
            ("2026-01-02 03:04[Europe/Madrid]", "2026-01-02T02:04:00Z"),
            ("2026-01-02T03:04:05+01:00[Europe/Madrid]", "2026-01-02T02:04:05Z"),
            ("2026-01-02T03:04:05Z[Europe/Madrid]", "2026-01-02T03:04:05Z"),
            ("2026-01-02 03:04", "2026-01-02T08:04:00Z"),
            ("2026-01-02T03:04:05", "2026-01-02T08:04:05Z"),
            ("2026-01-02", "2026-01-03T04:59:59.999999999Z"),
            ("2026-01-02[Europe/Madrid]", "2026-01-02T22:59:59.999999999Z"),
            ("2026-01-16", "2026-01-16T15:30:00Z"),
            ("@1767322800", "2026-01-02T03:00:00Z"),
            ("@0.5", "1970-01-01T00:00:00.5Z"),
            ("2h ago", "2026-01-16T13:30:00Z"),
            ("2 hours ago", "2026-01-16T13:30:00Z"),
            ("1h 30m ago", "2026-01-16T14:00:00Z"),
            ("an hour ago", "2026-01-16T14:30:00Z"),
            ("3 days ago", "2026-01-13T15:30:00Z"),
            ("-2h", "2026-01-16T13:30:00Z"),
            ("-90m", "2026-01-16T14:00:00Z"),
            ("hace 2h", "2026-01-16T13:30:00Z"),
            ("hace 2 horas", "2026-01-16T13:30:00Z"),
            ("hace una hora y 30 minutos", "2026-01-16T14:00:00Z"),
            ("hace 3 días", "2026-01-13T15:30:00Z"),
            ("hace un mes", "2025-12-16T15:30:00Z"),
            ("Hace 1 semana", "2026-01-09T15:30:00Z"),
            ("yesterday 14:00", "2026-01-15T19:00:00Z"),
            ("yesterday at 14:00", "2026-01-15T19:00:00Z"),
            ("ayer a las 9:05", "2026-01-15T14:05:00Z"),
            ("yesterday noon", "2026-01-15T17:00:00Z"),
            ("yesterday", "2026-01-16T04:59:59.999999999Z"),
            ("today", "2026-01-16T15:30:00Z"),
            ("today 08:00:30", "2026-01-16T13:00:30Z"),
            ("midnight", "2026-01-16T05:00:00Z"),
            ("08:00", "2026-01-16T13:00:00Z"),
            ("  2h ago ", "2026-01-16T13:30:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(instant(text, &bogota()), expected, "{text}");
        }
    }

    #[test]
    fn points_and_the_latest() {
        let table = [
            ("latest", When::Latest),
            ("1a2b3c4d", When::Point("1a2b3c4d".into())),
            ("1A2B", When::Point("1a2b".into())),
            // Bare digits are an id: a date has dashes.
            ("20260102", When::Point("20260102".into())),
            ("20260102T030405Z-1a2b3c4d", When::Point("20260102T030405Z-1a2b3c4d".into())),
        ];
        for (text, expected) in table {
            assert_eq!(When::parse(text, &bogota()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for text in [
            "",
            "soon",
            "1a2",
            "1a2b3c4d5",
            "2026-13-01",
            "2026-01-02 25:00",
            "2026-01-02T",
            "@",
            "@-1",
            "@1.2.3",
            "@99999999999999",
            "ago",
            "2 ago",
            "-",
            "--2h",
            "hace",
            "-2h ago",
            "yesterday 14",
            "yesterday 14:00 16:00",
            "yesterday 99:00",
            "tomorrow",
            "2026-01-02Z",
            "20260102T030405Z-1a2b",
            "99999999999999999999h ago",
        ] {
            let failure = When::parse(text, &bogota()).unwrap_err();
            assert_eq!(failure.to_string(), format!("`{text}` is no time that bkp understands"));
            assert!(failure.next_step().unwrap().contains("2h ago"));
        }
        let failure = When::parse("2026-01-02 03:04[Europe/Madird]", &bogota()).unwrap_err();
        assert!(failure.to_string().contains("Europe/Madird"), "{failure}");
    }

    #[test]
    fn the_future_is_refused() {
        let failure = When::parse("2026-01-16 10:31", &bogota()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "`2026-01-16 10:31` is in the future: 2026-01-16T15:31:00Z (2026-01-16 10:31:00 -05)"
        );
        assert!(When::parse("2026-01-17", &bogota()).is_err());
        assert_eq!(instant("2026-01-16 10:30", &bogota()), "2026-01-16T15:30:00Z");
    }

    #[test]
    fn a_local_time_that_exists_twice_is_refused_with_both() {
        for text in ["2026-10-25 02:30", "2026-10-25 02:30[Europe/Madrid]"] {
            let failure = When::parse(text, &madrid()).unwrap_err();
            assert_eq!(
                failure.to_string(),
                "the local time 2026-10-25 02:30:00 exists twice in Europe/Madrid, because the clocks are changed then"
            );
            assert_eq!(failure.next_step().unwrap(), "Write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00");
        }
        // What the hint says is understood, and means two instants an hour apart.
        assert_eq!(instant("2026-10-25T02:30:00+02:00", &madrid()), "2026-10-25T00:30:00Z");
        assert_eq!(instant("2026-10-25T02:30:00+01:00", &madrid()), "2026-10-25T01:30:00Z");
        assert_eq!(instant("2026-10-25T02:30:00+01:00[Europe/Madrid]", &madrid()), "2026-10-25T01:30:00Z");
    }

    #[test]
    fn a_local_time_that_does_not_exist_is_refused_with_both() {
        let failure = When::parse("2026-03-29 02:30", &madrid()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the local time 2026-03-29 02:30:00 does not exist in Europe/Madrid, because the clocks are changed then"
        );
        assert_eq!(failure.next_step().unwrap(), "Write 2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00");
        let failure = When::parse("2026-03-29T02:30:00+02:00[Europe/Madrid]", &madrid()).unwrap_err();
        assert!(failure.to_string().contains("the offset is not that of the zone"), "{failure}");
    }

    #[test]
    fn days_go_back_on_the_calendar_and_hours_on_the_clock() {
        let after_the_change = zoned("2026-03-29T12:00:00+02:00[Europe/Madrid]");
        assert_eq!(instant("1 day ago", &after_the_change), "2026-03-28T11:00:00Z");
        assert_eq!(instant("24h ago", &after_the_change), "2026-03-28T10:00:00Z");
        let inside = zoned("2026-03-30T02:30:00+02:00[Europe/Madrid]");
        assert!(When::parse("1 day ago", &inside).unwrap_err().to_string().contains("does not exist"));
        // The second 02:30 of that night is not in the future of itself.
        let second = zoned("2026-10-25T02:30:00+01:00[Europe/Madrid]");
        assert_eq!(instant("1h ago", &second), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn bogota_has_no_such_nights() {
        for day in ["2025-03-30", "2025-10-26"] {
            assert!(instant(&format!("{day} 02:30"), &bogota()).ends_with("T07:30:00Z"));
        }
        assert_eq!(instant("2026-10-25", &madrid()), "2026-10-25T22:59:59.999999999Z");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_understood(seconds in 0i64..1_768_000_000, nanoseconds in 0i32..1_000_000_000) {
            let when = When::Instant(Timestamp::new(seconds, nanoseconds).unwrap());
            prop_assert_eq!(When::parse(&when.to_string(), &bogota()).unwrap(), when);
        }

        #[test]
        fn a_zoned_time_is_that_instant(seconds in 0i64..1_768_000_000) {
            let instant = Timestamp::from_second(seconds).unwrap();
            for zone in ["Europe/Madrid", "America/Bogota", "UTC"] {
                let text = instant.in_tz(zone).unwrap().to_string();
                // Old zones had offsets with seconds, which RFC 9557 rounds; those are before 1970.
                prop_assert_eq!(When::parse(&text, &bogota()).unwrap(), When::Instant(instant), "{}", text);
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,24}", phrase in "(yesterday|hace|-|@|2026-)[0-9a-z :.-]{0,14}") {
            let _ = (When::parse(&text, &bogota()), When::parse(&phrase, &bogota()));
        }
    }
}
