//! How restores are rehearsed: the keys `rehearse`, validated.
//!
//! Whether a question can be asked of a source is found here, as far as the kind of the source tells; whether its answer is the
//! expected one is a rehearsal's affair.

use super::Source;
use super::convert::{not_empty, text_of};
use super::problem::{Place, did_you_mean};
use super::raw;
use super::reading::{Field, Named, Reader};
use super::timing::{self, Timing, Written};
use super::values;
use crate::engine::{Probe, Question, Settings};
use crate::repo::proof::Level;
use crate::secret::SecretRef;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What rehearsals on this host need.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearser {
    pub identity: Option<SecretRef>,
    /// What opens a Vault that was restored.
    pub unseal_keys: Vec<SecretRef>,
    /// Bytes that a scratch server may take.
    pub memory: u64,
    /// Hundredths of a processor.
    pub processors: u32,
    /// How long a scratch server may take to answer.
    pub patience: Duration,
}

impl Default for Rehearser {
    fn default() -> Self {
        let patience = Duration::from_secs(5 * 60);
        Rehearser { identity: None, unseal_keys: Vec::new(), memory: 2 << 30, processors: 200, patience }
    }
}

/// How the sources of a policy are rehearsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsals {
    /// Absent: only by hand.
    pub schedule: Option<String>,
    pub timing: Timing,
    pub level: Level,
    /// How long a source may go without reaching a level.
    pub frequency: BTreeMap<Level, Duration>,
    /// Of the sources, in 0..=1.
    pub sample: f64,
    pub random: bool,
    pub assertions: Vec<(String, Assertion)>,
}

/// What must be true of what came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// For people.
    pub name: String,
    pub question: Question,
    pub expected: Expected,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Equals(String),
    Contains(String),
    /// A number, not less than the first and not more than the second.
    Between(Option<f64>, Option<f64>),
    /// That it could be asked: a command that ends well.
    Succeeds,
}

impl Expected {
    /// Whether the answer is as expected, and how that is told in a line.
    pub fn judge(&self, answer: &str) -> (bool, String) {
        let shown = one_line(answer);
        match self {
            Expected::Succeeds => (true, shown),
            Expected::Equals(wanted) => (answer.trim() == wanted, format!("{shown}, expected {}", one_line(wanted))),
            Expected::Contains(part) => {
                (answer.contains(part), format!("{shown}, expected to contain {}", one_line(part)))
            }
            Expected::Between(least, most) => {
                let number = answer.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                let holds = number.is_some_and(|n| least.is_none_or(|l| n >= l) && most.is_none_or(|m| n <= m));
                let told = match (least, most) {
                    (Some(least), Some(most)) => format!("{least} to {most}"),
                    (Some(least), None) => format!("at least {least}"),
                    (None, Some(most)) => format!("at most {most}"),
                    (None, None) => "a number".to_owned(),
                };
                (holds, format!("{shown}, expected {told}"))
            }
        }
    }
}

/// Characters of an answer that are told: it is the user's data, and the journal is for good.
const SHOWN: usize = 80;

/// What is told of an answer.
pub fn one_line(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

impl Rehearsals {
    /// What must be true of a source.
    pub fn assertions_of(&self, source: &str) -> Vec<Assertion> {
        self.assertions.iter().filter(|(of, _)| of == source).map(|(_, assertion)| assertion.clone()).collect()
    }
}

impl Reader<'_> {
    pub(super) fn rehearser(&self, field: &Field<raw::Rehearser>) -> Option<Rehearser> {
        let raw = field.value.as_ref()?;
        let default = Rehearser::default();
        let processors = raw.processors.as_ref().and_then(|field| match field.value? {
            number @ 1..=100_000 => u32::try_from(number).ok(),
            _ => self.wrong(field.place, "expected hundredths of a processor, such as 100 for one"),
        });
        Some(Rehearser {
            identity: self.secret("identity", &raw.identity, &raw.identity_file),
            unseal_keys: self.references("unseal_keys", &raw.unseal_keys),
            memory: self.memory(&raw.memory).unwrap_or(default.memory),
            processors: processors.unwrap_or(default.processors),
            patience: self.text(&raw.patience, values::duration).unwrap_or(default.patience),
        })
    }

    /// `labelled`: there may be sources that are not known here.
    pub(super) fn rehearsals(
        &self,
        field: &Field<raw::Rehearse>,
        sources: &[(Source, Place)],
        labelled: bool,
    ) -> Option<Rehearsals> {
        let raw = field.value.as_ref()?;
        let written = Written {
            missed: &raw.missed,
            jitter: &raw.jitter,
            deadline: &raw.deadline,
            overlap: &raw.overlap,
            blackout: &raw.blackout,
        };
        let level = raw.level.as_ref().and_then(|level| level.value).map_or(Level::Equal, level_of);
        let assertions = raw.assert.as_ref().and_then(|list| list.value.as_ref());
        let assertions = assertions.into_iter().flatten();
        let assertions: Vec<_> = assertions.filter_map(|one| self.assertion(one, sources, labelled)).collect();
        if let Some(written) = raw.level.as_ref().filter(|_| level == Level::Checked && raw.assert.is_none()) {
            let help =
                "write `assert: [{ source: NAME, sql: \"select count(*) from users\", min: 1 }]`, or `level: equal`";
            self.wrong_with_help::<()>(written.place, "there is nothing to check: this policy has no `assert`", help);
        }
        Some(Rehearsals {
            schedule: self.text(&raw.schedule, |text| values::schedule(text).map(|()| text.to_owned())),
            timing: self.timing(&written, raw.schedule.is_some()),
            level,
            frequency: raw.frequency.as_ref().map(|f| self.frequency(f, level)).unwrap_or_default(),
            sample: self.text(&raw.sample, part).unwrap_or(1.0),
            random: matches!(raw.point.as_ref().and_then(|f| f.value), Some(raw::WhichPoint::Random)),
            assertions,
        })
    }

    fn frequency(&self, field: &Field<raw::Frequency>, level: Level) -> BTreeMap<Level, Duration> {
        let Some(raw) = field.value.as_ref() else { return BTreeMap::new() };
        let all = [(Level::Loaded, &raw.loaded), (Level::Equal, &raw.equal), (Level::Checked, &raw.checked)];
        let mut found = BTreeMap::new();
        for (deeper, written) in all {
            let Some(field) = written else { continue };
            if deeper <= level {
                let text = format!("every rehearsal reaches {} already", level.name());
                self.wrong_with_help::<()>(field.place, text, "remove this, or lower `level`");
            } else if let Some(time) = text_of(self, field, values::duration) {
                found.insert(deeper, time);
            }
        }
        found
    }

    fn assertion(
        &self,
        field: &Field<raw::Assert>,
        sources: &[(Source, Place)],
        labelled: bool,
    ) -> Option<(String, Assertion)> {
        let raw = field.value.as_ref()?;
        let (question, place, told) = self.question(field.place, raw)?;
        let (source, settings) = self.asked_of(field.place, raw, sources, labelled)?;
        if let Some(settings) = settings.filter(|settings| !can_be_asked(settings, &question)) {
            let text = format!("a {} cannot be asked this", settings.kind());
            let help = "`sql` is for mysql, postgres and sqlite, `mongo` and `redis` are for themselves, `http` is for servers, and `run` is for all";
            return self.wrong_with_help(place, text, help);
        }
        let number = |field: &Option<Field<String>>| self.text(field, number);
        let (least, most) = (number(&raw.min), number(&raw.max));
        let equals = self.text(&raw.equals, |text| Ok(text.trim().to_owned()));
        let contains = self.text(&raw.contains, |text| not_empty(text, "a text"));
        let expected = match (equals, contains, least.is_some() || most.is_some()) {
            (Some(_), _, true) => {
                return self.wrong(field.place, "`equals` and `min` or `max` are both here; keep one of them");
            }
            (Some(_), Some(_), _) | (_, Some(_), true) => {
                return self
                    .wrong(field.place, "`contains` goes with none of `equals`, `min` and `max`; keep one of them");
            }
            (Some(wanted), None, false) => Expected::Equals(wanted),
            (None, Some(part), false) => Expected::Contains(part),
            (None, None, true) => Expected::Between(least, most),
            (None, None, false) if matches!(question, Question::Run(_) | Question::Http(_)) => Expected::Succeeds,
            (None, None, false) => {
                self.note_missing(field.place, "which answer is expected?", "add `equals`, `contains`, `min` or `max`");
                return None;
            }
        };
        let name = self.text(&raw.name, |text| not_empty(text, "a name")).unwrap_or_else(|| one_line(&told));
        Some((source, Assertion { name, question, expected }))
    }

    /// With where it stands, and how it is told.
    fn question(&self, at: Place, raw: &raw::Assert) -> Option<(Question, Place, String)> {
        let database = self.text(&raw.database, |text| not_empty(text, "a database"));
        let words = |field: &Field<Vec<Field<String>>>| -> Option<Vec<String>> {
            field.value.as_ref()?.iter().map(|word| word.value.clone()).collect()
        };
        let mut found = Vec::new();
        if let Some(field) = &raw.sql {
            let query = text_of(self, field, |text| not_empty(text, "a query"))?;
            found.push((Question::Sql { database: database.clone(), query: query.clone() }, field.place, query));
        }
        if let Some(field) = &raw.mongo {
            let command = text_of(self, field, json_object)?;
            let Some(database) = database.clone() else {
                self.note_missing(at, "which database is asked?", "add `database: NAME`");
                return None;
            };
            let value = self.text(&raw.value, |text| not_empty(text, "a path"));
            let told = field.value.clone().unwrap_or_default();
            found.push((Question::Mongo { database, command, value }, field.place, told));
        }
        if let Some(field) = &raw.redis {
            let command = words(field).filter(|words| !words.is_empty());
            let Some(command) = command else { return self.wrong(field.place, "expected a command, as in [DBSIZE]") };
            let number = database.as_deref().map_or(Some(0), |text| text.parse().ok());
            let Some(number) = number else { return self.wrong(at, "the `database` of Redis is a number") };
            let told = command.join(" ");
            found.push((Question::Redis { database: number, command }, field.place, told));
        }
        if let Some(field) = &raw.run {
            let command = words(field).filter(|words| !words.is_empty());
            let Some(command) = command else {
                return self.wrong(field.place, "expected a command, as in [test, -s, FILE]");
            };
            let told = command.join(" ");
            found.push((Question::Run(command), field.place, told));
        }
        if let Some(field) = &raw.http {
            let probe = self.probe(field)?;
            let told = format!("GET {} of {}", probe.path, probe.image);
            found.push((Question::Http(probe), field.place, told));
        }
        if found.len() != 1 {
            self.note_missing(
                at,
                "expected one of `sql`, `mongo`, `redis`, `run` and `http`",
                "as in: sql: \"select count(*) from users\"",
            );
            return None;
        }
        found.pop()
    }

    fn probe(&self, field: &Field<raw::Application>) -> Option<Probe> {
        let raw = field.value.as_ref()?;
        let image = self.text(&raw.image, |text| not_empty(text, "an image"));
        let port = raw.port.as_ref().and_then(|field| match u16::try_from(field.value?) {
            Ok(port @ 1..) => Some(port),
            _ => self.wrong(field.place, "expected a port, such as 8080"),
        });
        for (name, missing, help) in [
            ("image", raw.image.is_none(), "image: registry.example/shop@sha256:…"),
            ("port", raw.port.is_none(), "port: 8080"),
        ] {
            if missing {
                self.note_missing(
                    field.place,
                    format!("`{name}` of the application is missing"),
                    format!("add `{help}`"),
                );
            }
        }
        let status = raw.status.as_ref().map_or(Some(200), |field| match u16::try_from(field.value?) {
            Ok(status @ 100..=599) => Some(status),
            _ => self.wrong(field.place, "expected a status of HTTP, such as 200"),
        });
        let path = match &raw.path {
            None => Some("/".to_owned()),
            Some(field) => text_of(self, field, |text| match text.starts_with('/') {
                true => Ok(text.to_owned()),
                false => Err("expected a path that begins with `/`".into()),
            }),
        };
        let command = raw.command.as_ref().and_then(|field| field.value.as_ref());
        let command: Vec<String> = command.into_iter().flatten().filter_map(|word| self.shown_word(word)).collect();
        let environment = pairs(&raw.environment).filter_map(|(name, value)| Some((name, self.shown_word(value)?)));
        let environment = environment.collect();
        let file = |(path, content): (String, &Field<String>)| Some((PathBuf::from(path), content.value.clone()?));
        Some(Probe {
            image: image?,
            command,
            environment,
            files: pairs(&raw.files).filter_map(file).collect(),
            port: port?,
            path: path?,
            status: status?,
            patience: self.text(&raw.patience, values::duration).unwrap_or(Duration::from_secs(2 * 60)),
        })
    }

    /// What `docker inspect` shows holds no password.
    fn shown_word(&self, field: &Field<String>) -> Option<String> {
        let word = field.value.clone()?;
        if word.contains("{password}") {
            let help = "give the application `{password_file}`, or write its configuration with `files`";
            return self.wrong_with_help(
                field.place,
                "a password here is seen by whoever may inspect containers",
                help,
            );
        }
        Some(word)
    }

    fn asked_of<'s>(
        &self,
        at: Place,
        raw: &raw::Assert,
        sources: &'s [(Source, Place)],
        labelled: bool,
    ) -> Option<(String, Option<&'s Settings>)> {
        let Some(field) = &raw.source else {
            return match sources {
                [(only, _)] if !labelled => Some((only.name.clone(), Some(&only.settings))),
                _ => {
                    self.note_missing(at, "which source is asked?", "add `source: NAME`");
                    None
                }
            };
        };
        let name = text_of(self, field, |text| not_empty(text, "a source"))?;
        match sources.iter().find(|(source, _)| source.name == name) {
            Some((source, _)) => Some((name, Some(&source.settings))),
            None if labelled => Some((name, None)),
            None => {
                let near = did_you_mean(&name, sources.iter().map(|(source, _)| source.name.as_str()));
                self.wrong(field.place, format!("this policy has no source `{name}`{near}"))
            }
        }
    }
}

/// For showing: what is not said counts too.
pub fn shown(rehearsals: &Rehearsals) -> Vec<(Vec<&'static str>, serde_json::Value)> {
    let mut all: Vec<(Vec<&'static str>, serde_json::Value)> = Vec::new();
    all.extend(rehearsals.schedule.as_ref().map(|schedule| (vec!["schedule"], schedule.as_str().into())));
    all.push((vec!["level"], rehearsals.level.name().into()));
    let times = rehearsals.frequency.iter();
    all.extend(times.map(|(level, time)| (vec!["frequency", level.name()], values::duration_text(*time).into())));
    all.push((vec!["sample"], format!("{}%", rehearsals.sample * 100.0).into()));
    all.push((vec!["point"], if rehearsals.random { "random" } else { "latest" }.into()));
    let told: Vec<String> = rehearsals.assertions.iter().map(|(source, a)| format!("{source}: {}", a.name)).collect();
    if !told.is_empty() {
        all.push((vec!["assert"], told.into()));
    }
    if rehearsals.schedule.is_some() {
        all.extend(timing::shown(&rehearsals.timing).map(|(key, value)| (vec![key], value)));
    }
    all
}

fn can_be_asked(settings: &Settings, question: &Question) -> bool {
    match question {
        Question::Run(_) => !matches!(settings, Settings::Command(_)),
        Question::Sql { database, .. } => match settings {
            Settings::Mysql(_) | Settings::Postgres(_) => true,
            Settings::Sqlite(_) => database.is_none(),
            _ => false,
        },
        Question::Http(_) => settings.server().is_some(),
        Question::Mongo { .. } => matches!(settings, Settings::Mongo(_)),
        Question::Redis { .. } => matches!(settings, Settings::Redis(_)),
    }
}

fn pairs(named: &Option<Field<Named<String>>>) -> impl Iterator<Item = (String, &Field<String>)> {
    let all = named.as_ref().and_then(|field| field.value.as_ref()).into_iter().flat_map(|named| &named.0);
    all.filter_map(|(name, value)| Some((name.value.clone()?, value)))
}

fn level_of(level: raw::RehearsalLevel) -> Level {
    match level {
        raw::RehearsalLevel::Readable => Level::Readable,
        raw::RehearsalLevel::Loaded => Level::Loaded,
        raw::RehearsalLevel::Equal => Level::Equal,
        raw::RehearsalLevel::Checked => Level::Checked,
    }
}

/// `20%` → 0.2.
fn part(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match number.filter(|number| *number > 0.0 && *number <= 100.0) {
        Some(number) => Ok(number / 100.0),
        None => Err("expected a percentage, such as 20%".into()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| "expected a number".into())
}

fn json_object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        _ => Err("expected a command as a JSON object, such as '{ \"count\": \"users\" }'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let between = |least, most| Expected::Between(least, most);
        assert_eq!(between(Some(1.0), None).judge("42\n"), (true, "42, expected at least 1".into()));
        assert_eq!(between(Some(1.0), Some(3.0)).judge("4"), (false, "4, expected 1 to 3".into()));
        assert_eq!(between(None, Some(3.0)).judge("NULL"), (false, "NULL, expected at most 3".into()));
        assert!(!between(Some(0.0), None).judge("NaN").0);
        assert!(Expected::Equals("ok".into()).judge(" ok \n").0);
        assert!(!Expected::Equals("ok".into()).judge("okay").0);
        let (_, told) = Expected::Succeeds.judge(&format!("a\nb{}", "x".repeat(200)));
        assert!(told.starts_with("a bx") && told.chars().count() == SHOWN + 1, "{told}");
    }
}
