//! The log of the daemon: each record of the journal as one line, for people, for collectors, or for systemd's journal.
//!
//! It is another reader of the journal, so it tells as well what commands did meanwhile. The name of an event is the kind of
//! its record; with it comes a `MESSAGE_ID` that never changes. No record holds a secret, so no line does.
//! A log that cannot be written keeps nobody from working.

use super::tell::{run_of, told};
use super::words::{instant, plain};
use crate::clock;
use crate::journal::{Fact, Outcome, Record, RunStarted, SlotEnd, State};
use crate::policy::LogForm;
use crate::schedule::{Notice, Observer, Weight};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where systemd's journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// How much something matters, as syslog counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

pub struct Log {
    to: Mutex<To>,
    zone: TimeZone,
    /// What matters less is not written.
    least: Level,
    runs: Mutex<BTreeMap<String, RunStarted>>,
}

enum To {
    Lines(LogForm, Box<dyn Write + Send>),
    Journal(UnixDatagram),
}

/// One line, before it has a form.
struct Entry<'a> {
    at: Timestamp,
    level: Level,
    event: &'a str,
    message: String,
    fields: Map<String, Value>,
}

impl Log {
    /// To standard error. Without a wish: systemd's journal where that is connected, text on a terminal, JSON elsewhere.
    /// Quiet: only what is wrong.
    pub fn new(wish: Option<LogForm>, zone: TimeZone, quiet: bool) -> Self {
        let lines = |form| To::Lines(form, Box::new(std::io::stderr()));
        let to = match wish {
            Some(form) => lines(form),
            None => match journal_behind_stderr().then(|| connect(Path::new(JOURNAL_SOCKET))).flatten() {
                Some(journal) => To::Journal(journal),
                None if std::io::stderr().is_terminal() => lines(LogForm::Text),
                None => lines(LogForm::Json),
            },
        };
        let least = if quiet { Level::Warning } else { Level::Debug };
        Log { to: Mutex::new(to), zone, least, runs: Mutex::default() }
    }

    /// To somebody who takes lines.
    pub fn lines(form: LogForm, to: impl Write + Send + 'static, zone: TimeZone) -> Self {
        Log { to: Mutex::new(To::Lines(form, Box::new(to))), zone, least: Level::Debug, runs: Mutex::default() }
    }

    /// To the journal of systemd that listens there; nothing when none does.
    pub fn journald(socket: &Path, zone: TimeZone) -> Option<Self> {
        Some(Log { to: Mutex::new(To::Journal(connect(socket)?)), zone, least: Level::Debug, runs: Mutex::default() })
    }

    /// Something that was written into the journal.
    pub fn record(&self, record: &Record) {
        let run = run_of(record, &mut self.runs.lock().unwrap_or_else(PoisonError::into_inner));
        let (what, text) = told(record, run.as_ref(), &self.zone);
        let entry = Entry {
            at: record.at,
            level: level(&record.fact),
            event: record.fact.kind(),
            message: format!("{what}: {text}"),
            fields: fields(record, run.as_ref()),
        };
        self.write(&entry);
    }

    /// What the journal is not told: a remark of the daemon about itself.
    pub fn note(&self, level: Level, event: &str, message: &str) {
        self.write(&Entry { at: clock::now(), level, event, message: message.to_owned(), fields: Map::new() });
    }

    fn write(&self, entry: &Entry<'_>) {
        if entry.level > self.least {
            return;
        }
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = match &mut *to {
            To::Lines(LogForm::Text, _) if entry.level == Level::Debug => Ok(()),
            To::Lines(LogForm::Text, to) => writeln!(to, "{}", text(entry, &self.zone)),
            To::Lines(LogForm::Json, to) => writeln!(to, "{}", json_line(entry)),
            To::Journal(to) => to.send(&datagram(entry)).map(drop),
        };
    }
}

/// The daemon tells it as it happens.
impl Observer for Arc<Log> {
    fn recorded(&mut self, record: &Record, _: &State) {
        self.record(record);
    }

    fn noticed(&mut self, notice: &Notice) {
        let level = match notice.weight {
            Weight::Note => Level::Info,
            Weight::Warning => Level::Warning,
            Weight::Error => Level::Error,
        };
        let about = [("policy", &notice.policy), ("source", &notice.source)];
        let fields: Map<String, Value> =
            about.into_iter().filter_map(|(key, name)| Some((key.to_owned(), name.as_deref()?.into()))).collect();
        for line in notice.text.lines() {
            // What a run said begins with how much it matters, which is told already.
            let line = ["warning: ", "error: "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
            let of = notice.source.as_ref().or(notice.policy.as_ref()).map(|name| format!("{name}: "));
            let message = format!("{}{line}", of.unwrap_or_default());
            self.write(&Entry { at: clock::now(), level, event: notice.event, message, fields: fields.clone() });
        }
    }
}

fn level(fact: &Fact) -> Level {
    match fact {
        Fact::RunEnded(run) => match run.outcome {
            Outcome::Done => Level::Info,
            Outcome::Warnings => Level::Warning,
            Outcome::Failed | Outcome::Aborted => Level::Error,
        },
        Fact::SlotEnded { end: SlotEnd::Failed | SlotEnd::Missed, .. } | Fact::ConfigLoaded { ok: false, .. } => {
            Level::Error
        }
        Fact::CopyEnded { ok: false, .. } => Level::Error,
        Fact::TailMended { .. }
        | Fact::ClockJumped { .. }
        | Fact::HoldPlaced { .. }
        | Fact::NotifyFailed { .. }
        | Fact::RetentionChanged { .. } => Level::Warning,
        // Its runs have told.
        Fact::SlotExpected { .. } | Fact::SlotEnded { end: SlotEnd::Done, .. } => Level::Debug,
        _ => Level::Info,
    }
}

/// The record as it stands in the journal, with what its run is about.
fn fields(record: &Record, run: Option<&RunStarted>) -> Map<String, Value> {
    let mut fields = Map::new();
    for value in [run.map(|run| json!(run)), Some(json!(record.fact))].into_iter().flatten() {
        if let Value::Object(object) = value {
            fields.extend(object);
        }
    }
    fields.remove("kind");
    if let Some(said) = fields.remove("message") {
        fields.insert("detail".into(), said);
    }
    fields.insert("seq".into(), record.seq.into());
    fields
}

fn text(entry: &Entry<'_>, zone: &TimeZone) -> String {
    let mark = match entry.level {
        Level::Error => "ERROR ",
        Level::Warning => "warning ",
        Level::Info | Level::Debug => "",
    };
    let hint = entry.fields.get("hint").and_then(Value::as_str).map(|hint| format!("  -> {hint}")).unwrap_or_default();
    plain(&format!("{}  {mark}{}{hint}", instant(entry.at, zone), entry.message))
}

fn json_line(entry: &Entry<'_>) -> Value {
    let mut line = Map::new();
    line.insert("at".into(), json!(entry.at));
    line.insert("level".into(), word(entry.level).into());
    line.insert("event".into(), entry.event.into());
    line.insert("message".into(), entry.message.as_str().into());
    line.extend(entry.fields.clone());
    Value::Object(line)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// The native protocol of systemd's journal: `KEY=value`, or a key, a length and bytes where there are newlines.
fn datagram(entry: &Entry<'_>) -> Vec<u8> {
    let of = |key: &str| entry.fields.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let mut fields = vec![
        ("MESSAGE", Some(entry.message.clone())),
        ("PRIORITY", Some((entry.level as u8).to_string())),
        ("SYSLOG_IDENTIFIER", Some("bkp".to_owned())),
        ("MESSAGE_ID", Some(message_id(entry.event))),
        ("BKP_EVENT", Some(entry.event.to_owned())),
    ];
    let more = [
        ("BKP_RUN_ID", "run"),
        ("BKP_JOB", "job"),
        ("BKP_SOURCE", "source"),
        ("BKP_POLICY", "policy"),
        ("BKP_SLOT", "slot"),
        ("BKP_OUTCOME", "outcome"),
        ("BKP_POINT", "point"),
        ("BKP_CODE", "code"),
        ("BKP_HINT", "hint"),
        ("BKP_SEQ", "seq"),
    ];
    fields.extend(more.map(|(name, key)| (name, of(key))));
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        bytes.extend_from_slice(name.as_bytes());
        match value.contains('\n') {
            false => bytes.push(b'='),
            true => {
                bytes.push(b'\n');
                bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            }
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Always the same for an event, so that `journalctl MESSAGE_ID=…` and catalogues can rely on it.
pub fn message_id(event: &str) -> String {
    hex::encode(&Sha256::digest(format!("bkp event {event}"))[..16])
}

fn connect(socket: &Path) -> Option<UnixDatagram> {
    let journal = UnixDatagram::unbound().ok()?;
    journal.connect(socket).ok()?;
    Some(journal)
}

/// systemd names device and inode of what it connected standard error to; somebody may have redirected it since.
fn journal_behind_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Job, Reason, RunEnded};
    use std::collections::BTreeSet;
    use std::io;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn record(seq: u64, fact: Fact) -> Record {
        Record { seq, at: "2026-11-30T02:30:00Z".parse().unwrap(), fact }
    }

    fn started() -> Record {
        record(
            1,
            Fact::RunStarted(RunStarted {
                run: "r1".into(),
                job: Job::Backup,
                source: Some("app".into()),
                policy: Some("shop".into()),
                slot: None,
                reason: Reason::Schedule,
                pid: 7,
            }),
        )
    }

    fn failed() -> Record {
        let ended = RunEnded {
            outcome: Outcome::Failed,
            code: 75,
            message: Some("first\nsecond \u{1b}[2J".into()),
            hint: Some("look".into()),
            ..RunEnded::well("r1", false)
        };
        record(2, Fact::RunEnded(ended))
    }

    #[test]
    fn a_line_is_one_line_whatever_was_said() {
        let kept = Kept::default();
        let log = Log::lines(LogForm::Text, kept.clone(), TimeZone::UTC);
        log.record(&started());
        log.record(&failed());
        let text = kept.text();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "2026-11-30 02:30:00 +00:00  backup app: begins (schedule, policy shop)",
                "2026-11-30 02:30:00 +00:00  ERROR backup app: FAILED: first\\nsecond \\u{1b}[2J  -> look",
            ]
        );
    }

    #[test]
    fn json_holds_the_record_and_what_its_run_is_about() {
        let kept = Kept::default();
        let log = Log::lines(LogForm::Json, kept.clone(), TimeZone::UTC);
        log.record(&started());
        log.record(&failed());
        let line: Value = serde_json::from_str(kept.text().lines().last().unwrap()).unwrap();
        let expected = json!({
            "at": "2026-11-30T02:30:00Z", "level": "error", "event": "run_ended", "seq": 2,
            "message": "backup app: FAILED: first\nsecond \u{1b}[2J", "detail": "first\nsecond \u{1b}[2J",
            "run": "r1", "job": "backup", "source": "app", "policy": "shop", "reason": "schedule", "pid": 7,
            "outcome": "failed", "code": 75, "hint": "look", "bytes": 0, "added": 0, "seconds": 0.0,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn the_journal_of_systemd_gets_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Log::journald(&path, TimeZone::UTC).is_none());
        let journal = UnixDatagram::bind(&path).unwrap();
        let log = Log::journald(&path, TimeZone::UTC).unwrap();
        log.record(&started());
        log.record(&failed());
        let mut bytes = [0; 8192];
        let first = journal.recv(&mut bytes).unwrap();
        let first = String::from_utf8(bytes[..first].to_vec()).unwrap();
        let id = format!("MESSAGE_ID={}", message_id("run_started"));
        for field in ["PRIORITY=6", "SYSLOG_IDENTIFIER=bkp", "BKP_EVENT=run_started", "BKP_RUN_ID=r1", &id] {
            assert!(first.lines().any(|line| line == field), "{field} is not in {first}");
        }
        let second = journal.recv(&mut bytes).unwrap();
        let second = &bytes[..second];
        let message = "backup app: FAILED: first\nsecond \u{1b}[2J";
        let mut expected = b"MESSAGE\n".to_vec();
        expected.extend_from_slice(&(message.len() as u64).to_le_bytes());
        expected.extend_from_slice(message.as_bytes());
        expected.extend_from_slice(b"\nPRIORITY=3\n");
        assert!(second.starts_with(&expected), "{}", String::from_utf8_lossy(second));
        let rest = String::from_utf8_lossy(&second[expected.len()..]).into_owned();
        for field in ["BKP_SOURCE=app", "BKP_POLICY=shop", "BKP_OUTCOME=failed", "BKP_CODE=75", "BKP_HINT=look"] {
            assert!(rest.lines().any(|line| line == field), "{field} is not in {rest}");
        }
    }

    #[test]
    fn the_documentation_has_the_id_of_each_event() {
        let documentation = include_str!("../../docs/MONITORING.md");
        let journal = include_str!("../../docs/JOURNAL.md");
        let kinds: BTreeSet<&str> = journal
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| line.split('|').next().unwrap().split('`').filter(|word| word.contains('_')))
            .collect();
        assert!(kinds.len() > 12, "{kinds:?}");
        for kind in kinds {
            let row = format!("| `{kind}` | `{}` |", message_id(kind));
            assert!(documentation.contains(&row), "docs/MONITORING.md lacks {row}");
        }
    }
}
