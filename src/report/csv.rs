//! Everything that was recorded in the period as one CSV table (RFC 4180), a line for each thing: the whole population, from which
//! an auditor draws a sample.
//!
//! Names of columns and words are the same in every language, for programs. A cell that a spreadsheet would take for a formula
//! begins with an apostrophe.

use super::basis::Basis;
use super::facts::{Facts, Mark, Run};
use super::text::Text;
use crate::watch::{instant, job};
use jiff::Timestamp;
use std::io::{self, Write};

const COLUMNS: [&str; 20] = [
    "what",
    "at_utc",
    "at_local",
    "job",
    "policy",
    "source",
    "slot_utc",
    "outcome",
    "reason",
    "started_utc",
    "ended_utc",
    "seconds",
    "bytes",
    "added_bytes",
    "point",
    "consistent_at_utc",
    "run",
    "message",
    "record",
    "end_record",
];

/// One line; what is not set is empty.
#[derive(Default)]
struct Line {
    what: &'static str,
    at: Option<Timestamp>,
    job: &'static str,
    policy: String,
    source: String,
    slot: Option<Timestamp>,
    outcome: String,
    reason: String,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    seconds: Option<f64>,
    bytes: Option<u64>,
    added: Option<u64>,
    point: String,
    consistent_at: Option<Timestamp>,
    run: String,
    message: String,
    record: Option<u64>,
    end_record: Option<u64>,
}

pub fn write(basis: &Basis, to: &mut dyn Write) -> io::Result<()> {
    let mut to = io::BufWriter::with_capacity(256 << 10, to);
    writeln!(to, "{}\r", COLUMNS.join(","))?;
    let mut put = |line: Line| put(basis, &line, &mut to);
    slots(&basis.facts, &mut put)?;
    for missing in &basis.unrecorded.missing {
        put(Line {
            what: "slot",
            at: Some(missing.slot),
            job: job(missing.job),
            policy: missing.policy.clone(),
            slot: Some(missing.slot),
            outcome: "not_recorded".into(),
            ..Line::default()
        })?;
    }
    for run in &basis.facts.runs {
        put(of_run(run))?;
    }
    tests(&basis.facts, &mut put)?;
    deletions(&basis.facts, &mut put)?;
    changes(&basis.facts, &mut put)?;
    for finding in basis.integrity.seen().into_iter().flat_map(|seen| &seen.findings) {
        put(Line {
            what: "journal_damage",
            outcome: word(&finding.tampering),
            message: finding.text.clone(),
            record: Some(finding.from),
            end_record: Some(finding.to),
            ..Line::default()
        })?;
    }
    to.flush()
}

type Put<'p> = &'p mut dyn FnMut(Line) -> io::Result<()>;

/// As it stands in the journal.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn slots(facts: &Facts, put: Put<'_>) -> io::Result<()> {
    for (series, slot) in facts.slots() {
        let ended = slot.ended.as_ref();
        put(Line {
            what: "slot",
            at: Some(slot.slot),
            job: job(series.job),
            policy: series.policy.to_string(),
            slot: Some(slot.slot),
            outcome: ended.map_or("open".into(), |end| word(&end.end)),
            ended: ended.map(|end| end.mark.at),
            message: ended.and_then(|end| end.why.as_deref()).unwrap_or_default().to_owned(),
            record: slot.expected.map(|mark| mark.record),
            end_record: ended.map(|end| end.mark.record),
            ..Line::default()
        })?;
    }
    Ok(())
}

fn of_run(run: &Run) -> Line {
    let end = run.ended.as_ref();
    Line {
        what: "run",
        at: Some(run.started.at),
        job: job(run.job),
        policy: run.policy.as_deref().unwrap_or_default().to_owned(),
        source: run.source.as_deref().unwrap_or_default().to_owned(),
        slot: run.slot,
        outcome: end.map_or("open".into(), |end| word(&end.outcome)),
        reason: word(&run.reason),
        started: Some(run.started.at),
        ended: end.map(|end| end.mark.at),
        seconds: end.map(|end| end.seconds),
        bytes: end.map(|end| end.bytes),
        added: end.map(|end| end.added),
        point: end.and_then(|end| end.point.as_deref()).unwrap_or_default().to_owned(),
        consistent_at: end.and_then(|end| end.consistent_at),
        run: run.run.to_string(),
        message: end.and_then(|end| end.message.as_deref()).unwrap_or_default().to_owned(),
        record: Some(run.started.record),
        end_record: end.map(|end| end.mark.record),
    }
}

fn tests(facts: &Facts, put: Put<'_>) -> io::Result<()> {
    for test in &facts.rehearsals {
        let rehearsed = &test.rehearsed;
        let target = rehearsed.target.as_ref();
        let about = [
            format!("reached {}", rehearsed.reached.as_deref().unwrap_or("nothing")),
            format!("compared {}", rehearsed.compared),
            format!("differing {}", rehearsed.differing),
            target.map_or(String::new(), |target| {
                format!("target {} {} ({})", target.kind, target.what, target.isolation)
            }),
        ];
        put(Line {
            what: "restore_test",
            at: Some(test.mark.at),
            job: "rehearse",
            source: rehearsed.source.clone(),
            outcome: word(&test.verdict()),
            seconds: test.is_of_restore().then_some(rehearsed.rto_seconds),
            bytes: Some(rehearsed.bytes),
            point: rehearsed.point.clone(),
            consistent_at: Some(rehearsed.consistent_at),
            run: rehearsed.run.clone(),
            message: about.join("; "),
            record: Some(test.mark.record),
            ..Line::default()
        })?;
    }
    for (run, _) in facts.fruitless() {
        put(Line { what: "restore_test", outcome: "no_result".into(), ..of_run(run) })?;
    }
    Ok(())
}

/// One that is about a record, and mostly told in words.
fn line(what: &'static str, mark: Mark, source: &str, message: String) -> Line {
    Line { what, at: Some(mark.at), source: source.to_owned(), message, record: Some(mark.record), ..Line::default() }
}

fn deletions(facts: &Facts, put: Put<'_>) -> io::Result<()> {
    for deletion in &facts.deletions {
        let message =
            format!("{}: {}", deletion.why.as_deref().unwrap_or("beyond what is kept"), deletion.points.join(" "));
        let reason = deletion.reason.as_ref().map(word).unwrap_or_default();
        let run = deletion.run.as_deref().unwrap_or_default().to_owned();
        let bytes = Some(deletion.bytes);
        put(Line { reason, run, bytes, ..line("deletion", deletion.mark, &deletion.source, message) })?;
    }
    for hold in &facts.holds {
        put(line("hold_placed", hold.placed, &hold.source, hold.why.to_string()))?;
        if let Some(release) = &hold.released {
            let reason = release.by.clone();
            put(Line { reason, ..line("hold_released", release.mark, &hold.source, release.why.clone()) })?;
        }
    }
    Ok(())
}

fn changes(facts: &Facts, put: Put<'_>) -> io::Result<()> {
    for loaded in &facts.configurations {
        let outcome = if loaded.ok { "loaded" } else { "refused" }.to_owned();
        let message = loaded.error.clone().unwrap_or_else(|| loaded.digest.clone());
        put(Line { outcome, ..line("configuration", loaded.mark, "", message) })?;
    }
    for change in &facts.retention {
        let text = |rules: &Option<serde_json::Value>| rules.as_ref().map_or("everything".into(), ToString::to_string);
        let message = format!("from {} to {}", text(&change.from), text(&change.to));
        let policy = change.policy.to_string();
        let reason = change.by.clone().unwrap_or_default();
        put(Line { policy, reason, ..line("retention", change.mark, "", message) })?;
    }
    for change in &facts.clock {
        let seconds = Some(change.seconds as f64);
        put(Line { seconds, ..line("clock", change.mark, "", String::new()) })?;
    }
    for anchor in &facts.anchors {
        let outcome = if anchor.ok { "done" } else { "failed" }.to_owned();
        put(Line {
            outcome,
            ..line("anchor", anchor.mark, "", format!("{} up to {} {}", anchor.place, anchor.upto, anchor.hash))
        })?;
    }
    for absence in &facts.attendance.absences {
        put(Line {
            what: "no_daemon",
            at: Some(absence.from),
            started: Some(absence.from),
            ended: absence.to,
            record: absence.before.map(|mark| mark.record),
            end_record: absence.after.map(|mark| mark.record),
            ..Line::default()
        })?;
    }
    Ok(())
}

fn put(basis: &Basis, line: &Line, to: &mut impl Write) -> io::Result<()> {
    let utc = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
    let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
    let cells: [String; COLUMNS.len()] = [
        line.what.to_owned(),
        utc(line.at),
        line.at.map_or(String::new(), |at| instant(at, &basis.period.zone)),
        line.job.to_owned(),
        cell(&line.policy),
        cell(&line.source),
        utc(line.slot),
        cell(&line.outcome),
        cell(&line.reason),
        utc(line.started),
        utc(line.ended),
        // A negative number is a number, for who sets clocks back.
        line.seconds.map_or(String::new(), |seconds| format!("{seconds:.3}")),
        number(line.bytes),
        number(line.added),
        cell(&line.point),
        utc(line.consistent_at),
        cell(&line.run),
        cell(&line.message),
        number(line.record),
        number(line.end_record),
    ];
    writeln!(to, "{}\r", cells.join(","))
}

/// Text from outside: nothing a spreadsheet would compute, nothing that ends the cell.
fn cell(text: &str) -> String {
    let text = Text::of(text);
    let text = text.as_str();
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠']);
    let quote = text.contains([',', '"', ';']);
    match (formula, quote) {
        (false, false) => text.to_owned(),
        (false, true) => format!("\"{}\"", text.replace('"', "\"\"")),
        (true, _) => format!("\"'{}\"", text.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_breaks_out() {
        let table = [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("  @SUM(A1)", "\"'  @SUM(A1)\""),
            ("-2+3", "\"'-2+3\""),
            ("+cmd|' /C calc'!A0", "\"'+cmd|' /C calc'!A0\""),
            ("\t=1", "\\t=1"),
            ("two\r\nlines", "two\\r\\nlines"),
        ];
        for (text, shown) in table {
            assert_eq!(cell(text), shown, "{text}");
        }
    }
}
