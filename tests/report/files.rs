//! The PDF, looked at from outside: its text, its letters, its structure.

use crate::past::{Past, at};
use crate::support::{Server, require};
use bkp::journal::Job;
use std::process::Command;

const POPPLER: Server =
    Server { program: "pdftotext", variable: "BKP_TEST_PDFTOTEXT", install: "scripts/require-commands pdftotext" };

fn pdf(past: &Past, language: &str) -> std::path::PathBuf {
    let file = past.host.path(&format!("home/{language}.pdf"));
    let name = file.to_str().unwrap();
    let arguments = [
        "report",
        "--period",
        "2026-11",
        "--format",
        "pdf",
        "--framework",
        "ens",
        "--lang",
        language,
        "--offline",
        "-o",
        name,
    ];
    past.bkp(&arguments).ends(0);
    file
}

#[test]
fn a_pdf_says_what_the_other_formats_say_and_is_tagged_with_its_fonts_in_it() {
    if require("PDF reports", &POPPLER).is_none() {
        return;
    }
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-30");
    past.run(Job::Backup, Some("\u{202e}日本<b>ñ"), None, at("2026-11-05T00:00:00Z"), Err("\u{1b}[2J = \u{0}"));
    past.rehearsed("app", "2026-11-16T09:00:00Z", |_| {});
    let file = pdf(&past, "es");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let name = file.to_str().unwrap();
    let text = run("pdftotext", &["-layout", name, "-"]);
    for told in ["Índice", "Evidencias por requisito", "mp.info.6", "30 de 30 (100 %)", "Elaborado por"] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    assert!(!text.contains(['\u{202e}', '\u{1b}']) && text.contains("U+65E5"));
    let facts = run("pdfinfo", &[name]);
    assert!(
        facts.contains("Tagged:          yes") && facts.contains("Page size:       595.28 x 841.89 pts (A4)"),
        "{facts}"
    );
    let fonts = run("pdffonts", &[name]);
    assert!(
        fonts.lines().skip(2).all(|line| line.contains("yes yes yes")) && fonts.contains("NotoSans-Bold"),
        "{fonts}"
    );
}
