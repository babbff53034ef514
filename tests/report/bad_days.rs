//! Reports of periods in which things went badly: none of it may be missing, and nothing in a name may steer anything.

use crate::past::{Past, at, night_of};
use bkp::journal::{Fact, Job, SlotEnd};

#[test]
fn a_period_with_a_gap_a_clock_change_and_a_retired_source() {
    let past = Past::new();
    past.daemon_starts("2026-11-01T06:00:00Z");
    past.run(Job::Backup, Some("old-crm"), None, at("2026-11-01T06:30:00Z"), Ok(()));
    past.nights("2026-11-01", "2026-11-08");
    // The machine was off for three days, and the daemon did not say farewell.
    past.note(Fact::DaemonStarted { pid: 2, version: "0.1.0".into() }, at("2026-11-12T06:00:00Z"));
    for day in ["2026-11-09", "2026-11-10", "2026-11-11"] {
        let slot = night_of(day.parse().unwrap());
        past.expect(slot, at("2026-11-12T06:00:01Z"));
        past.end(
            slot,
            SlotEnd::Missed,
            Some("nothing was running; slot 2026-11-12T07:30:00Z makes up for it"),
            at("2026-11-12T06:00:01Z"),
        );
    }
    past.nights("2026-11-12", "2026-11-19");
    past.note(Fact::ClockJumped { seconds: -7200 }, at("2026-11-19T20:00:00Z"));
    past.nights("2026-11-20", "2026-11-30");
    let report = past.json("2026-11");
    let absence = &report["facts"]["attendance"]["absences"][1];
    assert_eq!((&absence["how"], &absence["to"]), (&"vanished".into(), &"2026-11-12T06:00:00Z".into()));
    assert_eq!(report["retired_sources"], serde_json::json!(["old-crm"]));
    // From just after the start of the backup of the 8th to the end of that of the 12th.
    assert_eq!(report["facts"]["recovery"]["app"]["worst"]["seconds"], 4 * 24 * 3600 + 60);
    let text = past.report("2026-11", "md", &[]);
    for told in [
        "no daemon ran for 4 d",
        "nightly, backup: not run | nothing was running; slot 2026-11-12T07:30:00Z makes up for it",
        "the clock was set back by 2 h | noticed by the daemon",
        "| old-crm | – | no longer configured |",
        "app: RPO exceeded | 4 d &gt; 25 h",
        "27 of 30 (90 %); failed: 0; not run: 3; left out by rule: 0",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    let spanish = past.report("2026-11", "md", &["--lang", "es"]);
    assert!(
        spanish.contains("el reloj se atrasó 2 h") && spanish.contains("sin servicio en ejecución durante 4 d"),
        "{spanish}"
    );
}

#[test]
fn a_slot_that_the_calendar_wanted_and_nobody_noted_is_an_exception() {
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-13");
    past.nights("2026-11-15", "2026-11-30");
    let report = past.json("2026-11");
    assert_eq!(report["unrecorded"]["missing"][0]["slot"], "2026-11-14T07:30:00Z");
    let text = past.report("2026-11", "md", &[]);
    assert!(text.contains("the calendar wanted a run, and the journal says nothing of it"), "{text}");
}

#[test]
fn a_removed_record_is_told_with_its_place_and_the_report_is_made() {
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-10");
    let segments = past.segments().into_iter();
    let (segment, text) = segments
        .map(|segment| (segment.clone(), std::fs::read_to_string(segment).unwrap()))
        .find(|(_, text)| text.contains("\"seq\":21,"))
        .unwrap();
    let without: String = text.split_inclusive('\n').filter(|line| !line.contains("\"seq\":21,")).collect();
    std::fs::write(segment, without).unwrap();
    let report = past.json("2026-11");
    let finding = &report["integrity"]["seen"]["findings"][0];
    assert_eq!((&finding["tampering"], &finding["from"], &finding["to"]), (&"removed".into(), &21.into(), &21.into()));
    for (language, damaged, removed) in [
        ("en", "the journal is damaged", "record 21: removed (written between 2026-11-03"),
        ("es", "el diario está dañado", "registro 21: eliminado (escrito entre el 2026-11-03"),
    ] {
        let text = past.report("2026-11", "md", &["--lang", language, "--framework", "nist"]);
        assert!(text.contains(damaged) && text.contains(removed), "{text}");
    }
    let english = past.report("2026-11", "md", &["--framework", "nist"]);
    assert!(english.contains("CHAIN BROKEN"), "{english}");
}

const HOSTILE: &str = "=HYPERLINK(\"http://evil.example\")<script>alert(1)</script><img src=x onerror=y>|\u{202e}txt.exe\u{1b}[2J\n# heading\u{200b}";

#[test]
fn hostile_names_and_messages_steer_nothing() {
    let past = Past::new();
    past.daemon_starts("2026-11-01T06:00:00Z");
    past.run(Job::Backup, Some(HOSTILE), None, at("2026-11-02T06:30:00Z"), Err(HOSTILE));
    past.note(Fact::HoldPlaced { source: HOSTILE.into(), why: HOSTILE.into() }, at("2026-11-03T06:30:00Z"));
    past.rehearsed(HOSTILE, "2026-11-16T09:00:00Z", |rehearsed| {
        (rehearsed.differing, rehearsed.differences) = (1, vec![HOSTILE.into()]);
    });
    let html = past.report("2026-11", "html", &["--framework", "dora"]);
    assert!(!html.contains("<script") && !html.contains("<img") && html.contains("&lt;script&gt;"));
    let csv = past.report("2026-11", "csv", &[]);
    assert!(
        csv.lines().all(|line| line.split(',').all(|cell| !cell.starts_with('=') && !cell.starts_with("\"="))),
        "{csv}"
    );
    assert!(csv.contains("\"'=HYPERLINK("), "{csv}");
    let markdown = past.report("2026-11", "md", &[]);
    assert!(!markdown.contains("<script") && !markdown.contains("\n# heading"), "{markdown}");
    for text in [html, csv, markdown] {
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{200b}']), "a character that steers has come through");
    }
}

#[test]
fn a_failed_restore_test_is_told_with_its_differences() {
    let past = Past::new();
    past.daemon_starts("2026-11-01T06:00:00Z");
    past.rehearsed("app", "2026-11-16T09:00:00Z", |rehearsed| {
        rehearsed.reached = Some("loaded".into());
        (rehearsed.differing, rehearsed.differences) = (1, vec!["table users: 1 row is missing".into()]);
    });
    past.rehearsed("docs", "2026-11-17T09:00:00Z", |rehearsed| rehearsed.rto_seconds = 4000.0);
    let text = past.report("2026-11", "md", &["--framework", "soc2"]);
    for told in [
        "app: restore test not passed | table users: 1 row is missing",
        "docs: RTO exceeded in a restore test | 67 min &gt; 30 min",
        "Restore tests: 2 restore tests, passed: 1",
        "no network, no published port, 512 MiB",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
}
