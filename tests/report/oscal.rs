//! OSCAL, checked by somebody else: compliance-trestle.

use crate::past::Past;
use crate::support::not_run;
use std::process::Command;

/// Which has the validator; it is installed when it is not there yet.
fn python() -> Option<String> {
    if let Ok(python) = std::env::var("BKP_TEST_OSCAL") {
        return Some(python);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/oscal-validator");
    let answer = Command::new(script).output().ok().filter(|answer| answer.status.success())?;
    String::from_utf8(answer.stdout).ok().map(|python| python.trim().to_owned())
}

#[test]
fn an_independent_validator_takes_the_assessment_results() {
    let Some(python) = python() else {
        return not_run("OSCAL by compliance-trestle", "it could not be installed: scripts/oscal-validator");
    };
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-10");
    past.rehearsed("app", "2026-11-09T09:00:00Z", |_| {});
    let mut files = Vec::new();
    for (framework, language) in [("nist", "en"), ("ens", "es"), ("hipaa", "es"), ("none", "en")] {
        let file = past.host.path(&format!("home/{framework}.json"));
        let text = past.report("2026-11", "oscal", &["--framework", framework, "--lang", language]);
        std::fs::write(&file, text).unwrap();
        files.push(file);
    }
    let check = "import sys, pathlib\nfrom trestle.oscal.assessment_results import AssessmentResults\n\
                 for file in sys.argv[1:]:\n    print(file, len(AssessmentResults.oscal_read(pathlib.Path(file)).results))";
    let checked = Command::new(python).arg("-c").arg(check).args(&files).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
