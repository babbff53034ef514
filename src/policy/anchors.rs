//! Where the head of the journal is anchored: the key `evidence`, validated.
//!
//! What an anchor is, and what it proves, is the affair of `evidence`.

use super::CopySettings;
use super::channels::{Mail, web_address};
use super::convert::{absolute, not_empty, text_of};
use super::problem::Place;
use super::raw;
use super::reading::{Field, OneOrMore, Reader};
use super::show::Showing;
use super::timing::Routine;
use super::values::{self, duration_text};
use std::path::PathBuf;
use std::time::Duration;

/// The journal as proof for others.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// How long what is sealed and anchored stays locked, where the store has object lock.
    pub keep: Duration,
    /// Absent: only when somebody says so.
    pub anchor: Option<Routine>,
    pub places: Vec<AnchorPlace>,
}

/// Somebody else who is to hold the head of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorPlace {
    /// Unique.
    pub name: String,
    pub holder: Holder,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Holder {
    /// The copy of that name.
    Copy(String),
    File(PathBuf),
    Mail(Mail),
    TimeStamp(Authority),
}

/// A time-stamping authority (RFC 3161).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Asked one after the other, until one gives a time stamp. Never empty.
    pub urls: Vec<String>,
    /// Whose certificates are believed, in PEM.
    pub ca_file: Option<PathBuf>,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence { keep: Duration::from_secs(400 * 86_400), anchor: None, places: Vec::new() }
    }
}

impl Holder {
    pub fn kind(&self) -> &'static str {
        match self {
            Holder::Copy(_) => "copy",
            Holder::File(_) => "file",
            Holder::Mail(_) => "mail",
            Holder::TimeStamp(_) => "timestamp",
        }
    }

    /// For people.
    pub fn address(&self) -> String {
        match self {
            Holder::Copy(name) => name.clone(),
            Holder::File(path) => path.display().to_string(),
            Holder::Mail(mail) => mail.to.join(", "),
            Holder::TimeStamp(authority) => authority.urls.join(", "),
        }
    }
}

const KINDS: &str = "one of `copy`, `file`, `mail` and `timestamp`";

impl Reader<'_> {
    pub(super) fn evidence(&self, field: &Field<raw::Evidence>, copies: &[CopySettings]) -> Option<Evidence> {
        let raw = field.value.as_ref()?;
        let default = Evidence::default();
        let keep = self.text(&raw.keep, values::duration).unwrap_or(default.keep);
        let Some(anchor) = &raw.anchor else { return Some(Evidence { keep, ..default }) };
        let written = anchor.value.as_ref()?;
        let routine = written.schedule.as_ref().and_then(|_| self.routine(anchor.place, &written.schedule, Vec::new()));
        let to = written.to.as_ref().and_then(|to| to.value.as_ref());
        let mut places: Vec<AnchorPlace> = Vec::new();
        for field in to.into_iter().flatten() {
            let Some(place) = self.anchor_place(field, copies) else { continue };
            if place.name == super::PRIMARY || places.iter().any(|other| other.name == place.name) {
                let message = format!("there are two places `{}`", place.name);
                self.wrong_with_help::<()>(field.place, message, "give one of them another `name`");
            }
            let is_stamp = |place: &AnchorPlace| matches!(place.holder, Holder::TimeStamp(_));
            if is_stamp(&place) && places.iter().any(is_stamp) {
                self.wrong_with_help::<()>(
                    field.place,
                    "a head has one time stamp: keep one `timestamp`",
                    "where one authority is to stand in for another, give it both: url: [https://one.example, https://two.example]",
                );
            }
            places.push(place);
        }
        if places.is_empty() && to.is_none_or(Vec::is_empty) {
            let help = "as in to: [{ file: /mnt/elsewhere/bkp-heads.jsonl }]; the repository always gets it";
            self.note_missing(anchor.place, "the head of the journal goes nowhere else", help);
        }
        Some(Evidence { keep, anchor: routine, places })
    }

    fn anchor_place(&self, field: &Field<raw::AnchorPlace>, copies: &[CopySettings]) -> Option<AnchorPlace> {
        let raw = field.value.as_ref()?;
        let holder = self.holder(field.place, raw, copies)?;
        let default = match &holder {
            Holder::Copy(name) => name.clone(),
            other => other.kind().to_owned(),
        };
        let name = self.text(&raw.name, |text| values::name(text).map(|()| text.to_owned())).unwrap_or(default);
        Some(AnchorPlace { name, holder })
    }

    fn holder(&self, place: Place, raw: &raw::AnchorPlace, copies: &[CopySettings]) -> Option<Holder> {
        let kinds = [
            raw.copy.as_ref().map(|f| f.place),
            raw.file.as_ref().map(|f| f.place),
            raw.mail.as_ref().map(|f| f.place),
            raw.timestamp.as_ref().map(|f| f.place),
        ];
        match kinds.into_iter().flatten().collect::<Vec<_>>()[..] {
            [] => {
                self.note_missing(place, "it is not said who is to hold it", format!("give it {KINDS}"));
                return None;
            }
            [_, second, ..] => {
                return self.wrong_with_help(second, "a place is of one kind", "write another entry for this one");
            }
            [_] => {}
        }
        if let Some(copy) = &raw.copy {
            let name = copy.value.clone()?;
            return match copies.iter().any(|copy| copy.name == name) {
                true => Some(Holder::Copy(name)),
                false => {
                    let known = copies.iter().map(|copy| copy.name.as_str());
                    let message = format!("there is no copy `{name}`{}", super::did_you_mean(&name, known));
                    self.wrong_with_help(copy.place, message, "it is the name of one of the `copies`")
                }
            };
        }
        if raw.file.is_some() {
            return self.text(&raw.file, absolute).map(Holder::File);
        }
        if let Some(mail) = &raw.mail {
            return self.mail(mail).map(Holder::Mail);
        }
        let stamp = raw.timestamp.as_ref()?;
        let written = stamp.value.as_ref()?;
        let Some(url) = &written.url else {
            self.note_missing(stamp.place, "`url` is missing", "such as url: https://tsa.example/tsr");
            return None;
        };
        let OneOrMore(fields) = url.value.as_ref()?;
        if fields.is_empty() {
            return self.wrong(url.place, "expected an address, found an empty list");
        }
        let address = |text: &str| not_empty(text, "an address").and_then(|text| web_address(&text));
        let urls: Option<Vec<String>> = fields.iter().map(|field| text_of(self, field, address)).collect();
        Some(Holder::TimeStamp(Authority { urls: urls?, ca_file: self.text(&written.ca_file, absolute) }))
    }
}

impl Showing<'_> {
    /// Whether there is something for the daemon to do. The list has no keys to look origins up by, as with channels.
    pub(super) fn evidence(&mut self) -> bool {
        let evidence = &self.configuration.evidence;
        if self.configuration.origin(&["evidence"]).is_some() {
            self.put(&["evidence", "keep"], &[], duration_text(evidence.keep));
            let schedule = evidence.anchor.as_ref().map(|routine| routine.schedule.as_str());
            self.put_some(&["evidence", "anchor", "schedule"], &[], schedule);
        }
        for place in &evidence.places {
            let key = ["evidence", "anchor", "to", place.name.as_str(), place.holder.kind()];
            self.put(&key, &[], place.holder.address());
        }
        evidence.anchor.is_some()
    }
}
