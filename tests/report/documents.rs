//! What a report says when all went well, in each language and format.

use crate::past::{Past, at};
use bkp::journal::{Fact, Job};

const FRAMEWORKS: [&str; 8] = ["ens", "iso27001", "soc2", "pci", "dora", "hipaa", "nist", "none"];

/// November went well.
fn november() -> Past {
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-30");
    past.rehearsed("app", "2026-11-16T09:00:00Z", |_| {});
    past
}

#[test]
fn every_expected_run_is_told_with_its_outcome_and_records() {
    let past = november();
    let report = past.json("2026-11");
    let series = &report["facts"]["schedules"][0];
    assert_eq!((&series["policy"], series["slots"].as_array().unwrap().len()), (&"nightly".into(), 30));
    assert!(series["slots"].as_array().unwrap().iter().all(|slot| slot["ended"]["as"] == "done"));
    assert_eq!(report["unrecorded"]["missing"], serde_json::json!([]));
    assert_eq!(report["unrecorded"]["compared"], 30);
    assert_eq!(report["facts"]["recovery"]["app"]["worst"]["seconds"], 24 * 3600 + 60);
    let text = past.report("2026-11", "md", &[]);
    assert!(
        text.contains(
            "| Expected backups that were done | 30 of 30 (100 %); failed: 0; not run: 0; left out by rule: 0 |"
        ),
        "{text}"
    );
    assert!(text.contains("| RPO kept at all times | 2 of 2 sources |"), "{text}");
    assert!(text.contains("| Restore tests passed | 1 of 1; 1 of 2 sources with one at least |"), "{text}");
    assert!(text.contains("No evidence of a passed restore test in the period for: docs"), "{text}");
    let slot = &series["slots"][0];
    let records = format!("{}, {}", slot["expected"]["record"], slot["ended"]["record"]);
    assert!(text.contains(&format!("| {records} |")), "{text}");
}

#[test]
fn what_lies_outside_the_period_is_not_told() {
    let past = november();
    let report = past.json("2026-11-10..2026-11-12");
    assert_eq!(report["facts"]["schedules"][0]["slots"].as_array().unwrap().len(), 3);
    assert_eq!(report["facts"]["runs"].as_array().unwrap().len(), 6);
    assert_eq!(report["facts"]["rehearsals"], serde_json::json!([]));
    // The configuration in force came before.
    assert_eq!(report["facts"]["configurations"][0]["before"], true);
    let text = past.report("2026-11-10..2026-11-12", "md", &["--framework", "ens", "--lang", "es"]);
    assert!(text.contains("Pruebas de restauración: sin evidencia"), "{text}");
}

#[test]
fn every_framework_is_told_in_both_languages_and_nothing_is_called_compliant() {
    let past = november();
    for framework in FRAMEWORKS {
        for (language, none, evidence) in
            [("en", "no evidence", "Evidence for"), ("es", "sin evidencia", "Evidencia de")]
        {
            let text = past.report("2026-11", "html", &["--framework", framework, "--lang", language]);
            assert!(text.contains(&format!("<html lang=\"{language}\">")));
            let lower = text.to_lowercase();
            assert!(!lower.contains("compliant") && !lower.contains("conforme a") && !lower.contains("cumple con"));
            if framework != "none" {
                assert!(lower.contains(none) && text.contains(evidence), "{framework} {language}");
            }
        }
    }
    let ens = past.report("2026-11", "md", &["--framework", "ens", "--lang", "es"]);
    assert!(ens.contains("Real Decreto 311/2022") && ens.contains("| mp.info.6 Copias de seguridad |"), "{ens}");
}

#[test]
fn without_the_store_it_is_made_all_the_same_and_says_so() {
    let past = november();
    std::fs::rename(past.host.store(), past.host.path("gone")).unwrap();
    let answer = past.bkp(&["report", "--period", "2026-11", "--format", "md"]).ends(0);
    assert!(answer.out.contains("- The repository: "), "{}", answer.out);
    assert!(answer.out.contains("30 of 30"), "{}", answer.out);
    let html = past.report("2026-11", "html", &["--lang", "es"]);
    assert!(html.contains("no se pudo consultar al elaborar este informe"), "{html}");
}

#[test]
fn charts_are_whole_drawings() {
    let html = november().report("2026-11", "html", &[]);
    // In a drawing an element that is not closed swallows what follows.
    assert_eq!(html.matches("<polyline").count(), html.matches("</polyline>").count());
    assert!(html.matches("<rect").count() > 30 && html.contains("<circle") && html.contains("<polyline"));
}

#[test]
fn a_file_is_written_whole_and_standard_output_stays_silent() {
    let past = november();
    let answer = past.bkp(&["report", "--period", "2026-11", "--format", "csv", "--output", "november.csv"]).ends(0);
    assert_eq!(answer.out, "");
    let csv = std::fs::read_to_string(past.host.path("home/november.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("slot,")).count(), 30);
    assert_eq!(lines.iter().filter(|line| line.starts_with("run,")).count(), 61);
    // Commas inside quotes are none.
    let cells = |line: &str| line.split('"').step_by(2).map(|outside| outside.matches(',').count()).sum::<usize>();
    assert!(lines.iter().all(|line| cells(line) == cells(lines[0])), "a cell has broken out");
}

#[test]
fn a_period_that_is_none_or_lies_ahead_is_refused() {
    let past = Past::new();
    for period in ["2026-Q7", "tomorrow", "2027"] {
        let answer = past.bkp(&["report", "--period", period]).ends(2);
        assert!(answer.err.contains(period), "{answer:?}");
    }
}

#[test]
fn who_asked_for_a_deletion_is_told() {
    let past = november();
    past.note(
        Fact::RunStarted(
            serde_json::from_value(serde_json::json!({
                "run": "00000000000000aa", "job": "prune", "reason": "manual", "pid": 9
            }))
            .unwrap(),
        ),
        at("2026-11-20T10:00:00Z"),
    );
    let deleted = Fact::PointsDeleted {
        source: "app".into(),
        points: vec!["20261101T073000Z-aaaaaaaa".into()],
        bytes: 512,
        why: None,
    };
    past.note(deleted, at("2026-11-20T10:00:01Z"));
    past.run(Job::Check, None, None, at("2026-11-20T11:00:00Z"), Ok(()));
    let text = past.report("2026-11", "md", &[]);
    assert!(text.contains("| by hand (00000000000000aa) |"), "{text}");
}
